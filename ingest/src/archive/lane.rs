//! One lane's task: finds the chain's end, reads on from there, seals.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bursar_schemas::archive::{Footer, LARGEST_SEGMENT, segment_key};
use bursar_schemas::evidence::Manifest;
use bursar_schemas::ids::Generation;
use bursar_schemas::ports::JournalError;
use bursar_schemas::position::Lane;
use tokio::sync::watch;
use tokio::time::Instant;

use super::buffer::{Buffer, Draft, Segment};
use super::chain;
use super::plan::{Observed, Setback, Step, next_step, setback};
use super::reading::Reading;
use super::run::Shared;
use super::share::has_room;
use super::store::{Put, StoreError};

/// Growing waits between tries.
struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    const fn new(shared: &Shared) -> Self {
        let (first, most) = (shared.config.retry_first, shared.config.retry_most);
        Self { first, most, next: first }
    }

    async fn wait(&mut self) {
        let wait = self.next;
        self.next = self.next.saturating_mul(2).min(self.most);
        tokio::time::sleep(wait).await;
    }

    const fn reset(&mut self) {
        self.next = self.first;
    }
}

/// How work on one life of a topic ended.
enum Outcome {
    /// Everything up to the end asked for is sealed.
    Done,
    /// The topic was made anew.
    MadeAnew,
}

/// One lane's archiver.
pub(super) struct LaneTask {
    pub(super) shared: Arc<Shared>,
    pub(super) lane: Lane,
    /// True once the archiver is to seal what is there and end.
    pub(super) ending: watch::Receiver<bool>,
}

/// The work on one life of a topic.
struct Work {
    generation: Generation,
    buffer: Buffer,
    reading: Reading,
    /// The journal's end when the archiver was told to end.
    end: Option<u64>,
    /// Why not everything up to the end could be read.
    cut: Option<String>,
    backoff: Backoff,
}

impl Work {
    /// When ending, what cannot be read now is left to the next start.
    fn cut_short(&mut self, error: &JournalError) {
        self.end = Some(self.buffer.next());
        self.cut = Some(error.to_string());
    }
}

impl LaneTask {
    /// Archives until told to end.
    pub(super) async fn run(mut self) {
        loop {
            let mut work = self.begin().await;
            match self.archive(&mut work).await {
                Outcome::Done => return,
                Outcome::MadeAnew => {
                    tracing::warn!(lane = %self.lane, was = %work.generation, "the topic was made anew");
                }
            }
        }
    }

    async fn begin(&self) -> Work {
        let mut backoff = Backoff::new(&self.shared);
        loop {
            match self.try_begin().await {
                Ok((generation, buffer)) => {
                    let sealed = buffer.start().checked_sub(1);
                    self.shared.board.update(self.lane, |status| {
                        status.generation = Some(generation);
                        status.sealed = sealed;
                        status.buffered_records = 0;
                        status.buffered_bytes = 0;
                        status.since = None;
                        status.fault = None;
                    });
                    backoff.reset();
                    return Work {
                        generation,
                        buffer,
                        reading: Reading::default(),
                        end: None,
                        cut: None,
                        backoff,
                    };
                }
                Err(fault) => self.shared.board.fault(self.lane, fault),
            }
            backoff.wait().await;
        }
    }

    async fn try_begin(&self) -> Result<(Generation, Buffer), String> {
        let journal = &self.shared.journal;
        let generation = journal.generation(self.lane.topic).await.map_err(|error| error.to_string())?;
        let end = journal.bounds(self.lane).await.map_err(|error| error.to_string())?.end;
        self.shared.probe().await.map_err(|error| error.to_string())?;
        let head = chain::find_head(&self.shared.segments, generation, self.lane, end).await;
        let head = head.map_err(|error| error.to_string())?;
        // Whoever sealed the last segments may have died before it logged them.
        let _sealing = self.shared.sealing.read().await;
        let logged = self.shared.log_upto(generation, self.lane, head.next, None).await;
        logged.map_err(|error| error.to_string())?;
        self.shared.delta_upto(generation, self.lane, head.next, None).await;
        Ok((generation, Buffer::new(generation, self.lane, head)))
    }

