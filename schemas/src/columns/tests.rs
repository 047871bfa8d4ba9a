//! Every fact's fields, read from the columns, are what the `apache-avro` crate reads from the same bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use apache_avro::types::Value as AvroValue;
use arrow_array::cast::AsArray as _;
use arrow_array::types::{Decimal128Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, StructArray};
use arrow_schema::{DataType, TimeUnit};
use serde_json::{Value, json};

use super::*;
use crate::facts::Fact;
use crate::ids::hex;
use crate::ports::Record;
use crate::samples;

const GENERATION: Generation = Generation([9; 16]);

fn row(offset: u64, value: impl Into<Bytes>, standings: &mut Standings) -> Row {
    Row::read(Record { offset, at: Micros(1_700_000_000_000_000), value: value.into() }, standings)
}

fn rows(facts: &[Fact]) -> Vec<Row> {
    let mut standings = Standings::new();
    let mut read = |(offset, fact)| row(offset, wire::encode(fact), &mut standings);
    (0..).zip(facts).map(&mut read).collect()
}

/// A cell as JSON; instants as microseconds, amounts as a decimal count of pico-dollars.
fn cell(array: &dyn Array, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    match array.data_type() {
        DataType::Boolean => json!(array.as_boolean().value(row)),
        DataType::Int32 => json!(array.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => json!(array.as_primitive::<Int64Type>().value(row)),
        DataType::Timestamp(..) => json!(array.as_primitive::<TimestampMicrosecondType>().value(row)),
        DataType::Decimal128(38, 12) => json!(array.as_primitive::<Decimal128Type>().value(row).to_string()),
        DataType::Utf8 => json!(array.as_string::<i32>().value(row)),
        DataType::Binary => json!(hex(array.as_binary::<i32>().value(row))),
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            Value::Array((0..items.len()).map(|item| cell(&items, item)).collect())
        }
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            let text = |column: usize, item| cell(entries.column(column), item).as_str().unwrap().to_owned();
            (0..entries.len())
                .map(|item| (text(0, item), text(1, item)))
                .collect::<BTreeMap<_, _>>()
                .into_json()
        }
        DataType::Struct(_) => {
            let record: &StructArray = array.as_struct();
            let columns = record.column_names().into_iter().zip(record.columns());
            Value::Object(columns.map(|(name, column)| (name.to_owned(), cell(column, row))).collect())
        }
        other => panic!("no reader of {other}"),
    }
}

trait IntoJson {
    fn into_json(self) -> Value;
}
impl IntoJson for BTreeMap<String, String> {
    fn into_json(self) -> Value {
        serde_json::to_value(self).unwrap()
    }
}

fn oracle(value: &AvroValue) -> Value {
    match value {
        AvroValue::Null => Value::Null,
        AvroValue::Boolean(truth) => json!(truth),
        AvroValue::Long(number) | AvroValue::TimestampMicros(number) => json!(number),
        AvroValue::String(text) | AvroValue::Enum(_, text) => json!(text),
        AvroValue::Fixed(_, bytes) => json!(hex(bytes)),
        AvroValue::Union(_, inner) => oracle(inner),
        AvroValue::Array(items) => items.iter().map(oracle).collect(),
        AvroValue::Map(entries) => {
            Value::Object(entries.iter().map(|(key, value)| (key.clone(), oracle(value))).collect())
        }
        AvroValue::Record(fields) => {
            Value::Object(fields.iter().map(|(name, value)| (name.clone(), oracle(value))).collect())
        }
        AvroValue::Decimal(decimal) => {
            let bytes: Vec<u8> = decimal.try_into().unwrap();
            let start = if bytes[0] & 0x80 == 0 { 0 } else { -1_i128 };
            json!(bytes.iter().fold(start, |sum, byte| (sum << 8) | i128::from(*byte)).to_string())
        }
        other => panic!("no oracle for {other:?}"),
    }
}

fn avro(fact: &Fact) -> Value {
    let schema = Fact::schema(fact.schema_id()).unwrap();
    let schema = apache_avro::Schema::parse(&schema).unwrap();
    let mut datum = Vec::new();
    fact.encode(&mut datum);
    oracle(&apache_avro::from_avro_datum(&schema, &mut datum.as_slice(), None).unwrap())
}

