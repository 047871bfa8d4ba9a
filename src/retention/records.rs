//! Where a hold is asked of records: the archive, and the journal for what is not sealed yet.

use std::sync::Arc;
use std::time::Duration;

use bursar_ingest::content::Vault;
use bursar_query::{QueryConfig, QueryService};
use bursar_schemas::ports::Journal;
use object_store::ObjectStore;
use object_store::path::Path;
use object_store::prefix::PrefixStore;

use super::content::{self, Keeps};
use super::holds::Ruling;
use crate::clock::Clock;
use crate::exit::Outcome;

/// Opens the records when somebody asks them.
pub(crate) type OpenRecords = Arc<dyn Fn() -> anyhow::Result<Records> + Send + Sync>;

/// The records of a deployment, for asking them; nothing that is asked here is a recorded query.
pub(crate) struct Records {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) prefix: Path,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) query: QueryConfig,
    pub(crate) clock: Clock,
}

impl Records {
    /// Sealed records alone.
    pub(super) async fn sealed(&self) -> Outcome<QueryService> {
        let config = QueryConfig { listing: Duration::from_secs(3600), ..self.query.clone() };
        self.asked(config, None).await
    }

    async fn asked(&self, config: QueryConfig, tail: Option<Arc<dyn Journal>>) -> Outcome<QueryService> {
        let store = Arc::new(PrefixStore::new(Arc::clone(&self.store), self.prefix.clone()));
        Ok(QueryService::open(config, store, tail, None, Arc::clone(&self.clock)).await?)
    }

    /// A hold that speaks of a subject's captured content, and why; what is not sealed yet is asked, too.
    pub(super) async fn held(&self, vault: &Vault, ruling: &Ruling, subject: &str) -> Outcome<Keeps> {
        let service = self.asked(self.query.clone(), Some(Arc::clone(&self.journal))).await?;
        content::held(vault, ruling, &service, subject).await
    }
}
