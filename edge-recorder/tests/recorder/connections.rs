//! SIP over TCP and TLS, with peers that behave badly.

use std::sync::Arc;

use edge_recorder::config::TlsConfig;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use crate::support::{PATIENCE, Site, Src};

fn options(branch: u32) -> String {
    format!(
        "OPTIONS sip:recorder@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1;branch=z9hG4bK{branch}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:a@example.com>;tag=1\r\nTo: <sip:b@example.com>\r\n\
         Call-ID: options-{branch}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_does_not_read_is_disconnected_and_disturbs_nobody() {
    let site = Site::new().await;
    let recorder = site.start().await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut deaf = socket.connect(recorder.ready.sip).await.unwrap();
    let flood = async {
        let mut branch = 0;
        loop {
            let burst: String = (branch..branch + 100).map(options).collect();
            branch += 100;
            if deaf.write_all(burst.as_bytes()).await.is_err() {
                return;
            }
        }
    };
    timeout(2 * PATIENCE, flood).await.expect("who does not read is disconnected");
    let mut src = Src::tcp(recorder.ready.sip).await;
    assert_eq!(src.invite(Some(&src.metadata())).await.status, 200);
    assert_eq!(src.bye().await.status, 200);
    recorder.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_connections_is_limited() {
    let mut site = Site::new().await;
    site.config.sip.max_connections = 2.try_into().unwrap();
    let recorder = site.start().await;
    let _one = Src::tcp(recorder.ready.sip).await;
    let mut two = Src::tcp(recorder.ready.sip).await;
    assert_eq!(two.request("OPTIONS", "", "").await.status, 200);
    let mut three = TcpStream::connect(recorder.ready.sip).await.unwrap();
    let closed = timeout(PATIENCE, three.read(&mut [0; 1])).await.unwrap();
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
    assert_eq!(two.request("OPTIONS", "", "").await.status, 200);
    recorder.stop().await;
}

struct Party {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn party(name: &str, authority: &CertifiedIssuer<'static, KeyPair>) -> (Party, String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    let pems = (certificate.pem(), key.serialize_pem());
    let party = Party {
        certificate: certificate.der().clone(),
        key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
    };
    (party, pems.0, pems.1)
}

async fn connect(
    address: std::net::SocketAddr,
    roots: &CertificateDer<'static>,
    client: Option<Party>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut store = RootCertStore::empty();
    store.add(roots.clone()).unwrap();
    let builder =
        ClientConfig::builder_with_provider(Arc::new(crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(store);
    let config = match client {
        None => builder.with_no_client_auth(),
        Some(party) => builder.with_client_auth_cert(vec![party.certificate], party.key).unwrap(),
    };
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("recorder.example.com").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// The status of the answer to an OPTIONS; `None` when the connection is closed instead.
async fn ask(mut stream: TlsStream<TcpStream>) -> Option<u16> {
    ask_on(&mut stream).await
}

async fn ask_on(stream: &mut TlsStream<TcpStream>) -> Option<u16> {
    stream.write_all(options(1).replace("/TCP", "/TLS").as_bytes()).await.ok()?;
    let mut answer = vec![0; 4_096];
    let length = timeout(PATIENCE, stream.read(&mut answer)).await.unwrap().ok()?;
    std::str::from_utf8(&answer[..length]).unwrap().split(' ').nth(1)?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_asks_for_a_certificate_where_authorities_are_configured() {
    let mut site = Site::new().await;
    let authority = authority();
    let (_, certificate, key) = party("recorder.example.com", &authority);
    let path = |name: &str| site.dir.path().join(name);
    let tls = TlsConfig::new(path("cert.pem"), path("key.pem"));
    std::fs::write(&tls.certificate, certificate).unwrap();
    std::fs::write(&tls.key, key).unwrap();
    let authorities = path("authorities.pem");
    std::fs::write(&authorities, authority.pem()).unwrap();
    site.config.sip.tls_listen = Some("127.0.0.1:0".parse().unwrap());
    site.config.sip.tls = Some(tls.clone());

    let recorder = site.start().await;
    let sips = recorder.ready.sips.unwrap();
    // Somebody who says nothing holds up nobody.
    let _silent = TcpStream::connect(sips).await.unwrap();
    let stream = connect(sips, authority.der(), None).await.unwrap();
    assert_eq!(ask(stream).await, Some(200));
    recorder.stop().await;

    site.config.sip.tls = Some(TlsConfig { client_authorities: Some(authorities), ..tls });
    let recorder = site.start().await;
    let sips = recorder.ready.sips.unwrap();
    // With TLS 1.3 a client hears only after its handshake that its certificate was missed.
    let refused = match connect(sips, authority.der(), None).await {
        Ok(stream) => ask(stream).await,
        Err(_) => None,
    };
    assert_eq!(refused, None);
    let (stranger, ..) = party("src.example.com", &self::authority());
    let refused = match connect(sips, authority.der(), Some(stranger)).await {
        Ok(stream) => ask(stream).await,
        Err(_) => None,
    };
    assert_eq!(refused, None);
    let (src, ..) = party("src.example.com", &authority);
    let stream = connect(sips, authority.der(), Some(src)).await.unwrap();
    assert_eq!(ask(stream).await, Some(200));
    recorder.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_used_for_new_connections_and_the_old_ones_go_on() {
    let mut site = Site::new().await;
    let (old, new) = (authority(), authority());
    let path = |name: &str| site.dir.path().join(name);
    let tls = TlsConfig::new(path("cert.pem"), path("key.pem"));
    let put = |authority| {
        let (_, certificate, key) = party("recorder.example.com", authority);
        std::fs::write(&tls.certificate, certificate).unwrap();
        std::fs::write(&tls.key, key).unwrap();
    };
    put(&old);
    site.config.sip.tls_listen = Some("127.0.0.1:0".parse().unwrap());
    site.config.sip.tls = Some(tls.clone());
    let recorder = site.start().await;
    let sips = recorder.ready.sips.unwrap();
    let mut before = connect(sips, old.der(), None).await.unwrap();
    assert_eq!(ask_on(&mut before).await, Some(200));
    assert!(connect(sips, new.der(), None).await.is_err());

    // What is no certificate changes nothing.
    std::fs::write(&tls.certificate, "nonsense").unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert_eq!(ask(connect(sips, old.der(), None).await.unwrap()).await, Some(200));

    put(&new);
    let connected = async {
        loop {
            if let Ok(stream) = connect(sips, new.der(), None).await {
                break stream;
            }
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    };
    let after = timeout(PATIENCE, connected).await.expect("the new certificate in time");
    assert_eq!(ask(after).await, Some(200));
    assert!(connect(sips, old.der(), None).await.is_err());
    assert_eq!(ask_on(&mut before).await, Some(200));
    recorder.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trunk_is_known_by_its_certificate_and_others_are_forbidden() {
    let mut site = Site::new().await;
    let authority = authority();
    let path = |name: &str| site.dir.path().join(name);
    let mut tls = TlsConfig::new(path("cert.pem"), path("key.pem"));
    let (_, certificate, key) = party("recorder.example.com", &authority);
    std::fs::write(&tls.certificate, certificate).unwrap();
    std::fs::write(&tls.key, key).unwrap();
    let authorities = path("authorities.pem");
    std::fs::write(&authorities, authority.pem()).unwrap();
    tls.client_authorities = Some(authorities);
    site.config.sip.tls_listen = Some("127.0.0.1:0".parse().unwrap());
    site.config.sip.tls = Some(tls);
    let trunks = serde_json::json!([{"name": "sbc", "tls_names": ["*.sbc.example.com"]}]);
    site.config.sip.trunks = serde_json::from_value(trunks).unwrap();
    let recorder = site.start().await;
    let sips = recorder.ready.sips.unwrap();
    for (name, status) in [("one.sbc.example.com", 200), ("sbc.example.org", 403)] {
        let (src, ..) = party(name, &authority);
        let stream = connect(sips, authority.der(), Some(src)).await.unwrap();
        assert_eq!(ask(stream).await, Some(status), "{name}");
    }
    recorder.stop().await;
}
