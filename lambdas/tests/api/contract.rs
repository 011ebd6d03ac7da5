//! The OpenAPI document, the router and the permissions against each other.

use std::collections::BTreeSet;

use axum::http::Method;
use lambdas::api::access::{Need, RULES};

use crate::harness::Api;

const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

fn concrete(path: &str) -> String {
    let path = path.replace("{login}", "nobody").replace("{name}", "nothing");
    path.replace("{id}", ID).replace("{*key}", "t/default/x").replace("{key}", "t/default/x")
}

#[tokio::test]
async fn the_document_the_router_and_the_permissions_agree() {
    let api = Api::new().await;
    let answer = api.ask(Method::GET, "/v1/openapi.json", &[]).await;
    assert_eq!(answer.header("content-type"), "application/json");
    let document = answer.json();
    assert_eq!(document["openapi"], "3.1.0");

    let mut described = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            described.insert((method.to_uppercase(), path.clone()));
        }
    }
    let ruled: BTreeSet<_> = RULES
        .iter()
        .map(|(method, path, _)| (method.to_string(), path.replace("{*", "{")))
        .collect();
    assert_eq!(described, ruled);

    for (method, path, need) in RULES {
        let answer = api.ask(method.clone(), &concrete(path), &[]).await;
        let code = answer.status.as_u16();
        match need {
            Need::Nothing => assert_ne!(code, 401, "{method} {path}"),
            _ => _ = answer.refused(401, "unauthenticated"),
        }
        assert_ne!(code, 405, "{method} {path}");
    }
}

#[tokio::test]
async fn every_answer_carries_its_guards() {
    let api = Api::new().await;
    for path in ["/v1/openapi.json", "/v1/recordings", "/v1/nothing"] {
        let answer = api.ask(Method::GET, path, &[]).await;
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        let policy = answer.header("content-security-policy");
        assert!(policy.contains("script-src 'self' 'wasm-unsafe-eval'"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(!policy.contains("unsafe-inline"), "{policy}");
    }
}

#[tokio::test]
async fn what_is_not_there_says_so_in_json() {
    let api = Api::new().await;
    api.ask(Method::GET, "/v1/nothing", &[]).await.refused(404, "not_found");
    let message = api.ask(Method::PUT, "/v1/session", &[]).await;
    message.refused(405, "method_not_allowed");
    let id = api.ask(Method::GET, "/v1/nothing", &[]).await.header("x-request-id").to_owned();
    assert_ne!(id, api.ask(Method::GET, "/v1/nothing", &[]).await.header("x-request-id"));
}

#[tokio::test]
async fn json_leaves_compressed_for_who_can_read_it() {
    let api = Api::new().await;
    let plain = api.ask(Method::GET, "/v1/openapi.json", &[]).await;
    for coding in ["gzip", "br"] {
        let answer = api.ask(Method::GET, "/v1/openapi.json", &[("accept-encoding", coding)]).await;
        assert_eq!(answer.header("content-encoding"), coding);
        assert!(answer.body.len() < plain.body.len() / 3, "{}", answer.body.len());
    }
}

#[tokio::test]
async fn a_made_up_token_is_no_sign_in() {
    let api = Api::new().await;
    for authorization in ["Bearer ", "Bearer x", "Basic YTpi", "Bearer ünïcode", ""] {
        let headers = [("authorization", authorization)];
        let answer = api.ask(Method::GET, "/v1/recordings", &headers).await;
        answer.refused(401, "unauthenticated");
        assert_eq!(answer.header("www-authenticate"), "Bearer");
    }
}
