//! What happened, in words.

use super::World;
use crate::calendar::SECOND;

impl World {
    /// Where every process is, for the last line of a history.
    pub(super) fn whereabouts(&self) -> String {
        let way = |writer: usize| {
            let from = &self.broker.writers[writer];
            let first = from.under_way.front().map(|(at, _)| at - self.settings.start);
            format!("{} under way from {first:?}, held {}", from.under_way.len(), from.held_until - self.now)
        };
        let mut text = format!(
            "limits {}, spend {}, policy {}",
            self.broker.limits.len(),
            self.broker.spend.len(),
            self.broker.policy.len()
        );
        for (slot, place) in self.ledgers.iter().enumerate() {
            let Some(node) = &place.node else { continue };
            let (reading, waiting) = (&node.reading, node.core.waiting());
            text += &format!(
                "; ledger {slot} {:?} at {} {} {} waiting {waiting:?} pause {} {}",
                node.core.standing(),
                reading.limits,
                reading.spend,
                reading.policy,
                place.paused_until - self.now,
                way(node.writer)
            );
        }
        for books in
            self.ledgers.iter().filter_map(|place| place.node.as_ref()).flat_map(|it| it.core.books())
        {
            let (available, idle, reserved) = (books.available, books.leased_idle, books.reserved);
            text += &format!("; {} available {available} idle {idle} reserved {reserved}", books.budget);
        }
        for (slot, place) in self.shims.iter().enumerate() {
            let Some(node) = &place.node else { continue };
            for held in node.core.book().held() {
                let left = held.granted.minus(held.settled).minus(held.reserved).minus(held.returned);
                let stopped = if held.stopped { " stopped" } else { "" };
                text += &format!("; shim {slot} holds {left} of {}{stopped}", held.lease.number);
            }
            let pause = place.paused_until - self.now;
            text += &format!("; shim {slot} at {} pause {pause} {}", node.next, way(node.writer));
        }
        text
    }

    /// Notes a line of history, when one is kept.
    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(history) = &mut self.history {
            let after = self.now - self.settings.start;
            history.push(format!("{:>9}.{:06}  {}", after / SECOND, after % SECOND, line()));
        }
    }

    /// What happened, when it was kept.
    #[must_use]
    pub fn history(&self) -> &[String] {
        self.history.as_deref().unwrap_or_default()
    }
}
