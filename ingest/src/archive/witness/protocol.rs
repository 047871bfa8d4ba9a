//! The request and the answer of `add-checkpoint`, as texts.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bursar_schemas::evidence::{Note, Signature, VerifierKey};
use bursar_schemas::ids::Digest;

use super::{Answer, WitnessError};

/// What the body of a conflict says it is.
const SIZE: &str = "text/x.tlog.size";

/// Characters of a refusal that are repeated.
const WORDS: usize = 120;

/// The body: the size that the witness has seen, the proof from there to the checkpoint, the checkpoint.
pub(super) fn request(old: u64, proof: &[Digest], checkpoint: &str) -> String {
    let mut body = format!("old {old}\n");
    for hash in proof {
        // Writing to a text cannot fail.
        let _ = writeln!(body, "{}", STANDARD.encode(hash.0));
    }
    body.push('\n');
    body.push_str(checkpoint);
    body
}

/// What a witness says to a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Word {
    /// It cosigned; the signature holds under its key.
    Cosigned(Signature),
    /// It has seen so many leaves, and wants the proof from there.
    Seen(u64),
}

/// Reads the answer to a request of an old size about a signed checkpoint of a new one.
pub(super) fn read(
    answer: &Answer,
    (old, size): (u64, u64),
    checkpoint: &str,
    key: &VerifierKey,
) -> Result<Word, WitnessError> {
    match answer.status {
        200 => cosignature(&answer.body, checkpoint, key).map(Word::Cosigned),
        409 if answer.content_type.split(';').next().is_some_and(|it| it.trim() == SIZE) => {
            let digits = std::str::from_utf8(&answer.body).ok().map(str::trim_end);
            let seen = digits.and_then(|digits| digits.parse().ok());
            match seen.ok_or(WitnessError::Answer("a conflict without the size that it has seen"))? {
                // It has seen that many, and yet not these.
                seen if seen == old => Err(WitnessError::Contradicted { seen, size }),
                seen => Ok(Word::Seen(seen)),
            }
        }
        409 | 422 => Err(WitnessError::Contradicted { seen: old, size }),
        404 => Err(WitnessError::UnknownLog),
        403 => Err(WitnessError::UnknownKey),
        status => Err(WitnessError::Refused { status, words: words(&answer.body) }),
    }
}

/// The newest line by the witness's key; lines by others are not looked at.
fn cosignature(body: &[u8], checkpoint: &str, key: &VerifierKey) -> Result<Signature, WitnessError> {
    let note = Note::parse(&[checkpoint.as_bytes(), body].concat()).map_err(WitnessError::Cosignature)?;
    let by_it = note.verify(std::slice::from_ref(key)).map_err(WitnessError::Cosignature)?;
    let newest = by_it.into_iter().map(|(_, signature)| signature).max_by_key(|it| it.cosigned_at());
    newest.cloned().ok_or(WitnessError::Answer("no cosignature"))
}

/// A refusal's first words, as far as they can be shown.
fn words(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let line = text.lines().next().unwrap_or_default();
    let shown: String = line.chars().filter(|c| !c.is_control()).take(WORDS).collect();
    if shown.is_empty() { shown } else { format!(": {shown}") }
}
