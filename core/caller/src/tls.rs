//! TLS towards the recorder (RFC 7866 §12.1).

use std::path::Path;
use std::sync::Arc;

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{self, CryptoProvider};
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use crate::plan::TlsTrust;
use crate::report::CallError;

pub(crate) fn connector(trust: &TlsTrust) -> Result<TlsConnector, CallError> {
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(problem)?;
    let config = match trust {
        TlsTrust::Authorities(path) => config.with_root_certificates(authorities(path)?),
        TlsTrust::Anybody => config
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(BelieveAnybody { provider })),
    };
    Ok(TlsConnector::from(Arc::new(config.with_no_client_auth())))
}

/// The name to verify: `host`, with or without a port.
pub(crate) fn server_name(host: &str) -> Result<ServerName<'static>, CallError> {
    // An IPv6 address with a port is in brackets; without one it has more than one colon.
    let name = match host.parse::<std::net::SocketAddr>() {
        Ok(address) => address.ip().to_string(),
        Err(_) => match host.rsplit_once(':') {
            Some((name, port)) if port.parse::<u16>().is_ok() && !name.contains(':') => {
                name.to_owned()
            }
            _ => host.to_owned(),
        },
    };
    ServerName::try_from(name).map_err(problem)
}

fn authorities(path: &Path) -> Result<RootCertStore, CallError> {
    let in_file = |error: &dyn std::fmt::Display| CallError::Tls {
        problem: format!("{}: {error}", path.display()),
    };
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| in_file(&error))? {
        let certificate = certificate.map_err(|error| in_file(&error))?;
        store.add(certificate).map_err(|error| in_file(&error))?;
    }
    if store.is_empty() { Err(in_file(&"no certificate in it")) } else { Ok(store) }
}

fn problem(error: impl std::fmt::Display) -> CallError {
    CallError::Tls { problem: error.to_string() }
}

/// Checks that the peer has the key of the certificate it shows, and nothing about the
/// certificate.
#[derive(Debug)]
struct BelieveAnybody {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for BelieveAnybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_to_verify_has_no_port() {
        for (host, name) in [
            ("rec.example.com:5061", "rec.example.com"),
            ("rec.example.com", "rec.example.com"),
            ("192.0.2.1:5061", "192.0.2.1"),
            ("[2001:db8::1]:5061", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"),
        ] {
            assert_eq!(server_name(host).unwrap().to_str(), name);
        }
    }

    #[test]
    fn a_file_without_certificates_is_an_error_that_names_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let trust = TlsTrust::Authorities(file.path().to_owned());
        let Err(error) = connector(&trust) else { panic!("no error") };
        assert!(error.to_string().contains(&file.path().display().to_string()), "{error}");
    }
}
