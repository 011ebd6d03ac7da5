//! Signing in, and who may do what.

use axum::body::Body;
use axum::http::Method;
use model::access::Role;
use model::{TenantId, UserId};
use serde_json::json;

use crate::harness::{Api, PASSWORD, cookie_pair, over_https, request};

fn sign_in(login: &str, password: &str) -> serde_json::Value {
    json!({"login": login, "password": password})
}

#[tokio::test]
async fn a_browser_signs_in_by_cookie_and_out_again() {
    let api = Api::new().await;
    let answer = api.post("/v1/session", &[], sign_in("administrator", PASSWORD)).await;
    assert_eq!(answer.status, 200);
    let user =
        json!({"login": "administrator", "role": "administrator", "must_change_password": true});
    assert_eq!(answer.json(), json!({"user": user}));
    let set = answer.header("set-cookie").to_owned();
    for part in ["lk_session=", "; Path=/", "; HttpOnly", "; SameSite=Strict"] {
        assert!(set.contains(part), "{set}");
    }
    assert!(!set.contains("Secure") && !set.contains("__Host-"), "{set}");

    let cookie = cookie_pair(&answer);
    let headers = [("cookie", cookie.as_str())];
    assert_eq!(api.ask(Method::GET, "/v1/session", &headers).await.json(), answer.json());

    let out = api.ask(Method::DELETE, "/v1/session", &headers).await;
    assert_eq!(out.status, 204);
    assert!(out.header("set-cookie").contains("Max-Age=0"));
    api.ask(Method::GET, "/v1/session", &headers).await.refused(401, "unauthenticated");
    assert_eq!(api.ask(Method::DELETE, "/v1/session", &headers).await.status, 204);
}

