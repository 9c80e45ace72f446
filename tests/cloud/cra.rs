//! WAMP-CRA for both ends of the local cloud (`wamp-and-rpc.md` 1.4), written independently of the agent's.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;

/// How the key of a salted user is derived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Salt {
    pub text: String,
    pub iterations: u32,
    pub keylen: usize,
}

/// The key with which challenges are signed: the secret itself, or the base64 text of its PBKDF2.
pub fn key(secret: &str, salt: Option<&Salt>) -> String {
    let Some(salt) = salt else { return secret.to_owned() };
    let mut derived = vec![0; salt.keylen];
    pbkdf2::pbkdf2_hmac::<Sha256>(secret.as_bytes(), salt.text.as_bytes(), salt.iterations, &mut derived);
    STANDARD.encode(derived)
}

/// The signature of a challenge.
pub fn sign(key: &str, challenge: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(challenge.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

/// The signature for the `extra` of a CHALLENGE.
pub fn answer(secret: &str, extra: &Value) -> String {
    let number = |name: &str, default: u64| extra[name].as_u64().filter(|&n| n > 0).unwrap_or(default);
    let salt = extra["salt"].as_str().filter(|text| !text.is_empty()).map(|text| Salt {
        text: text.to_owned(),
        iterations: u32::try_from(number("iterations", 1000)).expect("iterations fit 32 bits"),
        keylen: usize::try_from(number("keylen", 32)).expect("keylen fits"),
    });
    sign(&key(secret, salt.as_ref()), extra["challenge"].as_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_vectors_of_the_contract_hold() {
        let challenge = r#"{"authid":"2-3","authrole":"device","authmethod":"wampcra","authprovider":"dynamic","session":1234567890123456,"nonce":"FAKE-NONCE-000000","timestamp":"2030-01-01T00:00:00.000Z"}"#;
        let answer = |extra: Value| {
            let mut extra = extra;
            extra["challenge"] = json!(challenge);
            answer("fake-device-secret", &extra)
        };
        assert_eq!(answer(json!({})), "FbPDRoIP4VNyKTb7cs32YN3c4AL5kjZfdyBN5j/fqGo=");
        assert_eq!(answer(json!({"salt": "fake-salt"})), "NyxGIaInVQ1+wctaFLh9Bc5oLdwupa/Q/Bb8JhV++SQ=");
        assert_eq!(
            answer(json!({"salt": "fake-salt", "iterations": 100, "keylen": 16})),
            "ukSP1KeU08goSTo8Qp6LQBhkVOnGphz91gjYLXctmDE="
        );
    }
}
