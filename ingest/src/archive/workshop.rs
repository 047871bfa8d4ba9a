//! Threads that build segments, for as long as the archiver runs. A build takes tens of megabytes in small pieces, which
//! the allocator keeps by thread: built now here, now there, segments would leave that much behind in every thread.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use arrow_array::RecordBatch;
use bursar_schemas::evidence::SignerKey;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::buffer::{Draft, Segment};
use super::parquet::{ParquetError, SegmentWriter};

/// Batches that wait for the thread that writes, so that neither stands still for the other: more would only take memory.
const WAITING_BATCHES: usize = 2;

type Built = Result<Segment, ParquetError>;
type Job = (Draft, oneshot::Sender<Built>);

/// A thread that writes what another one gathers.
#[derive(Debug)]
pub(super) struct Scribe {
    tasks: SyncSender<Task>,
}

struct Task {
    writer: SegmentWriter,
    batches: Receiver<RecordBatch>,
    done: SyncSender<Result<SegmentWriter, ParquetError>>,
}

impl Task {
    fn carry_out(self) {
        let Self { mut writer, batches, done } = self;
        let written = batches.into_iter().try_for_each(|batch| writer.write(&batch));
        // Whoever gave the task waits for this, unless it broke.
        done.send(written.map(|()| writer)).ok();
    }
}

impl Scribe {
    /// Starts the thread, which ends with the handle.
    pub(super) fn start() -> Result<Self, ParquetError> {
        let (tasks, given) = sync_channel::<Task>(1);
        let work = move || given.into_iter().for_each(Task::carry_out);
        std::thread::Builder::new().name("segment-writer".to_owned()).spawn(work)?;
        Ok(Self { tasks })
    }

    /// Writes the batches that `gather` gives away meanwhile; gives back what that said, and the writer.
    pub(super) fn write_beside<T>(
        &self,
        writer: SegmentWriter,
        gather: impl FnOnce(&mut dyn FnMut(RecordBatch) -> Result<(), ParquetError>) -> Result<T, ParquetError>,
    ) -> Result<(T, SegmentWriter), ParquetError> {
        let (give, batches) = sync_channel(WAITING_BATCHES);
        let (done, written) = sync_channel(1);
        let task = Task { writer, batches, done };
        self.tasks.send(task).map_err(|_| ParquetError::Stopped)?;
        let gathered = gather(&mut |batch| give.send(batch).map_err(|_| ParquetError::Stopped));
        drop(give);
        let written = written.recv().map_err(|_| ParquetError::Stopped)?;
        match (gathered, written) {
            // The writer's own error says why it stopped.
            (Err(ParquetError::Stopped) | Ok(_), Err(error)) => Err(error),
            (gathered, written) => Ok((gathered?, written?)),
        }
    }
}

/// Builds segments, so many at a time.
#[derive(Debug)]
pub(super) struct Workshop {
    jobs: mpsc::Sender<Job>,
    taken: Arc<Mutex<mpsc::Receiver<Job>>>,
    /// Builders that are to be started yet.
    missing: Mutex<usize>,
    /// Who signs segments; none where no log is written.
    signer: Option<SignerKey>,
}

impl Workshop {
    /// With room for so many builders, but at least one; they start with the first segments.
    pub(super) fn new(builders: usize, signer: Option<SignerKey>) -> Self {
        let (jobs, taken) = mpsc::channel(1);
        Self { jobs, taken: Arc::new(Mutex::new(taken)), missing: Mutex::new(builders.max(1)), signer }
    }

    /// Starts a builder, if not all are there.
    fn start_one(&self) -> Result<(), ParquetError> {
        let mut missing = self.missing.lock();
        if *missing == 0 {
            return Ok(());
        }
        let (taken, signer) = (Arc::clone(&self.taken), self.signer.clone());
        let scribe = Scribe::start()?;
        let work = move || {
            loop {
                let next = taken.lock().blocking_recv();
                let Some((draft, answer)) = next else { return };
                // Whoever asked may be gone.
                answer.send(draft.build(&scribe, signer.as_ref())).ok();
            }
        };
        std::thread::Builder::new().name("segment-builder".to_owned()).spawn(work)?;
        *missing -= 1;
        Ok(())
    }

    /// Builds a segment when a builder is free; an error also when the builder broke.
    pub(super) async fn build(&self, draft: Draft) -> Built {
        self.start_one()?;
        let (answer, built) = oneshot::channel();
        self.jobs.send((draft, answer)).await.map_err(|_| ParquetError::Stopped)?;
        match built.await {
            Ok(built) => built,
            Err(_) => {
                *self.missing.lock() += 1;
                Err(ParquetError::Stopped)
            }
        }
    }
}
