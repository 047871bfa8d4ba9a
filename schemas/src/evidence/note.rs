//! Signed notes (C2SP signed-note): a text and signatures over it, by keys known by name and id.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};

use crate::ids::hex;

/// The longest note that is read, in bytes.
const LONGEST_NOTE: usize = 256 * 1024;

/// The most signature lines that are read.
pub const MOST_SIGNATURES: usize = 64;

/// What begins a signature line: an em dash and a space.
const DASH: &str = "\u{2014} ";

/// Why a note or a key cannot be read or does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Not a note's form.
    #[error("failed to read a signed note: {0}")]
    Form(&'static str),
    /// Not a key's form.
    #[error("failed to read a verifier key: {0}")]
    Key(&'static str),
    /// A signature by a key that is known does not hold.
    #[error("the signature by {name} ({id}) does not hold")]
    Signature {
        /// The key's name.
        name: String,
        /// The key's id, in hexadecimal digits.
        id: String,
    },
    /// None of the known keys has signed.
    #[error("it is signed by none of the keys that were given")]
    NotSigned,
}

/// What a key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The note's text (type 0x01).
    Ed25519,
    /// A time and the note's text, as a witness does (type 0x04).
    Cosignature,
}

impl Kind {
    const fn byte(self) -> u8 {
        match self {
            Self::Ed25519 => 1,
            Self::Cosignature => 4,
        }
    }
}

fn key_id(name: &str, kind: Kind, key: &[u8; 32]) -> [u8; 4] {
    let digest: [u8; 32] = Sha256::new()
        .chain_update(name.as_bytes())
        .chain_update([b'\n', kind.byte()])
        .chain_update(key)
        .finalize()
        .into();
    [digest[0], digest[1], digest[2], digest[3]]
}

fn check_name(name: &str) -> Result<(), NoteError> {
    let forbidden = |c: char| c.is_whitespace() || c.is_control() || c == '+';
    if name.is_empty() || name.contains(forbidden) {
        return Err(NoteError::Key("a key's name is not empty and holds no space and no plus sign"));
    }
    Ok(())
}

/// A public key with its name: `name+id+base64(type ‖ key)`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct VerifierKey {
    name: String,
    kind: Kind,
    key: [u8; 32],
}

impl VerifierKey {
    /// A key.
    ///
    /// # Errors
    /// When the name cannot be one.
    pub fn new(name: &str, kind: Kind, key: [u8; 32]) -> Result<Self, NoteError> {
        check_name(name)?;
        Ok(Self { name: name.to_owned(), kind, key })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it signs.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The raw public key.
    #[must_use]
    pub const fn public_key(&self) -> &[u8; 32] {
        &self.key
    }

    /// Its id: the first four bytes of SHA-256 over name, line feed, type and key.
    #[must_use]
    pub fn id(&self) -> [u8; 4] {
        key_id(&self.name, self.kind, &self.key)
    }

    /// True when a message that is no note is signed so; a witness's key signs none.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.kind == Kind::Ed25519 && self.has_signed(message, signature)
    }

    fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let Ok(key) = VerifyingKey::from_bytes(&self.key) else { return false };
        ed25519_dalek::Signature::from_slice(signature)
            .is_ok_and(|signature| key.verify_strict(message, &signature).is_ok())
    }

    /// True when a note's text is signed so.
    fn holds(&self, text: &str, signature: &[u8]) -> bool {
        let (message, signature) = match self.kind {
            Kind::Ed25519 => (text.to_owned(), signature),
            Kind::Cosignature => {
                let Some((time, rest)) = signature.split_first_chunk::<8>() else { return false };
                (format!("cosignature/v1\ntime {}\n{text}", u64::from_be_bytes(*time)), rest)
            }
        };
        self.has_signed(message.as_bytes(), signature)
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut typed = vec![self.kind.byte()];
        typed.extend_from_slice(&self.key);
        write!(f, "{}+{}+{}", self.name, hex(&self.id()), STANDARD.encode(typed))
    }
}

impl std::str::FromStr for VerifierKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(typed)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::Key("expected NAME+ID+KEY"));
        };
        let typed = STANDARD.decode(typed).map_err(|_| NoteError::Key("its key is not base64"))?;
        let (kind, key) = match typed.split_first() {
            Some((1, key)) => (Kind::Ed25519, key),
            Some((4, key)) => (Kind::Cosignature, key),
            _ => return Err(NoteError::Key("its type is neither Ed25519 nor a cosignature")),
        };
        let key = key.try_into().map_err(|_| NoteError::Key("it does not have 32 bytes"))?;
        let read = Self::new(name, kind, key)?;
        if hex(&read.id()) != id {
            return Err(NoteError::Key("its id is not that of its name and bytes"));
        }
        Ok(read)
    }
}

/// A private key with its name.
#[derive(Clone)]
pub struct SignerKey {
    verifier: VerifierKey,
    key: SigningKey,
}

impl fmt::Debug for SignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignerKey({})", self.verifier)
    }
}

