//! One world: a virtual clock, a queue of events, and the processes. Each step takes one event, lets production code
//! act on it, and runs every checker.

mod alerts;
mod attempts;
mod bounded;
mod check;
mod confused;
mod faults;
mod heal;
mod history;
mod lanes;
mod ledgers;
mod marked;
mod policy;
mod recovery;
mod refusals;
mod requests;
mod shims;
mod steady;
mod wasted;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::fmt;

pub use confused::LIE;
pub use steady::{Steady, load};

use bursar_schemas::facts::AccountRef;
use bursar_schemas::ids::{Digest, ProducerId};
use bursar_schemas::producer::Identity;

use crate::broker::Broker;
use crate::marks::{Mark, Marks};
use crate::naive::Naive;
use crate::plan::Planned;
use crate::random::mix;
use crate::rules::Rules;
use crate::settings::{BUDGETS, KINDS, Settings};
use crate::truth::Truth;
use confused::Confused;
use ledgers::LedgerSlot;
use policy::Published;
use requests::Request;
use shims::ShimSlot;
use wasted::Wasted;

/// A checker found something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which checker.
    pub check: &'static str,
    /// What is so instead.
    pub detail: String,
    /// At which step.
    pub step: u64,
    /// At which time after the start, in microseconds.
    pub at: i64,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {} at {} us: {}: {}", self.step, self.at, self.check, self.detail)
    }
}

/// What a checker says: which one, and what is so instead.
type Broken = (&'static str, String);

/// What happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Plan(usize),
    Arrive(usize),
    Copy {
        spend: bool,
        index: usize,
    },
    LedgerRead {
        slot: usize,
        life: u32,
        lane: usize,
    },
    LedgerTick {
        slot: usize,
        life: u32,
    },
    LedgerStart {
        slot: usize,
    },
    LedgerStop {
        slot: usize,
        life: u32,
    },
    ShimRead {
        slot: usize,
        life: u32,
    },
    ShimPolicy {
        slot: usize,
        life: u32,
    },
    ShimTurn {
        slot: usize,
        life: u32,
    },
    ShimStart {
        slot: usize,
        again: bool,
    },
    ShimCrash {
        slot: usize,
        life: u32,
    },
    /// A mark of a shim was acknowledged.
    Marked {
        slot: usize,
        life: u32,
        index: usize,
    },
    /// An operator retires an incarnation.
    Retire(usize),
    Look(usize),
    Expire(usize, u32),
    End(usize, u32),
    /// A turn of the policy's clock: raises end by the true time.
    Expiry(usize),
}

/// One world.
pub struct World {
    /// Its settings.
    pub settings: Settings,
    /// How often what happened.
    pub marks: Marks,
    /// Steps so far.
    pub steps: u64,
    /// A digest of all that happened.
    pub digest: u64,
    plan: Vec<Planned>,
    now: i64,
    queue: BinaryHeap<Reverse<(i64, u64, Event)>>,
    queued: u64,
    broker: Broker,
    published: Published,
    ledgers: Vec<LedgerSlot>,
    shims: Vec<ShimSlot>,
    requests: Vec<Request>,
    confused: Confused,
    wasted: Wasted,
    /// Incarnations that an operator retired, each with the end of `spend` at that time.
    retired: BTreeMap<ProducerId, u64>,
    rules: Rules,
    naive: Naive,
    truth: Truth,
    ceilings: HashMap<AccountRef, check::Ceiling>,
    limits: HashMap<String, check::Known>,
    bounded: HashMap<AccountRef, bounded::Overspend>,
    alerts: BTreeSet<alerts::Told>,
    born: u64,
    /// Every fault so far is over by then.
    quiet_after: i64,
    healing: bool,
    history: Option<Vec<String>>,
}

