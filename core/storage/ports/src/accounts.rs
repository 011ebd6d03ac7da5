//! Accounts, groups and sign-in sessions.

use async_trait::async_trait;
use model::access::Role;
use model::attribution::{Assignment, Group};
use model::{GroupId, TenantId, UserId, WallTime};

use crate::StorageError;

#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    pub login: UserId,
    pub tenant: TenantId,
    pub role: Role,
    /// PHC string (argon2id).
    pub password_hash: String,
    pub must_change_password: bool,
    /// Cannot sign in, and is signed out. Kept, because calls and groups name it.
    pub disabled: bool,
    /// Addresses whose calls are this user's.
    pub addresses: Vec<Assignment>,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account")
            .field("login", &self.login)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

/// A sign-in. The token itself is never stored, only its SHA-256.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSession {
    pub token_sha256: [u8; 32],
    pub login: UserId,
    pub expires_at: WallTime,
}

/// Promises, each a test in [`crate::contract`]: reads see every write that returned before they
/// began; a removed session is gone for everybody at once.
#[async_trait]
pub trait Accounts: Send + Sync {
    /// False when the login is taken.
    async fn add_account(&self, account: &Account) -> Result<bool, StorageError>;

    /// Replaces role, password and the rest. [`StorageError::NotFound`] without such a login.
    async fn update_account(&self, account: &Account) -> Result<(), StorageError>;

    async fn account(&self, login: &UserId) -> Result<Option<Account>, StorageError>;

    /// Those of one tenant, in order of login.
    async fn accounts(&self, tenant: &TenantId) -> Result<Vec<Account>, StorageError>;

    /// Adds or replaces a group.
    async fn put_group(&self, tenant: &TenantId, group: &Group) -> Result<(), StorageError>;

    async fn group(&self, tenant: &TenantId, name: &GroupId)
    -> Result<Option<Group>, StorageError>;

    /// Those of one tenant, in order of name.
    async fn groups(&self, tenant: &TenantId) -> Result<Vec<Group>, StorageError>;

    /// Succeeds when there is no such group.
    async fn remove_group(&self, tenant: &TenantId, name: &GroupId) -> Result<(), StorageError>;

    async fn add_session(&self, session: &StoredSession) -> Result<(), StorageError>;

    /// `None` when there is none, or when it has expired at `now`.
    async fn session(
        &self,
        token_sha256: &[u8; 32],
        now: WallTime,
    ) -> Result<Option<StoredSession>, StorageError>;

    async fn remove_session(&self, token_sha256: &[u8; 32]) -> Result<(), StorageError>;

    /// Signs a user out everywhere, after a changed password.
    async fn remove_sessions_of(&self, login: &UserId) -> Result<(), StorageError>;
}
