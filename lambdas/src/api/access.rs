//! Who may call what: one decision per request, from one table, before the handler runs.
//!
//! A route that is missing from [`RULES`] answers nobody. A test holds the table and the OpenAPI
//! document against each other.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::{StreamExt, TryStreamExt, stream};
use model::access::{Permission, Reach, Scope, common};
use model::attribution::{Assignment, Group, addresses_of};
use model::recording::Mark;
use model::search::SearchQuery;
use model::{Recording, TenantId, UserId};
use sha2::{Digest, Sha256};
use storage_ports::Account;

use super::ApiState;
use super::error::ApiError;

/// What a request needs to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    Nothing,
    SignedIn,
    Permission(Permission),
}

/// Method, path as in the router, need. `HEAD` is answered where `GET` is.
pub const RULES: &[(Method, &str, Need)] = &[
    (Method::POST, "/v1/session", Need::Nothing),
    (Method::GET, "/v1/session", Need::SignedIn),
    // Signing out twice is no error, so it asks for nothing.
    (Method::DELETE, "/v1/session", Need::Nothing),
    (Method::POST, "/v1/session/password", Need::SignedIn),
    (Method::GET, "/v1/recordings", Need::Permission(Permission::View)),
    (Method::GET, "/v1/recordings/{id}", Need::Permission(Permission::View)),
    (Method::GET, "/v1/recordings/{id}/metadata", Need::Permission(Permission::View)),
    (Method::GET, "/v1/recordings/{id}/related", Need::Permission(Permission::View)),
    (Method::GET, "/v1/recordings/{id}/audio", Need::Permission(Permission::Play)),
    // A waveform tells who spoke when: part of hearing it.
    (Method::GET, "/v1/recordings/{id}/peaks", Need::Permission(Permission::Play)),
    (Method::POST, "/v1/recordings/{id}/pause", Need::Permission(Permission::Pause)),
    (Method::POST, "/v1/recordings/{id}/resume", Need::Permission(Permission::Pause)),
    (Method::POST, "/v1/recordings/{id}/stop", Need::Permission(Permission::Live)),
    (Method::GET, "/v1/live", Need::Permission(Permission::Live)),
    (Method::GET, "/v1/health", Need::Permission(Permission::System)),
    (Method::GET, "/v1/users", Need::Permission(Permission::Users)),
    (Method::POST, "/v1/users", Need::Permission(Permission::Users)),
    (Method::POST, "/v1/users/import", Need::Permission(Permission::Users)),
    (Method::GET, "/v1/users/{login}", Need::Permission(Permission::Users)),
    (Method::PATCH, "/v1/users/{login}", Need::Permission(Permission::Users)),
    (Method::POST, "/v1/users/{login}/password", Need::Permission(Permission::Users)),
    (Method::GET, "/v1/users/{login}/why", Need::Permission(Permission::Users)),
    (Method::GET, "/v1/roles", Need::Permission(Permission::Roles)),
    (Method::GET, "/v1/groups", Need::Permission(Permission::Users)),
    (Method::PUT, "/v1/groups/{name}", Need::Permission(Permission::Users)),
    (Method::DELETE, "/v1/groups/{name}", Need::Permission(Permission::Users)),
    (Method::GET, "/v1/openapi.json", Need::Nothing),
    // The signature in the URL is the permission.
    (Method::GET, "/v1/objects/{*key}", Need::Nothing),
];

/// How the request reached us. The listener knows and puts it into the request's extensions;
/// without it, a request counts as plain HTTP from nowhere.
#[derive(Clone, Copy, Debug, Default)]
pub struct Arrival {
    /// The browser sees `https`, whether TLS ends here or in a trusted proxy.
    pub https: bool,
    pub peer: Option<IpAddr>,
}

impl Arrival {
    pub fn cookie_name(self) -> &'static str {
        // `__Host-` makes browsers refuse the cookie from anywhere but this very host over TLS;
        // over plain HTTP they would refuse it always.
        if self.https { "__Host-lk_session" } else { "lk_session" }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Arrival {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(parts.extensions.get::<Self>().copied().unwrap_or_default())
    }
}

/// The secret that a client shows, and how it showed it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    pub secret: String,
    pub from_cookie: bool,
}

impl Token {
    pub fn new() -> Result<Self, getrandom::Error> {
        let mut random = [0; 32];
        getrandom::fill(&mut random)?;
        Ok(Self { secret: URL_SAFE_NO_PAD.encode(random), from_cookie: false })
    }

    pub fn sha256(&self) -> [u8; 32] {
        Sha256::digest(self.secret.as_bytes()).into()
    }

