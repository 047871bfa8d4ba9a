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

/// What was read, in one order of fields for writing and reading.
type Saved<F, P, B, N, O, R, A, T, L, M, D, S> =
    (Places, F, P, (B, N, O), (R, A, T, L, M, D, S), (u64, u64, Vec<Vec<u8>>, bool));

type Owned = Saved<
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
>;

impl Core {
    /// The state as a snapshot at these places.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, places: Places) -> Result<Vec<u8>, NotASnapshot> {
        let findings: Vec<Vec<u8>> =
            (self.findings.iter().cloned()).map(|finding| wire::encode(&finding.into())).collect();
        let parts: Saved<_, _, _, _, _, _, _, _, _, _, _, _> = (
            places,
            &self.fold,
            &self.policy,
            (&self.logged, &self.newest, self.plan.owners()),
            (
                &self.producers,
                &self.accounts,
                &self.attempts,
                &self.leases,
                &self.marks,
                &self.desk,
                &self.alerts,
            ),
            (self.read, self.told, findings, self.unreadable_run),
        );
        snapshot::write(&parts)
    }

    /// A ledger as a snapshot has it, and where to read on.
    ///
    /// # Errors
    /// When the bytes are not a snapshot of this ledger.
    pub fn restore(config: Config, bytes: &[u8]) -> Result<(Self, Places), NotASnapshot> {
        let (places, fold, policy, planned, parts, rest): Owned = snapshot::read(bytes)?;
        let mut core = Self::new(config);
        parts.0.is_of(&core.producers)?;
        core.fold = fold;
        core.policy = policy;
        // What policy wants is compared with the log once everything is read.
        core.policy_changed = true;
        planned.0.iter().for_each(|budget| core.log_limit(budget));
        core.newest = planned.1;
        core.plan.remember_owners(planned.2);
        (core.producers, core.accounts, core.attempts, core.leases, core.marks, core.desk, core.alerts) =
            parts;
        (core.read, core.told) = (rest.0, rest.1);
        core.findings = (rest.2.iter())
            .filter_map(|bytes| match wire::decode(bytes) {
                Ok(bursar_schemas::facts::Fact::Finding(finding)) => Some(*finding),
                _ => None,
            })
            .collect();
        core.unreadable_run = rest.3;
        Ok((core, places))
    }
}
