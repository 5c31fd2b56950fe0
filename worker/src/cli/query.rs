//! `evp query`: SQL over the tables and files a pipeline writes, each under its sink's name, and its dead letters as `dead_letters`.
//!
//! Reads only; what is committed, as of the moment each table is opened. A name with hyphens needs quotes, or `_` for `-`.

mod files;

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::json::ArrayWriter;
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::catalog::TableProvider;
use datafusion::error::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::prelude::{SessionConfig, SessionContext};
use deltalake::{DeltaTable, DeltaTableError};
use evp_api::plan::DeadLetterFormat;
use futures::StreamExt;

pub use self::files::ParquetFolder;
use crate::sink::delta::Target;

/// Rows that are printed; a person reads no more, and a table must be held to be laid out.
const MOST_ROWS: usize = 10_000;

/// Name of the dead letters.
const DEAD_LETTERS: &str = "dead_letters";

/// How rows are printed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub enum Output {
    /// For a person.
    #[default]
    Table,
    /// An array of objects.
    Json,
}

/// What a pipeline writes, by where it is.
#[derive(Clone, Debug, Default)]
pub struct Written {
    /// Delta tables by sink name.
    pub tables: Vec<(String, Target)>,
    /// Folders of Parquet files by sink name.
    pub folders: Vec<(String, ParquetFolder)>,
    /// Dead letters.
    pub dead_letters: Option<(Target, DeadLetterFormat)>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A table cannot be opened.
    #[error("table {name} cannot be opened")]
    Open {
        /// Sink.
        name: String,
        /// Why.
        source: Box<DeltaTableError>,
    },
    /// The files of a sink cannot be opened.
    #[error("the files of {name} cannot be opened")]
    Files {
        /// Sink.
        name: String,
        /// Why.
        source: DataFusionError,
    },
    /// The dead letters cannot be opened.
    #[error("the dead letters cannot be opened")]
    DeadLetters(#[source] DataFusionError),
    /// The SQL is wrong, or failed.
    #[error("{0}")]
    Sql(#[source] DataFusionError),
    /// Rows cannot be printed.
    #[error("rows cannot be printed")]
    Print(#[source] std::io::Error),
}

/// Tables that can be asked, and the names of those that nothing has been written to yet.
pub struct Tables {
    /// Ask here.
    pub session: SessionContext,
    /// Sinks without a table.
    pub absent: Vec<String>,
}

/// Opens all tables at their newest version.
pub async fn open_tables(written: &Written) -> Result<Tables, Error> {
    let mut config = SessionConfig::new().with_target_partitions(2);
    config.options_mut().sql_parser.enable_ident_normalization = false;
    let session = SessionContext::new_with_config(config);
    let mut absent = Vec::new();
    for (name, target) in &written.tables {
        match open_table(&session, name, target).await? {
            Some(table) => register(&session, name, &table).map_err(Error::Sql)?,
            None => absent.push(name.clone()),
        }
    }
    for (name, folder) in &written.folders {
        let opened = folder.open(&session).await;
        let registered = opened.and_then(|table| register(&session, name, &table));
        registered.map_err(|source| Error::Files {
            name: name.clone(),
            source,
        })?;
    }
    if let Some((target, format)) = &written.dead_letters {
        let letters = files::open_dead_letters(&session, target, *format).await;
        let letters = letters.map_err(Error::DeadLetters)?;
        register(&session, DEAD_LETTERS, &letters).map_err(Error::DeadLetters)?;
    }
    Ok(Tables { session, absent })
}

/// `None`: there is no table yet.
async fn open_table(
    session: &SessionContext,
    name: &str,
    target: &Target,
) -> Result<Option<Arc<dyn TableProvider>>, Error> {
    let opened = async {
        let mut table = DeltaTable::new(target.log_store());
        match table.load().await {
            Err(DeltaTableError::NotATable(_)) => return Ok(None),
            Err(_) if is_missing(target) => return Ok(None),
            loaded => loaded?,
        }
        table.update_datafusion_session(&session.state())?;
        let provider: Arc<dyn TableProvider> = table.table_provider().await?;
        Ok::<_, DeltaTableError>(Some(provider))
    };
    opened.await.map_err(|source| Error::Open {
        name: name.to_owned(),
        source: Box::new(source),
    })
}

/// The table's folder is one of this machine's, and is not there.
fn is_missing(target: &Target) -> bool {
    target.url.to_file_path().is_ok_and(|path| !path.exists())
}

fn register(
    session: &SessionContext,
    name: &str,
    table: &Arc<dyn TableProvider>,
) -> Result<(), DataFusionError> {
    let names: BTreeSet<String> = [name.to_owned(), name.replace('-', "_")].into();
    for name in names {
        session.register_table(
            datafusion::common::TableReference::bare(name),
            Arc::clone(table),
        )?;
    }
    Ok(())
}

/// Answers one statement. `true`: there were more rows than are printed.
pub async fn ask(session: &SessionContext, sql: &str) -> Result<(Vec<RecordBatch>, bool), Error> {
    let reading = SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false);
    let answer = session
        .sql_with_options(sql, reading)
        .await
        .map_err(Error::Sql)?;
    let schema = Arc::new(answer.schema().as_arrow().clone());
    let mut stream = answer.execute_stream().await.map_err(Error::Sql)?;
    let (mut rows, mut batches) = (0, vec![RecordBatch::new_empty(schema)]);
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(Error::Sql)?;
        let room = MOST_ROWS - rows;
        if batch.num_rows() > room {
            batches.push(batch.slice(0, room));
            return Ok((batches, true));
        }
        rows += batch.num_rows();
        batches.push(batch);
    }
    Ok((batches, false))
}

/// Prints rows.
pub fn print(out: &mut impl Write, batches: &[RecordBatch], output: Output) -> Result<(), Error> {
    match output {
        Output::Table => {
            let text = pretty_format_batches(batches).map_err(|e| Error::Sql(e.into()))?;
            writeln!(out, "{text}").map_err(Error::Print)
        }
        Output::Json => {
            let mut writer = ArrayWriter::new(&mut *out);
            let batches: Vec<_> = batches.iter().collect();
            let written = writer
                .write_batches(&batches)
                .and_then(|()| writer.finish());
            written.map_err(|e| Error::Sql(e.into()))?;
            writeln!(out).map_err(Error::Print)
        }
    }
}

/// Opens, asks, prints: rows on `out`, remarks on `err`.
pub async fn run(
    written: &Written,
    sql: &str,
    output: Output,
    out: &mut impl Write,
    err: &mut impl Write,
) -> Result<(), Error> {
    let tables = open_tables(written).await?;
    for name in &tables.absent {
        writeln!(err, "note: nothing has been written to {name} yet").map_err(Error::Print)?;
    }
    let (batches, cut) = ask(&tables.session, sql).await?;
    print(out, &batches, output)?;
    if cut {
        let note = format!("note: only the first {MOST_ROWS} rows are shown; add LIMIT or WHERE");
        writeln!(err, "{note}").map_err(Error::Print)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{ArrayRef, Int64Array};
    use object_store::ObjectStore;

    fn target(store: &Arc<dyn ObjectStore>, name: &str) -> Target {
        Target {
            store: Arc::clone(store),
            prefix: object_store::path::Path::from(name),
            url: url::Url::parse(&format!("memory:///{name}")).unwrap(),
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn tables_are_named_as_sinks_and_are_only_read() {
        let store: Arc<dyn ObjectStore> = Arc::new(object_store::memory::InMemory::new());
        let ids: ArrayRef = Arc::new(Int64Array::from(vec![2, 1]));
        let rows = RecordBatch::try_from_iter([("eventId", ids)]).unwrap();
        let events = target(&store, "events");
        DeltaTable::new(events.log_store())
            .write([rows])
            .await
            .unwrap();
        let written = Written {
            tables: vec![
                ("raw-events".into(), events),
                ("gold".into(), target(&store, "gold")),
            ],
            dead_letters: None,
            ..Written::default()
        };
        let tables = open_tables(&written).await.unwrap();
        assert_eq!(tables.absent, ["gold"]);
        for name in ["raw_events", "\"raw-events\""] {
            let sql = format!("SELECT eventId FROM {name} ORDER BY eventId");
            let (rows, _) = ask(&tables.session, &sql).await.unwrap();
            let mut text = Vec::new();
            print(&mut text, &rows, Output::Json).unwrap();
            assert_eq!(text, b"[{\"eventId\":1},{\"eventId\":2}]\n");
        }
        for sql in [
            "DROP TABLE raw_events",
            "INSERT INTO raw_events VALUES (3)",
            "SET a = 1",
        ] {
            assert!(ask(&tables.session, sql).await.is_err(), "{sql}");
        }
    }
}
