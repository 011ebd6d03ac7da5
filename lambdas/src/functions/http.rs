//! What lies between API Gateway and the router: who asks, from where, and where the site is.
//!
//! In front of the API stands CloudFront, under whose name people see site, API and media. It
//! says neither to the API: the request bears the API's own name. So:
//!
//! - Whoever asks counts as having come over HTTPS to the site's name. A browser's page of any other
//!   name changes nothing, and cookies are bound to the host.
//! - A signed URL names the bucket. A browser, which plays media of the site alone, is sent to
//!   the same path at the site, whence CloudFront asks the bucket. Programs, which show a bearer
//!   token, may have come to the API's own name, and are sent to the bucket.

use std::net::IpAddr;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use lambda_http::request::RequestContext;

use crate::api::Arrival;

/// Puts what the router wants to know of a request in front of it. `site_url` as `https://NAME`;
/// without it the API's own name is the site's.
pub fn behind_gateway(router: Router, site_url: Option<&str>) -> Result<Router, InvalidSite> {
    let site = match site_url {
        None => None,
        Some(url) => {
            let invalid = || InvalidSite(url.to_owned());
            let name = url.strip_prefix("https://").ok_or_else(invalid)?;
            let is_name = !name.is_empty() && !name.contains(['/', '?', '#', '@']);
            Some(HeaderValue::from_str(name).ok().filter(|_| is_name).ok_or_else(invalid)?)
        }
    };
    Ok(router.layer(from_fn(move |request: Request, next: Next| pass(site.clone(), request, next))))
}

/// A name that is none.
#[derive(Debug, thiserror::Error)]
#[error("LINEKEEPER_SITE_URL={0:?}: write https:// and the name of the site, nothing more")]
pub struct InvalidSite(String);

async fn pass(site: Option<HeaderValue>, mut request: Request, next: Next) -> Response {
    let from = request.extensions().get::<RequestContext>().and_then(source);
    let peer = peer(request.headers(), from);
    request.extensions_mut().insert(Arrival { https: true, peer });
    let headers = request.headers_mut();
    let is_program = headers.contains_key(header::AUTHORIZATION);
    let is_at_site = site.is_some() && !is_program;
    if let Some(site) = site {
        headers.insert(header::HOST, site);
    }
    let mut response = next.run(request).await;
    if is_at_site && response.status() == StatusCode::TEMPORARY_REDIRECT {
        match response.headers().get(header::LOCATION).map(at_site) {
            Some(Some(location)) => {
                response.headers_mut().insert(header::LOCATION, location);
            }
            Some(None) | None => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    }
    response
}

fn source(context: &RequestContext) -> Option<IpAddr> {
    let RequestContext::ApiGatewayV2(context) = context else { return None };
    context.http.source_ip.as_deref()?.parse().ok()
}

/// The address of whoever asked, which wrong passwords are counted for. CloudFront appends it to
/// what the client itself may have claimed, and the gateway appends CloudFront's.
fn peer(headers: &HeaderMap, from: Option<IpAddr>) -> Option<IpAddr> {
    if !headers.contains_key("x-amz-cf-id") {
        return from;
    }
    let forwarded = headers.get("x-forwarded-for").and_then(|value| value.to_str().ok());
    let mut hops = forwarded.unwrap_or_default().rsplit(',').map(str::trim);
    let named = match from {
        // Some gateways append it and some do not.
        Some(from) => hops.find(|hop| hop.parse().ok() != Some(from)),
        None => hops.next(),
    };
    named.and_then(|hop| hop.parse().ok()).or(from)
}

/// The same path under the name that the browser sees; `None` when there is none to see.
fn at_site(location: &HeaderValue) -> Option<HeaderValue> {
    let rest = location.to_str().ok()?.strip_prefix("https://");
    // An emulator's bucket stands in the path and is not at the site.
    let Some(rest) = rest else { return Some(location.clone()) };
    HeaderValue::from_str(&rest[rest.find('/')?..]).ok()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::{get, post};
    use tower::ServiceExt;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(n, v)| (n.parse::<header::HeaderName>().unwrap(), v.parse().unwrap()))
            .collect()
    }

    #[test]
    fn behind_cloudfront_the_client_is_the_last_hop_before_it() {
        let cloudfront: IpAddr = "203.0.113.9".parse().unwrap();
        let through = |forwarded| {
            let asked = headers(&[("x-amz-cf-id", "x"), ("x-forwarded-for", forwarded)]);
            peer(&asked, Some(cloudfront)).unwrap().to_string()
        };
        assert_eq!(through("192.0.2.1, 198.51.100.7, 203.0.113.9"), "198.51.100.7");
        assert_eq!(through("192.0.2.1, 198.51.100.7"), "198.51.100.7");
        assert_eq!(through("2001:db8::1, 203.0.113.9"), "2001:db8::1");
        assert_eq!(through("nonsense"), "203.0.113.9");
        let direct = headers(&[("x-forwarded-for", "192.0.2.1")]);
        assert_eq!(peer(&direct, Some(cloudfront)), Some(cloudfront));
        assert_eq!(peer(&direct, None), None);
    }

    #[tokio::test]
    async fn the_router_sees_the_sites_name_and_browsers_stay_there() {
        let router = Router::new()
            .route("/name", post(async |headers: HeaderMap, arrival: Arrival| {
                format!("{} {}", headers["host"].to_str().unwrap(), arrival.https)
            }))
            .route("/audio", get(async || {
                let to = "https://bucket.s3.eu-west-1.amazonaws.com/t/a/audio.webm?X-Amz-Signature=1";
                (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, to)])
            }));
        let router = behind_gateway(router, Some("https://calls.example.com")).unwrap();
        let ask = |request: axum::http::request::Builder| {
            router.clone().oneshot(request.body(Body::empty()).unwrap())
        };

        let named = ask(Request::post("/name").header("host", "api.example.com")).await.unwrap();
        let body = axum::body::to_bytes(named.into_body(), 100).await.unwrap();
        assert_eq!(body, "calls.example.com true");

        let browser = ask(Request::get("/audio").header("cookie", "x=1")).await.unwrap();
        assert_eq!(browser.headers()["location"], "/t/a/audio.webm?X-Amz-Signature=1");
        let program =
            ask(Request::get("/audio").header("authorization", "Bearer x")).await.unwrap();
        assert!(program.headers()["location"].to_str().unwrap().starts_with("https://bucket."));
    }

    #[test]
    fn a_site_that_is_no_name_is_refused() {
        for bad in ["calls.example.com", "http://calls.example.com", "https://", "https://a/b"] {
            let refused = behind_gateway(Router::new(), Some(bad)).unwrap_err();
            assert!(refused.to_string().contains(bad), "{refused}");
        }
        assert!(behind_gateway(Router::new(), None).is_ok());
    }
}
