//! WAMP-CRA: the answer to a CHALLENGE (spec 1.4). Pure.

use crate::secret::Secret;
use crate::wamp::message::Map;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;
use std::fmt;

/// Bounds what a router can make this device compute: at most about a second on the slowest board.
const MAX_ITERATIONS: u64 = 1_000_000;
const MAX_KEY: u64 = 1024;

/// Why a challenge cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChallengeError {
    /// `extra.challenge` is missing or no text.
    NoChallenge,
    /// `salt` is no text, or `iterations` or `keylen` is no number or out of bounds.
    Derivation(&'static str),
}

impl fmt::Display for ChallengeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChallengeError::NoChallenge => f.write_str("challenge without a text"),
            ChallengeError::Derivation(key) => write!(f, "challenge with an unusable {key}"),
        }
    }
}

impl std::error::Error for ChallengeError {}

/// The signature for AUTHENTICATE: base64 of HMAC-SHA256 over the challenge text, keyed with the secret or, when the
/// challenge has a salt, with the base64 text of the key derived from it (PBKDF2-HMAC-SHA256).
///
/// # Errors
/// See [`ChallengeError`]; the attempt to join fails then.
pub fn sign(secret: &Secret, extra: &Map) -> Result<String, ChallengeError> {
    let challenge = extra.get("challenge").and_then(Value::as_str).ok_or(ChallengeError::NoChallenge)?;
    let salt = match extra.get("salt") {
        None | Some(Value::Null) => "",
        Some(salt) => salt.as_str().ok_or(ChallengeError::Derivation("salt"))?,
    };
    if salt.is_empty() {
        return Ok(hmac(secret.reveal().as_bytes(), challenge));
    }
    let iterations = number(extra, "iterations", 1000, MAX_ITERATIONS)?;
    let length = number(extra, "keylen", 32, MAX_KEY)?;
    let mut derived = vec![0; length as usize];
    pbkdf2::pbkdf2_hmac::<Sha256>(secret.reveal().as_bytes(), salt.as_bytes(), iterations, &mut derived);
    Ok(hmac(STANDARD.encode(derived).as_bytes(), challenge))
}

/// A positive integer of the challenge; absent and 0 mean `default`.
fn number(extra: &Map, key: &'static str, default: u32, limit: u64) -> Result<u32, ChallengeError> {
    match extra.get(key) {
        None | Some(Value::Null) => Ok(default),
        Some(value) => match value.as_u64() {
            Some(0) => Ok(default),
            Some(number) if number <= limit => u32::try_from(number).map_err(|_| ChallengeError::Derivation(key)),
            _ => Err(ChallengeError::Derivation(key)),
        },
    }
}

fn hmac(key: &[u8], text: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const CHALLENGE: &str = r#"{"authid":"2-3","authrole":"device","authmethod":"wampcra","authprovider":"dynamic","session":1234567890123456,"nonce":"FAKE-NONCE-000000","timestamp":"2030-01-01T00:00:00.000Z"}"#;

    fn signed(extra: Value) -> Result<String, ChallengeError> {
        let Value::Object(mut extra) = extra else { panic!() };
        extra.insert("challenge".to_owned(), CHALLENGE.into());
        sign(&Secret::new("fake-device-secret"), &extra)
    }

    #[test]
    fn the_documented_vectors_hold() {
        let plain = "FbPDRoIP4VNyKTb7cs32YN3c4AL5kjZfdyBN5j/fqGo=";
        let salted = "NyxGIaInVQ1+wctaFLh9Bc5oLdwupa/Q/Bb8JhV++SQ=";
        for (extra, signature) in [
            (json!({}), plain),
            (json!({"salt": "", "iterations": 5}), plain),
            (json!({"salt": "fake-salt", "iterations": 1000, "keylen": 32}), salted),
            (json!({"salt": "fake-salt"}), salted),
            (json!({"salt": "fake-salt", "iterations": 0, "keylen": 0}), salted),
            (
                json!({"salt": "fake-salt", "iterations": 100, "keylen": 16}),
                "ukSP1KeU08goSTo8Qp6LQBhkVOnGphz91gjYLXctmDE=",
            ),
        ] {
            assert_eq!(signed(extra.clone()).as_deref(), Ok(signature), "{extra}");
        }
    }

    #[test]
    fn a_router_cannot_make_the_device_compute_without_end() {
        for extra in [json!({"iterations": u64::MAX}), json!({"iterations": -1}), json!({"iterations": "many"})] {
            let mut extra = extra;
            extra["salt"] = "salt".into();
            assert_eq!(signed(extra), Err(ChallengeError::Derivation("iterations")));
        }
        assert_eq!(signed(json!({"salt": "s", "keylen": 1_u64 << 40})), Err(ChallengeError::Derivation("keylen")));
        assert_eq!(signed(json!({"salt": 7})), Err(ChallengeError::Derivation("salt")));
        assert_eq!(sign(&Secret::new("x"), &Map::new()), Err(ChallengeError::NoChallenge));
    }
}
