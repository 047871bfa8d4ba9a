//! Captured content: prompts and completions of the teams that policy names, encrypted, in a place of their own.
//!
//! | Module | Holds |
//! |---|---|
//! | `seal` | encrypting and decrypting: a key for each subject, wrapped by the deployment's |
//! | `vault` | the objects: wrapped keys and encrypted contents |
//! | `queue` | from the request's end to the vault, bounded, never waited for |
//!
//! Invariant: nothing leaves this module in clear but by [`Vault::open_content`].
//! Invariant: once a subject's wrapped key is destroyed, its contents cannot be read by anybody; facts commit to the
//! encrypted bytes alone, so every proof about them still holds.

mod queue;
mod seal;
#[cfg(test)]
mod tests;
mod vault;

pub use self::queue::{Figures, Item, Queue, QueueConfig};
pub use self::seal::{Keyring, SealError};
pub use self::vault::{Clear, Vault, VaultError};

/// Folder of the wrapped keys, one object for each subject.
const KEYS: &str = "keys";

/// Folder of the encrypted contents, one object for each request.
const CONTENTS: &str = "contents";