/// The columns that a fact's fields belong in, by the documented names.
fn expected(kind: &str, fields: &Value) -> BTreeMap<String, Value> {
    let mut cells = BTreeMap::new();
    for (name, value) in fields.as_object().unwrap() {
        let renamed = match (kind, name.as_str()) {
            ("ProducerOpened", "version") => "software_version".to_owned(),
            ("ProducerHead", "last" | "hash" | "signature" | "ended") => format!("head_{name}"),
            ("Finding", "detail") => name.clone(),
            ("Finding", name) if name != "head" => format!("finding_{name}"),
            ("LeaseReturned", "number") => "return_number".to_owned(),
            ("LeaseReturned", "last") => "last_return".to_owned(),
            ("LeaseCredited", "number") => "credit_number".to_owned(),
            ("LimitSet", "policy_version") => "limit_policy_version".to_owned(),
            ("ShimRetired", "partition") => "retired_partition".to_owned(),
            _ => name.clone(),
        };
        match (name.as_str(), value) {
            ("head" | "about", Value::Object(inner)) => {
                for (name, value) in inner {
                    let name = match (renamed.as_str(), name.as_str()) {
                        ("head", "policy") => "policy_version",
                        ("head", "prices") => "price_version",
                        (_, name) => name,
                    };
                    cells.insert(name.to_owned(), value.clone());
                }
            }
            (_, Value::Object(inner)) if name != "tags" => {
                cells.extend(inner.iter().map(|(part, value)| (format!("{renamed}_{part}"), value.clone())));
            }
            _ => {
                cells.insert(renamed, value.clone());
            }
        }
    }
    cells.retain(|_, value| !value.is_null());
    cells
}

fn cells(batch: &RecordBatch, row: usize) -> BTreeMap<String, Value> {
    let schema = batch.schema();
    let named = schema.fields().iter().zip(batch.columns());
    let record: BTreeSet<&str> = layout::RECORD.iter().map(|(name, _)| *name).collect();
    named
        .filter(|(field, _)| !record.contains(field.name().as_str()))
        .map(|(field, column)| (field.name().clone(), cell(column, row)))
        .filter(|(_, value)| !value.is_null())
        .collect()
}

fn column(batch: &RecordBatch, name: &str) -> Vec<Value> {
    let column = batch.column_by_name(name).unwrap_or_else(|| panic!("no column {name}"));
    (0..batch.num_rows()).map(|row| cell(column, row)).collect()
}

#[test]
fn every_field_of_every_kind_reads_back() {
    for topic in Topic::ALL {
        let facts: Vec<Fact> = samples::facts()
            .into_iter()
            .filter(|fact| fact.topic().is_none_or(|home| home == topic))
            .collect();
        let batch = batch(topic, GENERATION, 3, &rows(&facts)).unwrap();
        assert_eq!(batch.num_rows(), facts.len());
        for (index, fact) in facts.iter().enumerate() {
            let fields = avro(fact);
            assert_eq!(cells(&batch, index), expected(fact.kind(), &fields), "{}", fact.kind());
            let filled = fields.as_object().unwrap().values().all(|value| !value.is_null());
            assert!(filled, "the sample of {} leaves a field out", fact.kind());
        }
        assert_eq!(column(&batch, "kind"), facts.iter().map(|fact| json!(fact.kind())).collect::<Vec<_>>());
        assert_eq!(column(&batch, "partition"), vec![json!(3); facts.len()]);
        let value = |fact| json!(hex(&wire::encode(fact)));
        assert_eq!(column(&batch, "value"), facts.iter().map(value).collect::<Vec<_>>());
    }
}

#[test]
fn the_samples_are_one_of_each_kind() {
    let kinds: Vec<&str> = samples::facts().iter().map(Fact::kind).collect();
    assert_eq!(kinds, Fact::KINDS.iter().map(|(kind, ..)| *kind).collect::<Vec<_>>());
}

#[test]
fn amounts_and_lists_stand_as_they_were_charged() {
    let settled = samples::facts().into_iter().find(|fact| fact.kind() == "Settled").unwrap();
    let batch = batch(Topic::Spend, GENERATION, 0, &rows(&[settled])).unwrap();
    assert_eq!(column(&batch, "amount"), [json!("205000000001")]);
    assert_eq!(column(&batch, "lease_number"), [json!(6)]);
    assert_eq!(column(&batch, "tags"), [json!({"stage": "prod", "team": "søk"})]);
    let line = &column(&batch, "lines")[0][1];
    assert_eq!((&line["meter"], &line["amount"]), (&json!("output"), &json!("105000000001")));
    assert_eq!(column(&batch, "accounts")[0][1], json!({"budget": "acme/search", "window": 0}));
}

#[test]
fn standings_unreadable_and_foreign_records_have_rows() {
    let mut fact = samples::facts().remove(0);
    let mut standings = Standings::import(&BTreeMap::from([("a1".repeat(16), 4)])).unwrap();
    let mut rows = Vec::new();
    for (offset, number) in (100..).zip([4_u64, 4, 9]) {
        fact.head_mut().number = number;
        rows.push(row(offset, wire::encode(&fact), &mut standings));
    }
    rows.push(row(103, &b""[..], &mut standings));
    rows.push(row(104, &b"\0\0\0\x03\xe7x"[..], &mut standings));
    let limit = samples::facts().into_iter().find(|fact| fact.kind() == "LimitSet").unwrap();
    rows.push(row(105, wire::encode(&limit), &mut standings));
    let batch = batch(Topic::Requests, GENERATION, 0, &rows).unwrap();
    assert_eq!(column(&batch, "duplicate"), [false, true, false, false, false, false].map(|b| json!(b)));
    assert_eq!(column(&batch, "missing_before"), [0, 0, 4, 0, 0, 31].map(|n| json!(n)));
    let reasons = column(&batch, "unreadable");
    assert_eq!(reasons[3], json!("not framed: expected a zero byte and a schema id"));
    assert_eq!(reasons[4], json!("unknown schema id 999"));
    assert_eq!((&reasons[0], &reasons[5]), (&Value::Null, &Value::Null));
    assert_eq!(column(&batch, "kind")[3..], [Value::Null, Value::Null, json!("LimitSet")]);
    assert_eq!(cells(&batch, 4), BTreeMap::new(), "nothing is read of what cannot be read");
    let fields = avro(&limit);
    assert_eq!(cells(&batch, 5), expected("", &json!({"head": fields["head"]})), "foreign: its head only");
    assert_eq!(standings.export(), BTreeMap::from([("a1".repeat(16), 42)]));
}

