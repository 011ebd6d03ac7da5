//! Prepares a deployment: the tenant's key, the policy that names it, the first administrator.
//!
//! Each step looks first and changes nothing that is there, so that it can be done again whenever
//! somebody is not sure that it was done.

use bytes::Bytes;
use lambda_runtime::Error;
use model::access::Role;
use model::object_key::ObjectKey;
use model::policy::{self, PolicySnapshot, TenantPolicy};
use model::trunk::Trunks;
use model::{TenantId, UserId};
use segment::TenantKeyPair;
use serde::{Deserialize, Serialize};
use storage_ports::{Account, Accounts, ObjectStore, PutMode, PutOutcome, StorageError};

use super::tenant_keys;
use crate::api::password;
use crate::tenant_key;

/// Who the setup lets in.
const FIRST_LOGIN: &str = "admin";

/// What it is asked for: `{}`, or a new password for `admin`, because the first answer was lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    #[serde(default)]
    pub reset_password: bool,
}

/// What it did.
#[derive(PartialEq, Eq, Serialize)]
pub struct Done {
    pub tenant: TenantId,
    pub key_made: bool,
    pub policy_changed: bool,
    pub login: &'static str,
    /// Only when it was made now; it must be changed at the first sign-in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

/// Sets up `tenant`. Key and policy lie in one bucket, encrypted by different keys: edges read the
/// policy and must not read the other.
pub async fn set_up(
    asked: Asked,
    tenant: &TenantId,
    keys: &dyn ObjectStore,
    policies: &dyn ObjectStore,
    accounts: &dyn Accounts,
) -> Result<Done, Error> {
    let (pair, key_made) = pair(tenant, keys, policies).await?;
    let policy_changed = name_key(tenant, &pair, policies).await?;
    let password = admit(asked, tenant, accounts).await?;
    Ok(Done { tenant: tenant.clone(), key_made, policy_changed, login: FIRST_LOGIN, password })
}

async fn pair(
    tenant: &TenantId,
    keys: &dyn ObjectStore,
    policies: &dyn ObjectStore,
) -> Result<(TenantKeyPair, bool), Error> {
    let key = ObjectKey::tenant_key(tenant);
    match keys.size(&key).await {
        Ok(_) => {}
        Err(StorageError::NotFound { .. }) => {
            if named_key(&policy(policies).await?, tenant).is_some() {
                return Err(format!(
                    "{key} is missing, and the policy names the key that it held: put the copy of \
                     it back, because calls are sealed to it"
                )
                .into());
            }
            let text = tenant_key::to_text(&TenantKeyPair::generate()?);
            // Two at once: the second one takes what the first one made.
            let put = keys.put(&key, Bytes::from(text), PutMode::IfAbsent).await?;
            let pair = tenant_keys(keys, tenant).await?;
            let pair = TenantKeyPair::from_bytes(pair.to_bytes());
            return Ok((pair, put == PutOutcome::Stored));
        }
        Err(error) => return Err(error.into()),
    }
    let pair = tenant_keys(keys, tenant).await?;
    Ok((TenantKeyPair::from_bytes(pair.to_bytes()), false))
}

async fn policy(policies: &dyn ObjectStore) -> Result<Option<PolicySnapshot>, Error> {
    let key = ObjectKey::policy();
    match policies.get(&key).await {
        Ok(bytes) => {
            let read = serde_json::from_slice(&bytes);
            Ok(Some(read.map_err(|error| format!("{key} cannot be read: {error}"))?))
        }
        Err(StorageError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn named_key<'a>(policy: &'a Option<PolicySnapshot>, tenant: &TenantId) -> Option<&'a str> {
    let named = policy.as_ref()?.tenants.iter().find(|named| named.tenant == *tenant)?;
    Some(&named.public_key)
}

/// Makes the policy name the public half of `pair`. Whether that was new.
async fn name_key(
    tenant: &TenantId,
    pair: &TenantKeyPair,
    policies: &dyn ObjectStore,
) -> Result<bool, Error> {
    let held = policy(policies).await?;
    let public_key = pair.public().to_string();
    match named_key(&held, tenant) {
        Some(named) if named == public_key => return Ok(false),
        Some(_) => {
            let key = ObjectKey::tenant_key(tenant);
            return Err(format!(
                "{key} is not the key to which calls are sealed: put the right one back"
            )
            .into());
        }
        None => {}
    }
    let mut snapshot = held.unwrap_or_else(|| PolicySnapshot {
        version: policy::VERSION,
        revision: 0,
        tenants: Vec::new(),
        trunks: Trunks::default(),
    });
    snapshot.revision += 1;
    snapshot.tenants.push(TenantPolicy { tenant: tenant.clone(), public_key });
    let bytes = Bytes::from(serde_json::to_vec_pretty(&snapshot)?);
    policies.put(&ObjectKey::policy(), bytes, PutMode::Replace).await?;
    Ok(true)
}

/// Lets the first administrator in, or in again. The password, when it is a new one.
async fn admit(
    asked: Asked,
    tenant: &TenantId,
    accounts: &dyn Accounts,
) -> Result<Option<String>, Error> {
    let login = UserId::new(FIRST_LOGIN).expect("a constant that follows the rules of names");
    let held = accounts.account(&login).await?;
    match &held {
        Some(_) if !asked.reset_password => return Ok(None),
        Some(held) if held.tenant != *tenant => {
            return Err(format!("{FIRST_LOGIN} belongs to the tenant {}", held.tenant).into());
        }
        None if !asked.reset_password && !accounts.accounts(tenant).await?.is_empty() => {
            // Somebody is in already, and took `admin` away on purpose.
            return Ok(None);
        }
        _ => {}
    }
    let password = password::generate()?;
    let account = Account {
        login: login.clone(),
        tenant: tenant.clone(),
        role: Role::Administrator,
        password_hash: password::hash(password.clone()).await?,
        must_change_password: true,
        disabled: false,
        addresses: held.as_ref().map_or(Vec::new(), |held| held.addresses.clone()),
    };
    if held.is_some() {
        accounts.update_account(&account).await?;
        accounts.remove_sessions_of(&login).await?;
    } else if !accounts.add_account(&account).await? {
        // Another setup was faster, and told its password.
        return Ok(None);
    }
    Ok(Some(password))
}

#[cfg(test)]
mod tests {
    use storage_embedded::Embedded;

    use super::*;

    async fn ask(engines: &Embedded, asked: Asked) -> Result<Done, Error> {
        let (objects, accounts) = (engines.objects(), engines.accounts());
        set_up(asked, &TenantId::default(), &*objects, &*objects, &*accounts).await
    }

    #[tokio::test]
    async fn a_second_setup_changes_nothing_and_a_lost_password_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let engines = Embedded::open(dir.path()).unwrap();
        let first = ask(&engines, Asked::default()).await.unwrap();
        assert!(first.key_made && first.policy_changed);
        let password = first.password.unwrap();
        let policy_after = engines.objects().get(&ObjectKey::policy()).await.unwrap();

        let second = ask(&engines, Asked::default()).await.unwrap();
        assert!(!second.key_made && !second.policy_changed && second.password.is_none());
        assert_eq!(engines.objects().get(&ObjectKey::policy()).await.unwrap(), policy_after);

        let reset = ask(&engines, Asked { reset_password: true }).await.unwrap();
        assert_ne!(reset.password.unwrap(), password);
        assert!(!reset.key_made && !reset.policy_changed);
    }

    #[tokio::test]
    async fn a_lost_key_is_never_replaced_by_another() {
        let dir = tempfile::tempdir().unwrap();
        let engines = Embedded::open(dir.path()).unwrap();
        ask(&engines, Asked::default()).await.unwrap();
        let key = ObjectKey::tenant_key(&TenantId::default());
        engines.objects().delete(&key).await.unwrap();
        let error = ask(&engines, Asked::default()).await.map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("put the copy"), "{error}");

        let other = tenant_key::to_text(&TenantKeyPair::from_bytes([3; 32]));
        engines.objects().put(&key, other.into(), PutMode::Replace).await.unwrap();
        let error = ask(&engines, Asked::default()).await.map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("put the right one back"), "{error}");
    }

    #[test]
    fn a_misspelt_wish_is_refused() {
        assert!(serde_json::from_str::<Asked>("{\"reset_pasword\":true}").is_err());
        assert_eq!(serde_json::from_str::<Asked>("{}").unwrap(), Asked::default());
    }
}
