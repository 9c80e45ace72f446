//! TLS client configurations (spec 1.2): verified against the system's roots, or the unverified legacy endpoint.
//!
//! Boards without a clock start in 1970: certificates are checked against the system clock or a known floor, whichever
//! is later.

use crate::clock::{self, Wall};
use crate::secret::Secret;
use log::{debug, warn};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme, WantsVerifier};
use std::fmt;
use std::sync::Arc;

/// Why there is no configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The client certificate or its key cannot be read as PEM, or they do not fit together.
    ClientCertificate(String),
    /// The TLS library refuses its own defaults.
    Library(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::ClientCertificate(text) => write!(f, "client certificate is unusable: {text}"),
            Error::Library(text) => write!(f, "TLS is unusable: {text}"),
        }
    }
}

impl std::error::Error for Error {}

/// The system's trust store, or the bundled roots if that is empty. Unreadable certificates in it are skipped.
pub fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        debug!("part of the trust store is unusable: {error}");
    }
    let (_, skipped) = roots.add_parsable_certificates(found.certs);
    if skipped > 0 {
        debug!("{skipped} certificates of the trust store are unusable");
    }
    if roots.is_empty() {
        warn!("the system has no trust store, the bundled roots are used");
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

/// Full verification of chain and host name against `roots`, at the system's time but not before `floor`.
///
/// # Errors
/// [`Error::Library`]
pub fn verified(roots: RootCertStore, floor: Wall) -> Result<Arc<ClientConfig>, Error> {
    Ok(Arc::new(builder(floor)?.with_root_certificates(roots).with_no_client_auth()))
}

/// Client certificate and no verification of the server: what the legacy endpoint asks for, open to interception.
///
/// # Errors
/// [`Error::ClientCertificate`] or [`Error::Library`]
pub fn legacy(certificate_pem: &str, key_pem: &Secret) -> Result<Arc<ClientConfig>, Error> {
    let unusable = |error: &dyn fmt::Display| Error::ClientCertificate(error.to_string());
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate_pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(&error))?;
    if chain.is_empty() {
        return Err(Error::ClientCertificate("no certificate in the PEM text".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(key_pem.reveal().as_bytes()).map_err(|error| unusable(&error))?;
    builder(Wall::default())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Unverified(ring::default_provider())))
        .with_client_auth_cert(chain, key)
        .map(Arc::new)
        .map_err(|error| unusable(&error))
}

fn builder(floor: Wall) -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, Error> {
    ClientConfig::builder_with_details(Arc::new(ring::default_provider()), Arc::new(FlooredClock(floor)))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Library(error.to_string()))
}

/// The system clock, but never before the floor.
#[derive(Debug)]
struct FlooredClock(Wall);

impl TimeProvider for FlooredClock {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(clock::wall().max(self.0).seconds).unwrap_or(0);
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)))
    }
}

/// Takes any certificate; the peer must only own the key in it.
#[derive(Debug)]
struct Unverified(CryptoProvider);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_or_the_bundle_provides_roots() {
        assert!(!system_roots().is_empty());
        assert!(verified(system_roots(), Wall::default()).is_ok());
    }

    #[test]
    fn x4_a_clock_of_1970_is_lifted_to_the_floor_and_a_good_one_is_left_alone() {
        let future = Wall::from_unix(clock::wall().seconds + 1_000_000);
        let seconds = |floor| FlooredClock(floor).current_time().unwrap().as_secs() as i64;
        assert_eq!(seconds(future), future.seconds);
        assert!((seconds(Wall::default()) - clock::wall().seconds).abs() < 60);
    }

    #[test]
    fn an_unusable_client_certificate_is_an_error_with_a_reason() {
        let good = include_str!("../../tests/golden/tls/client.pem");
        let key = Secret::new(include_str!("../../tests/golden/tls/client.key"));
        assert!(legacy(good, &key).is_ok());
        let other = Secret::new(include_str!("../../tests/golden/tls/server.key"));
        for (certificate, key) in [("", &key), ("no PEM", &key), (good, &Secret::new("")), (good, &other)] {
            let error = legacy(certificate, key).map(|_| ()).unwrap_err();
            assert!(error.to_string().starts_with("client certificate is unusable: "), "{error}");
        }
    }
}
