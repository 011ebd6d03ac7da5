//! [`Accounts`] in the table of the index.
//!
//! A sign-in lies under its token, where every request looks it up, and once more under its user,
//! so that a changed password signs out everywhere: both are written and removed as one, because
//! an index would show a sign-in of this very moment too late. DynamoDB removes the ones that
//! expired some time after; until then their time is compared.

use async_trait::async_trait;
use aws_sdk_dynamodb::types::{Put, TransactWriteItem};
use model::attribution::Group;
use model::{GroupId, TenantId, UserId, WallTime};
use storage_ports::{Account, Accounts, StorageError, StoredSession};

use super::DynamoIndex;
use super::item::{AccountItem, GroupItem, SessionItem};
use super::key;
use super::table::{Condition, Index, Item, Run, Table, from_item, text, to_item};
use crate::error::storage_error;
use crate::names::table;

const WHAT: &str = "accounts";

fn account_item(account: &Account) -> Result<Item, StorageError> {
    to_item(&AccountItem {
        pk: key::USERS.to_owned(),
        sk: account.login.to_string(),
        tenant: account.tenant.clone(),
        role: account.role,
        password_hash: account.password_hash.clone(),
        must_change_password: account.must_change_password,
        disabled: account.disabled,
        addresses: account.addresses.clone(),
    })
}

fn account(item: Item) -> Result<Account, StorageError> {
    let item: AccountItem = from_item(item)?;
    Ok(Account {
        login: UserId::new(item.sk).map_err(|cause| StorageError::refused(WHAT, cause))?,
        tenant: item.tenant,
        role: item.role,
        password_hash: item.password_hash,
        must_change_password: item.must_change_password,
        disabled: item.disabled,
        addresses: item.addresses,
    })
}

fn put(table: &Table, item: Item) -> Result<TransactWriteItem, StorageError> {
    let put = Put::builder().table_name(&*table.name).set_item(Some(item)).build();
    let put = put.map_err(|cause| StorageError::refused(WHAT, cause))?;
    Ok(TransactWriteItem::builder().put(put).build())
}

#[async_trait]
impl Accounts for DynamoIndex {
    async fn add_account(&self, account: &Account) -> Result<bool, StorageError> {
        self.table.put(account_item(account)?, Some(Condition::absent())).await
    }

    async fn update_account(&self, account: &Account) -> Result<(), StorageError> {
        if self.table.put(account_item(account)?, Some(Condition::present())).await? {
            return Ok(());
        }
        Err(StorageError::NotFound { what: format!("account {}", account.login) })
    }

    async fn account(&self, login: &UserId) -> Result<Option<Account>, StorageError> {
        self.table.get(key::USERS, login.as_str()).await?.map(account).transpose()
    }

    async fn accounts(&self, tenant: &TenantId) -> Result<Vec<Account>, StorageError> {
        // A login signs in without naming its tenant, so all tenants' lie together. They are read
        // for the list of users only.
        let run = Run::whole(Index::Table, key::USERS.to_owned());
        let all = self.table.query_all(&run).await?.into_iter().map(account);
        all.filter(|account| account.as_ref().map_or(true, |account| account.tenant == *tenant))
            .collect()
    }

    async fn put_group(&self, tenant: &TenantId, group: &Group) -> Result<(), StorageError> {
        let (pk, sk) = (key::groups(tenant), group.name.to_string());
        let item = to_item(&GroupItem { pk, sk, group: group.clone() })?;
        self.table.put(item, None).await?;
        Ok(())
    }

    async fn group(
        &self,
        tenant: &TenantId,
        name: &GroupId,
    ) -> Result<Option<Group>, StorageError> {
        let item = self.table.get(&key::groups(tenant), name.as_str()).await?;
        item.map(|item| Ok(from_item::<GroupItem>(item)?.group)).transpose()
    }

    async fn groups(&self, tenant: &TenantId) -> Result<Vec<Group>, StorageError> {
        let items = self.table.query_all(&Run::whole(Index::Table, key::groups(tenant))).await?;
        items.into_iter().map(|item| Ok(from_item::<GroupItem>(item)?.group)).collect()
    }

    async fn remove_group(&self, tenant: &TenantId, name: &GroupId) -> Result<(), StorageError> {
        self.table.delete(&key::groups(tenant), name.as_str()).await
    }

    async fn add_session(&self, session: &StoredSession) -> Result<(), StorageError> {
        let token = key::session(&session.token_sha256);
        let item = |pk: String, sk: String| {
            to_item(&SessionItem {
                pk,
                sk,
                login: session.login.clone(),
                expires_at: session.expires_at,
                expires: session.expires_at.unix_ms().div_euclid(1_000) + 1,
            })
        };
        let by_token = item(token.clone(), key::SELF.to_owned())?;
        let by_user = item(key::sessions_of(&session.login), token)?;
        self.table
            .client
            .transact_write_items()
            .transact_items(put(&self.table, by_token)?)
            .transact_items(put(&self.table, by_user)?)
            .send()
            .await
            .map_err(|error| storage_error(WHAT, error))?;
        Ok(())
    }

    async fn session(
        &self,
        token_sha256: &[u8; 32],
        now: WallTime,
    ) -> Result<Option<StoredSession>, StorageError> {
        let Some(item) = self.table.get(&key::session(token_sha256), key::SELF).await? else {
            return Ok(None);
        };
        let SessionItem { login, expires_at, .. } = from_item(item)?;
        let session = StoredSession { token_sha256: *token_sha256, login, expires_at };
        Ok((expires_at > now).then_some(session))
    }

    async fn remove_session(&self, token_sha256: &[u8; 32]) -> Result<(), StorageError> {
        let token = key::session(token_sha256);
        let Some(item) = self.table.get(&token, key::SELF).await? else { return Ok(()) };
        let SessionItem { login, .. } = from_item(item)?;
        // The token first: it is what signs in.
        self.table.delete(&token, key::SELF).await?;
        self.table.delete(&key::sessions_of(&login), &token).await
    }

    async fn remove_sessions_of(&self, login: &UserId) -> Result<(), StorageError> {
        let pk = key::sessions_of(login);
        let items = self.table.query_all(&Run::whole(Index::Table, pk.clone())).await?;
        let tokens = items.iter().filter_map(|item| text(item, table::SK));
        let keys: Vec<_> = tokens
            .flat_map(|token| {
                [(token.to_owned(), key::SELF.to_owned()), (pk.clone(), token.to_owned())]
            })
            .collect();
        self.table.delete_many(keys).await
    }
}