#[test]
fn a_row_whose_bytes_are_not_its_fact_is_an_error() {
    let mut rows = rows(&samples::facts()[2..3]);
    rows[0].value = rows[0].value.slice(..rows[0].value.len() - 1);
    assert!(batch(Topic::Requests, GENERATION, 0, &rows).is_err());
    rows[0].value = Bytes::new();
    assert!(batch(Topic::Requests, GENERATION, 0, &rows).is_err());
}

#[test]
fn a_text_that_is_none_never_comes_into_a_column() {
    let mut rows = rows(&samples::facts()[2..3]);
    let mut value = rows[0].value.to_vec();
    let at = value.windows(4).position(|bytes| bytes == b"acme").unwrap();
    value[at] = 0xff;
    assert!(wire::glance(&value).is_err(), "reading it says so before");
    rows[0].value = value.into();
    assert!(batch(Topic::Requests, GENERATION, 0, &rows).is_err());
}

#[test]
fn a_table_goes_on_after_a_batch_as_if_it_were_new() {
    for topic in Topic::ALL {
        let mut facts = samples::facts();
        let mut table = Table::new(topic, GENERATION, 3).unwrap();
        // Batches of other lengths and orders, so that what is left over from one would show in the next.
        for count in [facts.len(), 5, 0, facts.len(), 1] {
            facts.rotate_left(7);
            let rows = rows(&facts[..count]);
            rows.iter().for_each(|row| table.push(row).unwrap());
            let bytes: usize = rows.iter().map(|row| row.value.len()).sum();
            assert_eq!((table.rows(), table.bytes()), (count, u64::try_from(bytes).unwrap()));
            assert_eq!(table.take().unwrap(), batch(topic, GENERATION, 3, &rows).unwrap());
        }
    }
}

fn is_shared(data_type: &DataType) -> bool {
    match data_type {
        DataType::Boolean | DataType::Int32 | DataType::Int64 | DataType::Utf8 | DataType::Binary => true,
        DataType::Decimal128(38, 12) => true,
        DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) => zone.as_ref() == "UTC",
        DataType::List(item) => is_shared(item.data_type()),
        DataType::Map(entries, false) => is_shared(entries.data_type()),
        DataType::Struct(fields) => fields.iter().all(|field| is_shared(field.data_type())),
        _ => false,
    }
}

#[test]
fn columns_are_of_shared_types_and_documented() {
    for topic in Topic::ALL {
        let schema = schema(topic);
        let names: Vec<&String> = schema.fields().iter().map(|field| field.name()).collect();
        assert_eq!(names, docs(topic).iter().map(|(name, _)| name).collect::<Vec<_>>());
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "a name stands twice");
        for (field, (name, doc)) in schema.fields().iter().zip(docs(topic)) {
            assert!(is_shared(field.data_type()), "{topic}.{name} is {}", field.data_type());
            assert!(doc.len() > 5 && doc.contains('.'), "{topic}.{name} says {doc:?}");
        }
        assert!(table_doc(topic).len() > 40);
    }
    assert!(schema(Topic::Spend).field_with_name("cost_center").is_ok());
    assert!(schema(Topic::Limits).field_with_name("request").is_err(), "limits speak of no request");
}

#[test]
fn fields_of_one_column_have_one_shape() {
    for topic in Topic::ALL {
        let layout = layout(topic);
        for (kind, id, home) in Fact::KINDS {
            if home.is_some_and(|home| home != topic) {
                continue;
            }
            assert!(layout.carries(*id));
            let mut steps: Vec<&Step> = layout.plan(*id).iter().collect();
            while let Some(step) = steps.pop() {
                match step {
                    Step::Spread(inner) => steps.extend(inner),
                    Step::Cell(column, shape) => {
                        let inner = if let shape::Shape::Maybe(inner) = shape { inner } else { shape };
                        let column = &layout.columns[*column];
                        assert!(column.shape.is_known(), "{kind}: {}", column.name);
                        // Words differ by kind; what is stored is text.
                        assert_eq!(column.shape.data_type(), inner.data_type(), "{kind}: {}", column.name);
                    }
                }
            }
        }
    }
}