    /// A bearer token, else our cookie.
    pub fn of(headers: &HeaderMap, arrival: Arrival) -> Option<Self> {
        let bearer = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, secret)| Self { secret: secret.trim().to_owned(), from_cookie: false });
        bearer.or_else(|| {
            headers
                .get_all(header::COOKIE)
                .iter()
                .filter_map(|value| value.to_str().ok())
                .flat_map(|value| value.split(';'))
                .filter_map(|pair| pair.trim().split_once('='))
                .find(|(name, _)| *name == arrival.cookie_name())
                .map(|(_, secret)| Self { secret: secret.to_owned(), from_cookie: true })
        })
    }
}

/// Who is asking. Handlers get it only behind a rule that asked for it.
#[derive(Clone)]
pub struct Caller {
    pub account: Account,
    pub token: Token,
    pub reach: Reach,
}

impl Caller {
    pub fn tenant(&self) -> &TenantId {
        &self.account.tenant
    }

    /// Whether this recording is in the caller's scope. What is not has to look as if it were not
    /// there.
    pub fn reaches(&self, recording: &Recording) -> bool {
        self.reach.covers(&addresses_of(recording), recording.started_at).is_some()
    }

    /// The question, asked of what is in the caller's scope.
    pub fn within_reach(&self, query: SearchQuery) -> SearchQuery {
        let scope = match (&query.scope, self.reach.assignments()) {
            (Some(asked), Some(may)) => Some(common(asked, &may)),
            (asked, may) => asked.clone().or(may),
        };
        SearchQuery { scope, ..query }
    }

    /// A recording as this caller may see it.
    pub fn shown(&self, mut recording: Recording) -> Recording {
        if !self.account.role.permits(Permission::Digits) {
            recording.marks.iter_mut().for_each(Mark::hide_digit);
        }
        recording
    }

    pub fn login(&self) -> &UserId {
        &self.account.login
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts.extensions.get::<Self>().cloned().ok_or_else(unauthenticated)
    }
}

/// The middleware of every route.
pub async fn decide(
    State(state): State<ApiState>,
    path: MatchedPath,
    arrival: Arrival,
    mut request: Request,
    next: Next,
) -> Response {
    let (method, headers) = (request.method().clone(), request.headers().clone());
    match admit(&state, path.as_str(), arrival, &method, &headers).await {
        Ok(caller) => {
            if let Some(caller) = caller {
                request.extensions_mut().insert(caller);
            }
            next.run(request).await
        }
        Err(refusal) => refusal.into_response(),
    }
}

