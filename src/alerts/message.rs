//! What a webhook receives, in the form of Standard Webhooks: a JSON body, an id that stays the same however often it is
//! sent, the time of sending, and a signature over all three.

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bursar_ledger::alerts::AlertState;
use hmac::Mac as _;
use serde_json::json;

use crate::admin::server::time;
use crate::secrets::Secret;

/// Fewest bytes of a secret.
const SHORTEST: usize = 24;

/// The body: names and amounts, nothing of any request. The same bytes each time.
pub(super) fn body(alert: &AlertState) -> Vec<u8> {
    let message = json!({
        "type": format!("budget.{}", alert.alert),
        "timestamp": time(alert.at.0),
        "data": {
            "budget": alert.budget,
            "window_starts_at": time(alert.starts_at.0),
            "window_ends_at": alert.ends_at.map(|at| time(at.0)),
            "percent": alert.percent,
            "limit": alert.limit,
            "settled": alert.settled,
            "reserved": alert.reserved,
            "overrun": alert.overrun,
            "forecast": alert.forecast,
            "currency": "USD",
            "policy_version": alert.policy,
        },
    });
    message.to_string().into_bytes()
}

/// The value of `webhook-signature`: one signature for each secret, so that a receiver may go over to a new one.
///
/// # Errors
/// When the text holds no secret, or one that is none of Standard Webhooks.
pub(super) fn signature(secrets: &Secret, id: &str, seconds: i64, body: &[u8]) -> anyhow::Result<String> {
    let mut signatures = Vec::new();
    for secret in secrets.expose().split_whitespace() {
        let encoded = secret.strip_prefix("whsec_").unwrap_or(secret);
        // The reason is not repeated: it would show a part of the secret.
        let key = STANDARD.decode(encoded).ok().filter(|key| key.len() >= SHORTEST);
        let key = key.with_context(|| {
            format!("the secret is not whsec_ and the base64 form of {SHORTEST} bytes or more")
        })?;
        let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(&key)
            .map_err(|_| anyhow::anyhow!("the secret cannot be used as a key"))?;
        mac.update(format!("{id}.{seconds}.").as_bytes());
        mac.update(body);
        signatures.push(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())));
    }
    anyhow::ensure!(!signatures.is_empty(), "the secret is empty");
    Ok(signatures.join(" "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    /// The example that the Standard Webhooks specification's own libraries are tested with.
    #[test]
    fn the_published_example_is_signed_as_published() {
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let body = br#"{"test": 2432232314}"#;
        let signed = signature(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body).unwrap();
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let both = Secret::new("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\nwhsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
        let signed = signature(&both, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body).unwrap();
        assert!(signed.starts_with("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE= v1,"), "{signed}");
    }

    #[test]
    fn a_secret_that_is_none_is_refused_and_not_repeated() {
        for text in ["hunter2-hunter2", "whsec_", "whsec_c2hvcnQ=", " "] {
            let error = signature(&Secret::new(text), "id", 0, b"").unwrap_err().to_string();
            assert!(!error.contains("hunter2") && !error.contains("c2hvcnQ"), "{error}");
        }
    }
}
