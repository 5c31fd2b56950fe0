//! PostgreSQL tables: rows are staged in the outbox and applied in one transaction with the sink's row of progress.
//!
//! That row is locked first. It tells whether the epoch is in the table already, whether it is the next one, and whether a
//! newer owner of the lane writes here. So whatever became of a COMMIT whose answer was lost, of a killed server or of a
//! worker that woke up late, the next transaction finds out, and decides by what it finds.

mod connect;
mod encode;
mod load;
mod progress;
mod settings;
mod table;

use arrow::array::{BooleanArray, RecordBatch, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use async_trait::async_trait;
use evp_api::plan::Mode;
use evp_api::reason;
use evp_core::dataflow::SinkBatch;
use evp_core::position::Epoch;
use evp_core::protocol::head::Intent;
use evp_core::protocol::paths::unique;
use tokio_postgres::{IsolationLevel, Transaction};

use crate::checkpointer::{CommitPermit, Moment, Step};
use crate::sink::changes::{self, Body, ChangeSet, Changes, Keys};
use crate::sink::{Applied, RejectedRow, Sink, SinkError};

pub use settings::{PostgresSettings, PostgresWriter};

use self::connect::{Failure, Server, Session, failed};
use self::load::{Load, Refused, Straight, keep};
use self::progress::{Standing, Writer};
use self::table::{Found, Wanted};

/// Looks at the world after which a transaction that others disturb is left to the caller's patience.
const ROUNDS: u32 = 5;

/// Names the lock under which tables are created: any number that nobody else uses.
const CREATE_LOCK: i64 = 0x6576_7069_7065;

/// A PostgreSQL table.
pub struct PostgresSink {
    server: Server,
    wanted: Wanted,
    writer: Writer,
    keys: Option<Keys>,
    staged: ChangeSet,
    sealed: u64,
    straight: Straight,
    session: Option<Session>,
    settings: PostgresSettings,
}

impl PostgresSink {
    /// Looks at the table, if there is one: what cannot be written is refused now.
    pub async fn open(settings: PostgresSettings) -> Result<Self, SinkError> {
        let PostgresSettings {
            plan,
            secrets,
            rows,
            mode,
            keys,
            null_keys,
            writer,
            ..
        } = settings.clone();
        let server = Server { plan, secrets };
        let wanted = Wanted {
            columns: rows,
            keys,
            null_keys,
            create: server.plan.create_table.clone(),
        };
        let refuse = |why: String| server.stop(reason::TABLE_MISMATCH, &why);
        let keys = match wanted.keys.is_empty() {
            true => None,
            false => Some(Keys::new(&wanted.columns, &wanted.keys).map_err(refuse)?),
        };
        let staged = ChangeSet::new(&wanted.columns);
        let staged = match mode {
            Mode::Append => staged.keeping_first(),
            Mode::Update => staged,
        };
        // Each row without a key is refused for itself.
        let staged = match wanted.null_keys {
            true => staged,
            false => staged.keeping_nulls(),
        };
        let PostgresWriter {
            sink,
            name,
            incarnation,
            added_at,
            term,
        } = writer;
        let sink = Self {
            writer: Writer {
                sink,
                name,
                incarnation,
                added_at,
                term,
            },
            keys,
            staged,
            sealed: 0,
            straight: Straight::default(),
            session: None,
            settings,
            server,
            wanted,
        };
        sink.look().await.map_err(|e| e.told(&sink.server))?;
        Ok(sink)
    }

    async fn look(&self) -> Result<(), Failure> {
        let mut session = self.server.connect().await?;
        let begun = session.client.transaction().await;
        let work = begun.map_err(failed("the table cannot be looked at"))?;
        let version = table::version(&self.server, &work).await?;
        self.wanted.look(&self.server, (&work, version)).await?;
        Ok(())
    }

    fn take_in(&mut self, batch: SinkBatch) -> Result<bool, ArrowError> {
        match (batch, &self.keys) {
            (SinkBatch::Rows(rows), None) => {
                self.staged.append(&shaped(&rows, &self.wanted.columns)?)
            }
            (SinkBatch::Changes { rows, .. }, None) => self.staged.append(&rows),
            (SinkBatch::Rows(rows), Some(keys)) => {
                let delete = BooleanArray::from(vec![false; rows.num_rows()]);
                self.staged
                    .push(keys, &shaped(&rows, &self.wanted.columns)?, delete)
            }
            (SinkBatch::Changes { rows, delete }, Some(keys)) => {
                let rows = shaped(&rows, &self.wanted.columns)?;
                self.staged.push(keys, &rows, BooleanArray::from(delete))
            }
        }
    }

    /// [`Sink::apply`] for tests against a real server, where no head decides.
    #[doc(hidden)]
    pub async fn roll_forward(&mut self, intent: &Intent) -> Result<Applied, SinkError> {
        let body = serde_json::from_value(intent.body.clone());
        let damaged =
            |e: serde_json::Error| self.server.stop(reason::CHECKPOINT_DAMAGED, &e.to_string());
        let body: Body = body.map_err(damaged)?;
        let changes = Changes::get(&self.settings.outbox, &body).await?;
        let mut round = 1;
        loop {
            let mut session = match self
                .session
                .take()
                .filter(|session| !session.client.is_closed())
            {
                Some(session) => session,
                None => self.server.connect().await?,
            };
            match self.transact(&mut session, intent, &changes).await {
                Ok(applied) => {
                    self.session = Some(session);
                    return Ok(applied);
                }
                Err(failure) if round < ROUNDS && failure.is_settled_by_another_look() => {
                    tracing::debug!(?failure, round, "the transaction is tried again");
                    round += 1;
                }
                Err(failure) => return Err(failure.told(&self.server)),
            }
        }
    }

    /// One transaction, from the look at the progress to the end of COMMIT.
    async fn transact(
        &self,
        session: &mut Session,
        intent: &Intent,
        changes: &Changes,
    ) -> Result<Applied, Failure> {
        let (server, crash) = (&self.server, &self.settings.crash);
        crash.hit(Step::Begin, Moment::Before);
        let begun = session
            .client
            .build_transaction()
            .isolation_level(IsolationLevel::ReadCommitted)
            .start()
            .await;
        let mut work = begun.map_err(failed("no transaction can be begun"))?;
        let settings = "SET CONSTRAINTS ALL IMMEDIATE; SET LOCAL lock_timeout = '30s'; SET LOCAL statement_timeout = 0; \
            SET LOCAL idle_in_transaction_session_timeout = '60s'; \
            SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'";
        work.batch_execute(settings)
            .await
            .map_err(failed("no transaction can be begun"))?;
        let replaces = match self.prepare(&work, intent).await? {
            Standing::Done => {
                let rejected = self.writer.rejected(server, &work, intent.epoch).await?;
                return Ok(Applied {
                    version: None,
                    rejected,
                });
            }
            Standing::Due { replaces } => replaces,
        };
        crash.hit(Step::Begin, Moment::After);
        crash.hit(Step::Write, Moment::Before);
        let refused = self.write(&mut work, intent, changes).await?;
        crash.hit(Step::Write, Moment::After);
        let rejected = i64::try_from(refused.len()).unwrap_or(i64::MAX);
        if !self
            .writer
            .note(server, &work, (intent, replaces, rejected))
            .await?
        {
            return Err(Failure::Raced);
        }
        crash.hit(Step::CommitSend, Moment::Before);
        work.commit()
            .await
            .map_err(failed("a transaction did not end"))?;
        crash.hit(Step::CommitSend, Moment::After);
        if rejected > 0 {
            tracing::warn!(
                sink = self.writer.name,
                epoch = intent.epoch.0,
                rejected,
                "the database refused rows; they are kept in {}",
                progress::REJECTS
            );
        }
        Ok(Applied {
            version: None,
            rejected: refused.len() as u64,
        })
    }

    /// Creates what is to be created, and finds out where the intent stands.
    async fn prepare(&self, work: &Transaction<'_>, intent: &Intent) -> Result<Standing, Failure> {
        let server = &self.server;
        let version = table::version(server, work).await?;
        if !progress::exists(server, work).await? {
            self.create(work, &progress::create_sql(server)).await?;
        }
        let standing = self.writer.stand(server, work, intent).await?;
        if standing != Standing::Done
            && self.wanted.look(server, (work, version)).await? == Found::Due
        {
            self.create(work, &self.wanted.create_sql(server, version))
                .await?;
        }
        Ok(standing)
    }

    /// One creates at a time: `IF NOT EXISTS` alone fails where two do.
    async fn create(&self, work: &Transaction<'_>, sql: &str) -> Result<(), Failure> {
        let sql = format!("SELECT pg_advisory_xact_lock({CREATE_LOCK}); {sql}");
        work.batch_execute(&sql)
            .await
            .map_err(failed("tables cannot be created"))
    }

    async fn write(
        &self,
        work: &mut Transaction<'_>,
        intent: &Intent,
        changes: &Changes,
    ) -> Result<Refused, Failure> {
        let (server, mode) = (&self.server, self.settings.mode);
        let load = Load::new((server, &self.wanted), mode, changes, self.keys.as_ref());
        let load =
            load.map_err(|e| server.unavailable("rows cannot be ordered", &e.to_string()))?;
        let refused = load.run(work, &self.straight).await?;
        let Some(first) = refused.values().next() else {
            return Ok(refused);
        };
        if !self.settings.keeps_rejects {
            let what = format!(
                "it refuses {} rows of epoch {}, of which nothing is written, first: {} (SQLSTATE {}); give the pipeline a \
                 `deadLetter` to route such rows to, or change the table",
                refused.len(),
                intent.epoch,
                first.message,
                first.code
            );
            return Err(server.stop(reason::SINK_REJECTED, &what).into());
        }
        let epoch = i64::try_from(intent.epoch.0).unwrap_or(i64::MAX);
        keep(
            (server, &self.writer),
            work,
            (epoch, &changes.rows),
            &refused,
        )
        .await?;
        Ok(refused)
    }
}

/// The columns that are written, in their order and types.
fn shaped(rows: &RecordBatch, columns: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let shaped = columns
        .fields()
        .iter()
        .map(|field| match rows.column_by_name(field.name()) {
            None => Ok(new_null_array(field.data_type(), rows.num_rows())),
            Some(column) => cast(column, field.data_type()),
        });
    let shaped = shaped.collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new(columns.clone(), shaped)
}

#[async_trait]
impl Sink for PostgresSink {
    async fn stage(&mut self, batch: SinkBatch) -> Result<(), SinkError> {
        match self.take_in(batch) {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.server.stop(
                reason::STATE_TOO_LARGE,
                "one epoch has more rows for it than fit; lower checkpoint.maxRecordsPerEpoch, maxBytesPerEpoch or interval",
            )),
            Err(e) => Err(self.server.unavailable("rows cannot be staged", &e.to_string())),
        }
    }

    fn is_full(&self) -> bool {
        self.staged.is_full()
    }

    async fn seal(&mut self, epoch: Epoch) -> Result<Option<serde_json::Value>, SinkError> {
        let rows = self.staged.take();
        let Some(rows) = rows.map_err(|e| {
            self.server
                .unavailable("rows cannot be staged", &e.to_string())
        })?
        else {
            return Ok(None);
        };
        let PostgresSettings {
            nonce,
            outbox,
            crash,
            ..
        } = &self.settings;
        let name = unique(
            epoch,
            &format!("{}-{nonce}-{}.arrow", &self.writer.sink[..8], self.sealed),
        );
        self.sealed += 1;
        Ok(Some(changes::put(outbox, &name, &rows, crash).await?))
    }

    async fn abandon(&mut self) {
        self.staged.clear();
    }

    async fn apply(
        &mut self,
        intent: &Intent,
        _permit: &CommitPermit,
    ) -> Result<Applied, SinkError> {
        self.roll_forward(intent).await
    }

    async fn probe(&mut self, intent: &Intent) -> Result<Option<Epoch>, SinkError> {
        let session = self.server.connect().await?;
        let held = self
            .writer
            .probe(&self.server, &session.client, intent)
            .await;
        held.map_err(|e| e.told(&self.server))
    }

    async fn rejected(
        &mut self,
        epoch: Epoch,
        after: Option<i64>,
    ) -> Result<Vec<RejectedRow>, SinkError> {
        let session = match self.session.take().filter(|s| !s.client.is_closed()) {
            Some(session) => session,
            None => self.server.connect().await?,
        };
        let rows = self
            .writer
            .rejects(&self.server, &session.client, (epoch, after))
            .await;
        self.session = Some(session);
        rows.map_err(|e| e.told(&self.server))
    }
}