async fn admit(
    state: &ApiState,
    path: &str,
    arrival: Arrival,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Option<Caller>, ApiError> {
    let Some(need) = need(method, path) else {
        // Not in the table: the method router answers 405, as no handler can be there.
        return Ok(None);
    };
    let token = Token::of(headers, arrival);
    let by_browser = token.as_ref().is_none_or(|token| token.from_cookie);
    if by_browser && !method.is_safe() {
        same_origin(headers, arrival)?;
    }
    if need == Need::Nothing {
        return Ok(None);
    }
    let token = token.ok_or_else(unauthenticated)?;
    let now = (state.clock)();
    let session = state.accounts.session(&token.sha256(), now).await?.ok_or_else(|| {
        ApiError::new(
            StatusCode::UNAUTHORIZED,
            "unauthenticated",
            "this sign-in has expired or was ended; sign in again",
        )
    })?;
    // The account is read each time, so that a changed role or a removed user counts at once.
    let account = state.accounts.account(&session.login).await?;
    let account = account.filter(|account| !account.disabled).ok_or_else(unauthenticated)?;
    if let Need::Permission(permission) = need
        && !account.role.permits(permission)
    {
        let role = account.role.as_str();
        let message = format!("the role {role} may not do this; ask an administrator");
        return Err(ApiError::new(StatusCode::FORBIDDEN, "forbidden", message));
    }
    let reach = match need {
        Need::Permission(_) => reach(state, &account).await?,
        // Who may ask for something else than calls needs no scope.
        Need::SignedIn | Need::Nothing => Reach::Owned(Vec::new()),
    };
    Ok(Some(Caller { account, token, reach }))
}

/// Members whose addresses are read side by side.
const MEMBERS_AT_ONCE: usize = 16;

/// The calls that a user may see. Read each time, as the account is: what somebody loses is gone
/// with their next request.
pub async fn reach(state: &ApiState, account: &Account) -> Result<Reach, ApiError> {
    let (role, login) = (account.role, &account.login);
    let mut groups = Vec::new();
    if role.scope() == Scope::Groups {
        groups = state.accounts.groups(&account.tenant).await?;
        groups.retain(|group| group.managers.contains(login));
    }
    let addresses = members_addresses(state, &account.tenant, &groups).await?;
    Ok(Reach::of(role, login, &account.addresses, &groups, |login| {
        addresses.get(login).cloned().unwrap_or_default()
    }))
}

/// The addresses of everybody who is a member of one of these groups of a tenant.
pub async fn members_addresses(
    state: &ApiState,
    tenant: &TenantId,
    groups: &[Group],
) -> Result<HashMap<UserId, Vec<Assignment>>, ApiError> {
    let members = groups.iter().flat_map(|group| &group.members);
    let logins: BTreeSet<UserId> = members.map(|member| member.login.clone()).collect();
    let found: Vec<Option<Account>> = stream::iter(logins)
        .map(async |login| state.accounts.account(&login).await)
        .buffer_unordered(MEMBERS_AT_ONCE)
        .try_collect()
        .await?;
    // A login is unique across tenants, and a group may name one that was never this tenant's.
    let ours = found.into_iter().flatten().filter(|member| member.tenant == *tenant);
    Ok(ours.map(|member| (member.login, member.addresses)).collect())
}

/// What the table says of a request; `None`: it has no such route.
pub fn need(method: &Method, path: &str) -> Option<Need> {
    let method = if *method == Method::HEAD { &Method::GET } else { method };
    RULES
        .iter()
        .find(|(ruled, template, _)| ruled == method && *template == path)
        .map(|(_, _, need)| *need)
}

fn unauthenticated() -> ApiError {
    ApiError::new(
        StatusCode::UNAUTHORIZED,
        "unauthenticated",
        "sign in with POST /v1/session, then send its cookie or `Authorization: Bearer TOKEN`",
    )
}

/// Refuses a change that another site makes a browser ask for. `SameSite=Strict` already keeps
/// the cookie at home in today's browsers; this covers sibling subdomains and older ones.
/// Clients that are not browsers send neither header.
fn same_origin(headers: &HeaderMap, arrival: Arrival) -> Result<(), ApiError> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let fetched_from_elsewhere =
        text("sec-fetch-site").is_some_and(|site| !matches!(site, "same-origin" | "none"));
    let scheme = if arrival.https { "https://" } else { "http://" };
    let origin_differs = headers.contains_key(header::ORIGIN)
        && text("origin").and_then(|origin| origin.strip_prefix(scheme)) != text("host");
    if fetched_from_elsewhere || origin_differs {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "foreign_origin",
            "this request comes from a page of another site; behind a proxy, pass `Host` and \
             `X-Forwarded-Proto` on and start linekeeper with --behind-proxy",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            (name.parse::<header::HeaderName>().unwrap(), value.parse().unwrap())
        });
        pairs.collect()
    }

    #[test]
    fn a_page_of_another_site_changes_nothing() {
        let http = Arrival::default();
        let https = Arrival { https: true, peer: None };
        let same = headers(&[("host", "a:8080"), ("origin", "http://a:8080")]);
        assert!(same_origin(&same, http).is_ok());
        assert!(same_origin(&same, https).is_err());
        assert!(same_origin(&headers(&[("host", "a")]), https).is_ok());
        for other in ["http://b", "https://a", "null", "http://a.b", "http://ab"] {
            assert!(same_origin(&headers(&[("host", "a"), ("origin", other)]), http).is_err());
        }
        let sibling = headers(&[("host", "a"), ("sec-fetch-site", "same-site")]);
        assert!(same_origin(&sibling, http).is_err());
    }

    #[test]
    fn over_tls_only_the_host_bound_cookie_counts() {
        let sent = headers(&[("cookie", "x=1; lk_session=plain; __Host-lk_session=bound")]);
        let of = |https| Token::of(&sent, Arrival { https, peer: None }).unwrap().secret;
        assert_eq!(of(true), "bound");
        assert_eq!(of(false), "plain");
        let both = headers(&[("cookie", "lk_session=c"), ("authorization", "bearer b")]);
        let token = Token::of(&both, Arrival::default()).unwrap();
        assert_eq!((token.secret.as_str(), token.from_cookie), ("b", false));
    }

    #[test]
    fn a_token_is_long_and_never_the_same() {
        let (one, other) = (Token::new().unwrap(), Token::new().unwrap());
        assert_eq!(one.secret.len(), 43);
        assert!(one != other);
    }
}
