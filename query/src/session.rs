//! One session per query: its tables are one snapshot, its bounds are the service's.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array as _, AsArray as _};
use bursar_schemas::policy::PolicyState;
use bursar_schemas::position::Topic;
use bursar_schemas::wire;
use datafusion::common::exec_err;
use datafusion::datasource::ViewTable;
use datafusion::error::Result;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::object_store::ObjectStoreRegistry;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{SessionStateBuilder, SessionStateDefaults};
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};
use datafusion::prelude::{SQLOptions, SessionConfig, SessionContext};
use datafusion::sql::parser::Statement;
use futures::StreamExt as _;
use object_store::ObjectStore;
use parking_lot::Mutex;
use url::Url;

use crate::config::QueryConfig;
use crate::error::QueryError;
use crate::functions;
use crate::lanes::Snapshot;
use crate::status::LaneStatus;
use crate::table::{ARCHIVE, TopicTable};
use crate::views;

/// Rows handled at once.
const BATCH_ROWS: usize = 4096;

/// Partitions of one query's work at most.
const MOST_PARTITIONS: usize = 8;

/// Memory for Parquet metadata of segments read before.
const METADATA_CACHE: usize = 64 * 1024 * 1024;

/// Finds the archive and nothing else: no session can reach a file or another store.
#[derive(Debug)]
struct OnlyArchive(Arc<dyn ObjectStore>);

impl ObjectStoreRegistry for OnlyArchive {
    fn register_store(&self, _: &Url, _: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        None
    }

    fn get_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        if url.as_str().trim_end_matches('/') == ARCHIVE {
            return Ok(Arc::clone(&self.0));
        }
        exec_err!("there is no source of rows beside the archive")
    }
}

/// Organisations' zones as of one state of the policy lanes.
type Zones = (Vec<LaneStatus>, Arc<BTreeMap<String, String>>);

/// Makes sessions.
pub(crate) struct Sessions {
    runtime: Arc<RuntimeEnv>,
    scalar: Vec<Arc<ScalarUDF>>,
    aggregate: Vec<Arc<AggregateUDF>>,
    planners: Vec<Arc<dyn ExprPlanner>>,
    partitions: usize,
    zones: Mutex<Option<Zones>>,
}

/// A query's session, and each organisation's zone as it knows them.
pub(crate) struct Session {
    pub(crate) context: SessionContext,
    pub(crate) zones: Arc<BTreeMap<String, String>>,
}

