//! Listeners of the API and the site: plain HTTP, and HTTPS with TLS ending here.

mod limited;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use axum::Router;
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Request};
use axum::http::HeaderMap;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::serve::{IncomingStream, Listener};
use lambdas::api::Arrival;
use limited::{Answering, Limited, Limits};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;

/// A client that connects and says nothing gives its place up after this.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// Handshakes at once: they cost a core that also records calls.
const MOST_HANDSHAKES: usize = 64;
/// How long requests that are being answered may take after a stop.
const GRACE: Duration = Duration::from_secs(5);

/// Listens, or says who is in the way. `flag` is what chose the address.
pub async fn bind(address: SocketAddr, flag: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        if error.kind() == std::io::ErrorKind::AddrInUse {
            anyhow::anyhow!("{address} is in use by another program; choose another with {flag}")
        } else {
            anyhow::Error::new(error).context(format!("listen on {address} ({flag})"))
        }
    })
}

/// Serves plain HTTP until `stop` is true, then finishes what is being answered.
pub async fn serve_http(
    listener: TcpListener,
    router: Router,
    behind_proxy: bool,
    stop: watch::Receiver<bool>,
) {
    let way = if behind_proxy { Way::Proxy } else { Way::Plain };
    let router = router.layer(from_fn(move |request, next| arrive(request, next, way)));
    serve(Limited::new(listener, Limits::default()), router, stop).await;
}

/// Serves HTTPS until `stop` is true.
pub async fn serve_https(listener: TlsListener, router: Router, stop: watch::Receiver<bool>) {
    let router = router.layer(from_fn(|request, next| arrive(request, next, Way::Tls)));
    serve(Limited::new(listener, Limits::default()), router, stop).await;
}

async fn serve<L>(listener: Limited<L>, router: Router, stop: watch::Receiver<bool>)
where
    L: Listener<Addr = SocketAddr>,
{
    let service = router.into_make_service_with_connect_info::<Peer>();
    let until = |mut stop: watch::Receiver<bool>| async move {
        // The sender gone means the same.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    let serving = axum::serve(listener, service).with_graceful_shutdown(until(stop.clone()));
    let limit = async {
        until(stop).await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        _ = serving => {}
        () = limit => tracing::warn!("some requests were cut off"),
    }
}

/// How requests reach a listener.
#[derive(Clone, Copy)]
enum Way {
    Plain,
    Tls,
    /// Through a proxy that is believed.
    Proxy,
}

/// Tells the API how the request came.
async fn arrive(mut request: Request, next: Next, way: Way) -> Response {
    let peer = request.extensions().get::<ConnectInfo<Peer>>();
    let (peer, _answering) =
        peer.map(|ConnectInfo(peer)| (peer.address, peer.answering.begin())).unzip();
    let headers = request.headers();
    let arrival = match way {
        Way::Plain => Arrival { https: false, peer },
        Way::Tls => Arrival { https: true, peer },
        Way::Proxy => {
            Arrival { https: forwarded_https(headers), peer: forwarded_for(headers).or(peer) }
        }
    };
    request.extensions_mut().insert(arrival);
    next.run(request).await
}

/// The last proxy's word counts, because the client can have written the others.
fn forwarded_for(headers: &HeaderMap) -> Option<IpAddr> {
    last(headers, "x-forwarded-for")?.parse().ok()
}

fn forwarded_https(headers: &HeaderMap) -> bool {
    last(headers, "x-forwarded-proto").is_some_and(|proto| proto.eq_ignore_ascii_case("https"))
}

fn last<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get_all(name).iter().next_back()?.to_str().ok()?.rsplit(',').next().map(str::trim)
}

/// Who is at the other end.
#[derive(Clone)]
struct Peer {
    address: IpAddr,
    answering: Answering,
}

impl<L: Listener<Addr = SocketAddr>> Connected<IncomingStream<'_, Limited<L>>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Limited<L>>) -> Self {
        let address = stream.remote_addr().ip().to_canonical();
        Self { address, answering: stream.io().answering() }
    }
}

/// Certificate and key, read and checked against each other.
pub fn tls_acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor> {
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("read the certificate {}", certificate.display()))?;
    if chain.is_empty() {
        bail!("{} holds no certificate", certificate.display());
    }
    let private = PrivateKeyDer::from_pem_file(key)
        .with_context(|| format!("read the private key {}", key.display()))?;
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .with_context(|| {
            format!("{} and {} do not go together", certificate.display(), key.display())
        })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Hands out connections whose handshake is done, so that a slow client holds nobody up.
pub struct TlsListener {
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    local: SocketAddr,
}

impl TlsListener {
    pub fn new(listener: TcpListener, acceptor: TlsAcceptor) -> Result<Self> {
        let local = listener.local_addr().context("the address of --https")?;
        // When it is full, handshakes wait, and then connections in the kernel's backlog.
        let (sender, ready) = mpsc::channel(MOST_HANDSHAKES);
        tokio::spawn(shake_hands(listener, acceptor, sender));
        Ok(Self { ready, local })
    }
}

