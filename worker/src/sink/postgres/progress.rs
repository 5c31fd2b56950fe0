//! The two tables that sinks keep beside the tables they write: what was applied, and which rows the database refused.
//!
//! A sink's row in `eventpipeline_progress` is found by checkpoint, lane, name and target, without the incarnation: whoever
//! owns the lane finds the row of whoever owned it before, and raises its term, below which nothing is applied any more.

use evp_api::reason;
use evp_core::position::{Epoch, Term};
use evp_core::protocol::head::Intent;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row, Transaction};

use super::connect::{Failure, Server, failed};
use crate::sink::RejectedRow;

/// One row a sink.
pub(super) const PROGRESS: &str = "eventpipeline_progress";

/// One row a row that the database refused.
pub(super) const REJECTS: &str = "eventpipeline_rejects";

/// Rejects that are stored or read at a time.
pub(super) const REJECTS_AT_ONCE: usize = 500;

/// Who writes.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    /// Hex digest over checkpoint id, lane, name and target.
    pub(super) sink: String,
    /// The sink's name, for people.
    pub(super) name: String,
    /// Incarnation of the checkpoint.
    pub(super) incarnation: String,
    /// The epoch at which the sink entered the plan.
    pub(super) added_at: Epoch,
    /// Under which the lane is owned; 0: it is only asked.
    pub(super) term: Term,
}

/// A sink's row.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Held {
    incarnation: String,
    added_at: i64,
    epoch: i64,
    term: i64,
}

/// Where an intent stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Standing {
    /// The table holds its epoch.
    Done,
    /// It is next. `replaces`: the row is of an earlier life of the sink, or there is none.
    Due {
        /// No epoch of this life was applied.
        replaces: bool,
    },
}

/// What creates the two tables.
pub(super) fn create_sql(server: &Server) -> String {
    let (progress, rejects) = (server.beside(PROGRESS), server.beside(REJECTS));
    format!(
        "CREATE TABLE IF NOT EXISTS {progress} (
            sink text PRIMARY KEY, name text NOT NULL, target text NOT NULL, incarnation text NOT NULL,
            added_at bigint NOT NULL, epoch bigint NOT NULL, term bigint NOT NULL, rejected bigint NOT NULL,
            applied_at timestamptz NOT NULL);
        CREATE TABLE IF NOT EXISTS {rejects} (
            sink text NOT NULL, incarnation text NOT NULL, epoch bigint NOT NULL, ordinal bigint NOT NULL, name text NOT NULL,
            target text NOT NULL, \"row\" jsonb NOT NULL, code text NOT NULL, message text NOT NULL,
            PRIMARY KEY (sink, incarnation, epoch, ordinal));"
    )
}

/// Whether both are there.
pub(super) async fn exists(server: &Server, work: &Transaction<'_>) -> Result<bool, Failure> {
    let asked = "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
        WHERE n.nspname = $1 AND c.relname IN ($2, $3)";
    let names = [
        &server.plan.schema as &(dyn tokio_postgres::types::ToSql + Sync),
        &PROGRESS,
        &REJECTS,
    ];
    let found = work
        .query_typed_one(asked, &names.map(|name| (name, Type::TEXT)))
        .await;
    let found: i64 = found
        .map_err(failed("its tables of progress and rejects"))?
        .get(0);
    Ok(found == 2)
}

impl Writer {
    /// Locks the sink's row until the transaction ends, and decides: who applied this epoch before, or is just applying it,
    /// is waited for.
    pub(super) async fn stand(
        &self,
        server: &Server,
        work: &Transaction<'_>,
        intent: &Intent,
    ) -> Result<Standing, Failure> {
        let asked = format!(
            "SELECT incarnation, added_at, epoch, term FROM {} WHERE sink = $1 FOR UPDATE",
            server.beside(PROGRESS)
        );
        let found = work
            .query_typed_opt(&asked, &[(&self.sink, Type::TEXT)])
            .await;
        let found = found.map_err(failed("its progress cannot be read"))?;
        self.decide(intent, found.as_ref().map(held))
            .map_err(|(reason, what)| server.stop(reason, &what).into())
    }

