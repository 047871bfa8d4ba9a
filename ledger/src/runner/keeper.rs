//! One partition: three lanes in, one core, effects out.

use std::sync::Arc;
use std::time::Duration;

use bursar_schemas::ports::{Batch, Bounds, Journal, OutletError};
use bursar_schemas::position::{Lane, Topic};
use bursar_schemas::producer::{Draft, Recorder};
use bursar_schemas::snapshot::{Contradiction, Place, Shelf};
use bursar_schemas::wire;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::feed::{Feed, settle};
use super::handle::{Ask, PartitionStatus, Report};
use super::{Clock, RunnerError};
use crate::core::{Config, Core, Effect, Input, Places, Standing, Told};
use crate::reading::Reading;

/// Appends that may be unacknowledged at once; more wait.
const RECEIPTS: usize = 256;

/// Ticks between two lines of progress while catching up.
const PROGRESS: u64 = 20;

pub(super) struct Keeper {
    pub partition: u32,
    /// Where findings go.
    pub findings: Lane,
    pub config: Config,
    pub core: Core,
    pub shelf: Arc<dyn Shelf>,
    pub journal: Arc<dyn Journal>,
    pub recorder: Arc<Recorder>,
    pub clock: Clock,
    pub tick: Duration,
    pub asks: mpsc::Receiver<Ask>,
    pub status: watch::Sender<PartitionStatus>,
    pub receipts: JoinSet<Result<(), OutletError>>,
    pub effects: Vec<Effect>,
    pub ticks: u64,
    /// Records taken since the last snapshot.
    pub fresh: u64,
    pub kept_at: Instant,
}

/// Time between two snapshots, and the records that make one worth its while.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(60);
const SNAPSHOT_RECORDS: u64 = 10_000;

/// The three lanes, in which order they are read, and the lives of their topics.
struct Feeds {
    limits: Feed,
    policy: Feed,
    spend: Feed,
    reading: Reading,
    places: Places,
}

impl Feeds {
    /// Where the lanes are now.
    fn reading(&mut self) -> &Reading {
        self.reading.limits = self.limits.next;
        self.reading.policy = self.policy.next;
        self.reading.spend = self.spend.next;
        &self.reading
    }

    /// How far they were read.
    fn places(&self) -> Places {
        let mut places = self.places;
        for (place, feed) in places.iter_mut().zip([&self.limits, &self.policy, &self.spend]) {
            place.next = feed.next;
        }
        places
    }
}

/// Resolves when a channel's value is true or its sender is gone.
async fn told(channel: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which is a stop as well.
    let _ = channel.wait_for(|stop| *stop).await.is_ok();
}

impl Keeper {
    pub(super) async fn run(
        mut self,
        mut stop: watch::Receiver<bool>,
        mut failed: watch::Receiver<bool>,
    ) -> Result<(), RunnerError> {
        let mut feeds = tokio::select! {
            feeds = self.open() => feeds?,
            () = told(&mut stop) => return Ok(()),
            () = told(&mut failed) => return Ok(()),
        };
        let mut ready = false;
        let mut ticker = tokio::time::interval(self.tick);
        ticker.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.look_at_clock().await?;
        loop {
            if !ready && feeds.reading().is_ready() {
                ready = true;
                tracing::info!(partition = self.partition, "the ledger has read what was there");
                self.feed(Input::Ready).await?;
            }
            let shown = self.status.borrow().standing;
            if shown != self.core.standing() {
                self.report(&feeds);
            }
            let rules = feeds.reading().may_read_policy();
            let spend = feeds.reading().may_read_spend();
            tokio::select! {
                () = told(&mut stop) => {
                    self.keep_snapshot(feeds.places(), SNAPSHOT_RECORDS / 10).await;
                    return Ok(());
                }
                () = told(&mut failed) => return Ok(()),
                batch = feeds.limits.next() => self.take_limits(batch?).await?,
                batch = feeds.policy.next(), if rules => self.take_policy(batch?).await?,
                batch = feeds.spend.next(), if spend => self.take_spend(batch?).await?,
                _ = ticker.tick() => {
                    self.look_at_clock().await?;
                    self.report(&feeds);
                    if self.kept_at.elapsed() >= SNAPSHOT_EVERY {
                        self.keep_snapshot(feeds.places(), SNAPSHOT_RECORDS).await;
                    }
                }
                Some(ask) = self.asks.recv() => self.answer(ask).await?,
                Some(receipt) = self.receipts.join_next() => acknowledged(receipt)?,
            }
        }
    }

