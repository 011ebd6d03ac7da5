//! [`Accounts`] in SQLite.

use std::sync::Arc;

use async_trait::async_trait;
use model::access::Role;
use model::attribution::Group;
use model::{GroupId, TenantId, UserId, WallTime};
use rusqlite::{OptionalExtension, Row, params};
use storage_ports::{Account, Accounts, StorageError, StoredSession};

use crate::clock::now_ms;
use crate::database::{Database, WorkError};

const WHAT: &str = "accounts";

const COLUMNS: &str =
    "login, tenant, role, password_hash, must_change_password, disabled, addresses";

pub struct SqliteAccounts {
    database: Arc<Database>,
}

impl SqliteAccounts {
    pub(crate) fn new(database: Arc<Database>) -> Self {
        Self { database }
    }
}

type AccountRow = (String, String, String, String, bool, bool, String);

fn columns(row: &Row<'_>) -> rusqlite::Result<AccountRow> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?))
}

fn account(row: AccountRow) -> Result<Account, WorkError> {
    let (login, tenant, role, password_hash, must_change_password, disabled, addresses) = row;
    Ok(Account {
        login: UserId::new(login).map_err(WorkError::corrupt)?,
        tenant: TenantId::new(tenant).map_err(WorkError::corrupt)?,
        role: Role::parse(&role).ok_or_else(|| WorkError::corrupt(format!("role {role:?}")))?,
        password_hash,
        must_change_password,
        disabled,
        addresses: parsed(&addresses)?,
    })
}

fn json(value: &impl serde::Serialize) -> Result<String, WorkError> {
    serde_json::to_string(value).map_err(WorkError::corrupt)
}

fn parsed<T: serde::de::DeserializeOwned>(json: &str) -> Result<T, WorkError> {
    serde_json::from_str(json).map_err(WorkError::corrupt)
}

#[async_trait]
impl Accounts for SqliteAccounts {
    async fn add_account(&self, account: &Account) -> Result<bool, StorageError> {
        let new = account.clone();
        self.database
            .write(WHAT, move |transaction| {
                let added = transaction.execute(
                    &format!(
                        "INSERT INTO accounts ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                         ON CONFLICT (login) DO NOTHING"
                    ),
                    params![
                        new.login.as_str(),
                        new.tenant.as_str(),
                        new.role.as_str(),
                        new.password_hash,
                        new.must_change_password,
                        new.disabled,
                        json(&new.addresses)?
                    ],
                )?;
                Ok(added == 1)
            })
            .await
    }

    async fn update_account(&self, account: &Account) -> Result<(), StorageError> {
        let new = account.clone();
        self.database
            .write(WHAT, move |transaction| {
                let updated = transaction.execute(
                    "UPDATE accounts SET tenant = ?2, role = ?3, password_hash = ?4,
                     must_change_password = ?5, disabled = ?6, addresses = ?7 WHERE login = ?1",
                    params![
                        new.login.as_str(),
                        new.tenant.as_str(),
                        new.role.as_str(),
                        new.password_hash,
                        new.must_change_password,
                        new.disabled,
                        json(&new.addresses)?
                    ],
                )?;
                if updated == 0 {
                    let what = format!("account {}", new.login);
                    return Err(StorageError::NotFound { what }.into());
                }
                Ok(())
            })
            .await
    }

    async fn account(&self, login: &UserId) -> Result<Option<Account>, StorageError> {
        let login = login.clone();
        self.database
            .read(WHAT, move |transaction| {
                transaction
                    .prepare_cached(&format!("SELECT {COLUMNS} FROM accounts WHERE login = ?1"))?
                    .query_row([login.as_str()], columns)
                    .optional()?
                    .map(account)
                    .transpose()
            })
            .await
    }