    fn decide(
        &self,
        intent: &Intent,
        held: Option<Held>,
    ) -> Result<Standing, (&'static str, String)> {
        let (epoch, prev) = (signed(intent.epoch), intent.prev.map(signed));
        if let Some(held) = &held {
            self.fenced(held)?;
        }
        match (held, prev) {
            (Some(held), _) if self.is_ours(&held) && held.epoch >= epoch => Ok(Standing::Done),
            (Some(held), prev) if self.is_ours(&held) && Some(held.epoch) == prev => {
                Ok(Standing::Due { replaces: false })
            }
            (Some(held), _) if held.epoch >= epoch => Err(behind(&held)),
            (Some(held), None) if self.is_ours(&held) => Err(behind(&held)),
            (_, None) => Ok(Standing::Due { replaces: true }),
            (held, Some(prev)) => {
                let ends = held
                    .filter(|held| self.is_ours(held))
                    .map_or("does not say so any more".to_owned(), |held| {
                        format!("ends at epoch {}", held.epoch)
                    });
                let what = format!(
                    "epoch {prev} was applied here and {PROGRESS} {ends}; restore the database's newest state, or give the sink \
                     another table"
                );
                Err((reason::SINK_HISTORY_LOST, what))
            }
        }
    }

    fn fenced(&self, held: &Held) -> Result<(), (&'static str, String)> {
        if held.term <= i64::try_from(self.term.0).unwrap_or(i64::MAX) {
            return Ok(());
        }
        let what = format!(
            "{PROGRESS} holds term {}, which is higher than ours: a newer owner of the lane writes here, and this pod leaves it \
             alone",
            held.term
        );
        Err((reason::FENCED, what))
    }

    fn is_ours(&self, held: &Held) -> bool {
        held.incarnation == self.incarnation && held.added_at == signed(self.added_at)
    }