    /// Opens the lanes where a snapshot left them, or at their starts.
    async fn open(&mut self) -> Result<Feeds, RunnerError> {
        let lanes = [
            Lane::new(Topic::Limits, self.partition),
            Lane::new(Topic::Policy, 0),
            Lane::new(Topic::Spend, self.partition),
        ];
        let kept = self.take_snapshot();
        let mut places = Vec::with_capacity(lanes.len());
        let mut bounds = [Bounds { start: 0, end: 0 }; 3];
        for (index, lane) in lanes.into_iter().enumerate() {
            let place = match &kept {
                Some(kept) => kept[index],
                None => settle(|| Place::of(&*self.journal, lane, 0)).await?,
            };
            bounds[index] = self.check(place).await?;
            places.push(place);
        }
        let Ok(places) = Places::try_from(places) else {
            return Err(RunnerError::Task("a lane has no place".to_owned()));
        };
        let next = places.map(|place| place.next);
        let reading = Reading::go_on(next, bounds)
            .map_err(|(index, cut)| RunnerError::Cut { lane: lanes[index], start: cut.start })?;
        let [limits, policy, spend] = [(0, reading.limits), (1, reading.policy), (2, reading.spend)]
            .map(|(lane, next)| Feed::new(Arc::clone(&self.journal), lanes[lane], next));
        if let Some((first, last)) = reading.lost_after(next[2]) {
            tracing::warn!(partition = self.partition, first, last, "records of spend are not held any more");
            self.feed(Input::SpendLost { first, last }).await?;
        }
        tracing::info!(partition = self.partition, from = ?next, to = ?reading.ends(), "the ledger reads");
        Ok(Feeds { limits, policy, spend, reading, places })
    }

    /// Holds a place against the journal, through times in which that cannot be reached.
    async fn check(&self, place: Place) -> Result<Bounds, RunnerError> {
        let asked = settle(|| async {
            match place.check(&*self.journal).await {
                Err(Contradiction::Journal(error)) => Err(error),
                other => Ok(other),
            }
        });
        Ok(asked.await??)
    }

    fn snapshot_name(&self) -> String {
        format!("ledger-{}", self.partition)
    }

    /// Goes on from the last snapshot, if there is one that can be used.
    fn take_snapshot(&mut self) -> Option<Places> {
        let bytes = self.shelf.take(&self.snapshot_name())?;
        match Core::restore(self.config.clone(), &bytes) {
            Ok((core, places)) => {
                self.core = core;
                Some(places)
            }
            Err(error) => {
                tracing::warn!(partition = self.partition, %error, "the state is rebuilt from the topics");
                None
            }
        }
    }

    /// Keeps a snapshot when so many records were taken since the last one.
    async fn keep_snapshot(&mut self, places: Places, at_least: u64) {
        if self.fresh < at_least {
            return;
        }
        self.fresh = 0;
        self.kept_at = Instant::now();
        let (shelf, name) = (Arc::clone(&self.shelf), self.snapshot_name());
        match self.core.save(places) {
            Ok(bytes) => {
                let kept = tokio::task::spawn_blocking(move || shelf.keep(&name, &bytes)).await;
                if let Err(error) = kept {
                    tracing::warn!(%error, "a snapshot was not kept");
                }
            }
            Err(error) => tracing::warn!(%error, "a snapshot was not kept"),
        }
    }

    async fn take_limits(&mut self, batch: Batch) -> Result<(), RunnerError> {
        for record in &batch.records {
            let fact = wire::decode(&record.value);
            self.apply(Input::Limits { offset: record.offset, fact: &fact })?;
        }
        self.pause().await
    }

    async fn take_policy(&mut self, batch: Batch) -> Result<(), RunnerError> {
        for record in &batch.records {
            match wire::decode(&record.value) {
                Ok(fact) => self.apply(Input::Policy(&fact))?,
                // The archive keeps it with its reason; policy goes on from what can be read.
                Err(error) => tracing::warn!(offset = record.offset, %error, "a record of policy is no fact"),
            }
        }
        self.pause().await
    }

    async fn take_spend(&mut self, batch: Batch) -> Result<(), RunnerError> {
        for record in &batch.records {
            self.apply(Input::Spend { offset: record.offset, value: &record.value })?;
        }
        self.pause().await
    }

