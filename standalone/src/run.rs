//! `linekeeper run`: recorder, workers, API and site in one process, over one data directory.
//!
//! They meet where they meet in the cloud: at the object store, the queues and the index. The
//! recorder waits for none of the others.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use edge_recorder::{Engines, Shutdown, Signals};
use lambdas::api::{self, ApiState, MediaBy, SignedParts};
use lambdas::{finalizer, indexer, reaper, retention};
use model::search::SearchQuery;
use model::{Status, TenantId, WallTime};
use serde::Serialize;
use storage_ports::{EventQueue, RecordingIndex};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tower::ServiceExt;

use crate::config::Settings;
use crate::data_dir::DataDir;
use crate::listen::{self, TlsListener};
use crate::site::{self, Site};

/// After a drain, calls that have just ended are built before the process goes, for this long.
const BUILD_LIMIT: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long workers may take to finish what is in their hands.
const WORKER_LIMIT: Duration = Duration::from_secs(10);

pub async fn run(settings: Settings) -> Result<ExitCode> {
    let data = DataDir::open_to_run(&settings.data_dir).await?;
    data.make_first_account().await?;
    let site = Site::load(settings.site.as_deref())?;
    // Every port is taken before the first call is: half a start helps nobody.
    let http = listen::bind(settings.http, "--http").await?;
    let http_address = http.local_addr().context("the address of --http")?;
    let https = match &settings.https {
        None => None,
        Some(https) => {
            let acceptor = listen::tls_acceptor(&https.certificate, &https.key)?;
            let listener = listen::bind(https.listen, "--https").await?;
            let address = listener.local_addr().context("the address of --https")?;
            Some((TlsListener::new(listener, acceptor)?, address))
        }
    };

    let shutdown = Shutdown::new();
    let drain_deadline = Duration::from_secs(settings.recorder.admin.drain_deadline_secs);
    let signals = Signals::listen().context("listen for signals")?;
    tokio::spawn(signals.obey(shutdown.clone(), drain_deadline));

    let stop = watch::Sender::new(false);
    let stop_serving = watch::Sender::new(false);
    let router = router(api_state(&data, &settings), site);
    let mut servers = vec![tokio::spawn(listen::serve_http(
        http,
        router.clone(),
        settings.behind_proxy,
        stop_serving.subscribe(),
    ))];
    let https_address = https.map(|(listener, address)| {
        servers.push(tokio::spawn(listen::serve_https(listener, router, stop_serving.subscribe())));
        address
    });
    let workers = start_workers(&data, &settings, &stop);

    let (ready, is_ready) = oneshot::channel();
    let engines = Engines {
        objects: data.engines.objects(),
        events: data.engines.events(),
        commands: data.engines.commands(&settings.recorder.edge.name),
    };
    let recorder = edge_recorder::run(settings.recorder.clone(), engines, shutdown.clone(), ready);
    tokio::pin!(recorder);
    let outcome = tokio::select! {
        // Listening is over before it began.
        outcome = &mut recorder => outcome,
        told = is_ready => {
            if let Ok(listening) = told {
                let ready = Ready::new(&data, &settings, http_address, https_address, listening);
                ready.tell(settings.json);
            }
            recorder.await
        }
    };

    if outcome.is_ok() {
        tokio::select! {
            () = build_what_ended(&data) => {}
            () = tokio::time::sleep(BUILD_LIMIT) => {}
            () = shutdown.asked_now() => {}
        }
    }
    stop.send_replace(true);
    stop_serving.send_replace(true);
    let ended = async {
        for task in workers.into_iter().chain(servers) {
            let _ = task.await;
        }
    };
    tokio::select! {
        () = ended => {}
        () = tokio::time::sleep(WORKER_LIMIT) => {
            tracing::warn!("not every worker has finished; the next start goes on");
        }
        // Nothing is lost by leaving them: what they do is done again. Live calls wait for us.
        () = shutdown.asked_now() => {}
    }
    outcome?;
    Ok(ExitCode::SUCCESS)
}