    fn observe(&self, work: &Work) -> Observed {
        Observed {
            records: work.buffer.records(),
            load: self.shared.board.load(work.buffer.bytes()),
            age: work.buffer.since().map_or(Duration::ZERO, |since| since.elapsed()),
            ending: self.ending.borrow().then(|| work.end.is_some_and(|end| work.buffer.next() >= end)),
        }
    }

    async fn archive(&mut self, work: &mut Work) -> Outcome {
        loop {
            if work.end.is_none() && *self.ending.borrow() {
                match self.shared.journal.bounds(self.lane).await {
                    Ok(bounds) => work.end = Some(bounds.end),
                    Err(error) => work.cut_short(&error),
                }
            }
            // Watched before looking: it may come to be this lane that has to make room.
            let pressure = self.shared.board.pressure();
            match next_step(&self.shared.config.limits(), &self.observe(work)) {
                Step::Done => {
                    if let Some(fault) = work.cut.take() {
                        self.shared.board.fault(self.lane, fault);
                    }
                    return Outcome::Done;
                }
                Step::Seal => self.seal_buffered(work).await,
                Step::Wait(longest) => {
                    if let Some(outcome) = self.take_in(work, longest, pressure).await {
                        return outcome;
                    }
                }
            }
        }
    }

    fn has_room(&self, work: &Work) -> bool {
        has_room(self.shared.config.memory_bytes, &self.shared.board.load(work.buffer.bytes()))
    }

    /// Waits for records, for room to take them in, for that long, or for the word to end.
    async fn take_in(
        &mut self,
        work: &mut Work,
        longest: Option<Duration>,
        mut pressure: watch::Receiver<u64>,
    ) -> Option<Outcome> {
        let has_room = self.has_room(work);
        let (journal, turns, from) = (&*self.shared.journal, &self.shared.turns, work.buffer.next());
        let was_ending = *self.ending.borrow_and_update();
        let batch = tokio::select! {
            // In this order, so that a busy lane still ends and seals in time.
            biased;
            changed = self.ending.changed(), if !was_ending => {
                if changed.is_err() {
                    // Whoever could say so is gone: nobody will ask this task to end any more.
                    return Some(Outcome::Done);
                }
                return None;
            }
            () = sleep(longest) => return None,
            _ = pressure.changed() => return None,
            batch = work.reading.next(journal, turns, self.lane, from), if has_room => batch,
        };
        match batch {
            Ok(batch) => {
                work.buffer.push(batch, Instant::now());
                work.backoff.reset();
                self.show(work);
                self.shared.board.update(self.lane, |status| status.fault = None);
                None
            }
            Err(error) => self.set_back(work, error).await,
        }
    }

    fn show(&self, work: &Work) {
        self.shared.board.update(self.lane, |status| {
            status.buffered_records = work.buffer.records();
            status.buffered_bytes = work.buffer.bytes();
            status.since = work.buffer.since();
        });
    }

    /// Deals with a failed read: the cursor is given up, and what is gone is stated.
    async fn set_back(&self, work: &mut Work, error: JournalError) -> Option<Outcome> {
        work.reading.close();
        let current = self.shared.journal.generation(self.lane.topic).await.ok();
        match setback(&error, work.generation, current) {
            Setback::MadeAnew(_) => {
                self.seal_buffered(work).await;
                return Some(Outcome::MadeAnew);
            }
            Setback::Lost { through } => {
                self.seal_buffered(work).await;
                if through >= work.buffer.next() {
                    tracing::error!(
                        lane = %self.lane,
                        first = work.buffer.next(),
                        last = through,
                        "records were gone before they could be sealed"
                    );
                    let draft = work.buffer.draft_of_loss(through);
                    self.seal(work, &draft).await;
                }
            }
            Setback::Retry => {
                self.shared.board.fault(self.lane, error.to_string());
                if work.end.is_some() {
                    work.cut_short(&error);
                    return None;
                }
                work.backoff.wait().await;
            }
        }
        None
    }

    async fn seal_buffered(&self, work: &mut Work) {
        if work.buffer.records() > 0 {
            let draft = work.buffer.draft();
            self.seal(work, &draft).await;
        }
    }

    /// Seals once: puts a segment at the chain's end, or goes on after the one that is there.
    async fn seal(&self, work: &mut Work, draft: &Draft) {
        let mut backoff = Backoff::new(&self.shared);
        loop {
            let put = self.put(work.generation, work.buffer.start(), draft.clone());
            let sealed = self.take_in_beside(work, put).await;
            match sealed.and_then(|(footer, own)| self.advance(work, &footer, own)) {
                Ok(()) => return,
                Err(error) => self.shared.board.fault(self.lane, error.to_string()),
            }
            backoff.wait().await;
        }
    }

