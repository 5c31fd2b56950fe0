//! What goes wrong with a topic, in words that name it and hold nothing that differs from one attempt to the next.

use evp_api::plan::KafkaSinkPlan;
use evp_api::reason;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::kafka::{Errors, describe, is_denied};
use crate::secrets;
use crate::sink::SinkError;

/// Names the topic in errors.
#[derive(Clone, Debug)]
pub(super) struct Place {
    bootstrap_servers: String,
    topic: String,
}

impl Place {
    pub(super) fn of(plan: &KafkaSinkPlan) -> Self {
        Self {
            bootstrap_servers: plan.bootstrap_servers.clone(),
            topic: plan.topic.clone(),
        }
    }

    /// The same cluster's other topic.
    pub(super) fn with_topic(&self, topic: &str) -> Self {
        Self {
            topic: topic.to_owned(),
            ..self.clone()
        }
    }

    fn said(&self, what: &str) -> String {
        let Self {
            bootstrap_servers,
            topic,
        } = self;
        format!("topic {topic} at {bootstrap_servers}: {what}")
    }

    /// It may heal.
    pub(super) fn unavailable(&self, reason: &'static str, what: &str) -> SinkError {
        SinkError::Unavailable {
            reason,
            message: self.said(&format!("{what}; retried, nothing is lost")),
        }
    }

    /// A person must act.
    pub(super) fn stop(&self, reason: &'static str, what: &str) -> SinkError {
        SinkError::Stop {
            reason,
            message: self.said(what),
        }
    }

    pub(super) fn missing(&self) -> SinkError {
        let what = "it does not exist. Create it, or correct the name";
        self.unavailable(reason::TOPIC_MISSING, what)
    }

    /// A Secret, or a key of it, is not there yet.
    pub(super) fn secret(error: &secrets::Error) -> SinkError {
        SinkError::Unavailable {
            reason: reason::SECRET_MISSING,
            message: error.to_string(),
        }
    }

    /// What a call answered. `errors`: what librdkafka complained of meanwhile, which is often the cause.
    pub(super) fn failed(&self, what: &str, error: &KafkaError, errors: &Errors) -> SinkError {
        if let Some(code) = error.rdkafka_error_code() {
            return self.refused(what, code, errors);
        }
        let what = format!("{what}: {}", describe(error));
        self.unavailable(reason::SINK_UNAVAILABLE, &what)
    }

    pub(super) fn refused(&self, what: &str, code: RDKafkaErrorCode, errors: &Errors) -> SinkError {
        use RDKafkaErrorCode as Code;
        let (code, cause) = match errors.take() {
            Some((cause, text)) if !is_told(code) => (cause, text),
            _ => (code, code.to_string()),
        };
        match code {
            code if is_denied(code) => {
                let what = format!(
                    "{what}: {cause}. Correct the credentials or the access (write to both topics, read the progress topic, \
                     use the transactional id); they are read again at each attempt"
                );
                self.unavailable(reason::SINK_DENIED, &what)
            }
            Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
                self.missing()
            }
            Code::MessageSizeTooLarge | Code::InvalidMessageSize => {
                let what = "a record that was decided is larger than the broker takes now; raise the topic's max.message.bytes \
                            again";
                self.unavailable(reason::SINK_REJECTED, what)
            }
            code if is_fenced(code) => {
                let what = "another worker of this pipeline began to write at the same time";
                self.unavailable(reason::SINK_UNAVAILABLE, what)
            }
            _ => self.unavailable(reason::SINK_UNAVAILABLE, &format!("{what}: {cause}")),
        }
    }
}

/// The code says more than any complaint.
fn is_told(code: RDKafkaErrorCode) -> bool {
    is_denied(code)
        || is_fenced(code)
        || matches!(
            code,
            RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::MessageSizeTooLarge
        )
}

/// Somebody began with our transactional id after us.
fn is_fenced(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::Fenced
            | RDKafkaErrorCode::ProducerFenced
            | RDKafkaErrorCode::InvalidProducerEpoch
    )
}
