//! Accounts from CSV: all rows or none, and a dry run that says what would be done.
//!
//! The first line names the columns, in any order: `login`, `role` and `addresses`, which are
//! separated by spaces. A column that is absent leaves what it would say as it is; a new login
//! needs its role.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use model::UserId;
use model::access::Role;
use model::api::{ErrorBody, ImportProblem, Imported, NewPassword};
use model::attribution::{Address, Assignment, Term};
use storage_ports::Account;

use super::access::Caller;
use super::error::ApiError;
use super::{ApiState, password, query, users};

/// Hashing their passwords takes some ten seconds, of the thirty that an answer may take.
const MAX_ROWS: usize = 500;

const COLUMNS: [&str; 3] = ["login", "role", "addresses"];

/// Adds and changes accounts from CSV, all rows or none.
///
/// Passwords of new accounts are in the answer, and shown this once.
#[utoipa::path(post, path = "/v1/users/import", tag = "users",
    params(("dry_run" = Option<u8>, Query, description = "1: say what would be done, do nothing")),
    request_body(content = String, content_type = "text/csv"),
    responses(
        (status = 200, description = "What was done; nothing, if there are problems",
            body = Imported),
        (status = 400, description = "It is no CSV with these columns", body = ErrorBody),
        (status = 401, description = "Not signed in", body = ErrorBody),
        (status = 403, description = "Not permitted", body = ErrorBody),
        (status = 413, description = "The body is larger than 64 KiB", body = ErrorBody),
        (status = 415, description = "The body is not CSV", body = ErrorBody),
    ))]
