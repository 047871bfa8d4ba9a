//! Questions for leases: what to ask for, when, and how the ledger answered.

use std::sync::Arc;

use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{AccountRef, LeaseId, LeaseRefusal};
use bursar_schemas::money::Money;

use super::{Ask, LeaseBook, Path, PathBook, Refusal, micros, times};

/// Questions open at once about a path whose grants cover hardly more than one reservation each.
const OPEN_QUESTIONS: usize = 16;

#[derive(Debug)]
pub(super) struct Asked {
    lease: LeaseId,
    minimum: Money,
    at: Micros,
    /// It was asked with a mark, which is known for longer than the question is open or as long as there is room.
    marked: bool,
}

impl PathBook {
    /// True when requests wait for grants that cover hardly more than one reservation each.
    pub(super) const fn is_short(&self) -> bool {
        self.scarce && !self.asked.is_empty()
    }

    /// A question is open no more.
    pub(super) fn close_question(&mut self, lease: LeaseId) {
        self.asked.retain(|asked| asked.lease != lease);
    }

    /// An open question is asked with a mark.
    pub(super) fn mark_question(&mut self, lease: LeaseId) {
        let asked = self.asked.iter_mut().find(|asked| asked.lease == lease);
        asked.into_iter().for_each(|asked| asked.marked = true);
    }

    /// A lease was granted; when that answers an open question, whether that was asked with a mark.
    pub(super) fn answered(&mut self, lease: LeaseId, amount: Money) -> Option<bool> {
        let index = self.asked.iter().position(|asked| asked.lease == lease)?;
        let asked = self.asked.swap_remove(index);
        self.scarce = amount < times(asked.minimum, 2);
        Some(asked.marked)
    }
}

impl LeaseBook {
    /// What to ask for so that `minimum` fits; none while a question is open that would help. One for more than
    /// twice as much may wait for money that this one does not need. Near a budget's end a grant helps one request
    /// and no other: each that waits then has a question of its own, `own` where it has asked before. Leases that are
    /// `answered` already are passed over.
    pub fn ask(
        &mut self,
        path: &Path,
        minimum: Money,
        own: Option<LeaseId>,
        now: Micros,
        answered: impl Fn(&LeaseId) -> bool,
    ) -> Option<Ask> {
        let book = self.paths.entry(Arc::clone(path)).or_default();
        let again = micros(self.sizing.ask_again_after);
        book.asked.retain(|asked| now.0.saturating_sub(asked.at.0) < again);
        let helped = book.asked.iter().any(|asked| asked.minimum <= times(minimum, 2));
        let asks_already = own.is_some_and(|own| book.asked.iter().any(|asked| asked.lease == own));
        if helped && (!book.scarce || asks_already || book.asked.len() >= OPEN_QUESTIONS) {
            return None;
        }
        let mut lease = LeaseId { holder: self.holder, number: self.next };
        while answered(&lease) {
            lease.number = lease.number.saturating_add(1);
        }
        self.next = lease.number.saturating_add(1);
        book.asked.push(Asked { lease, minimum, at: now, marked: false });
        let wanted = if helped {
            times(minimum, 2)
        } else {
            book.target(&self.sizing).max(times(minimum, 4)).plus(self.in_flight(path))
        };
        Some(Ask { lease, path: Arc::clone(path), wanted, minimum, mark: None })
    }

    /// A question ahead of need: when less is left on the path than a few usual reservations or a second of
    /// spending.
    pub fn ask_ahead(
        &mut self,
        path: &Path,
        now: Micros,
        answered: impl Fn(&LeaseId) -> bool,
    ) -> Option<Ask> {
        let book = self.paths.get(path)?;
        let low = book.low(self.in_flight(path), &self.sizing);
        if !low.is_positive() || !book.asked.is_empty() || book.refused_lately || self.left(path) >= low {
            return None;
        }
        // The least that helps is one usual reservation: nobody else's idle lease is recalled for more.
        let usual = book.usual.max(Money::from_pico(1));
        self.ask(path, usual, None, now, answered)
    }

    /// Takes the question back, when it could not be sent.
    pub fn unask(&mut self, ask: &Ask) {
        if let Some(book) = self.paths.get_mut(&ask.path) {
            book.close_question(ask.lease);
        }
        self.marks_asked.remove(&ask.lease.number);
    }

    /// True when the log answers a question that was never asked, as a confused ledger may.
    pub(super) const fn is_unasked(&self, number: u64) -> bool {
        number >= self.next
    }

    /// A refusal, or a grant that is void.
    pub fn refused(&mut self, lease: LeaseId, reason: LeaseRefusal, account: Option<AccountRef>) {
        if lease.holder != self.holder || self.is_unasked(lease.number) {
            return;
        }
        for book in self.paths.values_mut() {
            if let Some(index) = book.asked.iter().position(|asked| asked.lease == lease) {
                let asked = book.asked.swap_remove(index);
                book.refusals += 1;
                book.refused_lately = true;
                book.refusal =
                    Some(Refusal { lease, count: book.refusals, minimum: asked.minimum, reason, account });
                return;
            }
        }
    }

    /// Refusals of the path so far, and the last of them.
    #[must_use]
    pub fn refusals(&self, path: &[AccountRef]) -> (u64, Option<&Refusal>) {
        self.paths.get(path).map_or((0, None), |book| (book.refusals, book.refusal.as_ref()))
    }

    /// True when each request that waits on the path asks for itself.
    #[must_use]
    pub fn is_scarce(&self, path: &[AccountRef]) -> bool {
        self.paths.get(path).is_some_and(|book| book.scarce)
    }

    /// When the oldest open question of a path was asked.
    #[must_use]
    pub fn asked_at(&self, path: &[AccountRef]) -> Option<Micros> {
        self.paths.get(path)?.asked.iter().map(|asked| asked.at).min()
    }

    /// When the oldest open question was asked.
    #[must_use]
    pub fn oldest_question(&self) -> Option<Micros> {
        self.paths.values().flat_map(|book| &book.asked).map(|asked| asked.at).min()
    }
}
