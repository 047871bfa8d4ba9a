//! Spool files that were cut short or changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bursar_ingest::spool::{DamageKind, Recovered, Spool, SpoolConfig, damage_facts};
use bursar_schemas::avro::Micros;
use bursar_schemas::facts::Fact;
use bursar_schemas::memory::MemoryJournal;
use bursar_schemas::ports::{Outlet as _, OutletError, Record};

use crate::embedded::copy_folder;
use crate::facts::{REQUESTS, producer};
use crate::spool::{config, memory};
use crate::support::{SPEND, entry, eventually, texts};

const COUNT: u64 = 12;

/// The folder of an incarnation that died while the inner outlet was away; one frame for each entry.
fn left_behind(segment_bytes: u64) -> (tempfile::TempDir, Vec<PathBuf>) {
    let dir = tempfile::tempdir().unwrap();
    let inner = memory();
    inner.refuse(Some(OutletError::Failed("away".to_owned())));
    let small = SpoolConfig { segment_bytes, ..config() };
    let (spool, _) = Spool::open(dir.path(), small, producer(1), inner).unwrap();
    for number in 0..COUNT {
        drop(spool.append(vec![entry(SPEND, number)]).unwrap());
    }
    drop(spool);
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir.path().join(producer(1).to_string()))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .map(|path| path.strip_prefix(dir.path()).unwrap().to_path_buf())
        .collect();
    files.sort();
    (dir, files)
}

/// What a successor makes of a copy in which one file was changed.
fn recover(from: &Path, file: &Path, change: impl FnOnce(&mut Vec<u8>)) -> (Recovered, Vec<Record>) {
    let copy = tempfile::tempdir().unwrap();
    copy_folder(from, copy.path());
    let path = copy.path().join(file);
    let mut bytes = std::fs::read(&path).unwrap();
    change(&mut bytes);
    std::fs::write(&path, &bytes).unwrap();
    let inner: Arc<MemoryJournal> = memory();
    let (spool, recovered) = Spool::open(copy.path(), config(), producer(2), inner.clone()).unwrap();
    spool.finish(producer(1)).unwrap();
    eventually("all is replayed and removed", || spool.figures().predecessors == 0);
    for damage in &recovered.damages {
        match damage.kind {
            DamageKind::TornTail => assert_eq!(damage.kept, None),
            DamageKind::Corrupt if damage.bytes == 0 => {}
            DamageKind::Corrupt => {
                assert_eq!(
                    std::fs::read(damage.kept.as_ref().unwrap()).unwrap(),
                    bytes,
                    "the file as it was"
                );
            }
        }
    }
    (recovered, inner.records(SPEND))
}

fn expected(numbers: impl Iterator<Item = u64>) -> Vec<String> {
    numbers.map(|number| format!("spend/1 {number}")).collect()
}

#[test]
fn a_torn_tail_is_cut_at_every_byte_and_reported() {
    let (dir, files) = left_behind(1 << 20);
    let length = std::fs::metadata(dir.path().join(&files[0])).unwrap().len();
    // Frames are equally long but for the digits of the number, of which the last two have one more.
    let last = 34 + "spend/1 11".len() as u64;
    for cut in 1..=last {
        let (recovered, records) = recover(dir.path(), &files[0], |bytes| {
            bytes.truncate(usize::try_from(length - cut).unwrap());
        });
        assert_eq!(texts(&records), expected(0..COUNT - 1), "cut by {cut}");
        assert_eq!(recovered.predecessors[0].unacknowledged, COUNT - 1);
        if cut == last {
            assert_eq!(recovered.damages, Vec::new(), "nothing shows that a frame was there");
        } else {
            let [damage] = &recovered.damages[..] else { panic!("{:?}", recovered.damages) };
            assert_eq!(
                (damage.kind, damage.first, damage.bytes),
                (DamageKind::TornTail, COUNT - 1, last - cut)
            );
        }
    }
}