/// Waits until no call is being built, so that a stopped recorder leaves playable calls behind.
async fn build_what_ended(data: &DataDir) {
    let index = data.engines.index();
    let finalizing =
        SearchQuery { status: Some(Status::Finalizing), limit: 1, ..SearchQuery::default() };
    let mut quiet = 0;
    // Twice in a row: an event may be between queue and index.
    while quiet < 2 {
        tokio::time::sleep(LOOK_EVERY).await;
        let found = index.search(&TenantId::default(), &finalizing).await;
        quiet = if found.is_ok_and(|page| page.items.is_empty()) { quiet + 1 } else { 0 };
    }
}

fn start_workers(
    data: &DataDir,
    settings: &Settings,
    stop: &watch::Sender<bool>,
) -> Vec<JoinHandle<()>> {
    let engines = &data.engines;
    let stop = || stop.subscribe();
    vec![
        tokio::spawn(indexer::run(engines.index(), engines.finalize(), engines.events(), stop())),
        tokio::spawn(reaper::run(engines.index(), engines.finalize(), engines.events(), stop())),
        tokio::spawn(finalizer::run(
            engines.index(),
            engines.finalize(),
            engines.objects(),
            Arc::new(data.keys.clone()),
            stop(),
        )),
        tokio::spawn(retention::run(
            engines.index(),
            engines.objects(),
            TenantId::default(),
            settings.retention,
            stop(),
        )),
    ]
}

fn api_state(data: &DataDir, settings: &Settings) -> ApiState {
    let engines = &data.engines;
    let signer = engines.objects().signer().clone();
    let queues: [(String, Arc<dyn EventQueue>); 2] =
        [("events".to_owned(), engines.events()), ("finalize".to_owned(), engines.finalize())];
    let path = settings.data_dir.clone();
    ApiState {
        index: engines.index(),
        accounts: engines.accounts(),
        objects: engines.objects(),
        media_by: MediaBy::Api,
        verify_signed_url: Some(Arc::new(move |parts: &SignedParts, now| {
            let SignedParts { key, expires, content_type, signature } = parts;
            signer.verify_signature(key, *expires, content_type, signature, now).is_ok()
        })),
        queues: Arc::from(queues),
        commands: Arc::new({
            let engines = engines.clone();
            // Whatever it is called now: recordings keep the name their recorder had.
            let edge = settings.recorder.edge.name.clone();
            move |asked| (*asked == edge).then(|| engines.commands(asked) as Arc<dyn EventQueue>)
        }),
        keys: Arc::new(data.keys.clone()),
        clock: Arc::new(now),
        password_changed: Arc::new(move |login| DataDir::password_changed(&path, login)),
        throttle: Arc::default(),
        renders: Arc::default(),
    }
}

fn router(state: ApiState, site: Option<Site>) -> Router {
    let parts = Parts { api: api::router(state), site: site::router(site) };
    Router::new().fallback(dispatch).with_state(parts).layer(from_fn(api::headers::secure))
}

/// Both find their own way through a path, and say in their own way that it leads nowhere.
#[derive(Clone)]
struct Parts {
    api: Router,
    site: Router,
}

async fn dispatch(State(parts): State<Parts>, request: Request) -> Response {
    let path = request.uri().path();
    let is_api = path == "/v1" || path.starts_with("/v1/");
    let router = if is_api { parts.api } else { parts.site };
    router.oneshot(request).await.into_response()
}

/// A clock before 1970 counts as 1970.
pub fn now() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime::from_unix_ms(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// What scripts and people want to know once calls can come.
#[derive(Debug, Serialize)]
struct Ready<'a> {
    event: &'static str,
    http: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    https: Option<String>,
    /// UDP and TCP.
    sip: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    sips: Option<SocketAddr>,
    admin: String,
    data_dir: &'a Path,
    /// Null once the first password was changed.
    admin_password_file: Option<std::path::PathBuf>,
}

