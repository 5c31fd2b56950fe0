//! How a PostgreSQL server is reached, and what its errors mean. Credentials are read anew for each connection.

use std::sync::Arc;
use std::time::Duration;

use evp_api::plan::{PostgresPlan, TlsPlan};
use evp_api::reason;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::config::{SslMode, TargetSessionAttrs};
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, NoTls, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::sync::CancellationToken;

use crate::secrets::Secrets;
use crate::sink::SinkError;
use crate::sink::delta::Causes;
use crate::tasks::Tasks;

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// A peer that acknowledges nothing for this long is gone.
const SILENCE: Duration = Duration::from_secs(30);

/// A server, and the table on it that errors name.
#[derive(Clone, Debug)]
pub(super) struct Server {
    /// Address, database and role.
    pub(super) plan: PostgresPlan,
    /// Where its credentials are.
    pub(super) secrets: Secrets,
}

/// Why something on a connection did not work.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server, or the way to it.
    Sql {
        /// What was to be done.
        what: &'static str,
        /// What came of it.
        error: tokio_postgres::Error,
    },
    /// Another transaction was faster.
    Raced,
    /// As it says.
    Sink(SinkError),
}

impl From<SinkError> for Failure {
    fn from(error: SinkError) -> Self {
        Self::Sink(error)
    }
}

/// The failure of something.
pub(super) fn failed(what: &'static str) -> impl Fn(tokio_postgres::Error) -> Failure {
    move |error| Failure::Sql { what, error }
}

impl Failure {
    /// Nobody knows what became of it, or others were in the way: look again, and do it if it is still to be done.
    pub(super) fn is_settled_by_another_look(&self) -> bool {
        const RACES: [&SqlState; 2] = [
            &SqlState::T_R_SERIALIZATION_FAILURE,
            &SqlState::T_R_DEADLOCK_DETECTED,
        ];
        match self {
            Self::Sql { error, .. } => match error.code() {
                Some(code) => RACES.contains(&code),
                None => true,
            },
            Self::Raced => true,
            Self::Sink(_) => false,
        }
    }

    /// In words.
    pub(super) fn told(self, server: &Server) -> SinkError {
        match self {
            Self::Sql { what, error } => server.error(what, &error),
            Self::Raced => server.unavailable(
                "an epoch cannot be noted",
                "other transactions note it at the same time",
            ),
            Self::Sink(error) => error,
        }
    }
}

/// Of each session: no lock is waited for longer than that, and a client that vanished is noticed by the server within two
/// minutes, also in the middle of a COPY.
const SESSION: &str = "SET lock_timeout = '30s'; SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 15; \
    SET tcp_keepalives_count = 4; SET tcp_user_timeout = '90s'";

/// A connection. Dropped, it is closed, and the server rolls back what was not committed.
pub(super) struct Session {
    pub(super) client: Client,
    _connection: Tasks,
}

impl Server {
    /// Connects with today's credentials.
    pub(super) async fn connect(&self) -> Result<Session, SinkError> {
        let PostgresPlan {
            host,
            port,
            database,
            username,
            ..
        } = &self.plan;
        let missing = |e: crate::secrets::Error| SinkError::Unavailable {
            reason: reason::SECRET_MISSING,
            message: e.to_string(),
        };
        let password = self.secrets.read(&self.plan.password).map_err(missing)?;
        let mut config = Config::new();
        config
            .host(host)
            .port(*port)
            .dbname(database)
            .user(username)
            .password(password)
            .application_name("eventpipeline")
            .connect_timeout(CONNECT)
            .tcp_user_timeout(SILENCE)
            .keepalives_idle(SILENCE)
            // A replica takes no rows.
            .target_session_attrs(TargetSessionAttrs::ReadWrite);
        match &self.plan.tls {
            None => {
                self.connected(config.ssl_mode(SslMode::Disable), NoTls)
                    .await
            }
            Some(tls) => {
                let tls = MakeRustlsConnect::new(self.encryption(tls)?);
                self.connected(config.ssl_mode(SslMode::Require), tls).await
            }
        }
    }

