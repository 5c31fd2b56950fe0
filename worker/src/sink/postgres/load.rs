//! Rows of one epoch into the table. Those that are only added are copied straight into it; where it does not take them so, and
//! all others, go to a temporary table by COPY and from there by INSERT, and those that the database refuses are found by halves
//! and kept.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{DataType, FieldRef};
use arrow::error::ArrowError;
use arrow::json::writer::EncoderOptions;
use bytes::Bytes;
use evp_api::plan::Mode;
use futures::SinkExt;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{CopyInSink, Error, Transaction};

use super::connect::{Failure, Server, failed};
use super::encode::{Rows, json, sql_type};
use super::progress::{REJECTS, REJECTS_AT_ONCE, Writer};
use super::table::{Wanted, listed, quoted};
use crate::sink::changes::{Changes, Keys};

/// The temporary table.
const STAGE: &str = "pg_temp.eventpipeline_stage";

/// Bytes that are encoded and sent at a time.
const CHUNK: usize = 256 << 10;

/// Why the database has no place for a row.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Refusal {
    /// SQLSTATE.
    pub(super) code: String,
    /// In the server's words.
    pub(super) message: String,
}

/// Rows that were refused, by number.
pub(super) type Refused = BTreeMap<usize, Refusal>;

/// Whether rows are copied straight into the table: after it did not take them so, not for some epochs, twice as many each time,
/// for what is taken back bloats it.
#[derive(Debug, Default)]
pub(super) struct Straight {
    /// Epochs that still go the other way.
    left: AtomicU32,
    /// How many after the next failure.
    next: AtomicU32,
}

impl Straight {
    fn is_due(&self) -> bool {
        let left = self.left.load(Ordering::Relaxed);
        self.left.store(left.saturating_sub(1), Ordering::Relaxed);
        left == 0
    }

    fn pause(&self) {
        let pause = self.next.load(Ordering::Relaxed).max(1);
        self.left.store(pause, Ordering::Relaxed);
        self.next.store((2 * pause).min(64), Ordering::Relaxed);
    }

    fn worked(&self) {
        self.left.store(0, Ordering::Relaxed);
        self.next.store(0, Ordering::Relaxed);
    }
}

/// One epoch's rows on their way.
pub(super) struct Load<'a> {
    pub(super) server: &'a Server,
    pub(super) wanted: &'a Wanted,
    pub(super) mode: Mode,
    pub(super) changes: &'a Changes,
    /// Rows in the order in which they are sent and written: by key, so that transactions lock rows in one order.
    order: Vec<usize>,
    refused: Refused,
}

impl<'a> Load<'a> {
    /// Rows that no server could take are refused already.
    pub(super) fn new(
        (server, wanted): (&'a Server, &'a Wanted),
        mode: Mode,
        changes: &'a Changes,
        keys: Option<&Keys>,
    ) -> Result<Self, ArrowError> {
        let mut order: Vec<usize> = (0..changes.rows.num_rows()).collect();
        if let Some(keys) = keys {
            let found = keys.of(&changes.rows)?;
            order.sort_by(|&a, &b| found.row(a).cmp(&found.row(b)));
        }
        let mut load = Self {
            server,
            wanted,
            mode,
            changes,
            order,
            refused: Refused::new(),
        };
        load.refuse_at_sight()?;
        // What is not sent is never found in the temporary table, so it is not looked for there.
        load.order.retain(|row| !load.refused.contains_key(row));
        Ok(load)
    }

    fn refuse_at_sight(&mut self) -> Result<(), ArrowError> {
        let rows = &self.changes.rows;
        let (fields, options) = (self.fields(), options());
        let encoded = Rows::new(rows, &fields, &options)?;
        let looked_at = if encoded.may_have_zero() {
            rows.num_rows()
        } else {
            0
        };
        for row in 0..looked_at {
            if let Some(column) = encoded.zero(row) {
                let message = format!(
                    "column {} holds the character \\0, which the server has not",
                    fields[column].name()
                );
                let code = SqlState::UNTRANSLATABLE_CHARACTER.code().to_owned();
                self.refused.insert(row, Refusal { code, message });
            }
        }
        if self.wanted.null_keys {
            return Ok(());
        }
        for key in &self.wanted.keys {
            let Some(column) = rows.column_by_name(key) else {
                continue;
            };
            for row in (0..rows.num_rows()).filter(|&row| column.is_null(row)) {
                let code = SqlState::NOT_NULL_VIOLATION.code().to_owned();
                let message = format!("key column {key} is null");
                self.refused.insert(row, Refusal { code, message });
            }
        }
        Ok(())
    }