impl World {
    /// A world at its beginning.
    #[must_use]
    pub fn new(settings: Settings, plan: Vec<Planned>, history: bool) -> Self {
        let mut world = Self {
            marks: Marks::default(),
            steps: 0,
            digest: settings.seed,
            now: settings.start,
            queue: BinaryHeap::new(),
            queued: 0,
            broker: Broker::default(),
            published: Published::new(&settings),
            ledgers: (0..=settings.ledgers).map(|_| LedgerSlot::default()).collect(),
            shims: (0..settings.shims).map(|slot| ShimSlot::new(&settings, slot)).collect(),
            requests: Vec::new(),
            confused: Confused::default(),
            wasted: Wasted::default(),
            retired: BTreeMap::new(),
            rules: Rules::default(),
            naive: Naive::default(),
            truth: Truth::default(),
            ceilings: HashMap::new(),
            limits: HashMap::new(),
            bounded: HashMap::new(),
            alerts: BTreeSet::new(),
            born: 0,
            quiet_after: 0,
            healing: false,
            history: history.then(Vec::new),
            plan,
            settings,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        self.publish();
        self.issue_key();
        let start = self.now;
        for slot in 0..self.settings.ledgers {
            // With several ledgers, two begin at the same instant.
            self.at(start, Event::LedgerStart { slot });
        }
        for slot in 0..self.settings.shims {
            let wait = i64::try_from(self.chance(3, slot as u64) % 200_000).unwrap_or(0);
            self.at(start + wait, Event::ShimStart { slot, again: false });
        }
        for index in 0..self.plan.len() {
            self.at(start + self.plan[index].at, Event::Plan(index));
        }
    }

    /// Runs to the end of the plan, heals, spends what is left, and checks what must hold then.
    ///
    /// # Errors
    /// What the first checker found.
    pub fn run(&mut self) -> Result<(), Violation> {
        let end = self.settings.start + self.settings.span;
        self.run_until(end).map_err(|broken| self.violation(broken))?;
        self.heal().map_err(|broken| self.violation(broken))
    }

    fn run_until(&mut self, end: i64) -> Result<(), Broken> {
        while let Some(Reverse((at, _, _))) = self.queue.peek() {
            if *at > end {
                break;
            }
            self.step()?;
        }
        self.now = self.now.max(end);
        Ok(())
    }

    fn step(&mut self) -> Result<(), Broken> {
        let Some(Reverse((at, _, event))) = self.queue.pop() else { return Ok(()) };
        self.now = self.now.max(at);
        if self.dispatch(event)? {
            self.steps += 1;
            self.digest = mix(self.digest, mix(self.now as u64, event.word()));
            self.check()?;
        }
        Ok(())
    }

    /// Lets it happen; false when it had nothing to act on, which is no step.
    fn dispatch(&mut self, event: Event) -> Result<bool, Broken> {
        match event {
            Event::Plan(index) => self.act(index),
            Event::Arrive(writer) => self.arrive(writer),
            Event::Copy { spend, index } => self.copy(spend, index),
            Event::LedgerRead { slot, life, lane } => self.ledger_read(slot, life, lane),
            Event::LedgerTick { slot, life } => self.ledger_tick(slot, life),
            Event::LedgerStart { slot } => self.ledger_start(slot),
            Event::LedgerStop { slot, life } => Ok(self.ledger_stop(slot, life)),
            Event::ShimRead { slot, life } => self.shim_read(slot, life),
            Event::ShimPolicy { slot, life } => Ok(self.shim_policy(slot, life)),
            Event::ShimTurn { slot, life } => self.shim_turn(slot, life),
            Event::ShimStart { slot, again } => self.shim_start(slot, again),
            Event::ShimCrash { slot, life } => Ok(self.shim_crash(slot, life, true)),
            Event::Marked { slot, life, index } => Ok(self.marked(slot, life, index)),
            Event::Retire(writer) => Ok(self.retire(writer)),
            Event::Look(request) => self.look(request),
            Event::Expire(request, attempt) => self.expire(request, attempt),
            Event::End(request, attempt) => self.end(request, attempt),
            Event::Expiry(budget) => Ok(self.note_expiry(budget)),
        }
    }

    fn at(&mut self, at: i64, event: Event) {
        self.queued += 1;
        self.queue.push(Reverse((at.max(self.now), self.queued, event)));
    }

    /// A number that follows from the seed, a kind and a name.
    const fn chance(&self, kind: u64, name: u64) -> u64 {
        mix(mix(self.settings.seed, kind), name)
    }

    /// True once in so many times, by name; never for 0.
    const fn happens(&self, kind: u64, name: u64, once_in: u64) -> bool {
        once_in > 0 && !self.healing && self.chance(kind, name).is_multiple_of(once_in)
    }

    fn identity(&mut self, role: bursar_schemas::facts::Role) -> Identity {
        self.born += 1;
        let mut id = [0; 16];
        id[..8].copy_from_slice(&mix(self.settings.seed, self.born).to_be_bytes());
        id[8..].copy_from_slice(&self.born.to_be_bytes());
        let mut secret = [7; 32];
        secret[..16].copy_from_slice(&id);
        Identity::new(ProducerId(id), role, secret, &DEPLOYMENT)
    }

    fn violation(&mut self, (check, detail): Broken) -> Violation {
        let whereabouts = self.whereabouts();
        self.note(|| whereabouts);
        Violation { check, detail, step: self.steps, at: self.now - self.settings.start }
    }

    fn hit(&mut self, mark: Mark) {
        self.marks.hit(mark);
    }

    /// The accounts of some budgets at an instant, by the simulator's own calendar.
    fn accounts_at(budgets: &[usize], at: i64) -> Vec<AccountRef> {
        let account = |budget: &usize| AccountRef {
            budget: BUDGETS[*budget].to_owned(),
            window: KINDS[*budget].window(at),
        };
        budgets.iter().map(account).collect()
    }
}

impl Event {
    /// A number that tells events apart.
    const fn word(self) -> u64 {
        match self {
            Self::Plan(index) => mix(1, index as u64),
            Self::Arrive(writer) => mix(2, writer as u64),
            Self::Copy { spend, index } => mix(3 + spend as u64, index as u64),
            Self::LedgerRead { slot, lane, .. } => mix(5 + lane as u64, slot as u64),
            Self::LedgerTick { slot, .. } => mix(8, slot as u64),
            Self::LedgerStart { slot } => mix(9, slot as u64),
            Self::LedgerStop { slot, .. } => mix(10, slot as u64),
            Self::ShimRead { slot, .. } => mix(11, slot as u64),
            Self::ShimPolicy { slot, .. } => mix(12, slot as u64),
            Self::ShimTurn { slot, .. } => mix(13, slot as u64),
            Self::ShimStart { slot, .. } => mix(14, slot as u64),
            Self::ShimCrash { slot, .. } => mix(15, slot as u64),
            Self::Look(request) => mix(16, request as u64),
            Self::Expire(request, _) => mix(17, request as u64),
            Self::End(request, _) => mix(18, request as u64),
            Self::Expiry(budget) => mix(19, budget as u64),
            Self::Marked { slot, .. } => mix(20, slot as u64),
            Self::Retire(writer) => mix(21, writer as u64),
        }
    }
}

const DEPLOYMENT: [u8; 32] = [9; 32];

/// The public key of the simulated deployment.
fn deployment_key() -> Digest {
    static KEY: std::sync::OnceLock<Digest> = std::sync::OnceLock::new();
    *KEY.get_or_init(|| {
        let role = bursar_schemas::facts::Role::Shim;
        Identity::new(ProducerId([0; 16]), role, [1; 32], &DEPLOYMENT).deployment_key
    })
}
