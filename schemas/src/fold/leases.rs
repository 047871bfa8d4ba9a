//! The leases kept, and which of them name an account.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeBounds;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::state::Lease;
use crate::facts::{AccountRef, LeaseId};
use crate::snapshot::pairs;

/// Leases by id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Leases {
    of: BTreeMap<LeaseId, Lease>,
    /// Follows from the leases. Without it each window that closes would have to look at all of them, and the windows of
    /// many members close together.
    naming: BTreeMap<AccountRef, BTreeSet<LeaseId>>,
}

impl Leases {
    pub(super) fn get(&self, id: &LeaseId) -> Option<&Lease> {
        self.of.get(id)
    }

    /// A lease to be changed; its accounts stay as they are.
    pub(super) fn get_mut(&mut self, id: &LeaseId) -> Option<&mut Lease> {
        self.of.get_mut(id)
    }

    pub(super) fn contains_key(&self, id: &LeaseId) -> bool {
        self.of.contains_key(id)
    }

    pub(super) fn insert(&mut self, id: LeaseId, lease: Lease) {
        for account in &lease.accounts {
            match self.naming.get_mut(account) {
                Some(leases) => drop(leases.insert(id)),
                None => drop(self.naming.insert(account.clone(), BTreeSet::from([id]))),
            }
        }
        self.of.insert(id, lease);
    }

    pub(super) fn remove(&mut self, id: &LeaseId) -> Option<Lease> {
        let lease = self.of.remove(id)?;
        for account in &lease.accounts {
            if let Some(leases) = self.naming.get_mut(account) {
                leases.remove(id);
                if leases.is_empty() {
                    self.naming.remove(account);
                }
            }
        }
        Some(lease)
    }

    /// The leases on whose path the account is, sorted.
    pub(super) fn naming(&self, account: &AccountRef) -> impl Iterator<Item = (&LeaseId, &Lease)> {
        let ids = self.naming.get(account).into_iter().flatten();
        ids.filter_map(|id| self.of.get_key_value(id))
    }

    /// True while a lease has the account on its path.
    pub(super) fn name(&self, account: &AccountRef) -> bool {
        self.naming.contains_key(account)
    }

    pub(super) fn range(&self, range: impl RangeBounds<LeaseId>) -> impl Iterator<Item = (&LeaseId, &Lease)> {
        self.of.range(range)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&LeaseId, &Lease)> {
        self.of.iter()
    }
}

impl Serialize for Leases {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        pairs::serialize(&self.of, serializer)
    }
}

impl<'de> Deserialize<'de> for Leases {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut leases = Self::default();
        let of: Vec<(LeaseId, Lease)> = pairs::deserialize(deserializer)?;
        of.into_iter().for_each(|(id, lease)| leases.insert(id, lease));
        Ok(leases)
    }
}