    fn fields(&self) -> Vec<FieldRef> {
        self.changes
            .rows
            .schema()
            .fields()
            .iter()
            .cloned()
            .collect()
    }

    /// Writes all rows but those that are refused, which it gives back.
    pub(super) async fn run(
        self,
        work: &mut Transaction<'_>,
        straight: &Straight,
    ) -> Result<Refused, Failure> {
        if self.is_only_added() && straight.is_due() {
            straight.pause();
            if self.copied(work).await? {
                straight.worked();
                return Ok(self.refused);
            }
        }
        self.staged(work).await
    }

    /// Neither replaces nor deletes. The text of a `real` would be another number in a `double precision`.
    fn is_only_added(&self) -> bool {
        let real = |field: &FieldRef| field.data_type() == &DataType::Float32;
        self.mode == Mode::Append
            && self.changes.delete.true_count() == 0
            && !self.wanted.columns.fields().iter().any(real)
    }

    /// Copies all rows into the table itself. `Ok(false)`: it does not take them all, and none is written.
    async fn copied(&self, work: &Transaction<'_>) -> Result<bool, Failure> {
        let (table, fields) = (self.server.table(), self.wanted.columns.fields());
        let names = listed(fields.iter().map(|field| field.name()));
        mark(work).await?;
        match self.copy(work, &format!("{table} ({names})"), false).await {
            Ok(()) => release(work).await.map(|()| true),
            Err(Failure::Sql { error, .. }) if error.as_db_error().is_some() => {
                undo(work).await.map(|()| false)
            }
            Err(failure) => Err(failure),
        }
    }

    async fn staged(mut self, work: &mut Transaction<'_>) -> Result<Refused, Failure> {
        let uncopied = || failed("rows cannot be copied");
        let columns = self.wanted.columns.fields().len();
        let texts: Vec<_> = (0..columns).map(|i| format!("c{i} text")).collect();
        let stage = format!(
            "CREATE TEMPORARY TABLE eventpipeline_stage (n bigint, d boolean, {}) ON COMMIT DROP",
            texts.join(", ")
        );
        work.batch_execute(&stage).await.map_err(uncopied())?;
        self.copy(work, STAGE, true).await?;
        let rows = self.order.len();
        if !self.insert(work, 0..rows).await? {
            // Without order by number each half would read the whole.
            let index = format!("CREATE INDEX ON {STAGE} (n); ANALYZE {STAGE}");
            work.batch_execute(&index)
                .await
                .map_err(failed("rows cannot be ordered"))?;
            self.halve(work, rows).await?;
            self.once_more(work).await?;
        }
        Ok(self.refused)
    }

    async fn copy(
        &self,
        work: &Transaction<'_>,
        to: &str,
        is_numbered: bool,
    ) -> Result<(), Failure> {
        let uncopied = || failed("rows cannot be copied");
        let copy = work.copy_in(&format!("COPY {to} FROM STDIN")).await;
        let copy: CopyInSink<Bytes> = copy.map_err(uncopied())?;
        let mut copy = std::pin::pin!(copy);
        let mut from = 0;
        while from < self.order.len() {
            let (chunk, next) = self.encode(from, is_numbered).map_err(|e| {
                let why = e.to_string();
                self.server.unavailable("rows cannot be encoded", &why)
            })?;
            copy.send(chunk.into()).await.map_err(uncopied())?;
            from = next;
        }
        copy.finish().await.map_err(uncopied())?;
        Ok(())
    }

