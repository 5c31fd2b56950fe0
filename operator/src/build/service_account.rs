//! The identity of the worker's pods. It has no rights and no token.

use k8s_openapi::api::core::v1::ServiceAccount;

use super::{Owner, metadata, names};

/// Builds it.
pub fn build(owner: &Owner) -> ServiceAccount {
    ServiceAccount {
        metadata: metadata(owner, names::child_name(&owner.name)),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}
