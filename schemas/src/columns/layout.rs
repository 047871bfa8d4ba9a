//! Which columns a topic's table has, and which column each field of each fact goes to.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use arrow_schema::{DataType, Field, Schema, SchemaRef};

use super::shape::{Member, Shape};
use crate::facts::Fact;
use crate::position::Topic;

/// A column, and what its docs say per fact.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) shape: Shape,
    docs: Vec<(String, Vec<&'static str>)>,
}

/// How a fact's datum is read.
#[derive(Debug)]
pub(super) enum Step {
    /// The next value goes to that fact column.
    Cell(usize, Shape),
    /// The next value is an optional record, spread over these.
    Spread(Vec<Self>),
}

/// A topic's table.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) schema: SchemaRef,
    pub(super) docs: Vec<(String, String)>,
    /// Columns read from facts; they follow the [`RECORD`] columns.
    pub(super) columns: Vec<Column>,
    plans: BTreeMap<u32, Vec<Step>>,
    foreign: Vec<Step>,
}

/// Columns that come from the record rather than from the fact, in order.
pub(super) const RECORD: [(&str, &str); 9] = [
    ("offset", "Offset of the record in its partition."),
    ("partition", "Partition of the topic."),
    ("generation", "Life of the topic: a topic that was deleted and made anew has another."),
    ("recorded_at", "When the journal took the record in, by the writer's clock."),
    ("value", "The record's bytes as they were written; hashes and proofs are over these."),
    ("kind", "Name of the fact's kind; null when the record is not a fact of the contract."),
    ("unreadable", "Why the record is not a fact of the contract; null for a fact."),
    ("duplicate", "True when the producer's number came before: the fact counts once, and not here."),
    ("missing_before", "How many numbers of the same producer should have come before this one and did not."),
];

/// Fields whose own name would be unclear, or is another field's, in a table of many kinds.
const RENAMED: &[(&str, &str, &str)] = &[
    ("Head", "policy", "policy_version"),
    ("Head", "prices", "price_version"),
    ("ProducerOpened", "version", "software_version"),
    ("ProducerHead", "last", "head_last"),
    ("ProducerHead", "hash", "head_hash"),
    ("ProducerHead", "signature", "head_signature"),
    ("ProducerHead", "ended", "head_ended"),
    ("Finding", "kind", "finding_kind"),
    ("Finding", "topic", "finding_topic"),
    ("Finding", "partition", "finding_partition"),
    ("Finding", "offset", "finding_offset"),
    ("Finding", "subject", "finding_subject"),
    ("Finding", "first", "finding_first"),
    ("Finding", "last", "finding_last"),
    ("LeaseReturned", "number", "return_number"),
    ("LeaseReturned", "last", "last_return"),
    ("LeaseCredited", "number", "credit_number"),
    ("LimitSet", "policy_version", "limit_policy_version"),
    ("ShimRetired", "partition", "retired_partition"),
];

fn column_name(owner: &str, prefix: &str, field: &str) -> String {
    let renamed = RENAMED.iter().find(|(kind, name, _)| *kind == owner && *name == field);
    renamed.map_or_else(|| format!("{prefix}{field}"), |(.., name)| (*name).to_owned())
}

/// Fields of a record that is spread over columns rather than nested, with the owner that renames them and
/// the prefix of their names.
fn spread<'a>(member: &'a Member, prefix: &str) -> Option<(&'a [Member], &'static str, String)> {
    let inner = if let Shape::Maybe(inner) = &member.shape { inner } else { &member.shape };
    let Shape::Record(members) = inner else { return None };
    Some(match member.name.as_str() {
        "head" => (members, "Head", String::new()),
        "about" => (members, "About", String::new()),
        name => (members, "", format!("{prefix}{name}_")),
    })
}

/// Columns in the making.
#[derive(Debug, Default)]
struct Columns {
    list: Vec<Column>,
    index: BTreeMap<String, usize>,
}

impl Columns {
    fn add(&mut self, name: String, member: &Member, kind: Option<&'static str>) -> usize {
        let shape = if let Shape::Maybe(inner) = &member.shape { inner } else { &member.shape };
        let index = *self.index.entry(name.clone()).or_insert_with(|| {
            self.list.push(Column { name, shape: shape.clone(), docs: Vec::new() });
            self.list.len() - 1
        });
        let docs = &mut self.list[index].docs;
        match docs.iter_mut().find(|(doc, _)| *doc == member.doc) {
            Some((_, kinds)) => kinds.extend(kind),
            None => docs.push((member.doc.clone(), kind.into_iter().collect())),
        }
        index
    }

