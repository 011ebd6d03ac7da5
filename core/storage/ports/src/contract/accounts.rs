//! Promises of [`Accounts`].

use std::time::Duration;

use model::access::Role;
use model::attribution::{Address, Assignment, Group, Member, Term};
use model::{GroupId, TenantId, UserId};

use super::{now, unused, unused_name};
use crate::{Account, Accounts, StorageError, StoredSession};

/// Every promise of the accounts.
pub async fn accounts(accounts: &dyn Accounts) {
    an_account_reads_back(accounts).await;
    a_login_is_given_out_once(accounts).await;
    an_update_replaces_all_but_the_login(accounts).await;
    an_unknown_login_cannot_be_updated(accounts).await;
    the_accounts_of_a_tenant_come_in_order_of_login(accounts).await;
    a_group_reads_back_until_it_is_removed(accounts).await;
    groups_of_another_tenant_are_not_seen(accounts).await;
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
        disabled: false,
        addresses: vec![assignment("7001"), assignment("+38612345678")],
    }
}

fn assignment(address: &str) -> Assignment {
    let term = Term { from: Some(now()), until: Some(now() + Duration::from_secs(60)) };
    Assignment { address: Address::new(address).expect("an extension or a number"), term }
}

fn group(members: &[&UserId]) -> Group {
    let member = |login: &&UserId| Member { login: (*login).clone(), term: Term::default() };
    Group {
        name: GroupId::new(unused_name("g")).expect("letters and digits"),
        managers: members.iter().map(|login| (*login).clone()).collect(),
        members: members.iter().map(member).collect(),
        addresses: vec![assignment("hunt-1")],
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
        disabled: true,
        addresses: vec![assignment("7002")],
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

async fn the_accounts_of_a_tenant_come_in_order_of_login(accounts: &dyn Accounts) {
    let tenant = TenantId::new(unused_name("t")).expect("letters and digits");
    let mut added =
        ["c", "a", "b"].map(|login| Account { tenant: tenant.clone(), ..account(login) });
    accounts.add_account(&account("a")).await.unwrap();
    for account in &added {
        accounts.add_account(account).await.unwrap();
    }
    added.sort_by(|a, b| a.login.cmp(&b.login));
    assert_eq!(accounts.accounts(&tenant).await.unwrap(), added);
}

async fn a_group_reads_back_until_it_is_removed(accounts: &dyn Accounts) {
    let tenant = TenantId::new(unused_name("t")).expect("letters and digits");
    let (ana, leo) = (account("a").login, account("l").login);
    let (first, second) = (group(&[&ana, &leo]), group(&[]));
    for group in [&second, &first] {
        assert_eq!(accounts.group(&tenant, &group.name).await.unwrap(), None);
        accounts.put_group(&tenant, group).await.unwrap();
        assert_eq!(accounts.group(&tenant, &group.name).await.unwrap().as_ref(), Some(group));
    }
    assert_eq!(accounts.groups(&tenant).await.unwrap(), [first.clone(), second.clone()]);
    let replaced = Group { members: Vec::new(), ..first.clone() };
    accounts.put_group(&tenant, &replaced).await.unwrap();
    assert_eq!(accounts.groups(&tenant).await.unwrap(), [replaced, second.clone()]);
    for _ in 0..2 {
        accounts.remove_group(&tenant, &first.name).await.unwrap();
        assert_eq!(accounts.groups(&tenant).await.unwrap(), std::slice::from_ref(&second));
    }
}

async fn groups_of_another_tenant_are_not_seen(accounts: &dyn Accounts) {
    let [here, there] = ["t", "u"].map(|t| TenantId::new(unused_name(t)).expect("letters"));
    let group = group(&[]);
    accounts.put_group(&here, &group).await.unwrap();
    assert_eq!(accounts.group(&there, &group.name).await.unwrap(), None);
    assert_eq!(accounts.groups(&there).await.unwrap(), []);
    accounts.remove_group(&there, &group.name).await.unwrap();
    assert_eq!(accounts.group(&here, &group.name).await.unwrap(), Some(group));
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
