//! Signing in and out, and changing one's password.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use model::UserId;
use model::api::{ChangePassword, ErrorBody, SignIn, SignedIn, User};
use std::time::Duration;
use storage_ports::{Account, StoredSession};

use super::ApiState;
use super::access::{Arrival, Caller, Token};
use super::error::{ApiError, JsonBody};
use super::password;

/// How long a sign-in lasts: a working day with its overtime.
const SESSION: Duration = Duration::from_secs(12 * 60 * 60);

/// Signs in.
///
/// Sets a cookie; with `token: true` it answers with a bearer token instead. Either lasts 12 h.
#[utoipa::path(post, path = "/v1/session", tag = "session", request_body = SignIn, security(()),
    responses(
        (status = 200, description = "Signed in", body = SignedIn),
        (status = 400, description = "The body is not what this path takes", body = ErrorBody),
        (status = 401, description = "Login or password is wrong", body = ErrorBody),
        (status = 415, description = "The body is not JSON", body = ErrorBody),
        (status = 429, description = "Too many failed attempts; see Retry-After", body = ErrorBody),
    ))]
pub async fn sign_in(
    State(state): State<ApiState>,
    arrival: Arrival,
    JsonBody(asked): JsonBody<SignIn>,
) -> Result<Response, ApiError> {
    let now = (state.clock)();
    let attempt =
        state.throttle.begin(&asked.login, arrival.peer, now).map_err(too_many_attempts)?;
    // A login that cannot exist takes the same way as one that does not.
    let account = match UserId::new(asked.login.as_str()) {
        Ok(login) => {
            let account = state.accounts.account(&login).await?;
            // Takes the same way: whether an account exists is nobody's business.
            account.filter(|account| !account.disabled)
        }
        Err(_) => None,
    };
    let stored = account.as_ref().map(|account| account.password_hash.clone());
    let Ok(matches) = password::verify(asked.password, stored).await else {
        attempt.not_made();
        return Err(too_many_attempts(1));
    };
    let Some(account) = account.filter(|_| matches) else {
        drop(attempt);
        let peer = arrival.peer.map(tracing::field::display);
        tracing::warn!(peer, "sign-in failed");
        return Err(ApiError::new(
            StatusCode::UNAUTHORIZED,
            "wrong_credentials",
            "login or password is wrong",
        ));
    };
    attempt.succeeded();
    tracing::info!(login = %account.login, "signed in");
    open_session(&state, arrival, &account, !asked.token).await
}

/// The signed-in user.
#[utoipa::path(get, path = "/v1/session", tag = "session", responses(
    (status = 200, description = "Who is signed in", body = SignedIn),
    (status = 401, description = "Nobody is", body = ErrorBody),
))]
pub async fn current(caller: Caller) -> Json<SignedIn> {
    Json(SignedIn { user: user(&caller.account), token: None })
}

/// Signs out. No error when nobody was signed in.
#[utoipa::path(delete, path = "/v1/session", tag = "session", security(()), responses(
    (status = 204, description = "Signed out"),
))]
pub async fn sign_out(
    State(state): State<ApiState>,
    arrival: Arrival,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    if let Some(token) = Token::of(&headers, arrival) {
        state.accounts.remove_session(&token.sha256()).await?;
    }
    let cookie = cookie(arrival, "", Duration::ZERO);
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response())
}

/// Changes the signed-in user's password.
///
/// Ends every other sign-in of this user; the answer carries a new cookie or token for this one.
#[utoipa::path(post, path = "/v1/session/password", tag = "session", request_body = ChangePassword,
    responses(
        (status = 200, description = "Changed", body = SignedIn),
        (status = 400, description = "The new password is not good enough", body = ErrorBody),
        (status = 401, description = "Not signed in", body = ErrorBody),
        (status = 403, description = "The current password is wrong", body = ErrorBody),
        (status = 415, description = "The body is not JSON", body = ErrorBody),
        (status = 429, description = "Too many failed attempts; see Retry-After", body = ErrorBody),
    ))]
pub async fn change_password(
    State(state): State<ApiState>,
    arrival: Arrival,
    caller: Caller,
    JsonBody(asked): JsonBody<ChangePassword>,
) -> Result<Response, ApiError> {
    let now = (state.clock)();
    let login = caller.login().clone();
    let unfit = |message: String| {
        ApiError::new(StatusCode::BAD_REQUEST, "unfit_password", format!("`new`: {message}"))
    };
    password::check(&asked.new).map_err(|error| unfit(error.to_string()))?;
    if asked.new == asked.current {
        return Err(unfit("the new password is the current one".to_owned()));
    }
    let attempt =
        state.throttle.begin(login.as_str(), arrival.peer, now).map_err(too_many_attempts)?;
    let stored = caller.account.password_hash.clone();
    let Ok(matches) = password::verify(asked.current, Some(stored)).await else {
        attempt.not_made();
        return Err(too_many_attempts(1));
    };
    if !matches {
        let message = "`current` is not this user's password";
        return Err(ApiError::new(StatusCode::FORBIDDEN, "wrong_password", message));
    }
    attempt.succeeded();
    let password_hash = password::hash(asked.new).await.map_err(ApiError::internal)?;
    let account = Account { password_hash, must_change_password: false, ..caller.account };
    state.accounts.update_account(&account).await?;
    state.accounts.remove_sessions_of(&account.login).await?;
    (state.password_changed)(&account.login);
    tracing::info!(%login, "password changed");
    open_session(&state, arrival, &account, caller.token.from_cookie).await
}

fn too_many_attempts(wait_secs: u64) -> ApiError {
    let message = format!("too many attempts; try again in {wait_secs} s");
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_attempts", message)
        .retry_after(wait_secs)
}

/// Stores a new session and answers with its cookie or its token.
async fn open_session(
    state: &ApiState,
    arrival: Arrival,
    account: &Account,
    by_cookie: bool,
) -> Result<Response, ApiError> {
    let token = Token::new().map_err(ApiError::internal)?;
    let session = StoredSession {
        token_sha256: token.sha256(),
        login: account.login.clone(),
        expires_at: (state.clock)() + SESSION,
    };
    state.accounts.add_session(&session).await?;
    let user = user(account);
    if by_cookie {
        let cookie = cookie(arrival, &token.secret, SESSION);
        Ok(([(header::SET_COOKIE, cookie)], Json(SignedIn { user, token: None })).into_response())
    } else {
        Ok(Json(SignedIn { user, token: Some(token.secret) }).into_response())
    }
}

fn user(account: &Account) -> User {
    User {
        login: account.login.clone(),
        role: account.role,
        must_change_password: account.must_change_password,
    }
}

fn cookie(arrival: Arrival, secret: &str, lasts: Duration) -> HeaderValue {
    let name = arrival.cookie_name();
    let secure = if arrival.https { "; Secure" } else { "" };
    let max_age = lasts.as_secs();
    format!("{name}={secret}; Path=/; Max-Age={max_age}; HttpOnly; SameSite=Strict{secure}")
        .parse()
        .expect("base64url and these attributes are header text")
}
