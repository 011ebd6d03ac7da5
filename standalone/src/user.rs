//! Accounts, from the command line of the machine: also the way back in when nobody can sign in.

use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use lambdas::api::password;
use model::access::Role;
use model::attribution::{Address, Assignment, Term};
use model::{TenantId, UserId};
use storage_ports::{Account, Accounts};

use crate::arguments::UserCommand;
use crate::data_dir::DataDir;

pub async fn user(data_dir: &Path, command: UserCommand) -> Result<ExitCode> {
    match command {
        UserCommand::Add { login, role } => add(data_dir, &login, role).await?,
        UserCommand::Passwd { login } => change(data_dir, &login).await?,
        UserCommand::Role { login, role } => {
            let account = alter(data_dir, &login, |account| account.role = role).await?;
            println!("{} is {} now", account.login, role.as_str());
        }
        UserCommand::Assign { login, address, from, until } => {
            assign(data_dir, &login, Assignment { address, term: Term { from, until } }).await?;
        }
        UserCommand::Unassign { login, address } => unassign(data_dir, &login, &address).await?,
        UserCommand::Disable { login } => {
            let account = alter(data_dir, &login, |account| account.disabled = true).await?;
            let data = DataDir::open(data_dir).await?;
            data.engines.accounts().remove_sessions_of(&account.login).await?;
            println!("{} cannot sign in any more, and is signed out", account.login);
        }
        UserCommand::Enable { login } => {
            let account = alter(data_dir, &login, |account| account.disabled = false).await?;
            println!("{} can sign in again", account.login);
        }
        UserCommand::List => list(data_dir).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn add(data_dir: &Path, login: &str, role: Role) -> Result<()> {
    let login = UserId::new(login)?;
    // The first account can be added before the first start.
    let data = open_or_make(data_dir).await?;
    let accounts = data.engines.accounts();
    if accounts.account(&login).await?.is_some() {
        bail!("there is an account {login} already; `user passwd {login}` sets its password");
    }
    let chosen = choose_password()?;
    let account = Account {
        login: login.clone(),
        tenant: TenantId::default(),
        role,
        password_hash: password::hash(chosen.text().to_owned()).await?,
        must_change_password: chosen.is_made(),
        disabled: false,
        addresses: Vec::new(),
    };
    if !accounts.add_account(&account).await? {
        bail!("there is an account {login} already");
    }
    println!("added {login}, {}", role.as_str());
    chosen.tell();
    Ok(())
}

async fn change(data_dir: &Path, login: &str) -> Result<()> {
    let login = UserId::new(login)?;
    let data = DataDir::open(data_dir).await?;
    let accounts = data.engines.accounts();
    let Some(account) = accounts.account(&login).await? else {
        bail!("there is no account {login}; `user list` shows all");
    };
    let chosen = choose_password()?;
    let account = Account {
        password_hash: password::hash(chosen.text().to_owned()).await?,
        must_change_password: chosen.is_made(),
        ..account
    };
    accounts.update_account(&account).await?;
    accounts.remove_sessions_of(&login).await?;
    DataDir::password_changed(data_dir, &login);
    println!("changed the password of {login} and signed it out everywhere");
    chosen.tell();
    Ok(())
}

/// Changes an account and returns it.
async fn alter(data_dir: &Path, login: &str, change: impl FnOnce(&mut Account)) -> Result<Account> {
    let login = UserId::new(login)?;
    let data = DataDir::open(data_dir).await?;
    let accounts = data.engines.accounts();
    let Some(mut account) = accounts.account(&login).await? else {
        bail!("there is no account {login}; `user list` shows all");
    };
    change(&mut account);
    accounts.update_account(&account).await?;
    Ok(account)
}

async fn assign(data_dir: &Path, login: &str, new: Assignment) -> Result<()> {
    if !new.term.is_some_time() {
        bail!("--until has to be after --from");
    }
    let address = new.address.clone();
    let account = alter(data_dir, login, |account| {
        if !account.addresses.contains(&new) {
            account.addresses.push(new);
        }
    })
    .await?;
    println!("calls of {address} are {}'s{}", account.login, terms_of(&account, &address));
    Ok(())
}

async fn unassign(data_dir: &Path, login: &str, address: &Address) -> Result<()> {
    let mut was = false;
    let account = alter(data_dir, login, |account| {
        let before = account.addresses.len();
        account.addresses.retain(|held| held.address != *address);
        was = account.addresses.len() < before;
    })
    .await?;
    if !was {
        bail!("{address} is not {}'s; `user list` shows whose addresses are", account.login);
    }
    println!("calls of {address} are not {}'s any more", account.login);
    Ok(())
}

fn terms_of(account: &Account, address: &Address) -> String {
    let held = account.addresses.iter().filter(|held| held.address == *address);
    let terms: Vec<String> = held.filter_map(|held| term(held.term)).collect();
    if terms.is_empty() { String::new() } else { format!(" ({})", terms.join("; ")) }
}

/// `None`: always.
pub fn term(term: Term) -> Option<String> {
    let from = term.from.map(|from| format!("from {from}"));
    let until = term.until.map(|until| format!("until {until}"));
    let parts: Vec<String> = [from, until].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(" "))
}

/// An address and when it was somebody's.
pub fn assignment(assignment: &Assignment) -> String {
    match term(assignment.term) {
        None => assignment.address.to_string(),
        Some(term) => format!("{} ({term})", assignment.address),
    }
}

async fn list(data_dir: &Path) -> Result<()> {
    let data = DataDir::open(data_dir).await?;
    for account in data.engines.accounts().accounts(&TenantId::default()).await? {
        let mut notes: Vec<String> = account.addresses.iter().map(assignment).collect();
        if account.must_change_password {
            notes.push("has to change its password".to_owned());
        }
        if account.disabled {
            notes.push("cannot sign in".to_owned());
        }
        let line =
            format!("{:<24}  {:<13}  {}", account.login, account.role.as_str(), notes.join(", "));
        println!("{}", line.trim_end());
    }
    Ok(())
}

async fn open_or_make(data_dir: &Path) -> Result<DataDir> {
    if data_dir.join("linekeeper.sqlite").exists() {
        DataDir::open(data_dir).await
    } else {
        DataDir::open_to_run(data_dir).await
    }
}

/// A password, and whether somebody chose it or we made it.
enum Password {
    Chosen(String),
    Made(String),
}

impl Password {
    fn text(&self) -> &str {
        match self {
            Self::Chosen(text) | Self::Made(text) => text,
        }
    }

    fn is_made(&self) -> bool {
        matches!(self, Self::Made(_))
    }

    fn tell(&self) {
        if let Self::Made(text) = self {
            println!("password: {text}");
            println!("it is shown this once, and has to be changed after signing in");
        }
    }
}

/// From the terminal twice and unseen, else the first line of standard input; made when that is
/// empty.
fn choose_password() -> Result<Password> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        let first = ask_unseen("password (empty: make one): ")?;
        if !first.is_empty() && ask_unseen("again: ")? != first {
            bail!("these two are not the same");
        }
        return checked(first);
    }
    let mut line = String::new();
    stdin.lock().read_line(&mut line).context("read the password from standard input")?;
    checked(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn checked(text: String) -> Result<Password> {
    if text.is_empty() {
        return Ok(Password::Made(password::generate()?));
    }
    password::check(&text)?;
    Ok(Password::Chosen(text))
}

fn ask_unseen(prompt: &str) -> Result<String> {
    eprint!("{prompt}");
    std::io::stderr().flush().context("write to the terminal")?;
    let mut line = String::new();
    {
        let _unseen = Unseen::begin();
        std::io::stdin().read_line(&mut line).context("read the terminal")?;
    }
    eprintln!();
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// Standard input does not echo while this lives.
struct Unseen {
    before: Option<libc::termios>,
}

impl Unseen {
    fn begin() -> Self {
        // SAFETY: termios is plain integers, for which zeroes are a value; the kernel fills it.
        let mut settings: libc::termios = unsafe { std::mem::zeroed() };
        // SAFETY: the pointer is to a termios of ours that lives through the call.
        if unsafe { libc::tcgetattr(libc::STDIN_FILENO, &raw mut settings) } != 0 {
            // Not a terminal after all: nothing echoes.
            return Self { before: None };
        }
        let before = settings;
        settings.c_lflag &= !libc::ECHO;
        // SAFETY: as above; the settings came from tcgetattr.
        unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSANOW, &raw const settings) };
        Self { before: Some(before) }
    }
}

impl Drop for Unseen {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // SAFETY: as in `begin`.
            unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSANOW, before) };
        }
    }
}

#[test]
fn no_password_means_that_one_is_made_and_a_bad_one_is_refused() {
    assert!(checked(String::new()).unwrap().is_made());
    assert!(!checked("correct horse battery".to_owned()).unwrap().is_made());
    assert!(checked("short".to_owned()).map(|password| password.is_made()).is_err());
}
