//! The spool when its inner outlet acknowledges late.

use std::sync::Arc;

use bursar_ingest::spool::{Spool, SpoolConfig};
use bursar_schemas::memory::MemoryJournal;
use bursar_schemas::ports::{Entry, Outlet, OutletError, Receipt};
use bytes::Bytes;
use tokio::sync::watch;

use crate::facts::producer;
use crate::spool::{config, memory};
use crate::support::{PATIENCE, SPEND, entry, eventually};

/// Takes everything and acknowledges it once it is told to.
struct Late {
    inner: Arc<MemoryJournal>,
    told: watch::Receiver<bool>,
}

impl Outlet for Late {
    fn append(&self, entries: Vec<Entry>) -> Result<Receipt, OutletError> {
        let receipt = self.inner.append(entries)?;
        let mut told = self.told.clone();
        Ok(Box::pin(async move {
            told.wait_for(|told| *told).await.expect("the test goes on");
            receipt.await
        }))
    }
}

/// The forwarder stands at the end of a segment that is deleted under it, with more behind than memory holds.
#[test]
fn a_segment_may_go_while_the_forwarder_stands_at_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let (tell, told) = watch::channel(false);
    let inner = memory();
    let late = Arc::new(Late { inner: inner.clone(), told });
    let settings = SpoolConfig { segment_bytes: 1, ..config() };
    let (spool, _) = Spool::open(dir.path(), settings, producer(1), late).unwrap();
    drop(spool.append(vec![entry(SPEND, 0)]).unwrap());
    eventually("the first is on its way", || inner.records(SPEND).len() == 1);
    for number in 1..=10 {
        let value = Bytes::from(vec![u8::try_from(number).unwrap(); 100_000]);
        drop(spool.append(vec![Entry { value, ..entry(SPEND, number) }]).unwrap());
    }
    tell.send_replace(true);
    eventually("all is acknowledged", || spool.figures().unacknowledged == 0);
    let firsts: Vec<u8> = inner.records(SPEND).iter().skip(1).map(|record| record.value[0]).collect();
    assert_eq!(firsts, (1..=10).collect::<Vec<u8>>());
    assert!(spool.close(PATIENCE).unwrap().removed);
}