#[tokio::test]
async fn over_https_the_cookie_is_bound_to_the_host() {
    let api = Api::new().await;
    let body = Body::from(sign_in("auditor", PASSWORD).to_string());
    let headers = [
        ("content-type", "application/json"),
        ("host", "rec.example"),
        ("origin", "https://rec.example"),
    ];
    let answer = api.send(over_https(request(Method::POST, "/v1/session", &headers, body))).await;
    assert_eq!(answer.status, 200);
    let set = answer.header("set-cookie").to_owned();
    assert!(set.starts_with("__Host-lk_session=") && set.ends_with("; Secure"), "{set}");
    assert!(answer.header("strict-transport-security").contains("max-age="));

    let cookie = cookie_pair(&answer);
    let asked = request(Method::GET, "/v1/session", &[("cookie", &cookie)], Body::empty());
    assert_eq!(api.send(over_https(asked)).await.status, 200);
    // The same cookie over plain HTTP is no sign-in.
    let plain = api.ask(Method::GET, "/v1/session", &[("cookie", &cookie)]).await;
    plain.refused(401, "unauthenticated");
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_login_look_the_same() {
    let api = Api::new().await;
    let mut messages = Vec::new();
    for login in ["auditor", "nobody", "no body at all", ""] {
        let answer = api.post("/v1/session", &[], sign_in(login, "wrong horse battery")).await;
        assert_eq!(answer.header("set-cookie"), "");
        messages.push(answer.refused(401, "wrong_credentials"));
    }
    messages.dedup();
    assert_eq!(messages.len(), 1, "{messages:?}");
}

#[tokio::test]
async fn guessing_is_slowed_down_even_when_the_guess_is_right() {
    let api = Api::new().await;
    for _ in 0..5 {
        let answer = api.post("/v1/session", &[], sign_in("auditor", "wrong horse battery")).await;
        answer.refused(401, "wrong_credentials");
    }
    let answer = api.post("/v1/session", &[], sign_in("auditor", PASSWORD)).await;
    answer.refused(429, "too_many_attempts");
    assert_eq!(answer.header("retry-after"), "1");
    // Others are not held up.
    assert_eq!(api.post("/v1/session", &[], sign_in("agent", PASSWORD)).await.status, 200);
}

#[tokio::test]
async fn guesses_that_come_all_at_once_are_no_way_around_the_wait() {
    let api = Api::new().await;
    let guess = || api.post("/v1/session", &[], sign_in("auditor", "wrong horse battery"));
    let answers = futures_util::future::join_all((0..20).map(|_| guess())).await;
    let with = |status| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!((with(401), with(429)), (5, 15));
    let right = api.post("/v1/session", &[], sign_in("auditor", PASSWORD)).await;
    right.refused(429, "too_many_attempts");
}

#[tokio::test]
async fn sign_ins_that_succeed_are_not_counted() {
    let api = Api::new().await;
    for _ in 0..40 {
        let answer = api.post("/v1/session", &[], sign_in("auditor", PASSWORD)).await;
        assert_eq!(answer.status, 200);
    }
}

#[tokio::test]
async fn a_changed_password_ends_every_other_sign_in() {
    let api = Api::new().await;
    let elsewhere = api.bearer("auditor").await;
    let here = api.post("/v1/session", &[], sign_in("auditor", PASSWORD)).await;
    let cookie = cookie_pair(&here);
    let change = |current: &str, new: &str| json!({"current": current, "new": new});
    let path = "/v1/session/password";
    let headers = [("cookie", cookie.as_str())];

    let short = api.post(path, &headers, change(PASSWORD, "short")).await;
    assert!(short.refused(400, "unfit_password").contains("at least 12"));
    api.post(path, &headers, change(PASSWORD, PASSWORD)).await.refused(400, "unfit_password");
    let wrong = api.post(path, &headers, change("not my password", "a brand new password")).await;
    wrong.refused(403, "wrong_password");
    assert!(api.changed.lock().unwrap().is_empty());

    let changed = api.post(path, &headers, change(PASSWORD, "a brand new password")).await;
    assert_eq!(changed.status, 200);
    assert_eq!(changed.json()["user"]["must_change_password"], false);
    assert_eq!(*api.changed.lock().unwrap(), [UserId::new("auditor").unwrap()]);
    for headers in [[("cookie", cookie.as_str())], [("authorization", elsewhere.as_str())]] {
        api.ask(Method::GET, "/v1/session", &headers).await.refused(401, "unauthenticated");
    }
    let fresh = cookie_pair(&changed);
    assert_eq!(api.ask(Method::GET, "/v1/session", &[("cookie", &fresh)]).await.status, 200);
    let old = api.post("/v1/session", &[], sign_in("auditor", PASSWORD)).await;
    old.refused(401, "wrong_credentials");
}

#[tokio::test]
async fn a_page_of_another_site_can_change_nothing() {
    let api = Api::new().await;
    let answer = api.post("/v1/session", &[], sign_in("auditor", PASSWORD)).await;
    let cookie = cookie_pair(&answer);
    let foreign =
        [("cookie", cookie.as_str()), ("host", "rec.example"), ("origin", "http://evil.example")];
    api.ask(Method::DELETE, "/v1/session", &foreign).await.refused(403, "foreign_origin");
    api.post("/v1/session", &foreign[1..], sign_in("auditor", PASSWORD))
        .await
        .refused(403, "foreign_origin");
    let own =
        [("cookie", cookie.as_str()), ("host", "rec.example"), ("origin", "http://rec.example")];
    assert_eq!(api.ask(Method::GET, "/v1/session", &own).await.status, 200);
    assert_eq!(api.ask(Method::DELETE, "/v1/session", &own).await.status, 204);
}

#[tokio::test]
async fn a_form_of_another_site_is_no_sign_in() {
    let api = Api::new().await;
    let body = Body::from(sign_in("auditor", PASSWORD).to_string());
    let form = request(Method::POST, "/v1/session", &[("content-type", "text/plain")], body);
    api.send(form).await.refused(415, "not_json");
    let typed = json!({"login": "auditor", "password": PASSWORD, "remember": true});
    let answer = api.post("/v1/session", &[], typed).await;
    assert!(answer.refused(400, "bad_body").contains("remember"));
    let large = json!({"login": "auditor", "password": "x".repeat(100_000)});
    api.post("/v1/session", &[], large).await.refused(413, "too_large");
}

#[tokio::test]
async fn roles_decide_and_a_changed_role_counts_at_once() {
    let api = Api::new().await;
    let recording = "/v1/recordings/01890a5d-ac96-774b-bcce-b302099a8057";
    for (login, path, status) in [
        ("auditor", "/v1/recordings".to_owned(), 200),
        ("auditor", "/v1/health".to_owned(), 200),
        ("auditor", format!("{recording}/audio"), 403),
        ("auditor", format!("{recording}/peaks"), 403),
        ("auditor", "/v1/live".to_owned(), 403),
        ("supervisor", format!("{recording}/audio"), 404),
        ("supervisor", "/v1/live".to_owned(), 200),
        ("supervisor", "/v1/health".to_owned(), 403),
        ("agent", "/v1/recordings".to_owned(), 200),
        ("agent", "/v1/live".to_owned(), 403),
        ("agent", "/v1/health".to_owned(), 403),
        ("administrator", "/v1/health".to_owned(), 200),
    ] {
        let answer = api.get_as(login, &path).await;
        assert_eq!(answer.status.as_u16(), status, "{login} {path}");
    }
    let bearer = api.bearer("agent").await;
    let login = UserId::new("agent").unwrap();
    let held = api.state.accounts.account(&login).await.unwrap().unwrap();
    let promoted = storage_ports::Account { role: Role::Auditor, ..held };
    api.state.accounts.update_account(&promoted).await.unwrap();
    let headers = [("authorization", bearer.as_str())];
    assert_eq!(api.ask(Method::GET, "/v1/health", &headers).await.status, 200);
}

#[tokio::test]
async fn a_tenant_sees_no_call_of_another() {
    let api = Api::new().await;
    let other = TenantId::new("other").unwrap();
    api.add_account("stranger", Role::Administrator, other).await;
    let call = crate::harness::Call::started(&api, 1, TenantId::default()).await;
    let path = format!("/v1/recordings/{}", call.id);
    assert_eq!(api.get_as("administrator", &path).await.status, 200);
    api.get_as("stranger", &path).await.refused(404, "not_found");
    let list = api.get_as("stranger", "/v1/recordings").await;
    assert_eq!(list.json()["recordings"], json!([]));
    assert_eq!(api.get_as("stranger", "/v1/live").await.json()["recordings"], json!([]));
}