impl Sessions {
    pub(crate) fn new(config: &QueryConfig, store: Arc<dyn ObjectStore>) -> Result<Self, QueryError> {
        let disk = DiskManagerBuilder::default().with_max_temp_directory_size(config.spill_bytes).with_mode(
            match (&config.spill_folder, config.spill_bytes) {
                (_, 0) => DiskManagerMode::Disabled,
                (Some(folder), _) => DiskManagerMode::Directories(vec![folder.clone()]),
                (None, _) => DiskManagerMode::OsTmpDirectory,
            },
        );
        let consumers = std::num::NonZeroUsize::MIN.saturating_add(2);
        let pool = TrackConsumersPool::new(FairSpillPool::new(config.memory_bytes), consumers);
        let runtime = RuntimeEnvBuilder::new()
            .with_disk_manager_builder(disk)
            .with_memory_pool(Arc::new(pool))
            .with_metadata_cache_limit(METADATA_CACHE)
            .with_object_store_registry(Arc::new(OnlyArchive(store)))
            .build_arc()?;
        let partitions = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Self {
            runtime,
            scalar: functions::scalar(),
            aggregate: functions::aggregate(),
            planners: functions::planners(),
            partitions: partitions.min(MOST_PARTITIONS),
            zones: Mutex::default(),
        })
    }

    fn config(&self) -> SessionConfig {
        let mut config = SessionConfig::new()
            .with_batch_size(BATCH_ROWS)
            .with_target_partitions(self.partitions)
            .with_information_schema(false)
            .with_default_catalog_and_schema("bursar", "public");
        let options = config.options_mut();
        options.execution.enable_recursive_ctes = false;
        // A literal such as 0.5 is exact: amounts never meet a float.
        options.sql_parser.parse_float_as_decimal = true;
        config
    }

    /// A session over a snapshot, with all tables and those views that the text mentions.
    pub(crate) async fn open(&self, snapshot: &Snapshot, sql: &str) -> Result<Session, QueryError> {
        let state = SessionStateBuilder::new()
            .with_config(self.config())
            .with_runtime_env(Arc::clone(&self.runtime))
            .with_scalar_functions(self.scalar.clone())
            .with_aggregate_functions(self.aggregate.clone())
            .with_window_functions(SessionStateDefaults::default_window_functions())
            .with_table_functions(
                SessionStateDefaults::default_table_functions()
                    .into_iter()
                    .map(|function| (function.name().to_owned(), function))
                    .collect(),
            )
            .with_expr_planners(self.planners.clone())
            .build();
        let context = SessionContext::new_with_state(state);
        for (topic, rows) in &snapshot.topics {
            context.register_table(topic.name(), Arc::new(TopicTable::new(*topic, rows.clone())))?;
        }
        let zones = self.zones(&context, snapshot).await?;
        context.register_udf(functions::month_of((*zones).clone()));
        for view in views::mentioned(sql) {
            let plan = context.state().create_logical_plan(view.sql).await?;
            context.register_table(view.name, Arc::new(ViewTable::new(plan, None)))?;
        }
        Ok(Session { context, zones })
    }

    async fn zones(
        &self,
        context: &SessionContext,
        snapshot: &Snapshot,
    ) -> Result<Arc<BTreeMap<String, String>>, QueryError> {
        let lanes = snapshot.status.lanes.iter().filter(|lane| lane.topic == Topic::Policy);
        let now: Vec<LaneStatus> =
            lanes.map(|lane| LaneStatus { behind: 0, tail_rows: 0, ..lane.clone() }).collect();
        if let Some((then, zones)) = &*self.zones.lock()
            && *then == now
        {
            return Ok(Arc::clone(zones));
        }
        let zones = Arc::new(read_zones(context).await?);
        *self.zones.lock() = Some((now, Arc::clone(&zones)));
        Ok(zones)
    }
}

/// Folds the policy topic for the organisations' zones; of several lives of the topic the newest wins.
async fn read_zones(context: &SessionContext) -> Result<BTreeMap<String, String>, QueryError> {
    const PUBLISHED: &str = "SELECT generation, value FROM policy \
         WHERE kind = 'PolicyPublished' AND NOT duplicate \
         ORDER BY min(recorded_at) OVER (PARTITION BY generation), generation, \"offset\"";
    let mut rows = context.sql(PUBLISHED).await?.execute_stream().await?;
    let mut zones = BTreeMap::new();
    let mut state = PolicyState::default();
    let mut current = String::new();
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        let (generations, values) = (batch.column(0).as_string::<i32>(), batch.column(1).as_binary::<i32>());
        for row in 0..batch.num_rows() {
            if generations.value(row) != current {
                generations.value(row).clone_into(&mut current);
                state = PolicyState::default();
            }
            // What cannot be read has no kind and is not among these rows.
            if let (false, Ok(fact)) = (values.is_null(row), wire::decode(values.value(row))) {
                state.apply(&fact);
                zones.extend(
                    state.document.organisations.iter().map(|org| (org.id.clone(), org.time_zone.clone())),
                );
            }
        }
    }
    Ok(zones)
}

impl Session {
    /// Begins a checked statement.
    pub(crate) async fn run(
        &self,
        statement: Statement,
    ) -> Result<datafusion::execution::SendableRecordBatchStream, QueryError> {
        let plan = self.context.state().statement_to_plan(statement).await?;
        // A second lock on the same door: the text was checked before.
        let reading =
            SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        reading.verify_plan(&plan).map_err(|error| QueryError::Refused(error.strip_backtrace()))?;
        Ok(self.context.execute_logical_plan(plan).await?.execute_stream().await?)
    }

    /// Begins a statement of our own, whose rows are taken as they come.
    pub(crate) async fn stream_own(
        &self,
        sql: &str,
    ) -> Result<datafusion::execution::SendableRecordBatchStream, QueryError> {
        Ok(self.context.sql(sql).await?.execute_stream().await?)
    }

    /// Runs a statement of our own.
    pub(crate) async fn run_own(&self, sql: &str) -> Result<Vec<arrow::array::RecordBatch>, QueryError> {
        Ok(self.context.sql(sql).await?.collect().await?)
    }
}
