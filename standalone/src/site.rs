//! Serves the built site: a few files, read once at start and kept in memory, so that no path of
//! a request ever reaches the file system.
//!
//! - `NAME.br` and `NAME.gz` beside `NAME` are sent to who accepts them.
//! - A name that carries a hash of its bytes (`app-0123456789ab.wasm`) may be kept for ever; the
//!   page that names it is asked for each time, by ETag.
//! - A path without an extension is a page of the application, which finds its own way from
//!   there; one with an extension that is not there is 404, never the page in its place.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use sha2::{Digest, Sha256};

const PAGE: &str = "index.html";
/// A site is some 2 MB; a directory that holds more was given by mistake.
const MOST_BYTES: u64 = 64 * 1024 * 1024;

/// Shown when there is no site, so that whoever opens the URL learns how to get one.
const MISSING: &str = "<!doctype html><html lang=en><meta charset=utf-8><title>Linekeeper</title>\
    <h1>Linekeeper is recording, but has no site to show</h1>\
    <p>Build it with <code>cargo xtask site</code> and start with \
    <code>linekeeper run --site site</code>.\
    <p>The API works without it: <a href=/v1/openapi.json>/v1/openapi.json</a>.</html>";

struct File {
    content_type: &'static str,
    etag: HeaderValue,
    is_immutable: bool,
    plain: Bytes,
    brotli: Option<Bytes>,
    gzip: Option<Bytes>,
}

/// What is served, by path without its first slash.
pub struct Site {
    files: HashMap<String, File>,
}

impl Site {
    /// Reads `dir`. Without one: the directory `site` beside the program, if it is there.
    pub fn load(dir: Option<&Path>) -> Result<Option<Self>> {
        let dir = match dir {
            Some(dir) => dir.to_owned(),
            None => match beside_program() {
                Some(dir) => dir,
                None => return Ok(None),
            },
        };
        Self::read(&dir).with_context(|| format!("the site in {}", dir.display())).map(Some)
    }

    fn read(dir: &Path) -> Result<Self> {
        let mut found = HashMap::new();
        let mut total = 0;
        read_into(dir, "", &mut found, &mut total)?;
        if !found.contains_key(PAGE) {
            bail!("there is no {PAGE}; build it with `cargo xtask site`");
        }
        let names: Vec<String> = found
            .keys()
            .filter(|name| !name.ends_with(".br") && !name.ends_with(".gz"))
            .cloned()
            .collect();
        let files = names.into_iter().map(|name| {
            let plain = found[&name].clone();
            let file = File {
                content_type: content_type(&name),
                etag: etag(&plain),
                is_immutable: carries_hash(&name),
                brotli: found.get(&format!("{name}.br")).cloned(),
                gzip: found.get(&format!("{name}.gz")).cloned(),
                plain,
            };
            (name, file)
        });
        Ok(Self { files: files.collect() })
    }

    fn answer(&self, method: &Method, path: &str, asked: &HeaderMap) -> Response {
        if method != Method::GET && method != Method::HEAD {
            let allowed = [(header::ALLOW, HeaderValue::from_static("GET, HEAD"))];
            return (StatusCode::METHOD_NOT_ALLOWED, allowed).into_response();
        }
        let name = path.trim_start_matches('/');
        let last = name.rsplit('/').next().unwrap_or(name);
        let file = match self.files.get(name) {
            Some(file) => file,
            None if last.contains('.') => {
                return (StatusCode::NOT_FOUND, "not found").into_response();
            }
            None => &self.files[PAGE],
        };
        file.answer(method, asked)
    }
}

impl File {
    fn answer(&self, method: &Method, asked: &HeaderMap) -> Response {
        let mut headers = HeaderMap::from_iter([
            (header::CONTENT_TYPE, HeaderValue::from_static(self.content_type)),
            (header::ETAG, self.etag.clone()),
            (header::VARY, HeaderValue::from_static("accept-encoding")),
            (
                header::CACHE_CONTROL,
                HeaderValue::from_static(if self.is_immutable {
                    "public, max-age=31536000, immutable"
                } else {
                    "no-cache"
                }),
            ),
        ]);
        let held = asked.get_all(header::IF_NONE_MATCH);
        if held.iter().any(|held| held.as_bytes() == self.etag.as_bytes()) {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        let (coding, bytes) = match (&self.brotli, &self.gzip) {
            (Some(brotli), _) if accepts(asked, "br") => (Some("br"), brotli),
            (_, Some(gzip)) if accepts(asked, "gzip") => (Some("gzip"), gzip),
            _ => (None, &self.plain),
        };
        if let Some(coding) = coding {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding));
        }
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
        let body = if method == Method::HEAD { Body::empty() } else { Body::from(bytes.clone()) };
        (headers, body).into_response()
    }
}

/// The site, or the page that says that there is none.
pub fn router(site: Option<Site>) -> Router {
    match site {
        Some(site) => Router::new().fallback(serve).with_state(Arc::new(site)),
        None => Router::new().fallback(async || {
            let html = HeaderValue::from_static("text/html; charset=utf-8");
            (StatusCode::NOT_FOUND, [(header::CONTENT_TYPE, html)], MISSING)
        }),
    }
}

