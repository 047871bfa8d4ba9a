//! The archiver: seals what stands in the journal as immutable Parquet segments, one chain per lane.
//!
//! | Module | Holds |
//! |---|---|
//! | `plan`, `share` | what to do next, and how lanes share memory and turns, decided from what was seen |
//! | `workshop` | the threads that build segments |
//! | `reading` | a lane's cursor: in its turn while it is behind |
//! | `buffer`, `parquet` | records not sealed yet, and the object that they become |
//! | `signature` | telling segments that the log's key signed from what others put |
//! | `store`, `folder` | objects put if absent; a local folder whose puts survive a power cut |
//! | `chain` | following a lane's segments to their end |
//! | `journal` | reading the lanes whose start the topics no longer hold |
//! | `delta` | a Delta table over each topic's segments, for everyone else's engines |
//! | `removal` | removing what is past its retention, by word of the log |
//! | `log` | the Merkle log with a leaf for each segment |
//! | `witness` | having checkpoints cosigned |
//! | `lane`, `run`, `status` | the tasks, starting and stopping, what they tell |
//!
//! Invariant: an object that exists is a segment whose rows are in, once; nothing is overwritten or deleted but by
//! `removal`.
//! Invariant: the slot decides. Whoever puts the segment at an offset first defines its end; everybody else,
//! also whoever did not hear the answer to its own put, reads its footer and goes on after it. Where a log is written,
//! the log's key must have signed that segment.
//! Invariant: a lane goes on only when its segment is there and the log has a leaf for it: segment, leaf, checkpoint.
//! Invariant: a crash at any point loses nothing and repeats nothing, as all state is in the store.
//! Assumption: a cursor reads one life of its topic; it fails when the topic is made anew.

mod buffer;
mod chain;
mod delta;
mod folder;
mod journal;
mod lane;
mod log;
mod parquet;
mod plan;
mod reading;
mod removal;
mod run;
mod share;
mod signature;
mod status;
mod store;
#[cfg(test)]
mod tests;
mod witness;
mod workshop;

pub use self::buffer::Head;
pub use self::chain::{find_head, follow};
pub use self::delta::{Delta, DeltaError};
pub use self::folder::Folder;
pub use self::journal::{ArchivedJournal, OpenSegments};
pub use self::log::{Clock, LogError, LogSettings, LogStatus};
pub use self::parquet::{ParquetError, footer_of};
pub use self::plan::{NotOfChain, check_footer};
pub use self::removal::{Fate, Known, Logged, RemovalError, Remover, fate};
pub use self::run::{ArchiveConfig, Archiver, ArchiverHandle};
pub use self::status::LaneStatus;
pub use self::store::{PROBE, Put, Segments, StoreError, open_store, open_suspect};
pub use self::witness::{AddCheckpoint, Answer, Witness, WitnessStatus};