async fn shake_hands(
    mut listener: TcpListener,
    acceptor: TlsAcceptor,
    ready: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>,
) {
    let places = Arc::new(Semaphore::new(MOST_HANDSHAKES));
    loop {
        let place = places.clone().acquire_owned().await.expect("never closed");
        let (stream, peer) = tokio::select! {
            // Retries what is worth retrying, such as too many open files.
            accepted = Listener::accept(&mut listener) => accepted,
            () = ready.closed() => return,
        };
        let (acceptor, ready) = (acceptor.clone(), ready.clone());
        tokio::spawn(async move {
            match tokio::time::timeout(HANDSHAKE_LIMIT, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => {
                    // Closed: we are stopping.
                    let _ = ready.send((stream, peer)).await;
                }
                Ok(Err(error)) => tracing::debug!(%peer, %error, "no TLS handshake"),
                Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
            }
            drop(place);
        });
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(accepted) => accepted,
            // The accepting task ends only after this listener: nothing more will come.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        Ok(self.local)
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const QUICK: Limits = Limits {
        places: 2,
        idle: Duration::from_secs(60),
        idle_when_full: Duration::from_millis(200),
    };

    /// Serves one path that takes its time, with so few places that they run out.
    async fn served(limits: Limits) -> (SocketAddr, watch::Sender<bool>) {
        let listener = bind("127.0.0.1:0".parse().unwrap(), "--http").await.unwrap();
        let address = listener.local_addr().unwrap();
        let slow = || async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            "done"
        };
        let router = Router::new().route("/slow", get(slow)).route("/", get(|| async { "done" }));
        let router = router.layer(from_fn(|request, next| arrive(request, next, Way::Plain)));
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(serve(Limited::new(listener, limits), router, stopped));
        (address, stop)
    }

    async fn ask(stream: &mut TcpStream, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"done") {
            let read = stream.read_buf(&mut answer);
            let read = tokio::time::timeout(Duration::from_secs(10), read).await.unwrap().unwrap();
            assert_ne!(read, 0, "cut off after {:?}", String::from_utf8_lossy(&answer));
        }
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test]
    async fn connections_that_do_nothing_give_their_places_to_those_who_wait() {
        let (address, _stop) = served(QUICK).await;
        let mut kept_alive = TcpStream::connect(address).await.unwrap();
        assert!(ask(&mut kept_alive, "/").await.starts_with("HTTP/1.1 200"));
        // Half a header, and more of it now and then.
        let (mut trickle, mut feed) = TcpStream::connect(address).await.unwrap().into_split();
        let feeding = tokio::spawn(async move {
            while feed.write_all(b"G").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let mut waiting = TcpStream::connect(address).await.unwrap();
        assert!(ask(&mut waiting, "/").await.starts_with("HTTP/1.1 200"));
        let mut next = TcpStream::connect(address).await.unwrap();
        assert!(ask(&mut next, "/").await.starts_with("HTTP/1.1 200"));
        // Both were closed, and neither was answered to the end of a request.
        let mut rest = Vec::new();
        assert_eq!(kept_alive.read_to_end(&mut rest).await.unwrap_or(0), 0);
        let _ = trickle.read_to_end(&mut rest).await;
        assert!(!String::from_utf8_lossy(&rest).contains("200"));
        feeding.await.unwrap();
    }

    #[tokio::test]
    async fn a_request_that_is_being_answered_is_not_idle() {
        let (address, _stop) = served(Limits { places: 1, ..QUICK }).await;
        let mut only = TcpStream::connect(address).await.unwrap();
        let _waiting = TcpStream::connect(address).await.unwrap();
        assert!(ask(&mut only, "/slow").await.starts_with("HTTP/1.1 200"));
    }

    #[test]
    fn only_the_last_proxy_is_believed() {
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-for", "203.0.113.9, 198.51.100.1".parse().unwrap());
        headers.append("x-forwarded-for", "10.0.0.7".parse().unwrap());
        headers.append("x-forwarded-proto", "http, HTTPS".parse().unwrap());
        assert_eq!(forwarded_for(&headers), Some("10.0.0.7".parse().unwrap()));
        assert!(forwarded_https(&headers));
        headers.append("x-forwarded-for", "unknown".parse().unwrap());
        headers.append("x-forwarded-proto", "http".parse().unwrap());
        assert_eq!(forwarded_for(&headers), None);
        assert!(!forwarded_https(&headers));
    }

    #[tokio::test]
    async fn a_port_in_use_is_named_with_the_flag_that_chose_it() {
        let taken = bind("127.0.0.1:0".parse().unwrap(), "--http").await.unwrap();
        let address = taken.local_addr().unwrap();
        let error = bind(address, "--http").await.unwrap_err().to_string();
        assert!(error.contains(&address.to_string()) && error.contains("--http"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_certificate_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cert.pem");
        let refused = |path: &Path| tls_acceptor(path, path).map(drop).unwrap_err().to_string();
        assert!(refused(&path).contains("cert.pem"));
        std::fs::write(&path, "not PEM").unwrap();
        assert!(refused(&path).contains("cert.pem"));
    }
}
