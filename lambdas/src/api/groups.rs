//! Groups of the tenant: who manages whose calls.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use model::api::{ErrorBody, Groups, SetGroup};
use model::attribution::{Assignment, Group};
use model::{GroupId, TenantId, UserId};

use super::access::Caller;
use super::error::{ApiError, JsonBody};
use super::{ApiState, unasked, users};

/// Managers and members of one group, each: an item of the index has at most 400 kB.
const MAX_PEOPLE: usize = 1_000;

/// Every group, in order of name.
#[utoipa::path(get, path = "/v1/groups", tag = "users", responses(
    (status = 200, description = "The groups", body = Groups),
    (status = 401, description = "Not signed in", body = ErrorBody),
    (status = 403, description = "Not permitted", body = ErrorBody),
))]
pub async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Json<Groups>, ApiError> {
    unasked(query)?;
    Ok(Json(Groups { groups: state.accounts.groups(caller.tenant()).await? }))
}

/// Adds a group, or replaces it.
#[utoipa::path(put, path = "/v1/groups/{name}", tag = "users", request_body = SetGroup,
    params(("name" = GroupId, Path)),
    responses(
        (status = 200, description = "As it is now", body = Group),
        (status = 400, description = "Something of it cannot be; the message says what",
            body = ErrorBody),
        (status = 401, description = "Not signed in", body = ErrorBody),
        (status = 403, description = "Not permitted", body = ErrorBody),
        (status = 415, description = "The body is not JSON", body = ErrorBody),
    ))]
pub async fn set(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
    JsonBody(asked): JsonBody<SetGroup>,
) -> Result<Json<Group>, ApiError> {
    let name = GroupId::new(name).map_err(|error| bad(error.to_string()))?;
    users::check_addresses(&asked.addresses)?;
    if asked.managers.len() > MAX_PEOPLE || asked.members.len() > MAX_PEOPLE {
        return Err(bad(format!("a group has at most {MAX_PEOPLE} managers and as many members")));
    }
    if let Some(member) = asked.members.iter().find(|member| !member.term.is_some_time()) {
        let login = &member.login;
        return Err(bad(format!("`members`: `until` of {login} has to be after its `from`")));
    }
    let members = asked.members.iter().map(|member| &member.login);
    let logins: BTreeSet<&UserId> = asked.managers.iter().chain(members).collect();
    for login in logins {
        let known = users::account(&state, caller.tenant(), login.as_str()).await;
        known.map_err(|error| match error.status {
            StatusCode::NOT_FOUND => bad(error.message),
            _ => error,
        })?;
    }
    let SetGroup { managers, members, addresses } = asked;
    let group = Group { name, managers, members, addresses };
    state.accounts.put_group(caller.tenant(), &group).await?;
    tracing::info!(by = %caller.login(), group = %group.name, "group changed");
    Ok(Json(group))
}

/// Removes a group. Its members stay. No error when there is none.
#[utoipa::path(delete, path = "/v1/groups/{name}", tag = "users",
    params(("name" = GroupId, Path)),
    responses(
        (status = 204, description = "It is gone"),
        (status = 401, description = "Not signed in", body = ErrorBody),
        (status = 403, description = "Not permitted", body = ErrorBody),
    ))]
pub async fn remove(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    if let Ok(name) = GroupId::new(name) {
        state.accounts.remove_group(caller.tenant(), &name).await?;
        tracing::info!(by = %caller.login(), group = %name, "group removed");
    }
    Ok(StatusCode::NO_CONTENT)
}

/// All addresses whose calls are a group's, each while it was. `None`: there is no such group.
pub async fn assignments(
    state: &ApiState,
    tenant: &TenantId,
    name: &str,
) -> Result<Option<Vec<Assignment>>, ApiError> {
    let Ok(name) = GroupId::new(name) else { return Ok(None) };
    let Some(group) = state.accounts.group(tenant, &name).await? else { return Ok(None) };
    let of_one = std::slice::from_ref(&group);
    let addresses = super::access::members_addresses(state, tenant, of_one).await?;
    let grants = group.grants(|login| addresses.get(login).cloned().unwrap_or_default());
    Ok(Some(grants.into_iter().map(|grant| grant.assignment).collect()))
}

fn bad(message: String) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "bad_body", message)
}
