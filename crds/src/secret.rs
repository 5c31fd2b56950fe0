//! References to Secrets: the only way a credential enters a manifest.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A Secret's name: DNS labels with dots between.
pub(crate) const NAME: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// A Secret's key: a plain file name.
pub(crate) const KEY: &str = r"^([-_a-zA-Z0-9]|\.[-_a-zA-Z0-9])[-._a-zA-Z0-9]*$";

/// A value that lives in a Secret of the pipeline's own namespace.
///
/// In a pod it is read from `/etc/evp/secrets/<name>/<key>`, locally from `<--secrets DIR>/<name>/<key>`, anew on rotation.
#[derive(
    Clone, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretValue {
    /// Which key of which Secret.
    pub secret_key_ref: SecretKeyRef,
}

/// One key of one Secret.
#[derive(
    Clone, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME))]
    pub name: String,
    /// Key inside the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = KEY))]
    pub key: String,
}
