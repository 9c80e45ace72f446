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
use rustls::{
    AlertDescription, ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme, WantsVerifier,
};
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

/// What a failed TLS connection to `host` says about its cause, and what to do about it. `floor` is what certificates
/// were checked against if `system`, the system's clock, was older.
pub fn explain(error: &rustls::Error, host: &str, floor: Wall, system: Wall) -> String {
    use rustls::CertificateError as Bad;
    match error {
        rustls::Error::InvalidCertificate(bad) => match bad {
            Bad::ExpiredContext { time, not_after } => format!(
                "certificate of {host} expired on {}, it is {} now: it has to be renewed there{}",
                date(*not_after),
                date(*time),
                clock_note(floor, system)
            ),
            Bad::NotValidYetContext { time, not_before } => format!(
                "certificate of {host} is not valid before {}, it is {} now: set the clock of this device{}",
                date(*not_before),
                date(*time),
                clock_note(floor, system)
            ),
            Bad::Expired => format!("certificate of {host} has expired{}", clock_note(floor, system)),
            Bad::NotValidYet => {
                format!("certificate of {host} is not valid yet: set the clock{}", clock_note(floor, system))
            }
            Bad::UnknownIssuer => format!(
                "certificate of {host} is of an unknown issuer: add its CA to the trust store of this system, or find \
                 out who intercepts the connection"
            ),
            Bad::NotValidForNameContext { presented, .. } => format!(
                "certificate is not valid for the name {host}, but for {}: check the endpoint's name",
                if presented.is_empty() { "none".to_owned() } else { presented.join(", ") }
            ),
            Bad::NotValidForName => {
                format!("certificate is not valid for the name {host}: check the endpoint's name")
            }
            other => format!("certificate of {host} is refused: {other}"),
        },
        rustls::Error::AlertReceived(alert) => {
            format!("{host} refuses the TLS connection: {alert:?}{}", alert_note(*alert))
        }
        rustls::Error::InvalidMessage(_) => {
            format!("{host} answers something that is not TLS (plain HTTP?): check scheme and port of the endpoint")
        }
        rustls::Error::PeerIncompatible(why) => {
            format!("{host} speaks no TLS that this agent speaks (1.2 and 1.3): {why:?}")
        }
        other => format!("TLS with {host} failed: {other}"),
    }
}

/// The TLS error inside an IO error, if that is what it is.
pub fn cause(error: &std::io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn date(time: UnixTime) -> String {
    const YEAR_9999: u64 = 253_402_300_799; // the last that a certificate can name
    Wall::from_unix(time.as_secs().min(YEAR_9999).cast_signed()).to_string()
}

/// Where the time came from, if not from the clock.
fn clock_note(floor: Wall, system: Wall) -> String {
    if system < floor {
        format!(" (its clock says {system}, which cannot be; {floor} is assumed)")
    } else {
        String::new()
    }
}

fn alert_note(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::HandshakeFailure
        | AlertDescription::ProtocolVersion
        | AlertDescription::InsufficientSecurity => " (no TLS version or cipher in common)",
        AlertDescription::UnrecognisedName => " (it serves no such name)",
        AlertDescription::BadCertificate
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::CertificateRequired
        | AlertDescription::UnknownCA
        | AlertDescription::AccessDenied => " (it does not take the client certificate of this device)",
        _ => "",
    }
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
    use std::time::Duration;

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
    fn failures_of_tls_say_what_is_wrong_and_what_to_do() {
        use rustls::{CertificateError as Bad, Error, InvalidMessage, PeerIncompatible};
        let at = |text| UnixTime::since_unix_epoch(Duration::from_secs(Wall::parse(text).unwrap().seconds as u64));
        let (time, now) = (at("2030-01-02T00:00:00Z"), Wall::parse("2030-01-02T00:00:00Z").unwrap());
        let bad = Error::InvalidCertificate;
        let name = || ServerName::try_from("a.b").unwrap();
        let not_before = at("2031-01-01T00:00:00Z");
        let presented = vec!["c.d".to_owned(), "*.e.f".to_owned()];
        for (error, words) in [
            (
                bad(Bad::ExpiredContext { time, not_after: at("2029-01-01T00:00:00Z") }),
                &["expired on 2029-01-01T00:00:00Z", "2030-01-02T00:00:00Z now", "renewed"][..],
            ),
            (bad(Bad::Expired), &["expired"]),
            (
                bad(Bad::NotValidYetContext { time, not_before }),
                &["not valid before 2031-01-01T00:00:00Z", "2030-01-02T00:00:00Z now", "set the clock"],
            ),
            (bad(Bad::NotValidYet), &["not valid yet", "set the clock"]),
            (bad(Bad::UnknownIssuer), &["unknown issuer", "trust store"]),
            (
                bad(Bad::NotValidForNameContext { expected: name(), presented }),
                &["not valid for the name a.b", "c.d, *.e.f"],
            ),
            (
                bad(Bad::NotValidForNameContext { expected: name(), presented: vec![] }),
                &["not valid for the name a.b", "for none"],
            ),
            (bad(Bad::NotValidForName), &["not valid for the name a.b"]),
            (bad(Bad::Revoked), &["refused", "evoked"]),
            (Error::AlertReceived(AlertDescription::HandshakeFailure), &["HandshakeFailure", "in common"]),
            (Error::AlertReceived(AlertDescription::UnknownCA), &["client certificate of this device"]),
            (Error::AlertReceived(AlertDescription::UnrecognisedName), &["no such name"]),
            (Error::AlertReceived(AlertDescription::InternalError), &["refuses", "InternalError"]),
            (Error::InvalidMessage(InvalidMessage::InvalidContentType), &["not TLS", "plain HTTP", "port"]),
            (Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered), &["1.2 and 1.3"]),
            (Error::DecryptError, &["TLS with a.b failed"]),
        ] {
            let text = explain(&error, "a.b", Wall::default(), now);
            assert!(words.iter().all(|word| text.contains(word)) && text.contains("a.b"), "{text}");
            assert!(!text.contains("assumed"), "the clock is right: {text}");
        }
        let clock = Wall::parse("1970-01-01T00:00:09Z").unwrap();
        let text = explain(&bad(Bad::NotValidYetContext { time, not_before }), "a.b", now, clock);
        assert!(
            text.contains("its clock says 1970-01-01T00:00:09Z") && text.contains("2030-01-02T00:00:00Z is assumed"),
            "{text}"
        );
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