impl<'a> Ready<'a> {
    fn new(
        data: &DataDir,
        settings: &'a Settings,
        http: SocketAddr,
        https: Option<SocketAddr>,
        recorder: edge_recorder::Ready,
    ) -> Self {
        let password_file = data.admin_password_file();
        Self {
            event: "ready",
            http: format!("http://{http}"),
            https: https.map(|address| format!("https://{address}")),
            sip: recorder.sip,
            sips: recorder.sips,
            admin: format!("http://{}", recorder.admin),
            data_dir: &settings.data_dir,
            admin_password_file: password_file.exists().then_some(password_file),
        }
    }

    fn tell(&self, json: bool) {
        let text = if json {
            serde_json::to_string(self).expect("addresses and paths make JSON")
        } else {
            self.words()
        };
        // Whoever started us may have closed standard output; calls are recorded all the same.
        let mut out = std::io::stdout();
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    }

    fn words(&self) -> String {
        let Self { http, sip, admin, .. } = self;
        let mut text = format!("linekeeper is recording: SIP {sip} (UDP, TCP)");
        if let Some(sips) = self.sips {
            text += &format!(", {sips} (TLS)");
        }
        text += &format!("\n  open     {http}");
        if let Some(https) = &self.https {
            text += &format!("  {https}");
        }
        if let Some(file) = &self.admin_password_file {
            text += &format!("\n  sign in  admin, password in {}", file.display());
        }
        text += &format!("\n  health   {admin}/healthz\n  data     {}", self.data_dir.display());
        text
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;
    use crate::arguments::RunFlags;
    use crate::config::{self, File};

    async fn get(router: &Router, path: &str) -> (u16, String, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        assert!(parts.headers.contains_key("content-security-policy"), "{path}");
        let body = axum::body::to_bytes(body, 1_000_000).await.unwrap();
        let kind = parts.headers.get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
        let text = String::from_utf8(body.to_vec()).unwrap();
        (parts.status.as_u16(), kind.unwrap_or_default(), text)
    }

    #[tokio::test]
    async fn the_api_and_the_site_each_answer_for_their_own_paths() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let settings =
            config::settings(path.clone(), RunFlags::default(), File::default()).unwrap();
        let data = DataDir::open_to_run(&path).await.unwrap();
        let router = super::router(api_state(&data, &settings), None);

        let (status, kind, text) = get(&router, "/v1/openapi.json").await;
        assert_eq!((status, kind.as_str()), (200, "application/json"));
        assert!(text.contains("/v1/recordings/{id}/audio"));
        for path in ["/v1", "/v1/", "/v1/nothing"] {
            let (status, kind, _) = get(&router, path).await;
            assert_eq!((status, kind.as_str()), (404, "application/json"), "{path}");
        }
        assert_eq!(get(&router, "/v1/recordings").await.0, 401);
        // Without a site, whoever opens the page learns how to get one.
        for path in ["/", "/recordings", "/v1x"] {
            let (_, kind, text) = get(&router, path).await;
            assert!(kind.starts_with("text/html") && text.contains("cargo xtask site"), "{path}");
        }
    }

    #[test]
    fn the_ready_line_is_one_line_of_json() {
        let ready = Ready {
            event: "ready",
            http: "http://127.0.0.1:8080".to_owned(),
            https: None,
            sip: "127.0.0.1:5060".parse().unwrap(),
            sips: None,
            admin: "http://127.0.0.1:9060".to_owned(),
            data_dir: Path::new("data"),
            admin_password_file: None,
        };
        assert_eq!(
            serde_json::to_string(&ready).unwrap(),
            r#"{"event":"ready","http":"http://127.0.0.1:8080","sip":"127.0.0.1:5060","admin":"http://127.0.0.1:9060","data_dir":"data","admin_password_file":null}"#
        );
        assert!(ready.words().contains("http://127.0.0.1:9060/healthz"));
    }
}
