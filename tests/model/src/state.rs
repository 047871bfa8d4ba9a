//! What there is at a moment, and the part of it that tells moments apart.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

use bursar_schemas::facts::{AccountRef, LeaseId, Phase};
use bursar_schemas::fold::Fold;
use bursar_schemas::ids::ProducerId;
use bursar_schemas::money::Money;

use crate::World;
use crate::log::{Entry, Writer, Written, bit};

/// The accounts: two days of a budget, and a long window of another.
static ACCOUNTS: LazyLock<[AccountRef; 3]> = LazyLock::new(|| {
    let account = |budget: &str, window| AccountRef { budget: budget.to_owned(), window };
    [account("day", 0), account("day", 86_400), account("long", 0)]
});

/// A request for a lease, on `spend`.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    /// Which shim asks.
    pub shim: usize,
    /// Which incarnation of it.
    pub incarnation: u8,
    /// The day that the path holds, beside the long window.
    pub day: usize,
    /// What its holder gave back, on `spend`.
    pub returned: Option<u8>,
    /// What its holder has left; none before it first used the lease.
    pub left: Option<u8>,
}

/// A ledger's process.
#[derive(Debug, Clone)]
pub struct Ledger {
    /// Which life of it.
    pub life: u8,
    /// The next offset of `limits` that it reads.
    pub at: u64,
    /// The fold before that.
    pub view: Arc<Fold>,
    /// Which epoch it believes to be its own: 0 is the first.
    pub epoch: Option<usize>,
    /// Requests that it does not decide: those that it has read an answer of.
    pub answered: u8,
    /// Written and not in the log yet.
    pub way: VecDeque<Written>,
    /// Numbers that it has used.
    pub numbers: u64,
}

/// All there is.
#[derive(Debug, Clone)]
pub struct State {
    /// The fold at the end of `limits`.
    pub head: Arc<Fold>,
    /// Offset of the first entry of `log`.
    pub base: u64,
    /// What counts of `limits` and some ledger has yet to read.
    pub log: VecDeque<Arc<Entry>>,
    /// Offsets of the markers that count.
    pub epochs: Vec<u64>,
    /// The ledgers.
    pub ledgers: [Ledger; 2],
    /// What ledgers that are gone had under way.
    pub zombies: Vec<(Writer, VecDeque<Written>)>,
    /// Crashes of ledgers so far.
    pub ledger_crashes: u8,
    /// Requests and returns on `spend`.
    pub asks: Vec<Ask>,
    /// Requests that a counted record answers.
    pub answered: u8,
    /// Each shim's incarnation.
    pub shims: [u8; 2],
    /// Units billed in each day.
    pub billed: [u8; 2],
    /// A property that an event broke.
    pub broken: Option<&'static str>,
    /// A fault is in the world: what otherwise cannot matter may.
    pub faulty: bool,
}

/// A small number of units.
#[must_use]
pub fn units(money: Money) -> u8 {
    u8::try_from(money.pico()).unwrap_or(u8::MAX)
}

fn small(count: usize) -> u8 {
    u8::try_from(count).unwrap_or(u8::MAX)
}

/// The account of a day.
#[must_use]
pub fn day(which: usize) -> &'static AccountRef {
    &ACCOUNTS[which]
}

/// The account of the long window.
#[must_use]
pub fn long() -> &'static AccountRef {
    &ACCOUNTS[2]
}

/// The id of a process.
#[must_use]
pub fn process(kind: u8, which: usize, life: u8) -> ProducerId {
    let mut id = [0; 16];
    (id[0], id[1], id[2]) = (kind, u8::try_from(which).unwrap_or(u8::MAX), life);
    ProducerId(id)
}

impl State {
    /// The beginning: the first ledger acts, the limits are set, both days (the second one early) and
    /// the long window are open.
    #[must_use]
    pub fn new(world: &World) -> Self {
        let (head, numbers) = crate::log::beginning(&world.bounds);
        let base = head.last().map_or(0, |last| last + 1);
        let head = Arc::new(head);
        let ledger = |epoch, numbers| Ledger {
            life: 0,
            at: base,
            view: Arc::clone(&head),
            epoch,
            answered: 0,
            way: VecDeque::new(),
            numbers,
        };
        Self {
            base,
            log: VecDeque::new(),
            epochs: vec![0],
            ledgers: [ledger(Some(0), numbers), ledger(None, 0)],
            zombies: Vec::new(),
            ledger_crashes: 0,
            asks: Vec::new(),
            answered: 0,
            shims: [0; 2],
            billed: [0; 2],
            broken: None,
            faulty: world.fault.is_some(),
            head,
        }
    }

    /// The lease of a request.
    #[must_use]
    pub fn lease(&self, ask: usize) -> LeaseId {
        let Ask { shim, incarnation, .. } = self.asks[ask];
        LeaseId { holder: process(1, shim, incarnation), number: ask as u64 + 1 }
    }

    /// The path of a request.
    #[must_use]
    pub fn path(&self, ask: usize) -> [&'static AccountRef; 2] {
        [day(self.asks[ask].day), long()]
    }

