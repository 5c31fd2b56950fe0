//! The orders example on the bed: its Secrets, a topic, and a place in a lake.

use std::ops::Deref;

use evp_tests::bed;
use serde_json::{Value, json};

use super::site::{Site, plain_store, set};
use crate::parts::kafka::topic::Topic;

/// One test's world of orders.
pub(crate) struct World {
    site: Site,
    /// Its topic of three partitions.
    pub(crate) topic: Topic,
    lake: Lake,
}

/// The S3 server that a test writes to.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Lake {
    /// Without encryption: the one that the foreign readers read.
    Plain,
    /// With a certificate of the bed's own authority.
    Tls,
}

/// What is done on its node is done in its namespace.
impl Deref for World {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
    }
}

impl World {
    /// A new namespace with the Secrets of the example's README, and a topic.
    pub(crate) async fn new(test: &str, lake: Lake) -> Self {
        let site = Site::new(test, "orders").await;
        site.keep_broker_secret("kafka-orders");
        site.keep_store_secret("lake");
        Self {
            site,
            topic: Topic::create(3).await,
            lake,
        }
    }

    /// The example as the overlays leave it; the last ones are `changes`, in the words of JSON Patch.
    pub(crate) fn manifest(&self, changes: &[Value]) -> Value {
        let mut patch = self.addresses();
        patch.extend_from_slice(changes);
        self.overlaid(&patch)
    }

    fn addresses(&self) -> Vec<Value> {
        let kafka = "/spec/sources/0/kafka";
        let mut patch = vec![
            set(
                &format!("{kafka}/bootstrapServers"),
                bed("EVP_BED_KAFKA_SASL_SSL"),
            ),
            set(&format!("{kafka}/topic"), self.topic.name.clone()),
            set(&format!("{kafka}/sasl/username"), bed("EVP_BED_KAFKA_USER")),
            set("/spec/sources/0/watermark/idleTimeout", "5s"),
            set("/spec/checkpoint/interval", "5s"),
            set("/spec/checkpoint/path", self.path("checkpoint")),
            set("/spec/deadLetter/files/path", self.path("dead")),
            set("/spec/sinks/0/delta/path", self.path("bronze")),
            set("/spec/sinks/1/delta/path", self.path("gold")),
        ];
        match self.lake {
            Lake::Plain => patch.extend(plain_store()),
            Lake::Tls => patch.extend([
                set(
                    "/spec/objectStore/s3/endpoint",
                    bed("EVP_BED_S3_TLS_ENDPOINT"),
                ),
                set(
                    "/spec/objectStore/s3/ca",
                    json!({"secretKeyRef": {"name": "lake", "key": "ca.crt"}}),
                ),
            ]),
        }
        patch
    }
}
