//! How a Kafka cluster is reached: address, TLS, SASL, as librdkafka's settings. Shared by all that speaks Kafka.
//!
//! Credentials are texts here, never file names, so that a rotated Secret takes effect with the next connection.
//! No type that holds one has a `Debug`.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use evp_api::plan::{KafkaPlan, KafkaSinkPlan, SaslMechanism, SaslPlan, TlsPlan};
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::secrets::{self, Secrets};

/// Address and credentials.
pub struct Connection {
    /// `host:port`, comma-separated.
    pub bootstrap_servers: String,
    /// `None`: not encrypted.
    pub tls: Option<Tls>,
    /// `None`: not authenticated.
    pub sasl: Option<Sasl>,
}

/// Encryption.
#[derive(Default)]
pub struct Tls {
    /// PEM authorities; `None`: the system's.
    pub ca: Option<String>,
    /// PEM client certificate and key.
    pub client: Option<(String, String)>,
}

/// Authentication.
pub struct Sasl {
    /// Mechanism.
    pub mechanism: SaslMechanism,
    /// User.
    pub username: String,
    /// Password.
    pub password: String,
}

/// How a manifest says that a cluster is reached.
#[derive(Clone, Copy)]
pub struct Reach<'a> {
    bootstrap_servers: &'a str,
    tls: Option<&'a TlsPlan>,
    sasl: Option<&'a SaslPlan>,
}

impl<'a> From<&'a KafkaPlan> for Reach<'a> {
    fn from(plan: &'a KafkaPlan) -> Self {
        Self {
            bootstrap_servers: &plan.bootstrap_servers,
            tls: plan.tls.as_ref(),
            sasl: plan.sasl.as_ref(),
        }
    }
}

impl<'a> From<&'a KafkaSinkPlan> for Reach<'a> {
    fn from(plan: &'a KafkaSinkPlan) -> Self {
        Self {
            bootstrap_servers: &plan.bootstrap_servers,
            tls: plan.tls.as_ref(),
            sasl: plan.sasl.as_ref(),
        }
    }
}

impl Connection {
    /// Reads the credentials that a source or sink names.
    pub fn resolve(plan: &Reach<'_>, secrets: &Secrets) -> Result<Self, secrets::Error> {
        let tls = match plan.tls {
            None => None,
            Some(tls) => Some(Tls {
                ca: tls.ca.as_ref().map(|ca| secrets.read(ca)).transpose()?,
                client: match &tls.client {
                    None => None,
                    Some((cert, key)) => Some((secrets.read(cert)?, secrets.read(key)?)),
                },
            }),
        };
        let sasl = match plan.sasl {
            None => None,
            Some(sasl) => Some(Sasl {
                mechanism: sasl.mechanism,
                username: sasl.username.clone(),
                password: secrets.read(&sasl.password)?,
            }),
        };
        Ok(Self {
            bootstrap_servers: plan.bootstrap_servers.to_owned(),
            tls,
            sasl,
        })
    }

    /// As settings of librdkafka.
    pub fn config(&self) -> ClientConfig {
        let Self {
            bootstrap_servers,
            tls,
            sasl,
        } = self;
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", bootstrap_servers);
        config.set("client.id", "eventpipeline");
        config.set(
            "security.protocol",
            match (tls, sasl) {
                (None, None) => "plaintext",
                (Some(_), None) => "ssl",
                (None, Some(_)) => "sasl_plaintext",
                (Some(_), Some(_)) => "sasl_ssl",
            },
        );
        // A broker that was down is tried again within a second.
        config.set("reconnect.backoff.max.ms", "1000");
        if let Some(Tls { ca, client }) = tls {
            if let Some(ca) = ca {
                config.set("ssl.ca.pem", ca);
            }
            if let Some((certificate, key)) = client {
                config
                    .set("ssl.certificate.pem", certificate)
                    .set("ssl.key.pem", key);
            }
        }
        if let Some(Sasl {
            mechanism,
            username,
            password,
        }) = sasl
        {
            config.set("sasl.mechanism", mechanism_name(*mechanism));
            config
                .set("sasl.username", username)
                .set("sasl.password", password);
        }
        config
    }
}