    fn plan(
        &mut self,
        members: &[Member],
        owner: &str,
        prefix: &str,
        kind: Option<&'static str>,
    ) -> Vec<Step> {
        let mut steps = Vec::new();
        for member in members {
            if let Some((inner, owner, prefix)) = spread(member, prefix) {
                let kind = if owner == "Head" || owner == "About" { None } else { kind };
                let inner = self.plan(inner, owner, &prefix, kind);
                if matches!(member.shape, Shape::Maybe(_)) {
                    steps.push(Step::Spread(inner));
                } else {
                    steps.extend(inner);
                }
            } else {
                let index = self.add(column_name(owner, prefix, &member.name), member, kind);
                steps.push(Step::Cell(index, member.shape.clone()));
            }
        }
        steps
    }
}

fn doc_of(column: &Column) -> String {
    let part = |(doc, kinds): &(String, Vec<&str>)| {
        let doc = doc.split_whitespace().collect::<Vec<_>>().join(" ");
        if kinds.is_empty() { doc } else { format!("{doc} ({})", kinds.join(", ")) }
    };
    column.docs.iter().map(part).collect::<Vec<_>>().join(" ")
}

fn record_type(name: &str) -> (DataType, bool) {
    match name {
        "offset" | "missing_before" => (DataType::Int64, false),
        "partition" => (DataType::Int32, false),
        "recorded_at" => (Shape::Time.data_type(), false),
        "value" => (DataType::Binary, false),
        "duplicate" => (DataType::Boolean, false),
        "generation" => (DataType::Utf8, false),
        _ => (DataType::Utf8, true),
    }
}

fn build(topic: Topic) -> Layout {
    let kinds: Vec<(&'static str, u32, Vec<Member>)> = Fact::KINDS
        .iter()
        .filter(|(_, _, home)| home.is_none_or(|home| home == topic))
        .filter_map(|(kind, id, _)| match Shape::of(&Fact::schema(*id)?) {
            Shape::Record(members) => Some((*kind, *id, members)),
            _ => None,
        })
        .collect();
    let mut columns = Columns::default();
    // Common columns first: the head's, then the request's attributes where the topic speaks of requests.
    let head: Vec<Member> =
        kinds.first().into_iter().flat_map(|(.., members)| members.first().cloned()).collect();
    let foreign = columns.plan(&head, "", "", None);
    let about = kinds.iter().flat_map(|(.., members)| members).find(|member| member.name == "about");
    columns.plan(&about.cloned().into_iter().collect::<Vec<_>>(), "", "", None);
    let plans =
        kinds.iter().map(|(kind, id, members)| (*id, columns.plan(members, kind, "", Some(kind)))).collect();
    let record = RECORD.iter().map(|(name, _)| {
        let (data_type, nullable) = record_type(name);
        Field::new(*name, data_type, nullable)
    });
    let facts = columns.list.iter().map(|column| Field::new(&column.name, column.shape.data_type(), true));
    let schema = Arc::new(Schema::new(record.chain(facts).collect::<Vec<_>>()));
    let docs = RECORD
        .iter()
        .map(|(name, doc)| ((*name).to_owned(), (*doc).to_owned()))
        .chain(columns.list.iter().map(|column| (column.name.clone(), doc_of(column))))
        .collect();
    Layout { schema, docs, columns: columns.list, plans, foreign }
}

impl Layout {
    /// How a kind's datum is read; of a fact that does not belong on the topic, only what it begins with.
    pub(super) fn plan(&self, schema_id: u32) -> &[Step] {
        self.plans.get(&schema_id).unwrap_or(&self.foreign)
    }

    /// True when the topic carries the kind.
    pub(super) fn carries(&self, schema_id: u32) -> bool {
        self.plans.contains_key(&schema_id)
    }
}

/// The table of a topic.
pub(super) fn layout(topic: Topic) -> &'static Layout {
    static REQUESTS: LazyLock<Layout> = LazyLock::new(|| build(Topic::Requests));
    static ROUTES: LazyLock<Layout> = LazyLock::new(|| build(Topic::Routes));
    static SPEND: LazyLock<Layout> = LazyLock::new(|| build(Topic::Spend));
    static LIMITS: LazyLock<Layout> = LazyLock::new(|| build(Topic::Limits));
    static POLICY: LazyLock<Layout> = LazyLock::new(|| build(Topic::Policy));
    match topic {
        Topic::Requests => &REQUESTS,
        Topic::Routes => &ROUTES,
        Topic::Spend => &SPEND,
        Topic::Limits => &LIMITS,
        Topic::Policy => &POLICY,
    }
}
