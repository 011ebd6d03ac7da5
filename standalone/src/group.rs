//! Groups, from the command line of the machine.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};
use model::attribution::{Address, Assignment, Group, Member, Term};
use model::{GroupId, TenantId, UserId};
use storage_ports::Accounts;

use crate::arguments::GroupCommand;
use crate::data_dir::DataDir;
use crate::user;

pub async fn group(data_dir: &Path, command: GroupCommand) -> Result<ExitCode> {
    let data = DataDir::open(data_dir).await?;
    let (accounts, tenant) = (data.engines.accounts(), TenantId::default());
    match command {
        GroupCommand::Set { name, manager, member, address } => {
            for login in manager.iter().chain(&member) {
                if accounts.account(login).await?.is_none() {
                    bail!("there is no account {login}; `user list` shows all");
                }
            }
            let group = made(name, manager, member, address);
            accounts.put_group(&tenant, &group).await?;
            println!("{}", line(&group));
        }
        GroupCommand::Remove { name } => {
            if accounts.group(&tenant, &name).await?.is_none() {
                bail!("there is no group {name}; `group list` shows all");
            }
            accounts.remove_group(&tenant, &name).await?;
            println!("removed {name}");
        }
        GroupCommand::List => {
            for group in accounts.groups(&tenant).await? {
                println!("{}", line(&group));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn made(
    name: GroupId,
    managers: Vec<UserId>,
    members: Vec<UserId>,
    addresses: Vec<Address>,
) -> Group {
    let term = Term::default();
    Group {
        name,
        managers: managers.into_iter().collect(),
        members: members.into_iter().map(|login| Member { login, term }).collect(),
        addresses: addresses.into_iter().map(|address| Assignment { address, term }).collect(),
    }
}

fn line(group: &Group) -> String {
    let managers: Vec<String> = group.managers.iter().map(UserId::to_string).collect();
    let members = group.members.iter().map(|member| match user::term(member.term) {
        None => member.login.to_string(),
        Some(term) => format!("{} ({term})", member.login),
    });
    let members: Vec<String> = members.collect();
    let addresses: Vec<String> = group.addresses.iter().map(user::assignment).collect();
    let mut line = group.name.to_string();
    let parts = [("managed by", managers), ("members", members), ("addresses", addresses)];
    for (name, values) in parts {
        if !values.is_empty() {
            line.push_str(&format!("  {name}: {}", values.join(", ")));
        }
    }
    line
}

#[test]
fn a_group_prints_who_manages_whose_calls() {
    let id = |login: &str| UserId::new(login).unwrap();
    let address = Address::new("+386 1 234 5678").unwrap();
    let name = GroupId::new("sales").unwrap();
    let group = made(name, vec![id("mia")], vec![id("leo"), id("ana")], vec![address]);
    assert_eq!(line(&group), "sales  managed by: mia  members: leo, ana  addresses: +38612345678");
}