    /// Takes in what the journal has while a segment is built and put, as far as there is room.
    async fn take_in_beside<T>(&self, work: &mut Work, sealing: impl Future<Output = T>) -> T {
        // What makes the next segment, and no more.
        let most = work.buffer.bytes().saturating_add(self.shared.config.seal_bytes);
        let mut sealing = pin!(sealing);
        loop {
            let has_room = work.buffer.bytes() < most && self.has_room(work);
            let batch = tokio::select! {
                biased;
                sealed = &mut sealing => return sealed,
                batch = work.reading.next_open(), if has_room => batch,
            };
            match batch {
                Ok(batch) => {
                    work.buffer.push(batch, Instant::now());
                    self.show(work);
                }
                // Reading goes on after the seal, with a new cursor, and meets again what is the matter.
                Err(error) => {
                    tracing::debug!(lane = %self.lane, %error, "reading ahead ended");
                    work.reading.close();
                }
            }
        }
    }

    /// Puts a segment, or finds the one that is there, and logs it; whether it is this process's own.
    async fn put(
        &self,
        generation: Generation,
        start: u64,
        draft: Draft,
    ) -> Result<(Footer, bool), StoreError> {
        let segment = self.build(draft).await?;
        let key = segment_key(generation, self.lane, start);
        let size = u64::try_from(segment.bytes.len()).unwrap_or(u64::MAX);
        let _sealing = self.shared.sealing.read().await;
        let (footer, own) = match self.shared.segments.put(&key, segment.bytes).await {
            Ok(Put::Created) => (segment.footer, true),
            // Taken, or nobody knows: what is there now decides, whoever put it.
            outcome => match self.shared.segments.footer(generation, self.lane, start).await? {
                Some(footer) => (footer, false),
                None => {
                    outcome?;
                    return Err(StoreError::Broken(format!("{key} was taken and is not there")));
                }
            },
        };
        let at = self.shared.log_clock().filter(|_| own);
        let manifest = at.map(|at| Manifest::new(&footer, size, segment.sha256, at));
        let upto = footer.end.saturating_add(1);
        let logged = self.shared.log_upto(generation, self.lane, upto, manifest).await;
        logged.map_err(|error| StoreError::Log(Box::new(error)))?;
        let known = own.then_some((&footer, size));
        self.shared.delta_upto(generation, self.lane, upto, known).await;
        Ok((footer, own))
    }

    /// Builds the object beside the runtime; halves what is too large for one put.
    async fn build(&self, mut draft: Draft) -> Result<Segment, StoreError> {
        loop {
            let records = draft.records();
            let segment = self.shared.workshop.build(draft.clone()).await?;
            let size = u64::try_from(segment.bytes.len()).unwrap_or(u64::MAX);
            if size <= LARGEST_SEGMENT || records <= 1 {
                return Ok(segment);
            }
            draft = draft.first(records / 2);
        }
    }

    fn advance(&self, work: &mut Work, footer: &Footer, own: bool) -> Result<(), StoreError> {
        let (start, next) = (work.buffer.start(), work.buffer.next());
        work.buffer.advance(footer).map_err(|error| StoreError::NotOfChain {
            key: segment_key(work.generation, self.lane, start),
            error,
        })?;
        work.reading.sealed();
        if work.buffer.next() != next {
            // Another archiver, or a loss, is ahead of the cursor.
            work.reading.close();
        }
        self.shared.board.update(self.lane, |status| {
            status.sealed = Some(footer.end);
            status.buffered_records = work.buffer.records();
            status.buffered_bytes = work.buffer.bytes();
            status.since = work.buffer.since();
            status.fault = None;
            if own {
                status.put += 1;
                status.lost += footer.lost.iter().map(|(first, last)| last - first + 1).sum::<u64>();
            } else {
                status.adopted += 1;
            }
        });
        tracing::debug!(lane = %self.lane, start = footer.start, end = footer.end, own, "sealed");
        Ok(())
    }
}

async fn sleep(longest: Option<Duration>) {
    match longest {
        Some(longest) => tokio::time::sleep(longest).await,
        None => std::future::pending().await,
    }
}
