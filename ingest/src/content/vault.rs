//! The objects of captured content: put once, read by whoever has the key, destroyed by subject.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bursar_schemas::causes::with_causes;
use bursar_schemas::ids::{Digest, RequestId};
use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::seal::{DataKey, Keyring, SealError, open, seal, subject_of};
use super::{CONTENTS, KEYS};

/// How long a data key is believed to be in force without looking: after a subject was erased, what is captured for it
/// within that time is encrypted under the destroyed key and cannot be read by anybody.
const KEY_AGE: Duration = Duration::from_secs(30);

/// Data keys held in memory at most.
const MOST_KEYS: usize = 10_000;

/// What went wrong at the vault. Never says anything of a content.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The store failed.
    #[error("failed to use the store of captured content: {}", with_causes(.0))]
    Store(object_store::Error),
    /// Encrypting or decrypting failed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Nothing was captured of the request, or it is past its retention.
    #[error("there is no captured content of request {0}")]
    None(RequestId),
    /// The subject's key was destroyed.
    #[error("the content of request {request} cannot be read by anybody: its subject {subject} was erased")]
    Erased {
        /// The request.
        request: RequestId,
        /// The subject.
        subject: String,
    },
    /// A subject's name is not one.
    #[error("a subject is an end user's pseudonym, or key: and a key's id")]
    Subject,
}

// The text has the other's, so that is no source: a chain of causes would say it twice.
impl From<object_store::Error> for VaultError {
    fn from(error: object_store::Error) -> Self {
        Self::Store(error)
    }
}

/// A content in clear. Never printed by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Clear {
    /// The request's body as the client sent it.
    pub prompt: Vec<u8>,
    /// The answer's body as the provider sent it.
    pub completion: Vec<u8>,
    /// True when a part was longer than the bound and was cut off.
    pub cut: bool,
}

impl std::fmt::Debug for Clear {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clear(…)")
    }
}

#[derive(Serialize, Deserialize)]
struct Form {
    prompt: String,
    completion: String,
    cut: bool,
}

impl Clear {
    fn encode(&self) -> Result<Vec<u8>, SealError> {
        let (prompt, completion) = (STANDARD.encode(&self.prompt), STANDARD.encode(&self.completion));
        serde_json::to_vec(&Form { prompt, completion, cut: self.cut }).map_err(|_| SealError::Encrypt)
    }

    fn decode(bytes: &[u8]) -> Result<Self, SealError> {
        let form = |_| SealError::Form("it is no content");
        let read: Form = serde_json::from_slice(bytes).map_err(|_| SealError::Form("it is no content"))?;
        let prompt = STANDARD.decode(read.prompt).map_err(form)?;
        let completion = STANDARD.decode(read.completion).map_err(form)?;
        Ok(Self { prompt, completion, cut: read.cut })
    }
}

/// An encrypted content that was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) object: String,
    pub(super) sha256: Digest,
    pub(super) bytes: u64,
}

/// The place of captured content, with or without the keys to read it.
#[derive(Debug)]
pub struct Vault {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    keyring: Keyring,
    known: Mutex<HashMap<String, (DataKey, Instant)>>,
}

impl std::fmt::Debug for DataKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DataKey(…)")
    }
}

/// A subject's name holds nothing that could lead out of its folder.
fn is_subject(subject: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let name = subject.strip_prefix("key:").unwrap_or(subject);
    !name.is_empty() && name.len() <= 128 && name.bytes().all(plain) && !name.bytes().all(|byte| byte == b'.')
}