fn mechanism_name(mechanism: SaslMechanism) -> &'static str {
    match mechanism {
        SaslMechanism::Plain => "PLAIN",
        SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
        SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
    }
}

/// What is wrong, in words that hold no setting's value.
pub fn describe(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, what, key, _) => format!("{what} ({key})"),
        other => match other.rdkafka_error_code() {
            Some(code) => code.to_string(),
            None => other.to_string(),
        },
    }
}

/// Is it about who we are, rather than about reaching the cluster?
pub fn is_denied(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::Authentication
            | RDKafkaErrorCode::SaslAuthenticationFailed
            | RDKafkaErrorCode::UnsupportedSASLMechanism
            | RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
            | RDKafkaErrorCode::TransactionalIdAuthorizationFailed
            | RDKafkaErrorCode::SSL
    )
}

/// Threads that hold clients of librdkafka.
static THREADS: Mutex<usize> = Mutex::new(0);
static ENDED: Condvar = Condvar::new();

/// One of [`THREADS`].
struct Counted;

impl Counted {
    fn begin() -> Self {
        *THREADS.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        *THREADS.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        ENDED.notify_all();
    }
}

/// Runs what blocks on a broker, or closes a client, which may wait for one that is gone: nobody else waits for that but
/// [`settle`].
pub(crate) fn thread(work: impl FnOnce() + Send + 'static) {
    let counted = Counted::begin();
    std::thread::spawn(move || {
        let _counted = counted;
        work();
    });
}

/// For the end of the process: waits, at most this long, until no client is open. What the process frees as it ends, a client
/// that is just being closed would free again.
pub fn settle(most: Duration) {
    let threads = THREADS.lock().unwrap_or_else(PoisonError::into_inner);
    drop(ENDED.wait_timeout_while(threads, most, |threads| *threads > 0));
}

/// Keeps what librdkafka last complained about.
#[derive(Default)]
pub(crate) struct Errors {
    last: Mutex<Option<(RDKafkaErrorCode, String)>>,
}

impl Errors {
    /// The last complaint; it is told once.
    pub(crate) fn take(&self) -> Option<(RDKafkaErrorCode, String)> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.take()
    }
}

impl ClientContext for Errors {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        // Errors come back as values; what is left is of use only to whoever looks for it.
        tracing::debug!(target: "librdkafka", ?level, fac, message);
    }

    fn error(&self, error: KafkaError, message: &str) {
        if let Some(code) = error.rdkafka_error_code() {
            let code = cause(code, message);
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            // "All brokers are down" follows the cause; keep the cause.
            if last.is_none() || code != RDKafkaErrorCode::AllBrokersDown {
                *last = Some((code, message.to_owned()));
            }
        }
    }
}

impl ConsumerContext for Errors {}

/// Errors come with polling. To be called only where nothing is assigned, or what is assigned is given up: a message would be
/// lost here.
pub(crate) fn hear_out(consumer: &BaseConsumer<Errors>) {
    // With no time to wait a log line would end the look into the queue.
    for _ in 0..64 {
        if consumer.poll(Duration::from_millis(20)).is_none() {
            break;
        }
    }
}

/// A certificate that is refused while the handshake's answer is read comes as a broken line: only the text says what it was.
fn cause(code: RDKafkaErrorCode, message: &str) -> RDKafkaErrorCode {
    match code {
        RDKafkaErrorCode::BrokerTransportFailure
            if message.contains("certificate verify failed") =>
        {
            RDKafkaErrorCode::SSL
        }
        code => code,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_is_refused_is_no_broken_line() {
        let line = RDKafkaErrorCode::BrokerTransportFailure;
        let refused = "sasl_ssl://b:9093: error:0A000086:SSL routines::certificate verify failed (after 6ms in state SSL_HANDSHAKE)";
        assert_eq!(cause(line, refused), RDKafkaErrorCode::SSL);
        assert_eq!(cause(line, "b:9092: Connection refused"), line);
    }
}
