//! The WAMP credential of an app, derived from the device's key (apps chapter 4.5). The device's own secret never reaches
//! a container (X1).

use super::app::AppKey;
use crate::secret::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// What an app logs in with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// `APP_AUTH_ID`.
    pub id: String,
    /// `APP_AUTH_SECRET`.
    pub secret: Secret,
}

/// Derives the credential; epoch 0 counts as 1. `None` without key, serial or app key: then nothing is emitted.
pub fn derive(key: Option<&Secret>, serial: &str, app: AppKey, epoch: u64) -> Option<Credential> {
    let key = key.filter(|key| !key.is_empty())?;
    if serial.is_empty() || app.key == 0 {
        return None;
    }
    let epoch = epoch.max(1);
    // The key is the text as received, not its base64-decoded bytes.
    let mut mac = Hmac::<Sha256>::new_from_slice(key.reveal().as_bytes()).expect("HMAC takes keys of any length");
    mac.update(format!("ironflock/app-cred/v1|{serial}|{}|{}|{epoch}", app.key, app.stage.text()).as_bytes());
    Some(Credential {
        id: format!("app-{}-{}-e{epoch}@{serial}", app.key, app.stage.lower()),
        secret: Secret::new(STANDARD.encode(mac.finalize().into_bytes())),
    })
}

#[cfg(test)]
mod tests {
    use super::super::app::Stage;
    use super::*;

    const APP: AppKey = AppKey { key: 33, stage: Stage::Prod };
    const SERIAL: &str = "06a0bf96-a539-4d6a-8471-ac7adc67616e";

    #[test]
    fn x1_the_vector_of_the_contract_is_met() {
        let key = Secret::new("dGVzdC1rZXktZm9yLXZlY3Rvcg==");
        for epoch in [0, 1] {
            let credential = derive(Some(&key), SERIAL, APP, epoch).unwrap();
            assert_eq!(credential.id, "app-33-prod-e1@06a0bf96-a539-4d6a-8471-ac7adc67616e");
            assert_eq!(credential.secret.reveal(), "Pr7pphQvvuN4WW0EKmbTnngTGFpxqFXuH4mYCVrV6+A=");
        }
        assert_ne!(
            derive(Some(&key), SERIAL, APP, 2).unwrap().secret,
            derive(Some(&key), SERIAL, APP, 1).unwrap().secret
        );
    }

    #[test]
    fn x1_without_key_serial_or_app_there_is_none() {
        let key = Secret::new("k");
        assert_eq!(derive(None, SERIAL, APP, 1), None);
        assert_eq!(derive(Some(&Secret::default()), SERIAL, APP, 1), None);
        assert_eq!(derive(Some(&key), "", APP, 1), None);
        assert_eq!(derive(Some(&key), SERIAL, AppKey { key: 0, ..APP }, 1), None);
    }
}