    /// As many rows as fill a chunk, and the number of the next. Numbered ones begin with their number and whether they delete.
    fn encode(&self, from: usize, is_numbered: bool) -> Result<(Vec<u8>, usize), ArrowError> {
        let (fields, options) = (self.fields(), options());
        let mut rows = Rows::new(&self.changes.rows, &fields, &options)?;
        let (mut out, mut next) = (Vec::with_capacity(CHUNK + CHUNK / 4), from);
        while next < self.order.len() && out.len() < CHUNK {
            let row = self.order[next];
            if is_numbered {
                let delete = ['f', 't'][usize::from(self.changes.delete.value(row))];
                out.extend_from_slice(format!("{next}\t{delete}\t").as_bytes());
            }
            rows.write(row, &mut out);
            out.push(b'\n');
            next += 1;
        }
        Ok((out, next))
    }

    /// Writes rows of these numbers. `Ok(false)`: the database refuses one of them, and none is written.
    async fn insert(
        &mut self,
        work: &mut Transaction<'_>,
        which: Range<usize>,
    ) -> Result<bool, Failure> {
        let statements = self.statements(&which);
        mark(work).await?;
        match work.batch_execute(&statements).await {
            Ok(()) => release(work).await.map(|()| true),
            Err(error) => match refusal(&error) {
                None => Err(failed("rows cannot be written")(error)),
                Some(refusal) => {
                    undo(work).await?;
                    if which.len() == 1 {
                        self.refused.insert(self.order[which.start], refusal);
                    }
                    Ok(false)
                }
            },
        }
    }

    /// Halves what was refused until single rows are.
    async fn halve(&mut self, work: &mut Transaction<'_>, rows: usize) -> Result<(), Failure> {
        let halves = |whole: Range<usize>| {
            let middle = whole.start + whole.len() / 2;
            // What is last is taken first: rows are written in order.
            [middle..whole.end, whole.start..middle]
        };
        let mut due = vec![];
        if rows > 1 {
            due.extend(halves(0..rows));
        }
        while let Some(part) = due.pop() {
            if !self.insert(work, part.clone()).await? && part.len() > 1 {
                due.extend(halves(part));
            }
        }
        Ok(())
    }

    /// A row may refer to another one of its epoch that was written after it, and that one to a third: tried again while any
    /// passes.
    async fn once_more(&mut self, work: &mut Transaction<'_>) -> Result<(), Failure> {
        loop {
            let refused: Vec<usize> = (0..self.order.len())
                .filter(|&n| self.refused.contains_key(&self.order[n]))
                .collect();
            let mut any_passed = false;
            for number in refused {
                if self.insert(work, number..number + 1).await? {
                    self.refused.remove(&self.order[number]);
                    any_passed = true;
                }
            }
            if !any_passed {
                return Ok(());
            }
        }
    }

    fn statements(&self, which: &Range<usize>) -> String {
        let table = self.server.table();
        let fields = self.wanted.columns.fields();
        let names = listed(fields.iter().map(|field| field.name()));
        let value = |i: usize| {
            let sql_type = sql_type(fields[i].data_type()).unwrap_or_default();
            format!("s.c{i}::{sql_type}")
        };
        let values: Vec<_> = (0..fields.len()).map(value).collect();
        let of = format!("s.n >= {} AND s.n < {}", which.start, which.end);
        let keys = &self.wanted.keys;
        let conflict = match self.mode {
            Mode::Append if keys.is_empty() => String::new(),
            Mode::Append => format!(" ON CONFLICT ({}) DO NOTHING", listed(keys)),
            Mode::Update => format!(" ON CONFLICT ({}) DO {}", listed(keys), self.replace()),
        };
        let mut sql = format!(
            "INSERT INTO {table} ({names}) SELECT {} FROM {STAGE} s WHERE {of} AND NOT s.d ORDER BY s.n{conflict};",
            values.join(", ")
        );
        if self.changes.delete.true_count() > 0 {
            let same: Vec<_> = (0..fields.len())
                .filter(|&i| keys.contains(fields[i].name()))
                .map(|i| {
                    let equals = if fields[i].is_nullable() {
                        "IS NOT DISTINCT FROM"
                    } else {
                        "="
                    };
                    format!("t.{} {equals} {}", quoted(fields[i].name()), value(i))
                })
                .collect();
            let same = same.join(" AND ");
            // Writing to a String cannot fail.
            let _ = write!(
                sql,
                " DELETE FROM {table} t USING {STAGE} s WHERE {of} AND s.d AND {same};"
            );
        }
        sql
    }

