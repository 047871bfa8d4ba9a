//! The state of a ledger as a snapshot: all that follows from what was read, and nothing that was only decided.

use std::collections::{BTreeMap, BTreeSet};

use bursar_schemas::fold::Fold;
use bursar_schemas::policy::PolicyState;
use bursar_schemas::snapshot::{self, NotASnapshot, Place};
use bursar_schemas::window::Span;
use bursar_schemas::wire;

use super::accounts::Accounts;
use super::attempts::Attempts;
use super::deliveries::Alerts;
use super::desk::Desk;
use super::leases::Leases;
use super::plan::Owner;
use super::producers::Producers;
use super::recover::Marks;
use super::{Config, Core};

/// Where `limits`, `policy` and `spend` were read to.
pub type Places = [Place; 3];

/// What was read, in one order of parts: borrowed to be written, owned when read.
macro_rules! parts {
    ($($part:ty),+ $(,)?) => {
        type Written<'a> = (Places, ($(&'a $part),+), Rest);
        type Read = (Places, ($($part),+), Rest);
    };
}

parts!(
    Fold,
    PolicyState,
    BTreeSet<String>,
    BTreeMap<String, (i64, Span)>,
    BTreeMap<String, Owner>,
    Producers,
    Accounts,
    Attempts,
    Leases,
    Marks,
    Desk,
    Alerts,
);

/// How far `spend` was read and told of, findings, and whether the last record was unreadable.
type Rest = (u64, u64, Vec<Vec<u8>>, bool);

impl Core {
    /// The state as a snapshot at these places.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, places: Places) -> Result<Vec<u8>, NotASnapshot> {
        let findings: Vec<Vec<u8>> =
            (self.findings.iter().cloned()).map(|finding| wire::encode(&finding.into())).collect();
        let parts = (
            &self.fold,
            &self.policy,
            &self.logged,
            &self.newest,
            self.plan.owners(),
            &self.producers,
            &self.accounts,
            &self.attempts,
            &self.leases,
            &self.marks,
            &self.desk,
            &self.alerts,
        );
        let saved: Written<'_> = (places, parts, (self.read, self.told, findings, self.unreadable_run));
        snapshot::write(&saved)
    }

    /// A ledger as a snapshot has it, and where to read on.
    ///
    /// # Errors
    /// When the bytes are not a snapshot of this ledger.
    pub fn restore(config: Config, bytes: &[u8]) -> Result<(Self, Places), NotASnapshot> {
        let (places, parts, (read, told, findings, unreadable_run)): Read = snapshot::read(bytes)?;
        let mut core = Self::new(config);
        let (logged, owners, producers);
        (
            core.fold,
            core.policy,
            logged,
            core.newest,
            owners,
            producers,
            core.accounts,
            core.attempts,
            core.leases,
            core.marks,
            core.desk,
            core.alerts,
        ) = parts;
        producers.is_of(&core.producers)?;
        core.producers = producers;
        logged.iter().for_each(|budget| core.log_limit(budget));
        core.plan.remember_owners(owners);
        // What policy wants is compared with the log once everything is read.
        core.policy_changed = true;
        (core.read, core.told, core.unreadable_run) = (read, told, unreadable_run);
        let findings = findings.iter().filter_map(|bytes| match wire::decode(bytes) {
            Ok(bursar_schemas::facts::Fact::Finding(finding)) => Some(*finding),
            _ => None,
        });
        core.findings = findings.collect();
        Ok((core, places))
    }
}
