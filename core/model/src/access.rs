//! Who may do what: pure functions, one decision per request.

use serde::{Deserialize, Serialize};

/// A set of permissions under a name that people know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Role {
    Administrator,
    Supervisor,
    Agent,
    /// Reads everything, plays nothing.
    Auditor,
}

/// One thing that can be permitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Permission {
    /// See that a call exists, who was on it, and its metadata.
    View,
    /// Hear it.
    Play,
    /// See calls in progress.
    Live,
    /// See which keys were pressed: they may be a PIN or a card number.
    Digits,
    /// See how the system is.
    System,
}

impl Role {
    pub const ALL: [Self; 4] = [Self::Administrator, Self::Supervisor, Self::Agent, Self::Auditor];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Administrator => "administrator",
            Self::Supervisor => "supervisor",
            Self::Agent => "agent",
            Self::Auditor => "auditor",
        }
    }

    /// Accepts the name in any case.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str().eq_ignore_ascii_case(text))
    }

    pub fn permits(self, permission: Permission) -> bool {
        match self {
            Self::Administrator => true,
            Self::Supervisor => {
                matches!(permission, Permission::View | Permission::Play | Permission::Live)
            }
            // An agent sees own calls only; calls are attributed to users in a later step, and
            // until then an agent sees none.
            Self::Agent => false,
            Self::Auditor => matches!(permission, Permission::View | Permission::System),
        }
    }
}

#[test]
fn an_auditor_reads_and_does_not_listen() {
    assert!(Role::Auditor.permits(Permission::View));
    assert!(!Role::Auditor.permits(Permission::Play));
    assert!(!Role::Supervisor.permits(Permission::Digits));
    assert!(Role::ALL.iter().all(|role| Role::parse(role.as_str()) == Some(*role)));
}
