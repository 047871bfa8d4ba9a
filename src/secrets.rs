//! Secrets by reference: `env:NAME` or `file:PATH`. Values never reach a log, an error or a debug print.

use std::fmt;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use bursar_schemas::ids::{hex, unhex};

/// A value that prints as dots.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Bytes from the operating system's generator.
pub(crate) fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("failed to draw random bytes: {error}"))?;
    Ok(bytes)
}

/// Fills buffers with bytes of the operating system's generator, each byte given once. They are drawn in advance: a
/// question to the system for every request's id would be felt.
pub(crate) fn stock() -> impl Fn(&mut [u8]) + Send + Sync {
    const DRAWN: usize = 4096;
    let stock = Mutex::new(([0_u8; DRAWN], DRAWN));
    move |buffer| {
        let mut stock = stock.lock().unwrap_or_else(PoisonError::into_inner);
        let (bytes, used) = &mut *stock;
        for wanted in buffer {
            if *used == DRAWN {
                if getrandom::fill(bytes).is_err() {
                    // Without randomness ids could repeat, and no fact could be trusted.
                    std::process::abort();
                }
                *used = 0;
            }
            *wanted = std::mem::take(&mut bytes[*used]);
            *used += 1;
        }
    }
}

/// The value that a reference names; file paths start from `base`.
pub(crate) fn resolve(reference: &str, base: &Path) -> anyhow::Result<Secret> {
    if let Some(name) = reference.strip_prefix("env:") {
        let value = std::env::var(name).ok().filter(|value| !value.is_empty());
        return value.map(Secret).with_context(|| format!("environment variable {name} is not set"));
    }
    if let Some(path) = reference.strip_prefix("file:") {
        let path = base.join(path);
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
        let text = text.trim();
        anyhow::ensure!(!text.is_empty(), "{} is empty", path.display());
        return Ok(Secret(text.to_owned()));
    }
    // The text is not repeated: it may be the secret itself.
    anyhow::bail!("a secret is not a reference: write env:NAME or file:PATH")
}

/// As [`resolve`]; a file that is missing is made with fresh random content, readable by its owner only.
pub(crate) fn resolve_or_create(reference: &str, base: &Path, prefix: &str) -> anyhow::Result<Secret> {
    if let Some(path) = reference.strip_prefix("file:") {
        let path = base.join(path);
        if !path.exists() {
            let content = format!("{prefix}{}\n", hex(&random::<32>()?));
            match write_private(&path, &content) {
                // Another process was first: its content counts.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                other => other.with_context(|| format!("failed to write {}", path.display()))?,
            }
        }
        let mode = std::fs::metadata(&path)
            .with_context(|| format!("failed to read {}", path.display()))?
            .permissions()
            .mode();
        anyhow::ensure!(
            mode & 0o077 == 0,
            "{} can be read by others (mode {:o}): run chmod 600 on it",
            path.display(),
            mode & 0o777
        );
    }
    resolve(reference, base)
}

/// Creates a file that only its owner can read, whole or not at all; fails when it exists.
pub(crate) fn write_private(path: &Path, content: &str) -> std::io::Result<()> {
    let partial = path.with_extension(format!("partial-{}", std::process::id()));
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    let linked = std::fs::hard_link(&partial, path);
    std::fs::remove_file(&partial)?;
    linked
}

/// A 32-byte key from its hexadecimal text.
pub(crate) fn key_bytes(secret: &Secret, what: &str) -> anyhow::Result<[u8; 32]> {
    unhex(secret.expose()).with_context(|| format!("{what} is not 64 hexadecimal digits"))
}

/// A key for one purpose, derived from the deployment's key.
pub(crate) fn derive(deployment: &[u8; 32], purpose: &str) -> [u8; 32] {
    use hmac::Mac as _;
    // HMAC takes keys of any length, so this cannot fail.
    let Ok(mut mac) = hmac::Hmac::<sha2::Sha256>::new_from_slice(deployment) else { return [0; 32] };
    mac.update(purpose.as_bytes());
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn files_are_private_made_once_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let first = resolve_or_create("file:k", folder.path(), "t-").unwrap();
        assert_eq!(resolve_or_create("file:k", folder.path(), "t-").unwrap(), first);
        assert_eq!(std::fs::metadata(folder.path().join("k")).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(folder.path().join("k"), std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(resolve_or_create("file:k", folder.path(), "t-").is_err(), "a readable key was accepted");
        assert!(!format!("{:?}", first).contains(first.expose()));
        let error = resolve("hunter2", folder.path()).unwrap_err().to_string();
        assert!(!error.contains("hunter2"));
    }
}
