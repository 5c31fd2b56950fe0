//! Folders of files as tables. What readers skip, names with an underscore, is skipped.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::ScalarValue;
use datafusion::datasource::MemTable;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::json::JsonFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{
    ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl,
};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{cast, ident, lit};
use datafusion::prelude::{DataFrame, SessionContext};
use evp_api::plan::DeadLetterFormat;
use futures::TryStreamExt;
use object_store::path::Path;

use crate::sink::dead_letters::{dead_letter_schema, json_lines_schema};
use crate::sink::delta::Target;
use crate::sink::partition;

/// A folder that a Parquet sink writes.
#[derive(Clone, Debug)]
pub struct ParquetFolder {
    /// Where it is.
    pub target: Target,
    /// Columns of its rows, in the order of the sink's.
    pub schema: SchemaRef,
    /// Those of them that are folders.
    pub partition_by: Vec<String>,
}

impl ParquetFolder {
    /// The rows of all its files, as a table.
    pub(super) async fn open(
        &self,
        session: &SessionContext,
    ) -> Result<Arc<dyn TableProvider>, DataFusionError> {
        let mut folders: BTreeMap<String, Vec<Path>> = BTreeMap::new();
        for file in shown(&self.target, ".parquet").await? {
            let folder = folder_of(&self.target, &file);
            folders.entry(folder).or_default().push(file);
        }
        let mut all: Option<DataFrame> = None;
        for (folder, files) in folders {
            let rows = self.rows_of(session, &folder, &files)?;
            all = Some(match all {
                None => rows,
                Some(all) => all.union(rows)?,
            });
        }
        match all {
            Some(all) => Ok(all.into_view()),
            None => empty(Arc::clone(&self.schema)),
        }
    }

    /// Rows of one partition, with its values as columns.
    fn rows_of(
        &self,
        session: &SessionContext,
        folder: &str,
        files: &[Path],
    ) -> Result<DataFrame, DataFusionError> {
        let is_data = |name: &String| !self.partition_by.contains(name);
        let fields = self.schema.fields().iter();
        let data: Vec<_> = fields.filter(|f| is_data(f.name())).cloned().collect();
        let reader = Reader {
            suffix: ".parquet",
            format: Arc::new(ParquetFormat::new()),
            schema: Arc::new(Schema::new(data)),
        };
        let values: BTreeMap<_, _> = self
            .partition_by
            .iter()
            .zip(partition::values(folder))
            .collect();
        let column = |field: &FieldRef| match values.get(field.name()) {
            Some(value) => {
                let value = lit(ScalarValue::Utf8(value.clone()));
                cast(value, field.data_type().clone()).alias(field.name())
            }
            None => ident(field.name()),
        };
        let rows = session.read_table(reader.table(session, &self.target, files)?)?;
        rows.select(self.schema.fields().iter().map(column).collect::<Vec<_>>())
    }
}

/// Dead letters as a table.
pub(super) async fn open_dead_letters(
    session: &SessionContext,
    target: &Target,
    format: DeadLetterFormat,
) -> Result<Arc<dyn TableProvider>, DataFusionError> {
    let reader = match format {
        DeadLetterFormat::Parquet => Reader {
            suffix: ".parquet",
            format: Arc::new(ParquetFormat::new()),
            schema: dead_letter_schema(),
        },
        DeadLetterFormat::JsonLines => Reader {
            suffix: ".jsonl",
            format: Arc::new(JsonFormat::default()),
            schema: json_lines_schema(),
        },
    };
    let files = shown(target, reader.suffix).await?;
    reader.table(session, target, &files)
}

/// How files are read.
struct Reader {
    suffix: &'static str,
    format: Arc<dyn FileFormat>,
    schema: SchemaRef,
}

impl Reader {
    fn table(
        &self,
        session: &SessionContext,
        target: &Target,
        files: &[Path],
    ) -> Result<Arc<dyn TableProvider>, DataFusionError> {
        if files.is_empty() {
            return empty(Arc::clone(&self.schema));
        }
        session.register_object_store(&target.url, Arc::clone(&target.store));
        let url = |file: &Path| {
            let mut url = target.url.clone();
            url.set_path(&format!("/{}", file.as_ref().replace('%', "%25")));
            ListingTableUrl::parse(url)
        };
        let files = files.iter().map(url).collect::<Result<_, _>>()?;
        let options =
            ListingOptions::new(Arc::clone(&self.format)).with_file_extension(self.suffix);
        let config = ListingTableConfig::new_with_multi_paths(files)
            .with_listing_options(options)
            .with_schema(Arc::clone(&self.schema));
        Ok(Arc::new(ListingTable::try_new(config)?))
    }
}

fn empty(schema: SchemaRef) -> Result<Arc<dyn TableProvider>, DataFusionError> {
    Ok(Arc::new(MemTable::try_new(schema, vec![vec![]])?))
}

/// Files that readers see.
async fn shown(target: &Target, suffix: &str) -> Result<Vec<Path>, DataFusionError> {
    let listed = target
        .store
        .list(Some(&target.prefix))
        .try_collect::<Vec<_>>();
    let objects = match listed.await {
        Ok(objects) => objects,
        Err(object_store::Error::NotFound { .. }) => Vec::new(),
        Err(e) => return Err(e.into()),
    };
    let is_shown = |file: &Path| {
        let mut parts = file.prefix_match(&target.prefix).into_iter().flatten();
        file.as_ref().ends_with(suffix) && parts.all(|part| !part.as_ref().starts_with('_'))
    };
    let files = objects.into_iter().map(|object| object.location);
    Ok(files.filter(is_shown).collect())
}

/// The folder of a file below the target, with a slash at its end; empty: the target itself.
fn folder_of(target: &Target, file: &Path) -> String {
    let parts = file.prefix_match(&target.prefix).into_iter().flatten();
    let parts: Vec<_> = parts.map(|part| part.as_ref().to_owned()).collect();
    match parts.split_last() {
        Some((_, folders)) if !folders.is_empty() => folders.join("/") + "/",
        _ => String::new(),
    }
}
