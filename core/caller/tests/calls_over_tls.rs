//! Calls over TLS: a proxy takes it off in front of the recorder, as load balancers do.

mod recorder;

use std::net::SocketAddr;
use std::sync::Arc;

use caller::{CallError, CallPlan, EndedBy, TlsTrust, Transport, place};
use rcgen::CertifiedKey;
use recorder::{Conduct, Recorder};
use rustls_pki_types::PrivateKeyDer;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;

/// A TLS server that carries what it gets to `behind`, and its certificate in PEM.
async fn tls_proxy(behind: SocketAddr) -> (SocketAddr, String) {
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["recorder.test".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((outside, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // A client that does not believe the certificate goes away here.
                let Ok(mut outside) = acceptor.accept(outside).await else { return };
                let mut inside = TcpStream::connect(behind).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
            });
        }
    });
    (address, cert.pem())
}

fn plan(target: SocketAddr, tls: TlsTrust, host: &str) -> CallPlan {
    CallPlan {
        transport: Transport::Tls,
        tls,
        host: Some(host.to_owned()),
        seconds: 0.2,
        ..CallPlan::to(target)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_believed_by_its_authority_and_name_only() {
    let recorder = Recorder::start(Conduct::default());
    let (address, pem) = tls_proxy(recorder.address).await;
    let authority = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(authority.path(), pem).unwrap();
    let trusted = || TlsTrust::Authorities(authority.path().to_owned());

    let reports = place(plan(address, trusted(), "recorder.test"), |_| {}).await.unwrap();
    assert_eq!(reports[0].ended_by, Some(EndedBy::Us), "{reports:?}");
    assert_eq!(reports[0].streams[0].packets_sent, 10);

    let other_name = place(plan(address, trusted(), "elsewhere.test"), |_| {}).await;
    assert!(matches!(other_name, Err(CallError::Connect { .. })), "{other_name:?}");

    let (other_authority, _) = tls_proxy(recorder.address).await;
    let stranger = place(plan(other_authority, trusted(), "recorder.test"), |_| {}).await;
    assert!(matches!(stranger, Err(CallError::Connect { .. })), "{stranger:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn anybody_is_believed_when_told_so() {
    let recorder = Recorder::start(Conduct::default());
    let (address, _) = tls_proxy(recorder.address).await;
    let reports = place(plan(address, TlsTrust::Anybody, "whoever.test"), |_| {}).await.unwrap();
    assert_eq!(reports[0].ended_by, Some(EndedBy::Us), "{reports:?}");
}
