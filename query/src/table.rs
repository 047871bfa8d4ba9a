//! A topic as a table: its sealed segments, read from the archive as they are needed, and its tail.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, TimestampMicrosecondArray, UInt64Array};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use bursar_schemas::columns;
use bursar_schemas::position::Topic;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};

use crate::catalog::Segment;
use crate::lanes::TopicRows;

/// The one address under which a session finds objects: the archive.
pub(crate) const ARCHIVE: &str = "bursar://archive";

/// A topic's rows as one query sees them.
#[derive(Debug)]
pub(crate) struct TopicTable {
    schema: SchemaRef,
    rows: TopicRows,
}

impl TopicTable {
    pub(crate) fn new(topic: Topic, rows: TopicRows) -> Self {
        Self { schema: columns::schema(topic), rows }
    }

    /// Segments that can hold a row of interest.
    fn segments(&self, predicate: Option<&Arc<dyn PhysicalExpr>>) -> Result<Vec<Arc<Segment>>> {
        let Some(predicate) = predicate else { return Ok(self.rows.segments.clone()) };
        let builder = PruningPredicateBuilder::new().with_file_schema(Arc::clone(&self.schema));
        // Not every expression can be turned into one over ranges; then every segment is of interest.
        let Some(pruning) = builder.build(Arc::clone(predicate)) else {
            return Ok(self.rows.segments.clone());
        };
        let kept = pruning.prune(&Ranges(&self.rows.segments))?;
        let segments = self.rows.segments.iter().zip(kept);
        Ok(segments.filter(|(_, kept)| *kept).map(|(segment, _)| Arc::clone(segment)).collect())
    }

    fn sealed(
        &self,
        segments: &[Arc<Segment>],
        predicate: Option<&Arc<dyn PhysicalExpr>>,
        projection: Option<&Vec<usize>>,
        partitions: usize,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut source = ParquetSource::new(Arc::clone(&self.schema));
        if let Some(predicate) = predicate {
            source = source.with_predicate(Arc::clone(predicate));
        }
        let mut groups = vec![Vec::new(); partitions.clamp(1, segments.len().max(1))];
        let count = groups.len();
        for (index, segment) in segments.iter().enumerate() {
            groups[index % count].push(PartitionedFile::new_from_meta(segment.object.clone()));
        }
        let config = FileScanConfigBuilder::new(ObjectStoreUrl::parse(ARCHIVE)?, Arc::new(source))
            .with_file_groups(groups.into_iter().map(FileGroup::new).collect())
            .with_projection_indices(projection.cloned())?
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

#[async_trait]
impl TableProvider for TopicTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let predicate = match conjunction(filters.to_vec()) {
            Some(filter) => {
                let schema = DFSchema::try_from(Arc::clone(&self.schema))?;
                Some(session.create_physical_expr(filter, &schema)?)
            }
            None => None,
        };
        let segments = self.segments(predicate.as_ref())?;
        let mut sources: Vec<Arc<dyn ExecutionPlan>> = Vec::new();
        if !segments.is_empty() {
            let partitions = session.config().target_partitions();
            sources.push(self.sealed(&segments, predicate.as_ref(), projection, partitions)?);
        }
        if !self.rows.tail.is_empty() {
            let tail = MemorySourceConfig::try_new_exec(
                std::slice::from_ref(&self.rows.tail),
                Arc::clone(&self.schema),
                projection.cloned(),
            )?;
            sources.push(tail);
        }
        match sources.len() {
            0 => {
                let schema = match projection {
                    Some(kept) => Arc::new(self.schema.project(kept)?),
                    None => Arc::clone(&self.schema),
                };
                Ok(Arc::new(EmptyExec::new(schema)))
            }
            1 => Ok(sources.remove(0)),
            _ => UnionExec::try_new(sources),
        }
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        // Filters only spare reading: the engine applies them again to every row.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }
}

/// What footers say of segments, so that those outside a period are never opened.
struct Ranges<'a>(&'a [Arc<Segment>]);

impl Ranges<'_> {
    fn edges(&self, column: &Column, low: bool) -> Option<ArrayRef> {
        let edge = |range: Option<(i64, i64)>| range.map(|(least, most)| if low { least } else { most });
        let offset = |segment: &Arc<Segment>| {
            let (first, last) = (segment.start, segment.end);
            i64::try_from(if low { first } else { last }).ok()
        };
        match column.name.as_str() {
            "offset" => Some(Arc::new(Int64Array::from_iter(self.0.iter().map(offset)))),
            "at" => Some(times(self.0.iter().map(|segment| edge(segment.times_us)))),
            "accounting_at" => Some(times(self.0.iter().map(|segment| edge(segment.accounting_us)))),
            _ => None,
        }
    }
}

fn times(edges: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter(edges).with_timezone("UTC"))
}

impl PruningStatistics for Ranges<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.edges(column, true)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.edges(column, false)
    }

    fn num_containers(&self) -> usize {
        self.0.len()
    }

    fn null_counts(&self, _: &Column) -> Option<ArrayRef> {
        None
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(UInt64Array::from_iter_values(self.0.iter().map(|segment| segment.rows))))
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
