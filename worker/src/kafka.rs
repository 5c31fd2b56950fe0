//! How a Kafka cluster is reached: address, TLS, SASL, as librdkafka's settings. Shared by all that speaks Kafka.
//!
//! Credentials are texts here, never file names, so that a rotated Secret takes effect with the next connection.
//! No type that holds one has a `Debug`.

use evp_api::plan::{KafkaPlan, SaslMechanism};
use rdkafka::ClientConfig;
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

impl Connection {
    /// Reads the credentials that a source names.
    pub fn resolve(plan: &KafkaPlan, secrets: &Secrets) -> Result<Self, secrets::Error> {
        let tls = match &plan.tls {
            None => None,
            Some(tls) => Some(Tls {
                ca: tls.ca.as_ref().map(|ca| secrets.read(ca)).transpose()?,
                client: match &tls.client {
                    None => None,
                    Some((cert, key)) => Some((secrets.read(cert)?, secrets.read(key)?)),
                },
            }),
        };
        let sasl = match &plan.sasl {
            None => None,
            Some(sasl) => Some(Sasl {
                mechanism: sasl.mechanism,
                username: sasl.username.clone(),
                password: secrets.read(&sasl.password)?,
            }),
        };
        Ok(Self {
            bootstrap_servers: plan.bootstrap_servers.clone(),
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
            | RDKafkaErrorCode::SSL
    )
}
