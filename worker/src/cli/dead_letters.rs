//! `evp dead-letters`: the records that could not be processed, counted by code and step, then the newest of them one by one.
//!
//! Reads what `evp query` calls `dead_letters`: what is committed, whatever format it is kept in.

use std::io::{Write, stderr, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::arrow::error::ArrowError;
use evp_api::plan::DeadLetterFormat;
use evp_core::dead_letter::RejectCode;
use serde::Serialize;

use super::place::{Place, PlaceArgs};
use super::query::{self, Output, Written};
use super::{Fault, table};

/// Rows that are shown where nobody says how many.
const FEW: u64 = 20;

/// Characters of a record that a line of the table shows; JSON has all.
const MOST_SHOWN: usize = 200;

/// Lists dead letters: counts by code and step, then the newest rows.
#[derive(Clone, Debug, clap::Args)]
pub struct DeadLettersArgs {
    /// The manifest.
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// Where its paths lead.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Allow tables and checkpoints in a remote object store.
    #[arg(long)]
    pub remote: bool,
    /// Only those with this code, such as `Malformed`.
    #[arg(long, value_parser = code)]
    pub code: Option<RejectCode>,
    /// Only those that this source, step or sink rejected.
    #[arg(long, value_name = "NAME")]
    pub step: Option<String>,
    /// Most rows that are listed, 10000 at the most.
    #[arg(long, value_name = "N", default_value_t = FEW)]
    pub limit: u64,
    /// How they are printed.
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Output,
}

/// The answer. Part of the command line's promise: fields are only ever added.
#[derive(Debug, PartialEq, Serialize)]
struct Answer {
    /// All of them, most frequent first.
    counts: Vec<Count>,
    /// The newest epochs' first, as many as were asked for.
    rows: Vec<Row>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Count {
    code: String,
    step: String,
    count: i64,
}

#[derive(Debug, PartialEq, Serialize)]
struct Row {
    source: String,
    split: String,
    position: i64,
    code: String,
    step: String,
    message: String,
    /// The field it is about.
    field: Option<String>,
    epoch: i64,
    /// The record; `None`: a tombstone or a gap.
    raw: Option<String>,
    /// How `raw` stands for bytes: `utf-8`, or `base64` where they are no UTF-8.
    encoding: Option<&'static str>,
}

fn code(word: &str) -> Result<RejectCode, String> {
    // The error names the codes there are.
    serde_json::from_value(word.into()).map_err(|e| e.to_string())
}

/// Reads, counts, prints.
pub async fn run(args: DeadLettersArgs) -> Result<ExitCode, Fault> {
    let place = Place::to_read(&args.file, &args.place, args.remote)?;
    let written = Written {
        tables: Vec::new(),
        folders: Vec::new(),
        ..place.written()?
    };
    let Some((_, format)) = written.dead_letters else {
        let what = "the manifest has no deadLetter: the first bad record stops the pipeline";
        return Err(Fault::Usage(what.to_owned()));
    };
    let (answer, cut) = read(&args, &written, format).await?;
    print(&answer, args.output)?;
    if cut {
        writeln!(stderr(), "note: no more rows than these are listed")?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn read(
    args: &DeadLettersArgs,
    written: &Written,
    format: DeadLetterFormat,
) -> Result<(Answer, bool), Fault> {
    let tables = query::open_tables(written).await?;
    let (which, limit) = (filter(args), args.limit);
    let counts = format!(
        "SELECT code, step, count(*) AS n FROM dead_letters {which} GROUP BY code, step ORDER BY n DESC, code, step"
    );
    let rows = format!(
        "SELECT source, split, position, code, step, message, field, epoch, raw FROM dead_letters {which} \
         ORDER BY epoch DESC, source, split, position LIMIT {limit}"
    );
    let (counts, _) = query::ask(&tables.session, &counts).await?;
    let (rows, cut) = query::ask(&tables.session, &rows).await?;
    let failed = |e: ArrowError| query::Error::Sql(e.into());
    let mut answer = Answer {
        counts: Vec::new(),
        rows: Vec::new(),
    };
    for batch in &counts {
        push_counts(batch, &mut answer.counts).map_err(failed)?;
    }
    for batch in &rows {
        push_rows(batch, format, &mut answer.rows).map_err(failed)?;
    }
    Ok((answer, cut))
}

fn filter(args: &DeadLettersArgs) -> String {
    let is = |column: &str, value: &str| format!("{column} = '{}'", value.replace('\'', "''"));
    let code = args.code.map(|code| is("code", &format!("{code:?}")));
    let step = args.step.as_deref().map(|step| is("step", step));
    let all: Vec<String> = code.into_iter().chain(step).collect();
    match all.is_empty() {
        true => String::new(),
        false => format!("WHERE {}", all.join(" AND ")),
    }
}

/// A column as texts, however the reader keeps them.
fn texts(batch: &RecordBatch, at: usize) -> Result<Vec<Option<String>>, ArrowError> {
    let column = cast(batch.column(at), &DataType::Utf8)?;
    let texts = column.as_string::<i32>().iter();
    Ok(texts.map(|text| text.map(str::to_owned)).collect())
}

fn numbers(batch: &RecordBatch, at: usize) -> Result<Vec<i64>, ArrowError> {
    let column = cast(batch.column(at), &DataType::Int64)?;
    Ok(column.as_primitive::<Int64Type>().values().to_vec())
}

fn push_counts(batch: &RecordBatch, counts: &mut Vec<Count>) -> Result<(), ArrowError> {
    let (codes, steps) = (texts(batch, 0)?, texts(batch, 1)?);
    let numbers = numbers(batch, 2)?;
    for ((code, step), count) in codes.into_iter().zip(steps).zip(numbers) {
        counts.push(Count {
            code: code.unwrap_or_default(),
            step: step.unwrap_or_default(),
            count,
        });
    }
    Ok(())
}

fn push_rows(
    batch: &RecordBatch,
    format: DeadLetterFormat,
    rows: &mut Vec<Row>,
) -> Result<(), ArrowError> {
    let [
        mut source,
        mut split,
        mut code,
        mut step,
        mut message,
        mut field,
    ] = [
        texts(batch, 0)?,
        texts(batch, 1)?,
        texts(batch, 3)?,
        texts(batch, 4)?,
        texts(batch, 5)?,
        texts(batch, 6)?,
    ];
    let (position, epoch, raw) = (
        numbers(batch, 2)?,
        numbers(batch, 7)?,
        raw(batch, 8, format)?,
    );
    for (at, bytes) in raw.into_iter().enumerate() {
        let of = |column: &mut Vec<Option<String>>| column[at].take();
        let (raw, encoding) = bytes.map(told).unzip();
        rows.push(Row {
            source: of(&mut source).unwrap_or_default(),
            split: of(&mut split).unwrap_or_default(),
            position: position[at],
            code: of(&mut code).unwrap_or_default(),
            step: of(&mut step).unwrap_or_default(),
            message: of(&mut message).unwrap_or_default(),
            field: of(&mut field),
            epoch: epoch[at],
            raw,
            encoding,
        });
    }
    Ok(())
}

/// The records' bytes: Parquet has them, JSON lines have them as base64.
fn raw(
    batch: &RecordBatch,
    at: usize,
    format: DeadLetterFormat,
) -> Result<Vec<Option<Vec<u8>>>, ArrowError> {
    if format == DeadLetterFormat::JsonLines {
        let decode = |text: Option<String>| STANDARD.decode(text?).ok();
        return Ok(texts(batch, at)?.into_iter().map(decode).collect());
    }
    let column = cast(batch.column(at), &DataType::Binary)?;
    let bytes = column.as_binary::<i32>().iter();
    Ok(bytes.map(|bytes| bytes.map(<[u8]>::to_vec)).collect())
}

fn told(bytes: Vec<u8>) -> (String, &'static str) {
    match String::from_utf8(bytes) {
        Ok(text) => (text, "utf-8"),
        Err(e) => (STANDARD.encode(e.as_bytes()), "base64"),
    }
}

fn print(answer: &Answer, output: Output) -> std::io::Result<()> {
    let mut out = stdout().lock();
    if output == Output::Json {
        serde_json::to_writer_pretty(&mut out, answer)?;
        return writeln!(out);
    }
    let counts = answer.counts.iter();
    let counts = counts.map(|c| vec![c.code.clone(), c.step.clone(), c.count.to_string()]);
    table::print(&mut out, &["code", "step", "count"], counts)?;
    if answer.rows.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let rows = answer.rows.iter().map(|row| {
        vec![
            row.source.clone(),
            row.split.clone(),
            row.position.to_string(),
            row.code.clone(),
            row.step.clone(),
            row.message.clone(),
            row.raw.as_deref().map(shown).unwrap_or_default(),
        ]
    });
    let columns = [
        "source", "split", "position", "code", "step", "message", "raw",
    ];
    table::print(&mut out, &columns, rows)
}

/// A record on one line: control characters are spelled, so that none reaches the terminal.
fn shown(raw: &str) -> String {
    let spelled = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    let mut text: String = raw.chars().take(MOST_SHOWN).map(spelled).collect();
    if raw.chars().nth(MOST_SHOWN).is_some() {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use evp_api::plan::NodeName;
    use evp_core::dead_letter::DeadLetter;
    use evp_core::position::{Epoch, Micros, Position, SplitId};
    use object_store::ObjectStore;
    use object_store::memory::InMemory;

    use super::*;
    use crate::sink::dead_letters::{dead_letter_batch, dead_letter_schema, json_lines};
    use crate::sink::delta::Target;
    use crate::sink::parquet_writer::{Encode, FileWriter};

    fn letter(position: i64, code: RejectCode, raw: Option<&[u8]>) -> DeadLetter {
        DeadLetter {
            raw: raw.map(<[u8]>::to_vec),
            source: NodeName::new("orders").unwrap(),
            split: SplitId::partition(1),
            position: Position(position),
            step: NodeName::new("revenue").unwrap(),
            code,
            message: "what".to_owned(),
            field: None,
            epoch: Epoch(2),
            time: Micros(5),
        }
    }

    async fn written(format: DeadLetterFormat) -> Written {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let rows = dead_letter_batch(&[
            letter(7, RejectCode::Malformed, Some(b"\xff\xfe")),
            letter(8, RejectCode::Late, Some("{\"a\":\"ä\"}".as_bytes())),
            letter(9, RejectCode::Late, None),
        ]);
        match format {
            DeadLetterFormat::JsonLines => {
                let text = json_lines(&rows).unwrap();
                let name = "dead/a.jsonl".into();
                object_store::ObjectStoreExt::put(store.as_ref(), &name, text.into())
                    .await
                    .unwrap();
            }
            DeadLetterFormat::Parquet => {
                let encode = Encode::new(dead_letter_schema());
                let mut file =
                    FileWriter::create(&store, "dead/a.parquet".into(), &encode).unwrap();
                file.write(rows).await.unwrap();
                file.finish().await.unwrap();
            }
        }
        let target = Target {
            store,
            prefix: "dead".into(),
            url: url::Url::parse("memory:///dead").unwrap(),
        };
        Written {
            tables: Vec::new(),
            dead_letters: Some((target, format)),
            ..Written::default()
        }
    }

    fn args(more: &[&str]) -> DeadLettersArgs {
        #[derive(clap::Parser)]
        struct Typed {
            #[command(flatten)]
            args: DeadLettersArgs,
        }
        let words = ["dead-letters", "-f", "p.yaml"].iter().chain(more);
        <Typed as clap::Parser>::try_parse_from(words).unwrap().args
    }

    fn row(position: i64, code: &str, raw: Option<(&str, &'static str)>) -> Row {
        let (raw, encoding) = raw
            .map(|(raw, encoding)| (raw.to_owned(), encoding))
            .unzip();
        Row {
            source: "orders".into(),
            split: "1".into(),
            position,
            code: code.into(),
            step: "revenue".into(),
            message: "what".into(),
            field: None,
            epoch: 2,
            raw,
            encoding,
        }
    }

    fn count(code: &str, count: i64) -> Count {
        Count {
            code: code.into(),
            step: "revenue".into(),
            count,
        }
    }

    #[track_caller]
    fn same(found: &Answer, counts: Vec<Count>, rows: Vec<Row>) {
        assert_eq!(found, &Answer { counts, rows });
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn dead_letters_are_counted_and_listed_in_whatever_format_they_are_kept() {
        for format in [DeadLetterFormat::Parquet, DeadLetterFormat::JsonLines] {
            let (found, cut) = read(&args(&[]), &written(format).await, format)
                .await
                .unwrap();
            assert!(!cut);
            same(
                &found,
                vec![count("Late", 2), count("Malformed", 1)],
                vec![
                    row(7, "Malformed", Some(("//4=", "base64"))),
                    row(8, "Late", Some(("{\"a\":\"ä\"}", "utf-8"))),
                    row(9, "Late", None),
                ],
            );
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_code_a_step_and_a_limit_choose() {
        let format = DeadLetterFormat::Parquet;
        let written = written(format).await;
        let chosen = args(&["--code", "Late", "--step", "revenue", "--limit", "1"]);
        let (found, _) = read(&chosen, &written, format).await.unwrap();
        let row = row(8, "Late", Some(("{\"a\":\"ä\"}", "utf-8")));
        same(&found, vec![count("Late", 2)], vec![row]);
        let (found, _) = read(&args(&["--step", "it's"]), &written, format)
            .await
            .unwrap();
        same(&found, vec![], vec![]);
    }

    #[test]
    fn a_code_that_is_none_is_refused_with_those_there_are() {
        assert!(code("Bad").unwrap_err().contains("Malformed"));
    }

    #[test]
    fn no_control_character_of_a_record_reaches_the_terminal() {
        assert_eq!(shown("a\u{1b}[2J\n"), "a\\u{1b}[2J\\n");
        assert_eq!(
            shown(&"x".repeat(MOST_SHOWN + 1)).chars().count(),
            MOST_SHOWN + 1
        );
    }
}