async fn serve(State(site): State<Arc<Site>>, request: Request) -> Response {
    site.answer(request.method(), request.uri().path(), request.headers())
}

fn beside_program() -> Option<PathBuf> {
    let dir = std::env::current_exe().ok()?.parent()?.join("site");
    dir.join(PAGE).is_file().then_some(dir)
}

fn read_into(
    dir: &Path,
    prefix: &str,
    found: &mut HashMap<String, Bytes>,
    total: &mut u64,
) -> Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        // A name that is not UTF-8 cannot be asked for by a page.
        let Some(name) = name.to_str() else { continue };
        let path = format!("{prefix}{name}");
        if entry.file_type()?.is_dir() {
            read_into(&entry.path(), &format!("{path}/"), found, total)?;
            continue;
        }
        *total += entry.metadata()?.len();
        if *total > MOST_BYTES {
            bail!("holds more than {MOST_BYTES} bytes: is it the right directory?");
        }
        found.insert(path, Bytes::from(std::fs::read(entry.path())?));
    }
    Ok(())
}

fn etag(bytes: &[u8]) -> HeaderValue {
    let hex: String =
        Sha256::digest(bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    HeaderValue::try_from(format!("\"{hex}\"")).expect("hex is header text")
}

/// `stem-0123456789ab.extension`, as `cargo xtask site` names files by their content.
fn carries_hash(name: &str) -> bool {
    let stem = name.rsplit('/').next().and_then(|file| file.split('.').next());
    let hash = stem.and_then(|stem| stem.rsplit_once('-')).map(|(_, hash)| hash);
    hash.is_some_and(|hash| hash.len() == 12 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("wasm") => "application/wasm",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("json" | "map") => "application/json",
        Some("webmanifest") => "application/manifest+json",
        Some("woff2") => "font/woff2",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// Whether the client takes this coding (RFC 9110 §12.5.3); `q=0` says that it does not.
fn accepts(asked: &HeaderMap, coding: &str) -> bool {
    asked
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|offer| {
            let mut parts = offer.split(';').map(str::trim);
            let is_it = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(coding));
            let refused = parts
                .filter_map(|part| part.strip_prefix("q="))
                .any(|weight| weight.parse() == Ok(0.0_f32));
            is_it && !refused
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(files: &[(&str, &str)]) -> Result<Site> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Site::load(Some(dir.path())).map(Option::unwrap)
    }

    fn whole() -> Site {
        site(&[
            ("index.html", "<page>"),
            ("index.html.br", "page-br"),
            ("app-0123456789ab.js", "code"),
            ("app-0123456789ab.js.br", "code-br"),
            ("app-0123456789ab.js.gz", "code-gz"),
            ("fonts/a.woff2", "font"),
        ])
        .unwrap()
    }

    async fn get(path: &str, headers: &[(&'static str, &'static str)]) -> (u16, HeaderMap, String) {
        let headers = headers.iter().map(|(name, value)| {
            (name.parse::<header::HeaderName>().unwrap(), HeaderValue::from_static(value))
        });
        let response = whole().answer(&Method::GET, path, &headers.collect());
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, 1_000).await.unwrap();
        (parts.status.as_u16(), parts.headers, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_page_of_the_application_is_found_and_a_missing_file_is_not() {
        for path in ["/", "/recordings/01890a5d-ac96-774b-bcce-b302099a8057", "/live", "//"] {
            assert_eq!(get(path, &[]).await.2, "<page>", "{path}");
        }
        for path in ["/app-ffffffffffff.js", "/../etc/passwd.x", "/.env", "/x/index.html.bak"] {
            assert_eq!(get(path, &[]).await.0, 404, "{path}");
        }
        assert_eq!(get("/fonts/a.woff2", &[]).await.2, "font");
    }

    #[tokio::test]
    async fn the_smallest_form_that_the_browser_takes_is_sent() {
        let path = "/app-0123456789ab.js";
        for (accept, coding, body) in [
            ("gzip, deflate, br", Some("br"), "code-br"),
            ("gzip", Some("gzip"), "code-gz"),
            ("br;q=0, gzip;q=0.5", Some("gzip"), "code-gz"),
            ("identity", None, "code"),
        ] {
            let (_, headers, sent) = get(path, &[("accept-encoding", accept)]).await;
            let found = headers.get(header::CONTENT_ENCODING).map(|value| value.to_str().unwrap());
            assert_eq!((found, sent.as_str()), (coding, body), "{accept}");
            assert_eq!(headers[header::CONTENT_TYPE], "text/javascript; charset=utf-8");
        }
    }

    #[tokio::test]
    async fn only_names_with_a_hash_are_kept_for_ever() {
        let (_, code, _) = get("/app-0123456789ab.js", &[]).await;
        assert!(code[header::CACHE_CONTROL].to_str().unwrap().contains("immutable"));
        let (_, page, _) = get("/", &[]).await;
        assert_eq!(page[header::CACHE_CONTROL], "no-cache");
        assert!(!carries_hash("app-123.js") && !carries_hash("index.html"));
    }

    #[test]
    fn a_directory_without_a_page_is_no_site() {
        let error = site(&[("readme.txt", "x")]).map(drop).unwrap_err();
        assert!(format!("{error:#}").contains("cargo xtask site"), "{error:#}");
    }
}