pub async fn import(
    State(state): State<ApiState>,
    caller: Caller,
    Query(pairs): Query<Vec<(String, String)>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Imported>, ApiError> {
    let dry_run = dry_run(&pairs)?;
    is_csv(&headers)?;
    let rows = rows(&body)?;
    let mut report = Imported { applied: false, ..Imported::default() };
    let (mut new, mut changed) = (Vec::new(), Vec::new());
    let mut lines: BTreeMap<UserId, u64> = BTreeMap::new();
    for Row { line, account } in rows {
        let mut problem = |message: String| report.problems.push(ImportProblem { line, message });
        let wanted = match account {
            Ok(wanted) => wanted,
            Err(message) => {
                problem(message);
                continue;
            }
        };
        if let Some(earlier) = lines.insert(wanted.login.clone(), line) {
            problem(format!("the login {} is on line {earlier}, too", wanted.login));
            continue;
        }
        match state.accounts.account(&wanted.login).await? {
            Some(held) if held.tenant != *caller.tenant() => {
                problem(users::taken(&wanted.login).message);
            }
            Some(held) => {
                let after = wanted.onto(held.clone());
                if after.login == *caller.login() && after.role != held.role {
                    problem("nobody changes their own role; ask another administrator".to_owned());
                } else if after == held {
                    report.unchanged.push(after.login);
                } else {
                    report.changed.push(after.login.clone());
                    changed.push(after);
                }
            }
            None => match wanted.role {
                None => problem(format!("{} is new and needs a role", wanted.login)),
                Some(role) => {
                    report.added.push(wanted.login.clone());
                    new.push((wanted, role));
                }
            },
        }
    }
    if dry_run || !report.problems.is_empty() {
        return Ok(Json(report));
    }
    for (wanted, role) in new {
        let password = password::generate().map_err(ApiError::internal)?;
        let account = Account {
            login: wanted.login.clone(),
            tenant: caller.tenant().clone(),
            role,
            password_hash: password::hash(password.clone()).await.map_err(ApiError::internal)?,
            must_change_password: true,
            disabled: false,
            addresses: wanted.addresses.unwrap_or_default(),
        };
        if !state.accounts.add_account(&account).await? {
            return Err(users::taken(&account.login));
        }
        report.passwords.push(NewPassword { login: wanted.login, password });
    }
    for account in changed {
        state.accounts.update_account(&account).await?;
    }
    report.applied = true;
    let (added, changed) = (report.added.len(), report.changed.len());
    tracing::info!(by = %caller.login(), added, changed, "accounts imported");
    Ok(Json(report))
}

fn dry_run(pairs: &[(String, String)]) -> Result<bool, ApiError> {
    query::known_once(pairs, &["dry_run"])?;
    match pairs.first().map(|(_, value)| value.as_str()) {
        None | Some("0") => Ok(false),
        Some("1") => Ok(true),
        Some(_) => Err(ApiError::bad_parameter("dry_run", "write 1, or leave it out")),
    }
}

fn is_csv(headers: &HeaderMap) -> Result<(), ApiError> {
    let sent = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = sent.and_then(|value| value.split(';').next()).unwrap_or_default();
    if kind.trim().eq_ignore_ascii_case("text/csv") {
        return Ok(());
    }
    let message = "send the body as CSV with `content-type: text/csv`";
    Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_csv", message))
}

/// What one row says of an account.
#[derive(Debug)]
struct Wanted {
    login: UserId,
    role: Option<Role>,
    addresses: Option<Vec<Assignment>>,
}

impl Wanted {
    /// An address that the account has already keeps its terms.
    fn onto(&self, held: Account) -> Account {
        let addresses = match &self.addresses {
            None => held.addresses,
            Some(wanted) => {
                let is_wanted = |held: &Assignment| {
                    wanted.iter().any(|assignment| assignment.address == held.address)
                };
                let mut addresses: Vec<Assignment> =
                    held.addresses.into_iter().filter(is_wanted).collect();
                for assignment in wanted {
                    if !addresses.iter().any(|held| held.address == assignment.address) {
                        addresses.push(assignment.clone());
                    }
                }
                addresses
            }
        };
        Account { role: self.role.unwrap_or(held.role), addresses, ..held }
    }
}

struct Row {
    line: u64,
    account: Result<Wanted, String>,
}

fn rows(body: &[u8]) -> Result<Vec<Row>, ApiError> {
    let bad = |message: String| ApiError::new(StatusCode::BAD_REQUEST, "bad_csv", message);
    // Spreadsheets begin their files with a byte order mark.
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(body);
    let header = reader.headers().map_err(|error| bad(error.to_string()))?.clone();
    let names: Vec<String> = header.iter().map(str::to_lowercase).collect();
    for (at, name) in names.iter().enumerate() {
        if !COLUMNS.contains(&name.as_str()) {
            let shown: String = name.chars().take(40).collect();
            return Err(bad(format!(
                "the first line has the column {shown:?}; there are {}",
                COLUMNS.join(", ")
            )));
        }
        if names[..at].contains(name) {
            return Err(bad(format!("the first line has the column {name} twice")));
        }
    }
    if !names.iter().any(|name| name == "login") {
        return Err(bad("the first line has no column login".to_owned()));
    }
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| bad(error.to_string()))?;
        if rows.len() >= MAX_ROWS {
            return Err(bad(format!("there are more than {MAX_ROWS} rows; send them in parts")));
        }
        let line = line_of(body, record.position());
        let cell = |column: &str| {
            names.iter().position(|name| name == column).and_then(|at| record.get(at))
        };
        rows.push(Row { line, account: wanted(cell) });
    }
    Ok(rows)
}

/// The line on which a record begins, counted from 1. The reader places a record before the end
/// of the line above it, where that is CR LF.
fn line_of(body: &[u8], position: Option<&csv::Position>) -> u64 {
    let at = position.map_or(0, |position| usize::try_from(position.byte()).unwrap_or(0));
    let ends = body[at..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let before = &body[..at + ends];
    1 + before.iter().filter(|byte| **byte == b'\n').count() as u64
}

fn wanted<'a>(cell: impl Fn(&str) -> Option<&'a str>) -> Result<Wanted, String> {
    let login =
        UserId::new(cell("login").unwrap_or_default()).map_err(|error| error.to_string())?;
    let role = match cell("role").filter(|text| !text.is_empty()) {
        None => None,
        Some(text) => Some(Role::parse(text).ok_or_else(|| {
            format!("{text:?} is not a role; there are {}", Role::ALL.map(Role::as_str).join(", "))
        })?),
    };
    let addresses = match cell("addresses") {
        None => None,
        Some(text) => {
            let addresses = text.split_whitespace().map(|text| {
                let address = Address::new(text).map_err(|error| error.to_string())?;
                Ok(Assignment { address, term: Term::default() })
            });
            let addresses = addresses.collect::<Result<Vec<_>, String>>()?;
            users::check_addresses(&addresses).map_err(|error| error.message)?;
            Some(addresses)
        }
    };
    Ok(Wanted { login, role, addresses })
}
