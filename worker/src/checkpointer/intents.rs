//! Intents that are too large for the head, as objects of their own: written before the epoch that names them is decided, read
//! back and verified before they are applied. An append of many files with statistics has one; most have none.

use bytes::Bytes;
use evp_core::protocol::digest::{Digest, canonical};
use evp_core::protocol::head::{Body, Intent, StateFile};
use evp_core::protocol::paths;
use serde_json::Value;

use super::Checkpointer;
use super::crash::Step;
use super::stop::Stop;

/// Bytes of an intent's body that the head holds at most: it is written twice an epoch and copied once.
const MOST: usize = if cfg!(test) { 512 } else { 256 << 10 };

impl Checkpointer {
    /// Takes what is too large for the head out of an epoch that is about to be decided.
    pub(super) async fn put_apart(&self, body: &mut Body) -> Result<(), Stop> {
        for intent in &mut body.intents {
            let bytes = canonical(&intent.body)
                .map_err(|e| Stop::damaged(&self.io.url, &format!("an intent: {e}")))?;
            if bytes.len() <= MOST {
                continue;
            }
            let file = StateFile {
                name: paths::unique(intent.epoch, &self.io.ids.nonce()),
                length: bytes.len() as u64,
                sha256: Digest::of(&bytes),
            };
            let name = self.lane.intent(&file.name);
            self.io
                .put(Step::IntentPut, &name, Bytes::from(bytes))
                .await?;
            intent.body = Value::Null;
            intent.apart = Some(file);
        }
        Ok(())
    }

    /// An intent of a head with its body, as a sink is handed it.
    pub(super) async fn whole(&self, intent: &Intent) -> Result<Intent, Stop> {
        let mut whole = intent.clone();
        let Some(file) = whole.apart.take() else {
            return Ok(whole);
        };
        let name = self.lane.intent(&file.name);
        let bytes = self.named(&name, &file).await?;
        let unreadable = |e| Stop::damaged(&self.io.url, &format!("{name}: {e}"));
        whole.body = serde_json::from_slice(&bytes).map_err(unreadable)?;
        Ok(whole)
    }
}