impl SignerKey {
    /// A key from its 32 secret bytes.
    ///
    /// # Errors
    /// When the name cannot be one.
    pub fn new(name: &str, secret: &[u8; 32]) -> Result<Self, NoteError> {
        let key = SigningKey::from_bytes(secret);
        let verifier = VerifierKey::new(name, Kind::Ed25519, key.verifying_key().to_bytes())?;
        Ok(Self { verifier, key })
    }

    /// Its public half.
    #[must_use]
    pub const fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// The signature over a message that is no note; its first line must say what it is.
    #[must_use]
    pub fn sign_bytes(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }

    /// The signed note of a text, which must end with a line feed.
    #[must_use]
    pub fn sign(&self, text: &str) -> String {
        let signature = self.key.sign(text.as_bytes()).to_bytes();
        format!("{text}\n{}", signature_line(&self.verifier.name, self.verifier.id(), &signature))
    }

    /// The line that a witness of that name would add to a note, at a time in seconds since 1970.
    ///
    /// # Errors
    /// Never for a key that has a name.
    pub fn cosign(&self, text: &str, time: u64) -> Result<(VerifierKey, String), NoteError> {
        let verifier = VerifierKey::new(&self.verifier.name, Kind::Cosignature, self.verifier.key)?;
        let message = format!("cosignature/v1\ntime {time}\n{text}");
        let mut signature = time.to_be_bytes().to_vec();
        signature.extend_from_slice(&self.key.sign(message.as_bytes()).to_bytes());
        let line = signature_line(&verifier.name, verifier.id(), &signature);
        Ok((verifier, line))
    }
}

fn signature_line(name: &str, id: [u8; 4], signature: &[u8]) -> String {
    let mut bytes = id.to_vec();
    bytes.extend_from_slice(signature);
    format!("{DASH}{name} {}\n", STANDARD.encode(bytes))
}

/// One signature of a note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The key's name.
    pub name: String,
    /// The key's id.
    pub id: [u8; 4],
    /// The bytes after the id.
    pub bytes: Vec<u8>,
}

impl Signature {
    /// The time that a cosignature states, in seconds since 1970.
    #[must_use]
    pub fn cosigned_at(&self) -> Option<u64> {
        self.bytes.split_first_chunk::<8>().map(|(time, _)| u64::from_be_bytes(*time))
    }
}

/// A note as it was read; nothing is checked before [`Note::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The text, with its last line feed.
    pub text: String,
    /// The signatures, in order.
    pub signatures: Vec<Signature>,
}

impl Note {
    /// Reads a note.
    ///
    /// # Errors
    /// When it has not a note's form.
    pub fn parse(note: &[u8]) -> Result<Self, NoteError> {
        if note.len() > LONGEST_NOTE {
            return Err(NoteError::Form("it is too long"));
        }
        let note = std::str::from_utf8(note).map_err(|_| NoteError::Form("it is not UTF-8"))?;
        if note.contains(|c: char| c.is_control() && c != '\n') {
            return Err(NoteError::Form("it holds control characters"));
        }
        let split = note.rfind("\n\n").ok_or(NoteError::Form("it has no signatures"))?;
        let (text, lines) = (&note[..=split], &note[split + 2..]);
        let lines = lines.strip_suffix('\n').ok_or(NoteError::Form("its last line is cut off"))?;
        let mut signatures = Vec::new();
        for line in lines.split('\n') {
            if signatures.len() == MOST_SIGNATURES {
                return Err(NoteError::Form("it has too many signatures"));
            }
            let parts = line.strip_prefix(DASH).and_then(|line| line.split_once(' '));
            let (name, bytes) = parts.ok_or(NoteError::Form("a signature line is not one"))?;
            check_name(name).map_err(|_| NoteError::Form("a signature names no key"))?;
            let bytes = STANDARD.decode(bytes).map_err(|_| NoteError::Form("a signature is not base64"))?;
            let (id, bytes) =
                bytes.split_first_chunk::<4>().ok_or(NoteError::Form("a signature is short"))?;
            signatures.push(Signature { name: name.to_owned(), id: *id, bytes: bytes.to_vec() });
        }
        Ok(Self { text: text.to_owned(), signatures })
    }

    /// As it is written.
    #[must_use]
    pub fn to_text(&self) -> String {
        let line = |it: &Signature| signature_line(&it.name, it.id, &it.bytes);
        format!("{}\n{}", self.text, self.signatures.iter().map(line).collect::<String>())
    }

    /// The keys among those known that have signed; signatures by others are not looked at.
    ///
    /// # Errors
    /// When a known key's signature does not hold, or none of them has signed.
    pub fn verify<'a>(
        &self,
        keys: &'a [VerifierKey],
    ) -> Result<Vec<(&'a VerifierKey, &Signature)>, NoteError> {
        let mut found = Vec::new();
        for signature in &self.signatures {
            let known = keys.iter().find(|key| key.name == signature.name && key.id() == signature.id);
            let Some(key) = known else { continue };
            if !key.holds(&self.text, &signature.bytes) {
                return Err(NoteError::Signature { name: key.name.clone(), id: hex(&key.id()) });
            }
            found.push((key, signature));
        }
        if found.is_empty() { Err(NoteError::NotSigned) } else { Ok(found) }
    }
}
