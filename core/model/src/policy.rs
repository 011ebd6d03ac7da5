//! The policy snapshot: what an edge has to know and cannot ask for while a call waits.

use serde::{Deserialize, Serialize};

use crate::id::TenantId;
use crate::trunk::Trunks;

/// The version that this code writes.
pub const VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicySnapshot {
    /// Format version.
    pub version: u32,
    /// Rises with every change.
    pub revision: u64,
    pub tenants: Vec<TenantPolicy>,
    /// Who may record, beside those of a recorder's own configuration.
    #[serde(default, skip_serializing_if = "Trunks::is_empty")]
    pub trunks: Trunks,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantPolicy {
    pub tenant: TenantId,
    /// X25519 public key to which the data keys of this tenant's sessions are sealed. Base64.
    pub public_key: String,
}
