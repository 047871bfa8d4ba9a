//! What is sent when: one delivery at a time to each webhook, failed ones again after a growing wait. Pure.
//!
//! It holds no more than what the ledger says is due, which is bounded; a restart begins anew with what is still due.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

/// Wait after the first failure; it doubles with each.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// An alert is given up when it could not be delivered for so long after it was raised.
const GIVE_UP_AFTER: Duration = Duration::from_secs(24 * 3600);

/// How long the ledger may take to say that a delivery has ended before it is told again.
const SAY_AGAIN: Duration = Duration::from_secs(5);

/// An alert's id and a webhook's.
pub(super) type Key = (String, String);

/// How a delivery ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) delivered: bool,
    pub(super) attempts: u32,
    pub(super) status: Option<u16>,
}

/// What is to be done about a delivery that is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Nothing,
    Send,
    Tell(Ended),
}

#[derive(Debug)]
enum State {
    Waiting(Instant),
    Sending,
    Ended(Ended, Instant),
}

#[derive(Debug)]
struct Entry {
    attempts: u32,
    state: State,
}

/// The deliveries under way.
#[derive(Debug, Default)]
pub(super) struct Queue {
    entries: BTreeMap<Key, Entry>,
    busy: BTreeSet<String>,
}

impl Queue {
    /// Forgets what is not due any more; an answer that is still awaited is not forgotten.
    pub(super) fn keep(&mut self, due: &BTreeSet<Key>) {
        self.entries.retain(|key, entry| matches!(entry.state, State::Sending) || due.contains(key));
    }

    /// What to do about a delivery that is due. [`Next::Send`] takes the webhook's turn until [`Queue::answered`].
    pub(super) fn next(&mut self, key: &Key, now: Instant) -> Next {
        let fresh = || Entry { attempts: 0, state: State::Waiting(now) };
        let entry = self.entries.entry(key.clone()).or_insert_with(fresh);
        match entry.state {
            State::Waiting(until) if until <= now && self.busy.insert(key.1.clone()) => {
                entry.attempts += 1;
                entry.state = State::Sending;
                Next::Send
            }
            State::Ended(ended, said) if said + SAY_AGAIN <= now => {
                entry.state = State::Ended(ended, now);
                Next::Tell(ended)
            }
            _ => Next::Nothing,
        }
    }

    /// An answer came, or none did; `age` is the time since the alert was raised. Gives how the delivery ended, if it did:
    /// with any status of success, with 410 (nobody wants it any more), or after a day without.
    pub(super) fn answered(
        &mut self,
        key: &Key,
        status: Option<u16>,
        age: Duration,
        now: Instant,
    ) -> Option<Ended> {
        self.busy.remove(&key.1);
        let entry = self.entries.get_mut(key)?;
        let delivered = status.is_some_and(|status| (200..300).contains(&status));
        if delivered || status == Some(410) || age >= GIVE_UP_AFTER {
            let ended = Ended { delivered, attempts: entry.attempts, status };
            entry.state = State::Ended(ended, now);
            return Some(ended);
        }
        let doubled = FIRST_WAIT.saturating_mul(1 << entry.attempts.saturating_sub(1).min(16));
        entry.state = State::Waiting(now + doubled.min(LONGEST_WAIT));
        None
    }

    /// Policy has no such webhook any more: the delivery has ended without having been tried.
    pub(super) fn abandon(&mut self, key: &Key, now: Instant) -> Option<Ended> {
        let entry = self.entries.entry(key.clone());
        let entry = entry.or_insert(Entry { attempts: 0, state: State::Waiting(now) });
        match entry.state {
            State::Waiting(_) => {
                let ended = Ended { delivered: false, attempts: entry.attempts, status: None };
                entry.state = State::Ended(ended, now);
                Some(ended)
            }
            State::Sending | State::Ended(..) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    const YOUNG: Duration = Duration::from_secs(1);

    fn key(alert: &str, webhook: &str) -> Key {
        (alert.to_owned(), webhook.to_owned())
    }

    #[test]
    fn failures_wait_longer_each_time_and_end_after_a_day() {
        let (mut queue, mut now) = (Queue::default(), Instant::now());
        let it = key("a", "w");
        let mut waits = Vec::new();
        for _ in 0..13 {
            assert_eq!(queue.next(&it, now), Next::Send);
            assert_eq!(queue.next(&it, now), Next::Nothing, "it is under way");
            assert_eq!(queue.answered(&it, Some(500), YOUNG, now), None);
            let failed = now;
            while queue.next(&it, now) == Next::Nothing {
                now += Duration::from_secs(1);
            }
            waits.push((now - failed).as_secs());
            queue.answered(&it, None, YOUNG, now);
            now += LONGEST_WAIT;
        }
        assert_eq!(waits[..4], [1, 4, 16, 64]);
        assert_eq!(waits[12], 600);
        assert_eq!(queue.next(&it, now), Next::Send);
        let ended = queue.answered(&it, None, GIVE_UP_AFTER, now).unwrap();
        assert_eq!(ended, Ended { delivered: false, attempts: 27, status: None });
    }

    #[test]
    fn what_has_ended_is_never_sent_again_and_is_said_again_while_it_is_due() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let it = key("a", "w");
        assert_eq!(queue.next(&it, now), Next::Send);
        let ended = queue.answered(&it, Some(204), YOUNG, now).unwrap();
        assert_eq!(ended, Ended { delivered: true, attempts: 1, status: Some(204) });
        queue.keep(&BTreeSet::from([it.clone()]));
        assert_eq!(queue.next(&it, now), Next::Nothing);
        assert_eq!(queue.next(&it, now + SAY_AGAIN), Next::Tell(ended));
        assert_eq!(queue.next(&it, now + SAY_AGAIN), Next::Nothing);
        queue.keep(&BTreeSet::new());
        assert!(queue.entries.is_empty() && queue.busy.is_empty());
    }

    #[test]
    fn a_webhook_that_hangs_holds_up_nobody_else() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        assert_eq!(queue.next(&key("a", "slow"), now), Next::Send);
        assert_eq!(queue.next(&key("b", "slow"), now), Next::Nothing, "one at a time");
        assert_eq!(queue.next(&key("a", "quick"), now), Next::Send);
        // It is not due any more, since another ledger acts; its answer frees the turn all the same.
        queue.keep(&BTreeSet::new());
        queue.answered(&key("a", "slow"), None, YOUNG, now);
        assert_eq!(queue.next(&key("b", "slow"), now), Next::Send);
        assert!(queue.answered(&key("b", "slow"), Some(410), YOUNG, now).is_some_and(|it| !it.delivered));
        assert!(queue.abandon(&key("c", "gone"), now).is_some());
        assert_eq!(queue.abandon(&key("c", "gone"), now), None);
    }
}