    async fn accounts(&self, tenant: &TenantId) -> Result<Vec<Account>, StorageError> {
        let tenant = tenant.clone();
        self.database
            .read(WHAT, move |transaction| {
                let mut statement = transaction.prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM accounts WHERE tenant = ?1 ORDER BY login"
                ))?;
                let rows = statement.query_map([tenant.as_str()], columns)?;
                rows.map(|row| account(row?)).collect()
            })
            .await
    }

    async fn put_group(&self, tenant: &TenantId, group: &Group) -> Result<(), StorageError> {
        let (tenant, group) = (tenant.clone(), group.clone());
        self.database
            .write(WHAT, move |transaction| {
                transaction.execute(
                    "INSERT OR REPLACE INTO user_groups (tenant, name, state) VALUES (?1, ?2, ?3)",
                    params![tenant.as_str(), group.name.as_str(), json(&group)?],
                )?;
                Ok(())
            })
            .await
    }

    async fn group(
        &self,
        tenant: &TenantId,
        name: &GroupId,
    ) -> Result<Option<Group>, StorageError> {
        let (tenant, name) = (tenant.clone(), name.clone());
        self.database
            .read(WHAT, move |transaction| {
                let state: Option<String> = transaction
                    .prepare_cached(
                        "SELECT state FROM user_groups WHERE tenant = ?1 AND name = ?2",
                    )?
                    .query_row([tenant.as_str(), name.as_str()], |row| row.get(0))
                    .optional()?;
                state.as_deref().map(parsed).transpose()
            })
            .await
    }

    async fn groups(&self, tenant: &TenantId) -> Result<Vec<Group>, StorageError> {
        let tenant = tenant.clone();
        self.database
            .read(WHAT, move |transaction| {
                let mut statement = transaction.prepare_cached(
                    "SELECT state FROM user_groups WHERE tenant = ?1 ORDER BY name",
                )?;
                let rows = statement.query_map([tenant.as_str()], |row| row.get::<_, String>(0))?;
                rows.map(|state| parsed(&state?)).collect()
            })
            .await
    }

    async fn remove_group(&self, tenant: &TenantId, name: &GroupId) -> Result<(), StorageError> {
        let (tenant, name) = (tenant.clone(), name.clone());
        self.database
            .write(WHAT, move |transaction| {
                transaction.execute(
                    "DELETE FROM user_groups WHERE tenant = ?1 AND name = ?2",
                    [tenant.as_str(), name.as_str()],
                )?;
                Ok(())
            })
            .await
    }

    async fn add_session(&self, session: &StoredSession) -> Result<(), StorageError> {
        let session = session.clone();
        self.database
            .write(WHAT, move |transaction| {
                // Nobody else ever removes the sign-ins that people do not sign out of.
                transaction.execute("DELETE FROM sign_ins WHERE expires_ms <= ?1", [now_ms()])?;
                transaction.execute(
                    "INSERT OR REPLACE INTO sign_ins (token_sha256, login, expires_ms)
                     VALUES (?1, ?2, ?3)",
                    params![
                        session.token_sha256,
                        session.login.as_str(),
                        session.expires_at.unix_ms()
                    ],
                )?;
                Ok(())
            })
            .await
    }

    async fn session(
        &self,
        token_sha256: &[u8; 32],
        now: WallTime,
    ) -> Result<Option<StoredSession>, StorageError> {
        let token_sha256 = *token_sha256;
        self.database
            .read(WHAT, move |transaction| {
                let found: Option<(String, i64)> = transaction
                    .prepare_cached(
                        "SELECT login, expires_ms FROM sign_ins
                         WHERE token_sha256 = ?1 AND expires_ms > ?2",
                    )?
                    .query_row(params![token_sha256, now.unix_ms()], |row| {
                        Ok((row.get(0)?, row.get(1)?))
                    })
                    .optional()?;
                let Some((login, expires_ms)) = found else { return Ok(None) };
                let login = UserId::new(login).map_err(WorkError::corrupt)?;
                let expires_at = WallTime::from_unix_ms(expires_ms);
                Ok(Some(StoredSession { token_sha256, login, expires_at }))
            })
            .await
    }

    async fn remove_session(&self, token_sha256: &[u8; 32]) -> Result<(), StorageError> {
        let token_sha256 = *token_sha256;
        self.database
            .write(WHAT, move |transaction| {
                transaction
                    .execute("DELETE FROM sign_ins WHERE token_sha256 = ?1", [token_sha256])?;
                Ok(())
            })
            .await
    }

    async fn remove_sessions_of(&self, login: &UserId) -> Result<(), StorageError> {
        let login = login.clone();
        self.database
            .write(WHAT, move |transaction| {
                transaction.execute("DELETE FROM sign_ins WHERE login = ?1", [login.as_str()])?;
                Ok(())
            })
            .await
    }
}