impl Vault {
    /// The vault below a prefix.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>, prefix: Path, keyring: Keyring) -> Self {
        Self { store, prefix, keyring, known: Mutex::default() }
    }

    fn path(&self, folder: &str, name: &str) -> Path {
        let name = name.replace(':', "=");
        self.prefix.parts().chain([folder.into(), name.as_str().into()]).collect()
    }

    async fn read(&self, path: &Path) -> Result<Option<Bytes>, VaultError> {
        match self.store.get(path).await {
            Ok(found) => Ok(Some(found.bytes().await?)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// True when this call put it.
    async fn put(&self, path: &Path, bytes: Bytes) -> Result<bool, VaultError> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.store.put_opts(path, PutPayload::from(bytes), options).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The subject's data key; made when there is none.
    async fn key_for(&self, subject: &str) -> Result<DataKey, VaultError> {
        if !is_subject(subject) {
            return Err(VaultError::Subject);
        }
        if let Some((key, at)) = self.known.lock().get(subject)
            && at.elapsed() < KEY_AGE
        {
            return Ok(key.clone());
        }
        let path = self.path(KEYS, subject);
        let key = loop {
            if let Some(object) = self.read(&path).await? {
                break self.keyring.unwrap(subject, &object)?;
            }
            let (key, object) = self.keyring.fresh(subject)?;
            if self.put(&path, object.into()).await? {
                break key;
            }
            // Another shim was first: its key counts.
        };
        let mut known = self.known.lock();
        if known.len() >= MOST_KEYS {
            known.clear();
        }
        known.insert(subject.to_owned(), (key.clone(), Instant::now()));
        Ok(key)
    }

    /// Encrypts a content and puts it.
    pub(super) async fn keep(
        &self,
        subject: &str,
        request: RequestId,
        clear: &Clear,
    ) -> Result<Kept, VaultError> {
        let key = self.key_for(subject).await?;
        let object = seal(&key, subject, request, clear.encode()?)?;
        let sha256 = Digest(Sha256::digest(&object).into());
        let bytes = u64::try_from(object.len()).unwrap_or(u64::MAX);
        let path = self.path(CONTENTS, &request.to_string());
        if !self.put(&path, object.into()).await? {
            // An earlier try whose response was lost: what is there counts.
            let there = self.read(&path).await?.unwrap_or_default();
            let sha256 = Digest(Sha256::digest(&there).into());
            let bytes = u64::try_from(there.len()).unwrap_or(u64::MAX);
            return Ok(Kept { object: format!("{CONTENTS}/{request}"), sha256, bytes });
        }
        Ok(Kept { object: format!("{CONTENTS}/{request}"), sha256, bytes })
    }

    /// The content of a request in clear, and its subject.
    ///
    /// # Errors
    /// When there is none, its subject was erased, or the key is another.
    pub async fn open_content(&self, request: RequestId) -> Result<(String, Clear), VaultError> {
        let object = self.read(&self.path(CONTENTS, &request.to_string())).await?;
        let object = object.ok_or(VaultError::None(request))?;
        let subject = subject_of(&object)?;
        if !is_subject(&subject) {
            return Err(VaultError::Subject);
        }
        let wrapped = self.read(&self.path(KEYS, &subject)).await?;
        let Some(wrapped) = wrapped else { return Err(VaultError::Erased { request, subject }) };
        let key = self.keyring.unwrap(&subject, &wrapped)?;
        let clear = match open(&key, request, &object) {
            Ok(clear) => clear,
            // A key that was made after the subject was erased opens nothing from before.
            Err(SealError::Decrypt) => return Err(VaultError::Erased { request, subject }),
            Err(error) => return Err(error.into()),
        };
        Ok((subject, Clear::decode(&clear)?))
    }

    /// Destroys a subject's data key; false when there is none.
    ///
    /// # Errors
    /// When the store fails; the key may or may not be there then.
    pub async fn erase(&self, subject: &str) -> Result<bool, VaultError> {
        if !is_subject(subject) {
            return Err(VaultError::Subject);
        }
        self.known.lock().remove(subject);
        let path = self.path(KEYS, subject);
        if self.read(&path).await?.is_none() {
            return Ok(false);
        }
        match self.store.delete(&path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Requests whose content is kept.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn requests(&self) -> Result<Vec<RequestId>, VaultError> {
        let folder: Path = self.prefix.parts().chain([CONTENTS.into()]).collect();
        let named = self.store.list(Some(&folder)).try_collect::<Vec<_>>().await?;
        Ok(named.iter().filter_map(|meta| meta.location.filename()?.parse().ok()).collect())
    }

    /// Whose the content of a request is, which its object says in clear; none when there is none.
    ///
    /// # Errors
    /// When the store fails, or the object is no content.
    pub async fn subject(&self, request: RequestId) -> Result<Option<String>, VaultError> {
        let object = self.read(&self.path(CONTENTS, &request.to_string())).await?;
        Ok(object.map(|object| subject_of(&object)).transpose()?)
    }

    /// Deletes the content of a request.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn delete(&self, request: RequestId) -> Result<(), VaultError> {
        match self.store.delete(&self.path(CONTENTS, &request.to_string())).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
