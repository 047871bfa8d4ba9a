//! The forwarder: hands what is on disk to the inner outlet, in order, for as long as it takes.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::time::Duration;

use bursar_schemas::ports::{Entry, Outlet, OutletError, Receipt};
use bursar_schemas::position::Lane;
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
const SLOWEST: u32 = 8;
/// Facts of a parcel after which the next one need not wait for its turn.
const LARGE: usize = 256;
/// So many facts of one lane may be on their way when the next parcel goes. Beyond that facts wait here: the Kafka client
/// sends nothing of a lane while five are unacknowledged, and polls without any rest while it holds more.
const FEW: usize = 4;
/// A parcel with so many bytes of facts comes from disk: the forwarder is behind, and the whole window is used.
const BEHIND: usize = 600 << 10;
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
    /// The most facts that it has of one lane.
    of_a_lane: usize,
    bytes: usize,
}

/// Whether another parcel may go beside those that are on their way.
fn may_send(flights: &VecDeque<Flight>) -> bool {
    let Some(last) = flights.back() else { return true };
    let few = || flights.iter().map(|flight| flight.of_a_lane).sum::<usize>() <= FEW;
    flights.len() < WINDOW && (last.bytes >= BEHIND || few())
}

/// The most entries that one lane has.
fn most_of_a_lane(entries: &[Entry]) -> usize {
    let mut counts = BTreeMap::<Lane, usize>::new();
    for entry in entries {
        *counts.entry(entry.lane).or_default() += 1;
    }
    counts.into_values().max().unwrap_or(0)
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
            let open = may_send(&flights);
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
            let fillable = !full && grows && open;
            let woken = tokio::select! {
                outcome = &mut oldest.receipt => Woken::Settled(outcome),
                () = tokio::time::sleep_until(turn), if early && open => Woken::More,
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
        while may_send(flights) && !(paced && (1..LARGE).contains(&facts)) {
            let Some(Parcel { entries, begin, end }) = feed.parcel()? else { return Ok((false, facts)) };
            facts = entries.len().max(1);
            let (of_a_lane, bytes) =
                (most_of_a_lane(&entries), entries.iter().map(|entry| entry.value.len()).sum());
            let taken = if entries.is_empty() {
                Ok(Box::pin(std::future::ready(Ok(()))) as Receipt)
            } else {
                self.inner.append(entries)
            };
            match taken {
                Ok(receipt) => flights.push_back(Flight { receipt, begin, end, of_a_lane, bytes }),
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::cell::RefCell;

    use bursar_schemas::avro::Micros;
    use bursar_schemas::position::Topic;
    use bytes::Bytes;
    use parking_lot::Mutex;
    use tokio::sync::oneshot;

    use super::*;

    type Done = oneshot::Sender<Result<(), OutletError>>;

    /// Takes everything and acknowledges when the test says so.
    #[derive(Default)]
    struct Holding(Mutex<Vec<Option<Done>>>);

    impl Holding {
        fn taken(&self) -> usize {
            self.0.lock().len()
        }

        fn acknowledge(&self, index: usize) {
            self.0.lock()[index].take().unwrap().send(Ok(())).unwrap();
        }
    }

    impl Outlet for Holding {
        fn append(&self, _: Vec<Entry>) -> Result<Receipt, OutletError> {
            let (done, receipt) = oneshot::channel();
            self.0.lock().push(Some(done));
            Ok(Box::pin(async move { receipt.await.unwrap() }))
        }
    }

    struct Parcels(VecDeque<Parcel>, RefCell<Vec<u64>>);

    impl Feed for Parcels {
        fn parcel(&mut self) -> io::Result<Option<Parcel>> {
            Ok(self.0.pop_front())
        }
        fn rewind(&mut self, _: Position) {}
        fn acknowledged(&mut self, end: u64) {
            self.1.borrow_mut().push(end);
        }
        fn refused(&mut self, _: &OutletError) {}
    }

    fn entries(topic: Topic, count: usize, bytes: usize) -> Vec<Entry> {
        let entry = Entry { lane: Lane::new(topic, 0), value: Bytes::from(vec![0; bytes]), at: Micros(0) };
        vec![entry; count]
    }

    /// How many of the parcels are taken before any is acknowledged; all are in the end, in order.
    async fn taken_at_once(parcels: Vec<Vec<Entry>>) -> usize {
        let (outlet, more, count) = (Holding::default(), Notify::new(), parcels.len());
        let (_stop, stop) = watch::channel(false);
        let mut pump = Pump { inner: &outlet, more: &more, stop, longest_pause: PAUSE };
        let begin = Position { segment: 0, at: 0 };
        let parcels = parcels.into_iter().zip(1..).map(|(entries, end)| Parcel { entries, begin, end });
        let mut feed = Parcels(parcels.collect(), RefCell::default());
        let acknowledging = async {
            // The forwarder runs on this thread, until it waits for a receipt.
            tokio::task::yield_now().await;
            let at_once = outlet.taken();
            for index in 0..count {
                while outlet.taken() <= index {
                    tokio::task::yield_now().await;
                }
                outlet.acknowledge(index);
            }
            at_once
        };
        let (ran, at_once) = tokio::join!(pump.run(&mut feed, false), acknowledging);
        assert_eq!(ran.unwrap(), Ran::Drained);
        assert_eq!(feed.1.into_inner(), (1..=u64::try_from(count).unwrap()).collect::<Vec<_>>());
        at_once
    }

    #[tokio::test]
    async fn a_parcel_waits_while_five_facts_of_a_lane_are_on_their_way() {
        let of = |topic, count| entries(topic, count, 10);
        let one = || of(Topic::Spend, 1);
        assert_eq!(taken_at_once(vec![of(Topic::Spend, 5), one()]).await, 1);
        assert_eq!(taken_at_once(vec![of(Topic::Spend, 4), one(), one()]).await, 2);
        let mixed = [of(Topic::Spend, 4), of(Topic::Routes, 4)].concat();
        assert_eq!(taken_at_once(vec![mixed, one()]).await, 2, "each lane counts for itself");
    }

    #[tokio::test]
    async fn a_forwarder_that_is_behind_uses_the_whole_window() {
        let chunk = || entries(Topic::Spend, 700, 1 << 10);
        assert_eq!(taken_at_once((0..WINDOW + 1).map(|_| chunk()).collect()).await, WINDOW);
    }
}
