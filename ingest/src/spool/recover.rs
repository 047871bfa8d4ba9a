//! Reading what dead incarnations left behind.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bursar_schemas::facts::Fact;
use bursar_schemas::ids::ProducerId;
use bursar_schemas::money::Money;
use bursar_schemas::position::Lane;
use bursar_schemas::wire;

use super::SpoolError;
use super::closing::{Damage, DamageKind, OpenRequest, Predecessor, Recovered};
use super::frame::{Frame, Kind};
use super::log::path_of;
use super::mark::Mark;
use super::scan::{Fault, Scanner};
use super::track::{Open, Sign, Tracker, glance, on_behalf_of};

/// Name of the lock file in each incarnation's folder.
pub(super) const LOCK: &str = "lock";
/// Folder beside the incarnations' in which damaged files are kept.
const KEPT: &str = "corrupt";

/// A predecessor's spool on its way to the inner outlet; holds its lock.
pub(super) struct Replay {
    pub(super) producer: ProducerId,
    pub(super) dir: PathBuf,
    pub(super) bytes: u64,
    pub(super) pieces: Vec<Piece>,
    pub(super) mark: Mark,
    pub(super) lock: File,
}

/// The readable parts of one segment file.
pub(super) struct Piece {
    pub(super) path: PathBuf,
    pub(super) spans: Vec<(u64, u64)>,
}

/// A fact of a predecessor and where it belongs.
struct Stored {
    producer: ProducerId,
    lane: Lane,
    fact: Fact,
}

/// What all folders together say of requests.
#[derive(Default)]
struct Requests {
    tracker: Tracker<Stored>,
    /// What successors wrote for incarnations before them, applied last: folders have no order that tells.
    on_behalf: Vec<(Sign, Stored)>,
}

impl Requests {
    fn observe(&mut self, producer: ProducerId, frame: &Frame, sign: Sign) {
        let Ok(fact) = wire::decode(&frame.value) else { return };
        let behalf = on_behalf_of(&fact).is_some();
        let stored = Stored { producer, lane: frame.lane, fact };
        if behalf { self.on_behalf.push((sign, stored)) } else { self.tracker.observe(sign, stored) }
    }

    /// Open requests by the incarnation that opened or reserved them.
    fn into_orphans(mut self) -> BTreeMap<ProducerId, Vec<OpenRequest>> {
        for (sign, stored) in self.on_behalf.drain(..) {
            self.tracker.observe(sign, stored);
        }
        let mut orphans: BTreeMap<ProducerId, Vec<OpenRequest>> = BTreeMap::new();
        let mut open: Vec<_> = self.tracker.into_open().collect();
        open.sort_by_key(|(request, _)| *request);
        for (_, open) in open {
            let owner = open.opened.iter().chain(open.reserved.values()).next().map(|stored| stored.producer);
            if let Some(owner) = owner {
                orphans.entry(owner).or_default().push(orphan(open));
            }
        }
        orphans
    }
}

fn orphan(open: Open<Stored>) -> OpenRequest {
    let attempts = open.reserved.keys().chain(open.settled.keys()).max().copied().unwrap_or(0);
    let settled = open
        .settled
        .values()
        .map(|stored| if let Fact::Settled(fact) = &stored.fact { fact.amount } else { Money::ZERO })
        .sum();
    let opened = open.opened.and_then(|stored| match stored.fact {
        Fact::RequestOpened(fact) => Some((stored.lane, *fact)),
        _ => None,
    });
    let reservations = open
        .reserved
        .into_values()
        .filter_map(|stored| match stored.fact {
            Fact::Reserved(fact) => Some((stored.lane, *fact)),
            _ => None,
        })
        .collect();
    OpenRequest { opened, reservations, settled, attempts }
}