    /// Notes the epoch, in the transaction that applies it. `Ok(false)`: another transaction was faster.
    pub(super) async fn note(
        &self,
        server: &Server,
        work: &Transaction<'_>,
        (intent, replaces, rejected): (&Intent, bool, i64),
    ) -> Result<bool, Failure> {
        let table = server.beside(PROGRESS);
        let (epoch, prev) = (signed(intent.epoch), intent.prev.map_or(-1, signed));
        let term = i64::try_from(self.term.0).unwrap_or(i64::MAX);
        let (target, added_at) = (server.plan.target(), signed(self.added_at));
        let values: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 8] = [
            (&self.sink, Type::TEXT),
            (&self.incarnation, Type::TEXT),
            (&added_at, Type::INT8),
            (&epoch, Type::INT8),
            (&term, Type::INT8),
            (&rejected, Type::INT8),
            (&self.name, Type::TEXT),
            (&target, Type::TEXT),
        ];
        let touched = if replaces {
            let sql = format!(
                "INSERT INTO {table} AS held (sink, incarnation, added_at, epoch, term, rejected, name, target, applied_at) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, now()) ON CONFLICT (sink) DO UPDATE SET incarnation = $2, \
                 added_at = $3, epoch = $4, term = $5, rejected = $6, applied_at = now() WHERE held.term <= $5 \
                 AND held.epoch < $4 AND NOT (held.incarnation = $2 AND held.added_at = $3)"
            );
            work.execute_typed(&sql, &values).await
        } else {
            let sql = format!(
                "UPDATE {table} SET epoch = $4, term = $5, rejected = rejected + $6, name = $7, target = $8, applied_at = now() \
                 WHERE sink = $1 AND incarnation = $2 AND added_at = $3 AND epoch = $9 AND term <= $5"
            );
            let mut values = values.to_vec();
            values.push((&prev, Type::INT8));
            work.execute_typed(&sql, &values).await
        };
        let touched = touched.map_err(failed("its progress cannot be noted"))?;
        Ok(touched == 1)
    }

    /// How many rows of an epoch are kept as refused.
    pub(super) async fn rejected(
        &self,
        server: &Server,
        work: &Transaction<'_>,
        epoch: Epoch,
    ) -> Result<u64, Failure> {
        let asked = format!(
            "SELECT count(*) FROM {} WHERE sink = $1 AND incarnation = $2 AND epoch = $3",
            server.beside(REJECTS)
        );
        let epoch = signed(epoch);
        let of = [
            (&self.sink as _, Type::TEXT),
            (&self.incarnation as _, Type::TEXT),
            (&epoch as _, Type::INT8),
        ];
        let counted = work.query_typed_one(&asked, &of).await;
        let counted: i64 = counted
            .map_err(failed("refused rows cannot be counted"))?
            .get(0);
        Ok(counted.unsigned_abs())
    }

    /// Some of the rows of an epoch that are kept as refused, those after a number first.
    pub(super) async fn rejects(
        &self,
        server: &Server,
        client: &Client,
        (epoch, after): (Epoch, Option<i64>),
    ) -> Result<Vec<RejectedRow>, Failure> {
        let unread = || failed("refused rows cannot be read");
        let table = server.beside(REJECTS);
        let asked = "SELECT to_regclass($1) IS NOT NULL";
        let there = client.query_typed_one(asked, &[(&table, Type::TEXT)]).await;
        if !there.map_err(unread())?.get::<_, bool>(0) {
            return Ok(Vec::new());
        }
        let asked = format!(
            "SELECT ordinal, \"row\"::text, message || ' (SQLSTATE ' || code || ')' FROM {table} \
             WHERE sink = $1 AND incarnation = $2 AND epoch = $3 AND ordinal > $4 ORDER BY ordinal LIMIT {REJECTS_AT_ONCE}"
        );
        let (epoch, after) = (signed(epoch), after.unwrap_or(-1));
        let of = [
            (&self.sink as _, Type::TEXT),
            (&self.incarnation as _, Type::TEXT),
            (&epoch as _, Type::INT8),
            (&after as _, Type::INT8),
        ];
        let found = client.query_typed(&asked, &of).await.map_err(unread())?;
        let row = |row: &Row| RejectedRow {
            number: row.get(0),
            row: row.get(1),
            message: row.get(2),
        };
        Ok(found.iter().map(row).collect())
    }

    /// The newest epoch that the table holds, and from now on nobody of a lower term applies anything.
    pub(super) async fn probe(
        &self,
        server: &Server,
        client: &Client,
        intent: &Intent,
    ) -> Result<Option<Epoch>, Failure> {
        let table = server.beside(PROGRESS);
        let asked = "SELECT to_regclass($1) IS NOT NULL";
        let there = client.query_typed_one(asked, &[(&table, Type::TEXT)]).await;
        let unread = || failed("its progress cannot be read");
        if !there.map_err(unread())?.get::<_, bool>(0) {
            return Ok(None);
        }
        if self.term.0 > 0 {
            let term = i64::try_from(self.term.0).unwrap_or(i64::MAX);
            let raise = format!("UPDATE {table} SET term = $2 WHERE sink = $1 AND term < $2");
            let values = [(&self.sink as _, Type::TEXT), (&term as _, Type::INT8)];
            client
                .execute_typed(&raise, &values)
                .await
                .map_err(unread())?;
        }
        let asked =
            format!("SELECT incarnation, added_at, epoch, term FROM {table} WHERE sink = $1");
        let found = client
            .query_typed_opt(&asked, &[(&self.sink, Type::TEXT)])
            .await;
        let found = found.map_err(unread())?;
        match found.as_ref().map(held) {
            Some(held) if self.is_ours(&held) => Ok(u64::try_from(held.epoch).ok().map(Epoch)),
            Some(held) if held.epoch >= signed(intent.epoch) => {
                let (reason, what) = behind(&held);
                Err(server.stop(reason, &what).into())
            }
            _ => Ok(None),
        }
    }
}

fn behind(held: &Held) -> (&'static str, String) {
    let what = format!(
        "{PROGRESS} holds epoch {} of incarnation {}, which the checkpoint does not know of: it was rolled back; restore its \
         newest objects",
        held.epoch, held.incarnation
    );
    (reason::CHECKPOINT_BEHIND_SINK, what)
}

fn held(row: &Row) -> Held {
    Held {
        incarnation: row.get(0),
        added_at: row.get(1),
        epoch: row.get(2),
        term: row.get(3),
    }
}

fn signed(epoch: Epoch) -> i64 {
    i64::try_from(epoch.0).unwrap_or(i64::MAX)
}
