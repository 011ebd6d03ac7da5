//! SIP over TLS (`sips`, RFC 3261 §26.2; for SIPREC, RFC 7866 §12.1): certificate and key from
//! PEM files, and mutual TLS where authorities for clients are configured.
//!
//! - The files may be replaced while the recorder runs. Connections that are open stay as they
//!   are, new ones get the new certificate; what cannot be used is told and changes nothing.
//! - There is no 0-RTT: an INVITE in early data could be played again by anybody who saw it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::{Duration, SystemTime};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig};

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::config::TlsConfig;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Names of one certificate that are looked at, and bytes of one.
const MAX_NAMES: usize = 64;
const MAX_NAME_BYTES: usize = 256;

/// Why TLS cannot be offered. All are for the operator.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("read {} as PEM", path.display())]
    Pem {
        path: PathBuf,
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    #[error("{} holds no certificate", path.display())]
    NoCertificate { path: PathBuf },
    #[error("{} and {} do not make a TLS server", certificate.display(), key.display())]
    Unusable {
        certificate: PathBuf,
        key: PathBuf,
        #[source]
        source: rustls::Error,
    },
    #[error("{} cannot be used to check clients", path.display())]
    Authorities {
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A TLS server whose files are watched.
#[derive(Clone)]
pub struct Tls {
    config: TlsConfig,
    acceptor: Arc<RwLock<TlsAcceptor>>,
}

/// When each file was written last, and how large it is.
type Stamp = Vec<Option<(SystemTime, u64)>>;

impl Tls {
    pub fn new(config: &TlsConfig) -> Result<Self, TlsError> {
        let acceptor = Arc::new(RwLock::new(acceptor(config)?));
        Ok(Self { config: config.clone(), acceptor })
    }

    /// For the next connection.
    pub fn acceptor(&self) -> TlsAcceptor {
        self.acceptor.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// Takes up new files, for as long as it is polled. `of`: what they are for, as the log calls it.
    pub async fn watch_files(self, of: &'static str) {
        let mut known = self.stamp();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let stamp = self.stamp();
            if stamp == known {
                continue;
            }
            // A few small files, once in a few months.
            match acceptor(&self.config) {
                Ok(new) => {
                    *self.acceptor.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = new;
                    tracing::info!(of, "new TLS certificate in use");
                }
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(of, %error, cause, "new TLS certificate not used, the old one stays");
                }
            }
            known = stamp;
        }
    }

    fn stamp(&self) -> Stamp {
        let TlsConfig { certificate, key, client_authorities, .. } = &self.config;
        [Some(certificate), Some(key), client_authorities.as_ref()]
            .into_iter()
            .flatten()
            .map(|path| {
                let metadata = std::fs::metadata(path).ok()?;
                Some((metadata.modified().ok()?, metadata.len()))
            })
            .collect()
    }
}

/// What the client's certificate is called (RFC 5922 §7.1): DNS names and URIs of the subject
/// alternative names, of a SIP URI also the domain alone; and the common name, which older SBCs
/// have instead.
pub fn client_names(connection: &rustls::ServerConnection) -> Vec<String> {
    let chain = connection.peer_certificates().unwrap_or_default();
    chain.first().map(|certificate| names_in(certificate)).unwrap_or_default()
}

fn names_in(der: &[u8]) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return Vec::new() };
    let mut names = Vec::new();
    if let Ok(Some(alternatives)) = certificate.subject_alternative_name() {
        for name in &alternatives.value.general_names {
            match name {
                GeneralName::DNSName(name) => names.push((*name).to_owned()),
                GeneralName::URI(uri) => {
                    names.push((*uri).to_owned());
                    let domain = uri.strip_prefix("sip:").or_else(|| uri.strip_prefix("sips:"));
                    // A URI with a user names a person, not a host.
                    names.extend(domain.filter(|rest| !rest.contains('@')).map(str::to_owned));
                }
                _ => {}
            }
        }
    }
    let common = certificate.subject().iter_common_name();
    names.extend(common.filter_map(|name| name.as_str().ok()).map(str::to_owned));
    names.retain(|name| !name.is_empty() && name.len() <= MAX_NAME_BYTES);
    names.truncate(MAX_NAMES);
    names
}

pub fn acceptor(config: &TlsConfig) -> Result<TlsAcceptor, TlsError> {
    let chain = certificates(&config.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&config.key)
        .map_err(|source| TlsError::Pem { path: config.key.clone(), source })?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let unusable = |source| TlsError::Unusable {
        certificate: config.certificate.clone(),
        key: config.key.clone(),
        source,
    };
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(unusable)?;
    let builder = match &config.client_authorities {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let refused = |source| TlsError::Authorities { path: path.clone(), source };
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| refused(error.into()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = if config.require_client_certificate {
                verifier
            } else {
                verifier.allow_unauthenticated()
            };
            let verifier = verifier.build().map_err(|error| refused(error.into()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut server = builder.with_single_cert(chain, key).map_err(unusable)?;
    server.max_early_data_size = 0;
    Ok(TlsAcceptor::from(Arc::new(server)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = |source| TlsError::Pem { path: path.to_owned(), source };
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(path).map_err(pem)?.collect::<Result<_, _>>().map_err(pem)?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate { path: path.to_owned() });
    }
    Ok(chain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_or_wrong_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cert.pem");
        let config = TlsConfig::new(path.clone(), path.clone());
        let missing = acceptor(&config).err().unwrap().to_string();
        assert!(missing.contains("cert.pem"), "{missing}");
        std::fs::write(&path, "not a certificate").unwrap();
        let empty = acceptor(&config).err().unwrap().to_string();
        assert!(empty.contains("cert.pem"), "{empty}");
    }

    #[test]
    fn a_certificate_is_known_by_its_alternative_names_and_its_common_name() {
        let mut params = rcgen::CertificateParams::new(vec!["sbc.example.com".to_owned()]).unwrap();
        for uri in ["sip:example.com", "sip:ana@example.com"] {
            params.subject_alt_names.push(rcgen::SanType::URI(uri.try_into().unwrap()));
        }
        params.distinguished_name.push(rcgen::DnType::CommonName, "old.example.com");
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let names = names_in(certificate.der());
        assert_eq!(
            names,
            [
                "sbc.example.com",
                "sip:example.com",
                "example.com",
                "sip:ana@example.com",
                "old.example.com"
            ]
        );
        assert_eq!(names_in(b"no certificate"), [""; 0]);
    }
}