    fn replace(&self) -> String {
        let columns = self.wanted.columns.fields().iter();
        let values = columns.filter(|field| !self.wanted.keys.contains(field.name()));
        let set: Vec<_> = values
            .map(|field| {
                let name = quoted(field.name());
                format!("{name} = EXCLUDED.{name}")
            })
            .collect();
        if set.is_empty() {
            return "NOTHING".to_owned();
        }
        format!("UPDATE SET {}", set.join(", "))
    }
}

async fn mark(work: &Transaction<'_>) -> Result<(), Failure> {
    let marked = work.batch_execute("SAVEPOINT eventpipeline").await;
    marked.map_err(failed("rows cannot be written"))
}

async fn release(work: &Transaction<'_>) -> Result<(), Failure> {
    let released = work.batch_execute("RELEASE eventpipeline").await;
    released.map_err(failed("rows cannot be written"))
}

/// Takes back what came after the mark, and the mark: each that stays costs the server a lock with every later one.
async fn undo(work: &Transaction<'_>) -> Result<(), Failure> {
    let sql = "ROLLBACK TO eventpipeline; RELEASE eventpipeline";
    let undone = work.batch_execute(sql).await;
    undone.map_err(failed("rows cannot be taken back"))
}

/// Is it about a row? Classes of the SQL standard: data exceptions, broken constraints, and what a trigger or a view's check
/// raises. A row that would be changed twice by one statement (keys that only the database takes for equal) is one too, and one
/// that is too large for a page or an index.
fn refusal(error: &Error) -> Option<Refusal> {
    let told = error.as_db_error()?;
    let code = told.code().code();
    let of_row = ["22", "23", "44"]
        .iter()
        .any(|class| code.starts_with(class));
    let others = [
        &SqlState::RAISE_EXCEPTION,
        &SqlState::CARDINALITY_VIOLATION,
        &SqlState::PROGRAM_LIMIT_EXCEEDED,
    ];
    let of_row = of_row || others.contains(&told.code());
    of_row.then(|| Refusal {
        code: code.to_owned(),
        message: told.message().to_owned(),
    })
}

fn options() -> EncoderOptions {
    EncoderOptions::default().with_explicit_nulls(true)
}

/// Keeps refused rows beside the table, in the transaction that writes the others.
pub(super) async fn keep(
    (server, writer): (&Server, &Writer),
    work: &Transaction<'_>,
    (epoch, rows): (i64, &RecordBatch),
    refused: &Refused,
) -> Result<(), Failure> {
    let which: Vec<usize> = refused.keys().copied().collect();
    let why: Vec<&Refusal> = refused.values().collect();
    let insert = format!(
        "INSERT INTO {} (sink, incarnation, epoch, ordinal, name, target, \"row\", code, message) \
         SELECT $1, $2, $3, r.n, $4, $5, r.row::jsonb, r.code, r.message \
         FROM unnest($6::bigint[], $7::text[], $8::text[], $9::text[]) AS r (n, row, code, message)",
        server.beside(REJECTS)
    );
    let target = server.plan.target();
    for (which, why) in which
        .chunks(REJECTS_AT_ONCE)
        .zip(why.chunks(REJECTS_AT_ONCE))
    {
        let objects = json(rows, which)
            .map_err(|e| server.unavailable("rows cannot be kept", &e.to_string()))?;
        let numbers: Vec<i64> = which
            .iter()
            .map(|&n| i64::try_from(n).unwrap_or(i64::MAX))
            .collect();
        let codes: Vec<&str> = why.iter().map(|why| why.code.as_str()).collect();
        let messages: Vec<&str> = why.iter().map(|why| why.message.as_str()).collect();
        let values: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 9] = [
            (&writer.sink, Type::TEXT),
            (&writer.incarnation, Type::TEXT),
            (&epoch, Type::INT8),
            (&writer.name, Type::TEXT),
            (&target, Type::TEXT),
            (&numbers, Type::INT8_ARRAY),
            (&objects, Type::TEXT_ARRAY),
            (&codes, Type::TEXT_ARRAY),
            (&messages, Type::TEXT_ARRAY),
        ];
        let kept = work.execute_typed(&insert, &values).await;
        kept.map_err(failed("refused rows cannot be kept"))?;
    }
    Ok(())
}
