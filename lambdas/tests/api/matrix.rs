//! Every role with every route, about own calls, calls of a managed group, calls of others and
//! of another tenant. Written down once more, by hand: a route that is not here fails.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::Method;
use lambdas::api::access::RULES;
use model::access::Role;
use model::attribution::{Group, Member, Term};
use model::{GroupId, TenantId, UserId};

use crate::harness::{Answer, Api, Call, owned, request};

/// What a route is about, and who may use it.
#[derive(Clone, Copy, Debug)]
enum About {
    /// Anybody, signed in or not.
    Open,
    SignedIn,
    /// One recording.
    Recording(&'static [Role]),
    /// A list of recordings.
    Recordings(&'static [Role]),
    /// One user.
    User(&'static [Role]),
    /// The tenant as a whole.
    Tenant(&'static [Role]),
}

const ADMINISTRATOR: &[Role] = &[Role::Administrator];
const ALL: &[Role] = &Role::ALL;
const LISTEN: &[Role] = &[Role::Administrator, Role::Supervisor, Role::Agent];
const WATCH: &[Role] = &[Role::Administrator, Role::Supervisor];
const SYSTEM: &[Role] = &[Role::Administrator, Role::Auditor];

const MATRIX: &[(Method, &str, About)] = &[
    (Method::POST, "/v1/session", About::Open),
    (Method::GET, "/v1/session", About::SignedIn),
    (Method::DELETE, "/v1/session", About::Open),
    (Method::POST, "/v1/session/password", About::SignedIn),
    (Method::GET, "/v1/recordings", About::Recordings(ALL)),
    (Method::GET, "/v1/recordings/{id}", About::Recording(ALL)),
    (Method::GET, "/v1/recordings/{id}/metadata", About::Recording(ALL)),
    (Method::GET, "/v1/recordings/{id}/related", About::Recording(ALL)),
    (Method::GET, "/v1/recordings/{id}/audio", About::Recording(LISTEN)),
    (Method::GET, "/v1/recordings/{id}/peaks", About::Recording(LISTEN)),
    (Method::POST, "/v1/recordings/{id}/pause", About::Recording(LISTEN)),
    (Method::POST, "/v1/recordings/{id}/resume", About::Recording(LISTEN)),
    (Method::POST, "/v1/recordings/{id}/stop", About::Recording(WATCH)),
    (Method::GET, "/v1/live", About::Recordings(WATCH)),
    (Method::GET, "/v1/health", About::Tenant(SYSTEM)),
    (Method::GET, "/v1/users", About::Tenant(ADMINISTRATOR)),
    (Method::POST, "/v1/users", About::Tenant(ADMINISTRATOR)),
    (Method::POST, "/v1/users/import", About::Tenant(ADMINISTRATOR)),
    (Method::GET, "/v1/users/{login}", About::User(ADMINISTRATOR)),
    (Method::PATCH, "/v1/users/{login}", About::User(ADMINISTRATOR)),
    (Method::POST, "/v1/users/{login}/password", About::User(ADMINISTRATOR)),
    (Method::GET, "/v1/users/{login}/why", About::User(ADMINISTRATOR)),
    (Method::GET, "/v1/roles", About::Tenant(ADMINISTRATOR)),
    (Method::GET, "/v1/groups", About::Tenant(ADMINISTRATOR)),
    (Method::PUT, "/v1/groups/{name}", About::Tenant(ADMINISTRATOR)),
    (Method::DELETE, "/v1/groups/{name}", About::Tenant(ADMINISTRATOR)),
    (Method::GET, "/v1/openapi.json", About::Open),
    (Method::GET, "/v1/objects/{*key}", About::Open),
];

/// Whose a call is, seen from whoever asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Whose {
    Own,
    Group,
    Others,
    OtherTenant,
}

impl Whose {
    const ALL: [Self; 4] = [Self::Own, Self::Group, Self::Others, Self::OtherTenant];

    fn is_in_scope_of(self, role: Role) -> bool {
        match self {
            Self::Own => true,
            Self::Group => role != Role::Agent,
            Self::Others => matches!(role, Role::Administrator | Role::Auditor),
            Self::OtherTenant => false,
        }
    }

    /// All calls of the same addresses: what differs is the tenant.
    fn aor(self) -> &'static str {
        match self {
            Self::Own | Self::OtherTenant => "sip:7001@pbx",
            Self::Group => "sip:7002@pbx",
            Self::Others => "sip:7003@pbx",
        }
    }
}

struct Calls {
    /// Over and built.
    built: Vec<(Whose, Call)>,
    live: Vec<(Whose, Call)>,
}

fn other_tenant() -> TenantId {
    TenantId::new("other").unwrap()
}

fn id(login: &str) -> UserId {
    UserId::new(login).unwrap()
}

async fn scene() -> (Api, Calls) {
    let api = Api::new().await;
    for role in Role::ALL {
        api.assign(role.as_str(), &["7001"]).await;
    }
    api.add_account("member", Role::Agent, TenantId::default()).await;
    api.assign("member", &["7002"]).await;
    api.add_account("stranger", Role::Administrator, other_tenant()).await;
    api.assign("stranger", &["7001"]).await;
    let group = |members: &[&str]| Group {
        name: GroupId::new("sales").unwrap(),
        // That an agent manages a group gives them nothing.
        managers: [id("supervisor"), id("agent")].into(),
        members: members
            .iter()
            .map(|login| Member { login: id(login), term: Term::default() })
            .collect(),
        addresses: Vec::new(),
    };
    api.state.accounts.put_group(&TenantId::default(), &group(&["member"])).await.unwrap();
    // The same names in another tenant lead nowhere.
    let theirs = Group { addresses: vec![owned("7003")], ..group(&["stranger"]) };
    api.state.accounts.put_group(&other_tenant(), &theirs).await.unwrap();
    let mut calls = Calls { built: Vec::new(), live: Vec::new() };
    for (n, whose) in (1..).zip(Whose::ALL) {
        let tenant = if whose == Whose::OtherTenant { other_tenant() } else { TenantId::default() };
        let live = Call::started_of(&api, n, tenant.clone(), whose.aor()).await;
        let mut built = Call::started_of(&api, n + 10, tenant, whose.aor()).await;
        built.ended(&api).await;
        built.built(&api, b"audio", "{}").await;
        calls.live.push((whose, live));
        calls.built.push((whose, built));
    }
    (api, calls)
}

async fn ask(api: &Api, bearer: &str, method: &Method, path: &str) -> Answer {
    let headers = [("authorization", bearer), ("content-type", "application/json")];
    let body = if method.is_safe() { Body::empty() } else { Body::from("{}") };
    api.send(request(method.clone(), path, &headers, body)).await
}

#[test]
fn every_route_is_in_the_matrix() {
    let name = |method: &Method, path: &str| format!("{method} {path}");
    let ruled: BTreeSet<_> = RULES.iter().map(|(method, path, _)| name(method, path)).collect();
    let listed: BTreeSet<_> = MATRIX.iter().map(|(method, path, _)| name(method, path)).collect();
    assert_eq!(ruled, listed);
}

#[tokio::test]
async fn every_role_reaches_on_every_route_what_it_may_and_nothing_else() {
    let (api, calls) = scene().await;
    for role in Role::ALL {
        let bearer = api.bearer(role.as_str()).await;
        for (method, path, about) in MATRIX {
            let told = format!("{} {method} {path}", role.as_str());
            match about {
                About::Open => {}
                About::SignedIn => {
                    let code = ask(&api, &bearer, method, path).await.status.as_u16();
                    assert!(!matches!(code, 401 | 404 | 405), "{told}: {code}");
                }
                About::Tenant(roles) => {
                    let path = path.replace("{name}", "unused");
                    let code = ask(&api, &bearer, method, &path).await.status.as_u16();
                    let admitted = !matches!(code, 401 | 403 | 404 | 405);
                    assert_eq!(admitted, roles.contains(&role), "{told}: {code}");
                    assert!(admitted || code == 403, "{told}: {code}");
                }
                About::User(roles) => {
                    for (login, is_here) in [("member", true), ("stranger", false)] {
                        let path = path.replace("{login}", login);
                        let code = ask(&api, &bearer, method, &path).await.status.as_u16();
                        match (roles.contains(&role), is_here) {
                            (false, _) => assert_eq!(code, 403, "{told} {login}"),
                            (true, true) => {
                                assert!(!matches!(code, 401 | 403 | 404 | 405), "{told}: {code}");
                            }
                            // Some ask for a parameter first.
                            (true, false) => {
                                assert!(matches!(code, 400 | 404), "{told} {login}: {code}");
                            }
                        }
                    }
                }
                About::Recording(roles) => {
                    for (whose, call) in &calls.built {
                        let path = path.replace("{id}", &call.id.to_string());
                        let answer = ask(&api, &bearer, method, &path).await;
                        let code = answer.status.as_u16();
                        let told = format!("{told} of {whose:?}: {code}");
                        match (roles.contains(&role), whose.is_in_scope_of(role)) {
                            (false, _) => assert_eq!(code, 403, "{told}"),
                            (true, false) => assert_eq!(code, 404, "{told}"),
                            // A command to a call that is over is refused as such.
                            (true, true) => assert!(matches!(code, 200 | 409), "{told}"),
                        }
                    }
                }
                About::Recordings(roles) => {
                    let answer = ask(&api, &bearer, method, path).await;
                    if !roles.contains(&role) {
                        assert_eq!(answer.status, 403, "{told}");
                        continue;
                    }
                    let with_built = if *path == "/v1/live" { &[][..] } else { &calls.built[..] };
                    let expected: BTreeSet<String> = with_built
                        .iter()
                        .chain(&calls.live)
                        .filter(|(whose, _)| whose.is_in_scope_of(role))
                        .map(|(_, call)| call.id.to_string())
                        .collect();
                    let rows = answer.json()["recordings"].as_array().unwrap().clone();
                    let found: BTreeSet<String> =
                        rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect();
                    assert_eq!(found, expected, "{told}");
                }
            }
        }
    }
    // What was asked of the other tenant changed nothing there.
    let stranger = api.state.accounts.account(&id("stranger")).await.unwrap().unwrap();
    assert!(!stranger.disabled);
    assert_eq!(api.state.accounts.groups(&other_tenant()).await.unwrap().len(), 1);
    api.bearer("stranger").await;
}

#[tokio::test]
async fn without_a_sign_in_only_what_is_open_answers() {
    let (api, calls) = scene().await;
    for (method, path, about) in MATRIX {
        let path = path
            .replace("{id}", &calls.built[0].1.id.to_string())
            .replace("{login}", "member")
            .replace("{name}", "sales")
            .replace("{*key}", "t/default/x");
        let code = ask(&api, "Bearer nobody", method, &path).await.status.as_u16();
        match about {
            About::Open => assert!(!matches!(code, 405), "{method} {path}: {code}"),
            _ => assert_eq!(code, 401, "{method} {path}"),
        }
    }
}