#[test]
fn zeros_after_the_end_are_a_torn_tail() {
    let (dir, files) = left_behind(1 << 20);
    let (recovered, records) = recover(dir.path(), &files[0], |bytes| bytes.extend([0; 5000]));
    assert_eq!(texts(&records), expected(0..COUNT));
    assert_eq!((recovered.damages.len(), recovered.damages[0].kind), (1, DamageKind::TornTail));
}

#[test]
fn a_changed_byte_costs_its_own_frame_alone_and_is_reported() {
    let (dir, files) = left_behind(1 << 20);
    let frame = 34 + "spend/1 5".len();
    let begin = frame * 5;
    for at in begin..begin + frame {
        let (recovered, records) = recover(dir.path(), &files[0], |bytes| bytes[at] ^= 0x20);
        assert_eq!(texts(&records), expected((0..COUNT).filter(|number| *number != 5)), "byte {at}");
        let [damage] = &recovered.damages[..] else { panic!("{:?}", recovered.damages) };
        assert_eq!((damage.kind, damage.first, damage.last), (DamageKind::Corrupt, 5, Some(5)));
        assert_eq!((damage.at, damage.bytes), (begin as u64, frame as u64));
    }
}

#[test]
fn a_changed_last_frame_is_kept_and_not_taken_for_a_cut() {
    let (dir, files) = left_behind(1 << 20);
    let (recovered, records) = recover(dir.path(), &files[0], |bytes| *bytes.last_mut().unwrap() ^= 1);
    assert_eq!(texts(&records), expected(0..COUNT - 1));
    assert_eq!(recovered.damages[0].kind, DamageKind::Corrupt);
    assert!(recovered.damages[0].kept.is_some());
}

#[test]
fn damage_in_any_segment_leaves_the_others_whole() {
    let (dir, files) = left_behind(100);
    assert!(files.len() >= 4, "several segments");
    for (index, file) in files.iter().enumerate() {
        let mut lost = 0;
        let (recovered, records) = recover(dir.path(), file, |bytes| {
            lost = bytes.len();
            bytes.fill(0xEE);
        });
        let [damage] = &recovered.damages[..] else { panic!("{:?}", recovered.damages) };
        assert_eq!((damage.segment, damage.bytes), (index as u64, lost as u64));
        let missing = damage.first..=damage.last.unwrap_or(COUNT - 1);
        assert_eq!(texts(&records), expected((0..COUNT).filter(|number| !missing.contains(number))));
        assert!(!missing.is_empty() && records.len() < usize::try_from(COUNT).unwrap());
    }
}

#[test]
fn a_segment_that_is_gone_is_reported() {
    let (dir, files) = left_behind(100);
    let copy = tempfile::tempdir().unwrap();
    copy_folder(dir.path(), copy.path());
    std::fs::remove_file(copy.path().join(&files[1])).unwrap();
    let (_spool, recovered) = Spool::open(copy.path(), config(), producer(2), memory()).unwrap();
    let [damage] = &recovered.damages[..] else { panic!("{:?}", recovered.damages) };
    assert_eq!((damage.kind, damage.segment, damage.bytes), (DamageKind::Corrupt, 2, 0));
    assert!(damage.first <= damage.last.unwrap());
}

#[test]
fn damage_is_recorded_as_findings_without_content() {
    let (dir, files) = left_behind(1 << 20);
    let (recovered, _) = recover(dir.path(), &files[0], |bytes| bytes[100] ^= 1);
    let facts = damage_facts(&recovered.damages, REQUESTS, Micros(1));
    let [draft] = &facts[..] else { panic!("one finding for one damage") };
    let Fact::Finding(finding) = &draft.fact else { panic!() };
    assert_eq!((finding.subject, &finding.topic[..], finding.first), (Some(producer(1)), "spool", 2));
    assert!(!finding.detail.contains("spend"), "{}", finding.detail);
}
