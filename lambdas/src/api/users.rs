//! Accounts of the tenant: the list, changes, new passwords, and why somebody may hear a call.

use axum::Json;
use axum::extract::{Path, Query, RawQuery, State};
use axum::http::StatusCode;
use model::access::{Decision, Permission, Role, decide};
use model::api::{
    AddUser, ChangeUser, ErrorBody, NewPassword, PermissionAnswer, RoleRules, Roles, UserAccount,
    Users, Why,
};
use model::attribution::{Assignment, addresses_of};
use model::{TenantId, UserId};
use storage_ports::Account;

use super::access::{Caller, reach};
use super::error::{ApiError, JsonBody};
use super::{ApiState, password, query, recordings, unasked};

/// Addresses that one user may have had. What owns more is a group.
const MAX_ADDRESSES: usize = 200;

/// Every account, in order of login.
#[utoipa::path(get, path = "/v1/users", tag = "users", responses(
    (status = 200, description = "The accounts", body = Users),
    (status = 401, description = "Not signed in", body = ErrorBody),
    (status = 403, description = "Not permitted", body = ErrorBody),
))]
pub async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Json<Users>, ApiError> {
    unasked(query)?;
    let accounts = state.accounts.accounts(caller.tenant()).await?;
    Ok(Json(Users { users: accounts.iter().map(shown).collect() }))
}

/// One account.
#[utoipa::path(get, path = "/v1/users/{login}", tag = "users",
    params(("login" = UserId, Path)),
    responses(
        (status = 200, description = "The account", body = UserAccount),
        (status = 401, description = "Not signed in", body = ErrorBody),
        (status = 403, description = "Not permitted", body = ErrorBody),
        (status = 404, description = "There is no such user", body = ErrorBody),
    ))]
pub async fn one(
    State(state): State<ApiState>,
    caller: Caller,
    Path(login): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<UserAccount>, ApiError> {
    unasked(query)?;
    Ok(Json(shown(&account(&state, caller.tenant(), &login).await?)))
}

/// Adds an account.
///
/// The answer has the password, which is made and shown this once, and has to be changed after
/// signing in.
#[utoipa::path(post, path = "/v1/users", tag = "users", request_body = AddUser,
    responses(
        (status = 201, description = "Added", body = NewPassword),
        (status = 400, description = "Something of it cannot be; the message says what",
            body = ErrorBody),
        (status = 401, description = "Not signed in", body = ErrorBody),
        (status = 403, description = "Not permitted", body = ErrorBody),
        (status = 409, description = "The login is taken", body = ErrorBody),
        (status = 415, description = "The body is not JSON", body = ErrorBody),
    ))]
pub async fn add(
    State(state): State<ApiState>,
    caller: Caller,
    JsonBody(asked): JsonBody<AddUser>,
) -> Result<(StatusCode, Json<NewPassword>), ApiError> {
    check_addresses(&asked.addresses)?;
    let password = password::generate().map_err(ApiError::internal)?;
    let account = Account {
        login: asked.login,
        tenant: caller.tenant().clone(),
        role: asked.role,
        password_hash: password::hash(password.clone()).await.map_err(ApiError::internal)?,
        must_change_password: true,
        disabled: false,
        addresses: asked.addresses,
    };
    if !state.accounts.add_account(&account).await? {
        return Err(taken(&account.login));
    }
    let role = account.role.as_str();
    tracing::info!(by = %caller.login(), login = %account.login, role, "account added");
    Ok((StatusCode::CREATED, Json(NewPassword { login: account.login, password })))
}

/// Changes role, addresses, or whether the user may sign in. What is absent stays as it is.
///
/// It counts with the user's next request, also where they are signed in already.
#[utoipa::path(patch, path = "/v1/users/{login}", tag = "users", request_body = ChangeUser,
    params(("login" = UserId, Path)),
    responses(
        (status = 200, description = "As it is now", body = UserAccount),
        (status = 400, description = "Something of it cannot be; the message says what",
            body = ErrorBody),
        (status = 401, description = "Not signed in", body = ErrorBody),
        (status = 403, description = "Not permitted", body = ErrorBody),
        (status = 404, description = "There is no such user", body = ErrorBody),
        (status = 409, description = "One's own role and account are changed by somebody else",
            body = ErrorBody),
        (status = 415, description = "The body is not JSON", body = ErrorBody),
    ))]
pub async fn change(
    State(state): State<ApiState>,
    caller: Caller,
    Path(login): Path<String>,
    JsonBody(asked): JsonBody<ChangeUser>,
) -> Result<Json<UserAccount>, ApiError> {
    let mut account = account(&state, caller.tenant(), &login).await?;
    let loses = asked.role.is_some_and(|role| role != account.role) || asked.disabled == Some(true);
    if account.login == *caller.login() && loses {
        // Whoever is last would lock everybody out.
        return Err(ApiError::conflict(
            "own_account",
            "nobody changes their own role or disables themselves; ask another administrator, or \
             use `linekeeper user` on the machine",
        ));
    }
    if let Some(addresses) = asked.addresses {
        check_addresses(&addresses)?;
        account.addresses = addresses;
    }
    account.role = asked.role.unwrap_or(account.role);
    account.disabled = asked.disabled.unwrap_or(account.disabled);
    state.accounts.update_account(&account).await?;
    if account.disabled {
        state.accounts.remove_sessions_of(&account.login).await?;
    }
    let (role, disabled) = (account.role.as_str(), account.disabled);
    tracing::info!(by = %caller.login(), login = %account.login, role, disabled, "account changed");
    Ok(Json(shown(&account)))
}