/// Locks and reads every folder whose process is gone.
pub(super) fn recover(root: &Path, own: ProducerId) -> Result<(Vec<Replay>, Recovered), SpoolError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root).map_err(|error| SpoolError::io(root, error))? {
        let path = entry.map_err(|error| SpoolError::io(root, error))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Ok(producer) = name.parse::<ProducerId>() else { continue };
        if producer == own {
            continue;
        }
        if let Some((lock, since)) = lock(&path)? {
            found.push((since, producer, path, lock));
        }
    }
    found.sort_by_key(|(since, producer, ..)| (*since, *producer));
    let mut recovered = Recovered::default();
    let mut requests = Requests::default();
    let mut replays = Vec::new();
    for (_, producer, path, lock) in found {
        let (replay, predecessor) =
            read_folder(root, producer, path, lock, &mut requests, &mut recovered.damages)?;
        replays.push(replay);
        recovered.predecessors.push(predecessor);
    }
    let mut orphans = requests.into_orphans();
    for predecessor in &mut recovered.predecessors {
        predecessor.orphans = orphans.remove(&predecessor.producer).unwrap_or_default();
    }
    Ok((replays, recovered))
}

/// The lock of a folder whose process is gone, and since when the folder exists.
fn lock(dir: &Path) -> Result<Option<(File, SystemTime)>, SpoolError> {
    let io = |error| SpoolError::io(dir, error);
    let path = dir.join(LOCK);
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(io(error)),
    }
    // Another successor may have finished with the folder between the listing and the lock.
    if !path.exists() {
        return Ok(None);
    }
    let since = file.metadata().and_then(|about| about.modified()).map_err(io)?;
    Ok(Some((file, since)))
}

fn segment_files(dir: &Path) -> Result<Vec<(u64, PathBuf)>, SpoolError> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|error| SpoolError::io(dir, error))? {
        let path = entry.map_err(|error| SpoolError::io(dir, error))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(index) = name.strip_suffix(".log").and_then(|digits| digits.parse().ok()) {
            files.push((index, path));
        }
    }
    files.sort();
    Ok(files)
}

fn read_folder(
    root: &Path,
    producer: ProducerId,
    dir: PathBuf,
    lock: File,
    requests: &mut Requests,
    damages: &mut Vec<Damage>,
) -> Result<(Replay, Predecessor), SpoolError> {
    let mark = Mark::read(&dir);
    let mut replay = Replay { producer, dir, bytes: 0, pieces: Vec::new(), mark, lock };
    let mut last = replay.mark.last.clone();
    let mut unacknowledged = 0;
    let mut scanner = Scanner::default();
    let files = segment_files(&replay.dir)?;
    let newest = files.last().map(|(index, _)| *index);
    for (index, path) in files {
        let bytes = std::fs::read(&path).map_err(|error| SpoolError::io(&path, error))?;
        replay.bytes += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let spans = scanner.scan(index, &bytes, Some(index) == newest, |frame| {
            if frame.kind == Kind::Fact && frame.number >= replay.mark.acknowledged {
                unacknowledged += 1;
            }
            if let Some((number, sign)) = glance(&frame.value) {
                if frame.kind == Kind::Fact {
                    let newest = last.entry(frame.lane).or_insert(number);
                    *newest = number.max(*newest);
                }
                if let Some(sign) = sign {
                    requests.observe(producer, frame, sign);
                }
            }
        });
        replay.pieces.push(Piece { path, spans });
    }
    for fault in scanner.faults {
        let kept = keep(root, producer, &replay.dir, &fault)?;
        damages.push(damage(producer, &fault, kept));
    }
    let predecessor = Predecessor { producer, orphans: Vec::new(), last, unacknowledged };
    Ok((replay, predecessor))
}

fn damage(producer: ProducerId, fault: &Fault, kept: Option<PathBuf>) -> Damage {
    Damage {
        producer,
        kind: if fault.torn { DamageKind::TornTail } else { DamageKind::Corrupt },
        segment: fault.segment,
        at: fault.at,
        bytes: fault.bytes,
        first: fault.first,
        last: fault.last,
        kept,
    }
}

/// Keeps a damaged file under a second name, which outlives the folder.
fn keep(root: &Path, producer: ProducerId, dir: &Path, fault: &Fault) -> Result<Option<PathBuf>, SpoolError> {
    if fault.torn || fault.bytes == 0 {
        return Ok(None);
    }
    let folder = root.join(KEPT);
    std::fs::create_dir_all(&folder).map_err(|error| SpoolError::io(&folder, error))?;
    let kept = folder.join(format!("{producer}-{:08}.log.corrupt", fault.segment));
    match std::fs::hard_link(path_of(dir, fault.segment), &kept) {
        Ok(()) => Ok(Some(kept)),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(Some(kept)),
        Err(error) => Err(SpoolError::io(&kept, error)),
    }
}
