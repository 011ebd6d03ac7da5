//! [`Accounts`] in SQLite.

use std::sync::Arc;

use async_trait::async_trait;
use model::access::Role;
use model::{TenantId, UserId, WallTime};
use rusqlite::{OptionalExtension, Row, params};
use storage_ports::{Account, Accounts, StorageError, StoredSession};

use crate::clock::now_ms;
use crate::database::{Database, WorkError};

const WHAT: &str = "accounts";

const COLUMNS: &str = "login, tenant, role, password_hash, must_change_password";

pub struct SqliteAccounts {
    database: Arc<Database>,
}

impl SqliteAccounts {
    pub(crate) fn new(database: Arc<Database>) -> Self {
        Self { database }
    }
}

type AccountRow = (String, String, String, String, bool);

fn columns(row: &Row<'_>) -> rusqlite::Result<AccountRow> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
}

fn account(row: AccountRow) -> Result<Account, WorkError> {
    let (login, tenant, role, password_hash, must_change_password) = row;
    Ok(Account {
        login: UserId::new(login).map_err(WorkError::corrupt)?,
        tenant: TenantId::new(tenant).map_err(WorkError::corrupt)?,
        role: Role::parse(&role).ok_or_else(|| WorkError::corrupt(format!("role {role:?}")))?,
        password_hash,
        must_change_password,
    })
}

#[async_trait]
impl Accounts for SqliteAccounts {
    async fn add_account(&self, account: &Account) -> Result<bool, StorageError> {
        let new = account.clone();
        self.database
            .write(WHAT, move |transaction| {
                let added = transaction.execute(
                    &format!(
                        "INSERT INTO accounts ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5)
                         ON CONFLICT (login) DO NOTHING"
                    ),
                    params![
                        new.login.as_str(),
                        new.tenant.as_str(),
                        new.role.as_str(),
                        new.password_hash,
                        new.must_change_password
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
                     must_change_password = ?5 WHERE login = ?1",
                    params![
                        new.login.as_str(),
                        new.tenant.as_str(),
                        new.role.as_str(),
                        new.password_hash,
                        new.must_change_password
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

    async fn accounts(&self) -> Result<Vec<Account>, StorageError> {
        self.database
            .read(WHAT, |transaction| {
                let mut statement = transaction
                    .prepare_cached(&format!("SELECT {COLUMNS} FROM accounts ORDER BY login"))?;
                let rows = statement.query_map((), columns)?;
                rows.map(|row| account(row?)).collect()
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