    /// What was granted for a request.
    #[must_use]
    pub fn granted(&self, ask: usize) -> Option<u8> {
        self.head.lease(&self.lease(ask)).map(|lease| units(lease.amount))
    }

    /// What is committed on an account.
    #[must_use]
    pub fn committed(fold: &Fold, account: &AccountRef) -> u8 {
        fold.account(account).map_or(0, |account| units(account.committed))
    }

    /// What was billed, and what shims that live have left, is committed: a closed day's account as well.
    #[must_use]
    pub fn exposure_is_committed(&self) -> bool {
        let mut days = self.billed;
        for (index, ask) in self.asks.iter().enumerate() {
            if ask.incarnation == self.shims[ask.shim] {
                days[ask.day] += ask.left.or_else(|| self.granted(index)).unwrap_or(0);
            }
        }
        let holds = |which: usize| days[which] <= Self::committed(&self.head, day(which));
        holds(0) && holds(1) && days.iter().sum::<u8>() <= Self::committed(&self.head, long())
    }

    /// True unless a ledger acts, has read everything and has nothing under way, and yet takes a request for answered
    /// that no record answers.
    #[must_use]
    pub fn forgets_nothing(&self) -> bool {
        let end = self.base + self.log.len() as u64;
        let idle = |ledger: &&Ledger| ledger.at == end && ledger.way.is_empty();
        let acting = |ledger: &&Ledger| ledger.epoch == Some(self.epochs.len() - 1);
        self.ledgers.iter().filter(acting).filter(idle).all(|ledger| ledger.answered & !self.answered == 0)
    }

    /// What can matter from here on. Left out: offsets, of which only the order counts; numbers, which rise in the
    /// order of writing and of arriving; who asked what was refused or is a dead holder's, and which of the two shims
    /// is which; what a superseded ledger that acts on has yet to read, since what it writes until then is void, and
    /// after that it has read all. With a fault in the world all of that stays in.
    #[must_use]
    pub fn identity(&self) -> Vec<u8> {
        let mut key = Vec::with_capacity(96);
        key.extend([small(self.epochs.len()), self.ledger_crashes, self.answered]);
        key.extend(self.billed);
        key.push(self.shims.iter().sum());
        key.push(self.broken.map_or(0, |text| small(text.len())));
        self.identify_fold(&mut key);
        self.identify_asks(&mut key);
        for ledger in &self.ledgers {
            let latest = ledger.epoch == Some(self.epochs.len() - 1);
            key.extend([u8::from(latest), u8::from(self.acts(ledger))]);
            if self.faulty || latest {
                key.push(ledger.answered);
            }
            if self.faulty {
                key.push(u8::try_from(ledger.at - self.base).unwrap_or(u8::MAX));
            }
            identify_way(&ledger.way, &mut key);
        }
        key.push(0xfe);
        for entry in self.log.iter().filter(|_| self.faulty) {
            key.extend([small(entry.by.ledger), entry.by.life]);
            entry.written.identify(&mut key);
        }
        key.push(0xfe);
        self.zombies.iter().for_each(|(_, way)| identify_way(way, &mut key));
        key
    }

    fn identify_asks(&self, key: &mut Vec<u8>) {
        let option = |it: Option<u8>| it.unwrap_or(0xff);
        key.push(small(self.asks.len()));
        let mut first = None;
        for (index, ask) in self.asks.iter().enumerate() {
            if self.faulty {
                key.extend([small(ask.shim), ask.incarnation, small(ask.day)]);
                key.extend([option(ask.returned), option(ask.left)]);
            } else if self.answered & bit(index) == 0 || self.granted(index).is_some() {
                let lives = ask.incarnation == self.shims[ask.shim];
                let shim = lives.then(|| u8::from(*first.get_or_insert(ask.shim) != ask.shim));
                key.extend([option(shim), small(ask.day)]);
                key.extend([option(ask.returned), option(ask.left)]);
            }
        }
    }

    fn identify_fold(&self, key: &mut Vec<u8>) {
        for which in 0..2 {
            let phase = self.head.account(day(which)).map(|account| account.phase);
            key.push(match phase {
                None => 0,
                Some(Phase::Open) => 1,
                Some(Phase::Draining) => 2,
                Some(Phase::Closed) => 3,
            });
            key.push(Self::committed(&self.head, day(which)));
        }
        key.push(Self::committed(&self.head, long()));
        for ask in 0..self.asks.len() {
            let Some(lease) = self.head.lease(&self.lease(ask)) else {
                key.push(0xff);
                continue;
            };
            let credited = |account: &AccountRef| lease.credited.get(account).map_or(0, |it| units(*it));
            let [of_day, of_long] = self.path(ask).map(credited);
            key.extend([units(lease.amount), of_day, of_long]);
        }
    }
}

fn identify_way(way: &VecDeque<Written>, key: &mut Vec<u8>) {
    key.push(small(way.len()));
    way.iter().for_each(|written| written.identify(key));
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for State {}

impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.identity().hash(hasher);
    }
}
