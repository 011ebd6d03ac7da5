//! Promises of [`Accounts`].

use std::time::Duration;

use model::access::Role;
use model::{TenantId, UserId};

use super::{now, unused, unused_name};
use crate::{Account, Accounts, StorageError, StoredSession};

/// Every promise of the accounts.
pub async fn accounts(accounts: &dyn Accounts) {
    an_account_reads_back(accounts).await;
    a_login_is_given_out_once(accounts).await;
    an_update_replaces_all_but_the_login(accounts).await;
    an_unknown_login_cannot_be_updated(accounts).await;
    accounts_come_in_order_of_login(accounts).await;
    a_session_lives_until_it_expires(accounts).await;
    a_removed_session_is_gone(accounts).await;
    a_user_can_be_signed_out_everywhere(accounts).await;
}

fn account(prefix: &str) -> Account {
    Account {
        login: UserId::new(unused_name(prefix)).expect("letters and digits"),
        tenant: TenantId::default(),
        role: Role::Supervisor,
        password_hash: "$argon2id$v=19$m=1,t=1,p=1$c2FsdA$aGFzaA".to_owned(),
        must_change_password: true,
    }
}

fn session_of(login: &UserId) -> StoredSession {
    let mut token_sha256 = [0; 32];
    token_sha256[..10].copy_from_slice(&unused());
    let expires_at = now() + Duration::from_secs(3_600);
    StoredSession { token_sha256, login: login.clone(), expires_at }
}

async fn an_account_reads_back(accounts: &dyn Accounts) {
    let new = account("a");
    assert_eq!(accounts.account(&new.login).await.unwrap(), None);
    assert!(accounts.add_account(&new).await.unwrap());
    assert_eq!(accounts.account(&new.login).await.unwrap(), Some(new));
}

async fn a_login_is_given_out_once(accounts: &dyn Accounts) {
    let first = account("a");
    let second = Account { role: Role::Administrator, ..first.clone() };
    let (a, b) = tokio::join!(accounts.add_account(&first), accounts.add_account(&second));
    let (a, b) = (a.unwrap(), b.unwrap());
    assert!(a != b, "of two, one gets it: {a} {b}");
    let kept = accounts.account(&first.login).await.unwrap();
    assert_eq!(kept, Some(if a { first } else { second }));
}

async fn an_update_replaces_all_but_the_login(accounts: &dyn Accounts) {
    let (old, other) = (account("a"), account("a"));
    accounts.add_account(&old).await.unwrap();
    accounts.add_account(&other).await.unwrap();
    let new = Account {
        login: old.login.clone(),
        tenant: TenantId::new("second").expect("a plain word"),
        role: Role::Auditor,
        password_hash: "other".to_owned(),
        must_change_password: false,
    };
    accounts.update_account(&new).await.unwrap();
    assert_eq!(accounts.account(&new.login).await.unwrap(), Some(new));
    assert_eq!(accounts.account(&other.login).await.unwrap(), Some(other));
}

async fn an_unknown_login_cannot_be_updated(accounts: &dyn Accounts) {
    let unknown = account("a");
    let answer = accounts.update_account(&unknown).await;
    assert!(matches!(answer, Err(StorageError::NotFound { .. })), "{answer:?}");
    assert_eq!(accounts.account(&unknown.login).await.unwrap(), None);
}

async fn accounts_come_in_order_of_login(accounts: &dyn Accounts) {
    let mut added = [account("c"), account("a"), account("b")];
    for account in &added {
        accounts.add_account(account).await.unwrap();
    }
    added.sort_by(|a, b| a.login.cmp(&b.login));
    let all = accounts.accounts().await.unwrap();
    assert!(all.is_sorted_by(|a, b| a.login < b.login));
    let ours: Vec<_> = all.into_iter().filter(|account| added.contains(account)).collect();
    assert_eq!(ours, added);
}

async fn a_session_lives_until_it_expires(accounts: &dyn Accounts) {
    let session = session_of(&account("a").login);
    let token = &session.token_sha256;
    assert_eq!(accounts.session(token, now()).await.unwrap(), None);
    accounts.add_session(&session).await.unwrap();
    assert_eq!(accounts.session(token, now()).await.unwrap().as_ref(), Some(&session));
    assert_eq!(accounts.session(token, session.expires_at).await.unwrap(), None);
}

async fn a_removed_session_is_gone(accounts: &dyn Accounts) {
    let login = account("a").login;
    let (gone, kept) = (session_of(&login), session_of(&login));
    accounts.add_session(&gone).await.unwrap();
    accounts.add_session(&kept).await.unwrap();
    for _ in 0..2 {
        accounts.remove_session(&gone.token_sha256).await.unwrap();
        assert_eq!(accounts.session(&gone.token_sha256, now()).await.unwrap(), None);
    }
    assert_eq!(accounts.session(&kept.token_sha256, now()).await.unwrap(), Some(kept));
}

async fn a_user_can_be_signed_out_everywhere(accounts: &dyn Accounts) {
    let (leaves, stays) = (account("a").login, account("a").login);
    let sessions = [session_of(&leaves), session_of(&leaves), session_of(&stays)];
    for session in &sessions {
        accounts.add_session(session).await.unwrap();
    }
    accounts.remove_sessions_of(&leaves).await.unwrap();
    for session in &sessions {
        let found = accounts.session(&session.token_sha256, now()).await.unwrap();
        assert_eq!(found.is_some(), session.login == stays);
    }
}