/// Gives a user a new password and signs them out everywhere.
///
/// The answer has the password, which is made and shown this once, and has to be changed after
/// signing in.
#[utoipa::path(post, path = "/v1/users/{login}/password", tag = "users",
    params(("login" = UserId, Path)),
    responses(
        (status = 200, description = "The new password", body = NewPassword),
        (status = 401, description = "Not signed in", body = ErrorBody),
        (status = 403, description = "Not permitted", body = ErrorBody),
        (status = 404, description = "There is no such user", body = ErrorBody),
    ))]
pub async fn reset_password(
    State(state): State<ApiState>,
    caller: Caller,
    Path(login): Path<String>,
) -> Result<Json<NewPassword>, ApiError> {
    let held = account(&state, caller.tenant(), &login).await?;
    let password = password::generate().map_err(ApiError::internal)?;
    let password_hash = password::hash(password.clone()).await.map_err(ApiError::internal)?;
    let account = Account { password_hash, must_change_password: true, ..held };
    state.accounts.update_account(&account).await?;
    state.accounts.remove_sessions_of(&account.login).await?;
    (state.password_changed)(&account.login);
    tracing::info!(by = %caller.login(), login = %account.login, "password reset");
    Ok(Json(NewPassword { login: account.login, password }))
}

/// What a user may do with a recording, and why.
#[utoipa::path(get, path = "/v1/users/{login}/why", tag = "users",
    params(
        ("login" = UserId, Path),
        ("recording" = model::RecordingId, Query, description = "The recording asked about"),
    ),
    responses(
        (status = 200, description = "Every permission with its decision", body = Why),
        (status = 400, description = "A parameter is wrong", body = ErrorBody),
        (status = 401, description = "Not signed in", body = ErrorBody),
        (status = 403, description = "Not permitted", body = ErrorBody),
        (status = 404, description = "There is no such user or recording", body = ErrorBody),
    ))]
pub async fn why(
    State(state): State<ApiState>,
    caller: Caller,
    Path(login): Path<String>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<Why>, ApiError> {
    query::known_once(&pairs, &["recording"])?;
    let Some((_, id)) = pairs.first() else {
        return Err(ApiError::bad_parameter("recording", "give the id of a recording"));
    };
    let account = account(&state, caller.tenant(), &login).await?;
    let (held, journal) = recordings::held(&state, &caller, recordings::id(id)?).await?;
    let view = held.view(&journal).ok_or_else(|| ApiError::not_found("it has not started"))?;
    let (addresses, reach) = (addresses_of(&view), reach(&state, &account).await?);
    let decisions = Permission::ALL
        .into_iter()
        .filter(|permission| permission.is_about_calls())
        .map(|permission| {
            let decision = if account.disabled {
                Decision::Disabled
            } else {
                decide(account.role, &reach, permission, &addresses, view.started_at)
            };
            PermissionAnswer { permission, decision }
        })
        .collect();
    let scope = account.role.scope();
    Ok(Json(Why {
        login: account.login,
        role: account.role,
        scope,
        recording: view.id,
        started_at: view.started_at,
        decisions,
    }))
}

/// What each role may do, and with which calls.
#[utoipa::path(get, path = "/v1/roles", tag = "users", responses(
    (status = 200, description = "The roles", body = Roles),
    (status = 401, description = "Not signed in", body = ErrorBody),
    (status = 403, description = "Not permitted", body = ErrorBody),
))]
pub async fn roles(_: Caller, RawQuery(query): RawQuery) -> Result<Json<Roles>, ApiError> {
    unasked(query)?;
    let rules = |role: Role| RoleRules {
        role,
        scope: role.scope(),
        permissions: role.permissions().to_vec(),
    };
    Ok(Json(Roles { roles: Role::ALL.map(rules).to_vec() }))
}

/// An account of this tenant; one of another is not there.
pub async fn account(
    state: &ApiState,
    tenant: &TenantId,
    login: &str,
) -> Result<Account, ApiError> {
    let unknown = || {
        let shown: String = login.chars().take(80).collect();
        ApiError::not_found(format!("there is no user {shown:?}"))
    };
    let login = UserId::new(login).map_err(|_| unknown())?;
    let found = state.accounts.account(&login).await?;
    found.filter(|account| account.tenant == *tenant).ok_or_else(unknown)
}

fn shown(account: &Account) -> UserAccount {
    UserAccount {
        login: account.login.clone(),
        role: account.role,
        disabled: account.disabled,
        must_change_password: account.must_change_password,
        addresses: account.addresses.clone(),
    }
}

/// Logins are unique across tenants, so the one who has it may be of another.
pub fn taken(login: &UserId) -> ApiError {
    ApiError::conflict("login_taken", format!("the login {login} is taken; choose another"))
}

/// Refuses terms that end before they begin, and more addresses than a person has.
pub fn check_addresses(addresses: &[Assignment]) -> Result<(), ApiError> {
    let bad = |message: String| ApiError::new(StatusCode::BAD_REQUEST, "bad_body", message);
    if addresses.len() > MAX_ADDRESSES {
        return Err(bad(format!("`addresses`: there may be at most {MAX_ADDRESSES}")));
    }
    match addresses.iter().find(|assignment| !assignment.term.is_some_time()) {
        None => Ok(()),
        Some(wrong) => {
            let address = &wrong.address;
            Err(bad(format!("`addresses`: `until` of {address} has to be after its `from`")))
        }
    }
}
