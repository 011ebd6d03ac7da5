//! One recording session: INVITE, re-INVITE, UPDATE, BYE.

use serde::{Deserialize, Serialize};

/// Everything needed to go on with a dialog after a restart.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DialogState {
    call_id: String,
}

impl DialogState {
    pub fn call_id(&self) -> &str {
        &self.call_id
    }
}
