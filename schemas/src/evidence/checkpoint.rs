//! What a log's signed note says (C2SP tlog-checkpoint): which log, how many leaves, the root over them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::note::{Kind, Note, NoteError, SignerKey, VerifierKey};
use crate::ids::Digest;

/// A log at one size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log: a URL without its scheme, or another unique name.
    pub origin: String,
    /// Leaves.
    pub size: u64,
    /// Root over them.
    pub root: Digest,
}

impl Checkpoint {
    /// The text that is signed.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root.0))
    }

    /// The signed note.
    #[must_use]
    pub fn sign(&self, key: &SignerKey) -> String {
        key.sign(&self.text())
    }

    /// Reads a checkpoint's text; extension lines are passed over.
    ///
    /// # Errors
    /// When it is not one.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let mut lines = text.split('\n');
        let origin = lines.next().filter(|line| !line.is_empty());
        let origin = origin.ok_or(NoteError::Form("a checkpoint without an origin"))?;
        let digits = lines.next().ok_or(NoteError::Form("a checkpoint without a size"))?;
        let size: u64 = digits.parse().map_err(|_| NoteError::Form("a checkpoint's size is not a number"))?;
        if size.to_string() != digits {
            return Err(NoteError::Form("a checkpoint's size is not in its only form"));
        }
        let root = lines.next().and_then(|line| STANDARD.decode(line).ok());
        let root = root.and_then(|root| <[u8; 32]>::try_from(root).ok());
        let root = Digest(root.ok_or(NoteError::Form("a checkpoint without a root of 32 bytes"))?);
        Ok(Self { origin: origin.to_owned(), size, root })
    }

    /// Reads a signed checkpoint and checks who signed it: one of the keys for notes, under the log's own name.
    ///
    /// # Errors
    /// When it is no checkpoint, or no such key has signed it.
    pub fn open(note: &[u8], keys: &[VerifierKey]) -> Result<(Self, Note), NoteError> {
        let note = Note::parse(note)?;
        let checkpoint = Self::parse(&note.text)?;
        let signed = note.verify(keys)?;
        let by_log =
            signed.iter().any(|(key, _)| key.kind() == Kind::Ed25519 && key.name() == checkpoint.origin);
        if by_log { Ok((checkpoint, note)) } else { Err(NoteError::NotSigned) }
    }
}