    async fn connected<T>(&self, config: &Config, tls: T) -> Result<Session, SinkError>
    where
        T: MakeTlsConnect<Socket>,
        T::Stream: Send + 'static,
    {
        let connected = config.connect(tls).await;
        let (client, connection) = connected.map_err(|e| self.refused(&e))?;
        let mut tasks = Tasks::below(&CancellationToken::new());
        tasks.spawn("postgres", async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to PostgreSQL ended");
            }
        });
        let set = client.batch_execute(SESSION).await;
        set.map_err(|e| self.error("a session cannot be begun", &e))?;
        Ok(Session {
            client,
            _connection: tasks,
        })
    }

    fn encryption(&self, tls: &TlsPlan) -> Result<ClientConfig, SinkError> {
        let unfit = |what: String| SinkError::Unavailable {
            reason: reason::SINK_DENIED,
            message: format!("{}: {what}", self.plan.target()),
        };
        let read = |secret| {
            let missing = |e: crate::secrets::Error| SinkError::Unavailable {
                reason: reason::SECRET_MISSING,
                message: e.to_string(),
            };
            self.secrets.read(secret).map_err(missing)
        };
        let roots = match &tls.ca {
            None => system_roots(),
            Some(ca) => certificates(&read(ca)?)
                .ok_or_else(|| unfit("`tls.ca` holds no PEM certificates".to_owned()))?,
        };
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(roots);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| unfit(e.to_string()))?
            .with_root_certificates(store);
        let Some((certificate, key)) = &tls.client else {
            return Ok(config.with_no_client_auth());
        };
        let chain = certificates(&read(certificate)?)
            .ok_or_else(|| unfit("`tls.cert` holds no PEM certificate".to_owned()))?;
        let key = PrivateKeyDer::from_pem_slice(read(key)?.as_bytes())
            .map_err(|_| unfit("`tls.key` holds no PEM private key".to_owned()))?;
        config
            .with_client_auth_cert(chain, key)
            .map_err(|e| unfit(format!("`tls.cert` and `tls.key` do not fit: {e}")))
    }

    /// No connection came about.
    fn refused(&self, error: &tokio_postgres::Error) -> SinkError {
        let target = self.plan.target();
        if error.code().is_some() {
            return self.error("cannot connect", error);
        }
        let causes = Causes(error).to_string();
        if causes.contains("invalid peer certificate") {
            return SinkError::Unavailable {
                reason: reason::SINK_DENIED,
                message: format!(
                    "{target}: the server's certificate is not trusted for {}: {causes}; give `tls.ca` the authority that \
                     signed it, and `host` a name it is for",
                    self.plan.host
                ),
            };
        }
        SinkError::Unavailable {
            reason: reason::SINK_UNAVAILABLE,
            message: format!("{target}: cannot connect: {causes}; retried, nothing is lost"),
        }
    }

    /// What an error means. Those of rows are judged before.
    fn error(&self, what: &str, error: &tokio_postgres::Error) -> SinkError {
        let Some(code) = error.code() else {
            return self.unavailable(what, &Causes(error).to_string());
        };
        let said = error
            .as_db_error()
            .map_or_else(String::new, |e| e.message().to_owned());
        let told = format!("{said} (SQLSTATE {})", code.code());
        let with = |reason, fix: &str| SinkError::Unavailable {
            reason,
            message: format!(
                "{}: {what}: {told}; {fix}; retried, nothing is lost",
                self.plan.target()
            ),
        };
        match (code, code.code()) {
            (_, c) if c.starts_with("28") => with(
                reason::SINK_DENIED,
                "check `username` and the password's Secret",
            ),
            (&SqlState::INSUFFICIENT_PRIVILEGE, _) => with(
                reason::SINK_DENIED,
                "grant the role what it lacks: SELECT, INSERT, UPDATE, DELETE on the table, CREATE on its schema, TEMPORARY on \
                 the database",
            ),
            (&SqlState::INVALID_CATALOG_NAME, _) => {
                with(reason::TABLE_MISSING, "create the database")
            }
            (&SqlState::DISK_FULL, _) => with(reason::SINK_UNAVAILABLE, "give the server room"),
            _ => self.unavailable(what, &told),
        }
    }

    /// It may heal.
    pub(super) fn unavailable(&self, what: &str, why: &str) -> SinkError {
        SinkError::Unavailable {
            reason: reason::SINK_UNAVAILABLE,
            message: format!(
                "{}: {what}: {why}; retried, nothing is lost",
                self.plan.target()
            ),
        }
    }

    /// Only a person can mend it.
    pub(super) fn stop(&self, reason: &'static str, what: &str) -> SinkError {
        SinkError::Stop {
            reason,
            message: format!("{}: {what}", self.plan.target()),
        }
    }
}

/// `None`: there are none.
fn certificates(pem: &str) -> Option<Vec<CertificateDer<'static>>> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    found.ok().filter(|found| !found.is_empty())
}

/// Authorities that the machine trusts; those that cannot be read are left out, and trust nobody.
fn system_roots() -> Vec<CertificateDer<'static>> {
    rustls_native_certs::load_native_certs().certs
}
