//! `GET /healthz` over TLS, for health checks from outside: the one port of a recorder that
//! strangers may reach, so it does nothing else, in bounded time and memory.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::RunError;
use crate::config::{HealthPortConfig, TlsConfig};
use crate::health::Health;
use crate::signaling::ListenError;
use crate::signaling::tls::Tls;

/// Handshake, request and answer together. Checkers of Route 53 give up after 4 s.
const LIMIT: Duration = Duration::from_secs(5);
/// At once. Further ones wait in the kernel's queue.
const MOST: usize = 32;
/// A longer request is none of a health check.
const MAX_REQUEST_BYTES: usize = 4_096;

pub async fn listen(config: &HealthPortConfig) -> Result<(TcpListener, Tls), RunError> {
    let failed = |source| ListenError::new(config.listen, "TLS", "admin.health.listen", source);
    let tls = TlsConfig::new(config.certificate.clone(), config.key.clone());
    let tls = Tls::new(&tls).map_err(|error| failed(std::io::Error::other(error)))?;
    let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
    Ok((listener, tls))
}

/// For as long as it is polled.
pub async fn serve(listener: TcpListener, tls: Tls, health: Health) {
    let places = Arc::new(Semaphore::new(MOST));
    loop {
        let place = places.clone().acquire_owned().await.expect("never closed");
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Too many open files: calls matter more.
                tracing::debug!(%error, "no health check accepted");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (acceptor, health) = (tls.acceptor(), health.clone());
        tokio::spawn(async move {
            let _ = timeout(LIMIT, answer(stream, acceptor, health)).await;
            drop(place);
        });
    }
}

async fn answer(stream: TcpStream, acceptor: TlsAcceptor, health: Health) -> std::io::Result<()> {
    let mut stream = acceptor.accept(stream).await?;
    let answer = match request_line(&mut stream).await? {
        Some(line) => reply(&line, &health),
        None => text(400, "Bad Request", "not a health check\n"),
    };
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

/// The first line, once the whole head has come; `None` when it is none or too long.
async fn request_line(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> std::io::Result<Option<String>> {
    let mut head = Vec::with_capacity(512);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut part = [0; 512];
        let read = stream.read(&mut part).await?;
        if read == 0 || head.len() + read > MAX_REQUEST_BYTES {
            return Ok(None);
        }
        head.extend_from_slice(&part[..read]);
    }
    let end = head.iter().position(|byte| *byte == b'\r').unwrap_or(0);
    Ok(String::from_utf8(head[..end].to_vec()).ok())
}

fn reply(line: &str, health: &Health) -> String {
    let mut words = line.split(' ');
    let is_get = matches!(words.next(), Some("GET" | "HEAD"));
    let path = words.next().unwrap_or("");
    match (is_get, path.split('?').next()) {
        (false, _) => text(405, "Method Not Allowed", "only GET\n"),
        (true, Some("/healthz")) => match health.unable() {
            None => text(200, "OK", "ok\n"),
            // Why is for the admin port: strangers read this one.
            Some(_) => text(503, "Service Unavailable", "calls are not recorded here now\n"),
        },
        (true, _) => text(404, "Not Found", "only /healthz\n"),
    }
}

fn text(status: u16, reason: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_health_check_is_answered_and_it_tells_no_reasons() {
        let health = Health::default();
        let status = |line: &str| reply(line, &health)[9..12].to_owned();
        assert_eq!(status("GET /healthz HTTP/1.1"), "503");
        assert!(!reply("GET /healthz HTTP/1.1", &health).contains("starting"));
        health.set(None);
        assert_eq!(status("GET /healthz HTTP/1.1"), "200");
        assert_eq!(status("HEAD /healthz?x=1 HTTP/1.1"), "200");
        assert_eq!(status("GET /metrics HTTP/1.1"), "404");
        assert_eq!(status("POST /drain HTTP/1.1"), "405");
        assert_eq!(status(""), "405");
    }

    #[tokio::test]
    async fn a_head_that_never_ends_is_refused() {
        let (mut ours, mut theirs) = tokio::io::duplex(1 << 16);
        theirs.write_all(&[b'x'; MAX_REQUEST_BYTES + 1]).await.unwrap();
        assert_eq!(request_line(&mut ours).await.unwrap(), None);
        let (mut ours, mut theirs) = tokio::io::duplex(100);
        theirs.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let line = request_line(&mut ours).await.unwrap().unwrap();
        assert_eq!(line, "GET /healthz HTTP/1.1");
    }
}
