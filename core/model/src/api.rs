//! Bodies of the HTTP API under `/v1`, shared by the server and the browser.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::access::{Decision, Permission, Role, Scope};
use crate::attribution::{Assignment, Group, Member};
use crate::id::{CommandId, EdgeId, RecordingId, UserId};
use crate::recording::Recording;
use crate::time::WallTime;

/// `POST /v1/session`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SignIn {
    pub login: String,
    pub password: String,
    /// True: answer with a bearer token and set no cookie.
    #[serde(default)]
    pub token: bool,
}

impl std::fmt::Debug for SignIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignIn").field("login", &self.login).finish_non_exhaustive()
    }
}

/// Answer to a sign-in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SignedIn {
    pub user: User,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct User {
    pub login: UserId,
    pub role: Role,
    /// The password was given out by the system; the browser asks for a new one.
    pub must_change_password: bool,
}

/// `POST /v1/session/password`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChangePassword {
    pub current: String,
    pub new: String,
}

/// `GET /v1/users`, in order of login.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Users {
    pub users: Vec<UserAccount>,
}

/// An account, as whoever manages accounts sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UserAccount {
    pub login: UserId,
    pub role: Role,
    /// Cannot sign in.
    pub disabled: bool,
    pub must_change_password: bool,
    /// Whose calls are this user's.
    pub addresses: Vec<Assignment>,
}

/// `POST /v1/users`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AddUser {
    pub login: UserId,
    pub role: Role,
    #[serde(default)]
    pub addresses: Vec<Assignment>,
}

/// `PATCH /v1/users/{login}`: what is absent stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChangeUser {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// All of them, in place of those there were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addresses: Option<Vec<Assignment>>,
}

/// A password that was made for a user; it is shown this once.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NewPassword {
    pub login: UserId,
    pub password: String,
}

/// `POST /v1/users/import`: what was done, or would be.
#[derive(Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Imported {
    /// False for a dry run, and where there are problems: then nothing was done.
    pub applied: bool,
    pub added: Vec<UserId>,
    pub changed: Vec<UserId>,
    pub unchanged: Vec<UserId>,
    pub problems: Vec<ImportProblem>,
    /// Of the accounts that were added.
    pub passwords: Vec<NewPassword>,
}

/// Why a row cannot be imported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ImportProblem {
    /// Counted from 1, which is the line with the columns.
    pub line: u64,
    pub message: String,
}

/// `GET /v1/users/{login}/why`: what a user may do with one recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Why {
    pub login: UserId,
    pub role: Role,
    pub scope: Scope,
    pub recording: RecordingId,
    /// Whose an address was at this time is what counts.
    pub started_at: WallTime,
    pub decisions: Vec<PermissionAnswer>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PermissionAnswer {
    pub permission: Permission,
    #[serde(flatten)]
    pub decision: Decision,
}

/// `GET /v1/groups`, in order of name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Groups {
    pub groups: Vec<Group>,
}

/// `PUT /v1/groups/{name}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SetGroup {
    #[serde(default)]
    pub managers: BTreeSet<UserId>,
    #[serde(default)]
    pub members: Vec<Member>,
    #[serde(default)]
    pub addresses: Vec<Assignment>,
}

/// `GET /v1/roles`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Roles {
    pub roles: Vec<RoleRules>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RoleRules {
    pub role: Role,
    /// Which calls the permissions are about.
    pub scope: Scope,
    pub permissions: Vec<Permission>,
}

/// `GET /v1/recordings`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Recordings {
    pub recordings: Vec<Recording>,
    /// Pass it as `cursor` for the next page; null on the last one.
    pub next: Option<String>,
}

/// `GET /v1/live`: calls in progress, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Live {
    /// The server's clock, by which clients tell elapsed time.
    pub now: WallTime,
    pub recordings: Vec<Recording>,
}

/// `GET /v1/recordings/{id}/metadata`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Metadata {
    pub id: RecordingId,
    /// In the order in which they came.
    pub documents: Vec<MetadataDocument>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MetadataDocument {
    pub received_at: WallTime,
    pub content_type: String,
    /// As received. Absent when it is not UTF-8; then `base64` has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
}

/// Answer to `POST /v1/recordings/{id}/pause`, `resume` and `stop`: the recorder did it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CommandOutcome {
    pub command: CommandId,
    /// What the recorder says to it.
    pub detail: String,
}

/// `GET /v1/health`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Health {
    /// One sentence that says whether calls are being recorded.
    pub summary: String,
    pub ok: bool,
    pub now: WallTime,
    pub edges: Vec<EdgeHealth>,
    pub queues: Vec<QueueHealth>,
    /// How many calls in progress may not sound as they should, by flag.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub odd_calls: BTreeMap<String, usize>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EdgeHealth {
    pub edge: EdgeId,
    pub alive: bool,
    pub last_seen: WallTime,
    pub calls: usize,
    /// How long ago the newest event was seen: the lag from edge to index.
    pub index_lag_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct QueueHealth {
    pub queue: String,
    pub waiting: u64,
    /// How long the oldest message waits. Absent when the queue's engine cannot say.
    pub oldest_ms: Option<u64>,
    pub dead_letters: u64,
}

/// Every answer of 400 and above.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ErrorBody {
    pub error: ErrorDetail,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ErrorDetail {
    /// For programs: `bad_cursor`, `not_found`, `unauthenticated`, …
    pub code: String,
    /// For people: what was wrong and what to do.
    pub message: String,
    /// Quote it when asking for help; the server's log has it too.
    pub request_id: String,
}