    /// Everything at hand was taken: time to decide.
    async fn pause(&mut self) -> Result<(), RunnerError> {
        self.feed(Input::Pause { now: (self.clock)() }).await
    }

    async fn look_at_clock(&mut self) -> Result<(), RunnerError> {
        self.ticks += 1;
        let spread = spread(self.recorder.producer().0, self.ticks);
        self.feed(Input::Tick { now: (self.clock)(), spread }).await
    }

    /// Says how it is, to handles and, while catching up, to the log.
    fn report(&self, feeds: &Feeds) {
        let standing = self.core.standing();
        if standing == Standing::CatchingUp && self.ticks.is_multiple_of(PROGRESS) {
            let (partition, limits, spend) = (self.partition, feeds.limits.next, feeds.spend.next);
            tracing::info!(partition, limits, spend, ends = ?feeds.reading.ends(), "the ledger catches up");
        }
        let troubles = [&feeds.limits, &feeds.policy, &feeds.spend];
        let trouble = troubles.iter().find_map(|feed| feed.trouble.clone());
        let (open_reservations, waiting_requests) = self.core.waiting();
        self.status.send_replace(PartitionStatus {
            partition: self.partition,
            standing,
            epoch: self.core.fold().epoch(),
            limits_next: feeds.limits.next,
            spend_next: feeds.spend.next,
            open_reservations,
            waiting_requests,
            alerts: self.core.alert_counts(),
            trouble,
        });
    }

    async fn answer(&mut self, ask: Ask) -> Result<(), RunnerError> {
        match ask {
            // Whoever asked may have left: nothing is lost then.
            Ask::Books(answer) => drop(answer.send(self.core.books())),
            Ask::Holders(answer) => drop(answer.send(self.core.holders())),
            Ask::Alerts(answer) => drop(answer.send(self.core.alerts())),
            Ask::Due(most, answer) => drop(answer.send(self.core.due_deliveries(most))),
            Ask::Told(report) => {
                let Report { producer, number, delivered, attempts, status, .. } = report;
                let webhook = &report.webhook;
                let told = Told { producer, number, webhook, delivered, attempts, status };
                self.feed(Input::Told(told)).await?;
            }
        }
        Ok(())
    }

    fn apply(&mut self, input: Input<'_>) -> Result<(), RunnerError> {
        self.fresh +=
            u64::from(matches!(input, Input::Limits { .. } | Input::Spend { .. } | Input::Policy(_)));
        let partition = self.partition;
        self.core.apply(input, &mut self.effects).map_err(|halt| RunnerError::Halt { partition, halt })
    }

    /// Feeds the core, then does what it wants.
    async fn feed(&mut self, input: Input<'_>) -> Result<(), RunnerError> {
        self.apply(input)?;
        if self.effects.is_empty() {
            return Ok(());
        }
        let limits = Lane::new(Topic::Limits, self.partition);
        let mut drafts = Vec::with_capacity(self.effects.len());
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Append(fact) => drafts.push(Draft { lane: limits, fact }),
                Effect::Find(finding) => {
                    tracing::warn!(
                        kind = finding.kind.word(),
                        offset = finding.offset,
                        detail = finding.detail,
                        "a fault in spend"
                    );
                    drafts.push(Draft { lane: self.findings, fact: finding.into() });
                }
                Effect::Acting { epoch } => {
                    tracing::info!(partition = self.partition, epoch, "the ledger acts");
                }
                Effect::Superseded => {
                    tracing::info!(partition = self.partition, "the ledger stands by");
                }
            }
        }
        if drafts.is_empty() {
            return Ok(());
        }
        while self.receipts.len() >= RECEIPTS
            && let Some(receipt) = self.receipts.join_next().await
        {
            acknowledged(receipt)?;
        }
        let receipt = self.recorder.record(drafts)?;
        self.receipts.spawn(receipt);
        Ok(())
    }
}

fn acknowledged(receipt: Result<Result<(), OutletError>, tokio::task::JoinError>) -> Result<(), RunnerError> {
    Ok(receipt.map_err(|error| RunnerError::Task(error.to_string()))??)
}

/// A number of 0 to 1000 that differs between instances and from tick to tick: an incarnation's id is random.
fn spread(id: [u8; 16], tick: u64) -> u16 {
    let (words, _) = id.as_chunks::<8>();
    let mut mixed = words.iter().fold(tick, |mixed, word| mixed ^ u64::from_le_bytes(*word));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    u16::try_from((mixed ^ (mixed >> 31)) % 1001).unwrap_or(0)
}
