//! The forwarder: hands what is on disk to the inner outlet, in order, for as long as it takes.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use bursar_schemas::ports::{Entry, Outlet, OutletError, Receipt};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// Most parcels on their way at once.
const WINDOW: usize = 32;
/// Parcels are sent no more often while facts keep coming: each one costs the same whatever is in it, most of it in
/// the journal's client. The first after a rest goes at once.
const PACE: Duration = Duration::from_millis(1);
/// Each so many facts of a parcel lengthen the pause after it by another `PACE`, up to `SLOWEST`: under load the cost of a parcel
/// weighs more than a wait that is short beside a model's answer.
const STEP: usize = 16;
const SLOWEST: u32 = 4;
/// Facts of a parcel after which the next one need not wait for its turn.
const LARGE: usize = 256;
/// First pause after the inner outlet refused.
const PAUSE: Duration = Duration::from_millis(10);

/// A place in a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) segment: u64,
    pub(super) at: u64,
}

/// Some consecutive facts.
pub(super) struct Parcel {
    pub(super) entries: Vec<Entry>,
    /// Where it begins.
    pub(super) begin: Position,
    /// One above the number of its last frame.
    pub(super) end: u64,
}

/// Where the forwarder takes facts from.
pub(super) trait Feed {
    /// The next facts; none when there are none now.
    fn parcel(&mut self) -> io::Result<Option<Parcel>>;
    /// Goes back.
    fn rewind(&mut self, to: Position);
    /// Everything below that number is acknowledged.
    fn acknowledged(&mut self, end: u64);
    /// The inner outlet refused; it will be tried again.
    fn refused(&mut self, error: &OutletError);
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ran {
    /// Everything was acknowledged.
    Drained,
    /// It was told to stop.
    Stopped,
}

struct Flight {
    receipt: Receipt,
    begin: Position,
    end: u64,
}

enum Woken {
    Settled(Result<(), OutletError>),
    More,
    Stop,
}

/// Forwards one feed.
pub(super) struct Pump<'a> {
    pub(super) inner: &'a dyn Outlet,
    /// More has come into the feed.
    pub(super) more: &'a Notify,
    pub(super) stop: watch::Receiver<bool>,
    /// Longest pause after the inner outlet refused.
    pub(super) longest_pause: Duration,
}

impl Pump<'_> {
    /// Runs until told to stop, or until the feed is drained when it will not grow.
    pub(super) async fn run(&mut self, feed: &mut impl Feed, grows: bool) -> io::Result<Ran> {
        let mut flights: VecDeque<Flight> = VecDeque::new();
        let mut pause = PAUSE;
        let mut turn = Instant::now();
        loop {
            if *self.stop.borrow() {
                return Ok(Ran::Stopped);
            }
            let early = grows && Instant::now() < turn;
            let full = !early && {
                let before = flights.len();
                let (full, facts) = self.fill(feed, &mut flights, grows)?;
                if flights.len() > before {
                    turn = Instant::now() + pause_after(facts);
                }
                full
            };
            let Some(oldest) = flights.front_mut() else {
                if full {
                    // Nothing is on its way whose end would tell when to try again.
                    self.sleep(pause).await;
                    pause = (pause * 2).min(self.longest_pause);
                } else if early {
                    self.until(turn).await;
                } else if grows {
                    tokio::select! { () = self.more.notified() => {}, () = stopped(&mut self.stop) => {} }
                } else {
                    return Ok(Ran::Drained);
                }
                continue;
            };
            let fillable = !full && grows;
            let woken = tokio::select! {
                outcome = &mut oldest.receipt => Woken::Settled(outcome),
                () = tokio::time::sleep_until(turn), if early => Woken::More,
                () = self.more.notified(), if fillable && !early => Woken::More,
                () = stopped(&mut self.stop) => Woken::Stop,
            };
            match woken {
                Woken::More => {}
                Woken::Stop => return Ok(Ran::Stopped),
                Woken::Settled(Ok(())) => {
                    if let Some(done) = flights.pop_front() {
                        feed.acknowledged(done.end);
                    }
                    pause = PAUSE;
                }
                Woken::Settled(Err(error)) => {
                    feed.refused(&error);
                    self.go_back(feed, &mut flights).await;
                    self.sleep(pause).await;
                    pause = (pause * 2).min(self.longest_pause);
                }
            }
        }
    }

    /// Sends what there is and fits, when `paced` no small parcel after another; true when the inner outlet takes no
    /// more, and how many facts were in the last parcel.
    fn fill(
        &self,
        feed: &mut impl Feed,
        flights: &mut VecDeque<Flight>,
        paced: bool,
    ) -> io::Result<(bool, usize)> {
        let mut facts = 0;
        while flights.len() < WINDOW && !(paced && (1..LARGE).contains(&facts)) {
            let Some(Parcel { entries, begin, end }) = feed.parcel()? else { return Ok((false, facts)) };
            facts = entries.len().max(1);
            let taken = if entries.is_empty() {
                Ok(Box::pin(std::future::ready(Ok(()))) as Receipt)
            } else {
                self.inner.append(entries)
            };
            match taken {
                Ok(receipt) => flights.push_back(Flight { receipt, begin, end }),
                Err(error) => {
                    feed.refused(&error);
                    feed.rewind(begin);
                    return Ok((true, facts));
                }
            }
        }
        Ok((false, facts))
    }

    /// After a failure: lets all that is on its way come to an end, so that nothing of it can overtake what is
    /// sent again, and goes back to the first that failed.
    async fn go_back(&mut self, feed: &mut impl Feed, flights: &mut VecDeque<Flight>) {
        let begin = flights.front().map(|flight| flight.begin);
        flights.pop_front();
        for flight in flights.drain(..) {
            let mut receipt = flight.receipt;
            // Sent again whatever became of it: a fact's number tells that it came twice.
            tokio::select! { _ = &mut receipt => {}, () = stopped(&mut self.stop) => {} }
        }
        if let Some(begin) = begin {
            feed.rewind(begin);
        }
    }

    async fn sleep(&mut self, pause: Duration) {
        self.until(Instant::now() + pause).await;
    }

    async fn until(&mut self, at: Instant) {
        tokio::select! { () = tokio::time::sleep_until(at) => {}, () = stopped(&mut self.stop) => {} }
    }
}

/// How long to wait after a parcel of so many facts.
fn pause_after(facts: usize) -> Duration {
    PACE * u32::try_from(facts / STEP).unwrap_or(SLOWEST).clamp(1, SLOWEST)
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the spool itself is gone.
    drop(stop.wait_for(|stop| *stop).await);
}
