//! Envelope encryption with AES-256-GCM: contents under a subject's data key, data keys under the deployment's key.

use bursar_schemas::ids::{RequestId, hex, unhex};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Why content cannot be encrypted or decrypted. Never says anything of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The system gives no random bytes.
    #[error("failed to draw random bytes")]
    Random,
    /// The cipher refused.
    #[error("failed to encrypt")]
    Encrypt,
    /// The key is another, or the bytes were changed.
    #[error("failed to decrypt: the key is another, or the object was changed")]
    Decrypt,
    /// The data key is wrapped by a key that was not given.
    #[error("the data key is wrapped by key {0}, which was not given (content.key, content.earlier_keys)")]
    UnknownKey(String),
    /// The object is none of this module's.
    #[error("failed to read an object of captured content: {0}")]
    Form(&'static str),
}

fn cipher(key: &[u8; 32]) -> Result<LessSafeKey, SealError> {
    UnboundKey::new(&AES_256_GCM, key).map(LessSafeKey::new).map_err(|_| SealError::Encrypt)
}

fn random<const N: usize>() -> Result<[u8; N], SealError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| SealError::Random)?;
    Ok(bytes)
}

fn encrypt(
    key: &[u8; 32],
    nonce: [u8; NONCE_LEN],
    about: &[u8],
    mut clear: Vec<u8>,
) -> Result<Vec<u8>, SealError> {
    let nonce = Nonce::assume_unique_for_key(nonce);
    cipher(key)?
        .seal_in_place_append_tag(nonce, Aad::from(about), &mut clear)
        .map_err(|_| SealError::Encrypt)?;
    Ok(clear)
}

fn decrypt(
    key: &[u8; 32],
    nonce: [u8; NONCE_LEN],
    about: &[u8],
    mut sealed: Vec<u8>,
) -> Result<Vec<u8>, SealError> {
    let nonce = Nonce::assume_unique_for_key(nonce);
    let clear = cipher(key)?.open_in_place(nonce, Aad::from(about), &mut sealed);
    let length = clear.map_err(|_| SealError::Decrypt)?.len();
    sealed.truncate(length);
    Ok(sealed)
}

/// A subject's data key. Never printed.
#[derive(Clone)]
pub(super) struct DataKey([u8; 32]);

/// What stands in the object of a wrapped key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wrapped {
    version: u32,
    subject: String,
    /// Which key wraps it.
    key: String,
    nonce: String,
    wrapped: String,
}

/// The first line of an encrypted content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    version: u32,
    subject: String,
    nonce: String,
}

/// The keys that wrap data keys: the first one wraps, all unwrap.
#[derive(Clone)]
pub struct Keyring(Vec<(String, [u8; 32])>);

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl Keyring {
    /// The key in use, and those before it.
    #[must_use]
    pub fn new(current: [u8; 32], earlier: impl IntoIterator<Item = [u8; 32]>) -> Self {
        let named = |key: [u8; 32]| {
            let digest =
                Sha256::new().chain_update(b"bursar/content-key-id/v1\n").chain_update(key).finalize();
            (hex(&digest[..8]), key)
        };
        Self(std::iter::once(current).chain(earlier).map(named).collect())
    }

    /// No key: for whoever deletes and does not read.
    #[must_use]
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// A fresh data key, and the object that keeps it wrapped.
    pub(super) fn fresh(&self, subject: &str) -> Result<(DataKey, Vec<u8>), SealError> {
        let (name, current) = self.0.first().ok_or(SealError::Encrypt)?;
        let (key, nonce) = (random::<32>()?, random::<NONCE_LEN>()?);
        let wrapped = Wrapped {
            version: 1,
            subject: subject.to_owned(),
            key: name.clone(),
            nonce: hex(&nonce),
            wrapped: hex(&encrypt(current, nonce, &about_key(subject), key.to_vec())?),
        };
        let object = serde_json::to_vec(&wrapped).map_err(|_| SealError::Encrypt)?;
        Ok((DataKey(key), object))
    }

    /// The data key that an object keeps.
    pub(super) fn unwrap(&self, subject: &str, object: &[u8]) -> Result<DataKey, SealError> {
        let form = SealError::Form("it is no wrapped key");
        let wrapped: Wrapped = serde_json::from_slice(object).map_err(|_| form.clone())?;
        if wrapped.version != 1 || wrapped.subject != subject {
            return Err(SealError::Form("it is the wrapped key of another subject"));
        }
        let by = self.0.iter().find(|(name, _)| *name == wrapped.key);
        let (_, key) = by.ok_or(SealError::UnknownKey(wrapped.key))?;
        let nonce = unhex(&wrapped.nonce).ok_or(form.clone())?;
        let sealed: [u8; 48] = unhex(&wrapped.wrapped).ok_or(form)?;
        let clear = decrypt(key, nonce, &about_key(subject), sealed.to_vec())?;
        clear.try_into().map(DataKey).map_err(|_| SealError::Decrypt)
    }
}

fn about_key(subject: &str) -> Vec<u8> {
    format!("bursar/content-key/v1\n{subject}").into_bytes()
}

fn about_content(request: RequestId, head: &[u8]) -> Vec<u8> {
    [format!("bursar/content/v1\n{request}\n").as_bytes(), head].concat()
}

/// Encrypts a request's content for a subject.
pub(super) fn seal(
    key: &DataKey,
    subject: &str,
    request: RequestId,
    clear: Vec<u8>,
) -> Result<Vec<u8>, SealError> {
    let nonce = random::<NONCE_LEN>()?;
    let head = Head { version: 1, subject: subject.to_owned(), nonce: hex(&nonce) };
    let mut object = serde_json::to_vec(&head).map_err(|_| SealError::Encrypt)?;
    object.push(b'\n');
    let sealed = encrypt(&key.0, nonce, &about_content(request, &object), clear)?;
    object.extend_from_slice(&sealed);
    Ok(object)
}

/// The subject of an encrypted content.
pub(super) fn subject_of(object: &[u8]) -> Result<String, SealError> {
    read_head(object).map(|(head, _)| head.subject)
}

fn read_head(object: &[u8]) -> Result<(Head, usize), SealError> {
    let form = SealError::Form("it has no head");
    let end = object.iter().take(4096).position(|byte| *byte == b'\n').ok_or(form.clone())?;
    let head: Head = serde_json::from_slice(&object[..end]).map_err(|_| form)?;
    if head.version == 1 { Ok((head, end + 1)) } else { Err(SealError::Form("it is of a later version")) }
}

/// Decrypts a request's content.
pub(super) fn open(key: &DataKey, request: RequestId, object: &[u8]) -> Result<Vec<u8>, SealError> {
    let (head, start) = read_head(object)?;
    let nonce = unhex(&head.nonce).ok_or(SealError::Form("it has no nonce"))?;
    let (line, sealed) = object.split_at(start);
    decrypt(&key.0, nonce, &about_content(request, line), sealed.to_vec())
}
