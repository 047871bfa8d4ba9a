//! What a type of the contract looks like as a column: read off its Avro schema, so that a field added to a
//! fact needs no second description here.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, TimeUnit};
use serde_json::Value;

/// Digits and decimals of every amount.
pub(super) const MONEY: DataType = DataType::Decimal128(38, 12);

/// A type of the contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shape {
    Boolean,
    Long,
    Time,
    Money,
    Text,
    /// So many bytes, shown as hexadecimal digits.
    Fixed(usize),
    /// One of these words.
    Word(Vec<String>),
    /// A map from text to text.
    Tags,
    List(Box<Self>),
    Record(Vec<Member>),
    Maybe(Box<Self>),
    /// Nothing that a column could hold; a test holds that no fact has it.
    Unknown,
}

/// A field of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) doc: String,
    pub(super) shape: Shape,
}

/// Shapes of named types met so far, by full name.
type Named = BTreeMap<String, Shape>;

fn text(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

impl Shape {
    /// The shape of an Avro schema.
    pub(super) fn of(schema: &Value) -> Self {
        Self::within(schema, &mut Named::new())
    }

    fn within(schema: &Value, named: &mut Named) -> Self {
        match schema {
            Value::String(name) => match name.as_str() {
                "boolean" => Self::Boolean,
                "long" => Self::Long,
                "string" => Self::Text,
                name => named.get(name).cloned().unwrap_or(Self::Unknown),
            },
            Value::Array(branches) => match branches.as_slice() {
                [Value::String(null), branch] if null == "null" => {
                    Self::Maybe(Box::new(Self::within(branch, named)))
                }
                _ => Self::Unknown,
            },
            Value::Object(_) => Self::of_object(schema, named),
            _ => Self::Unknown,
        }
    }

    fn of_object(schema: &Value, named: &mut Named) -> Self {
        let logical = schema.get("logicalType").and_then(Value::as_str);
        let shape = match (text(schema, "type").as_str(), logical) {
            ("long", Some("timestamp-micros")) => Self::Time,
            ("bytes", Some("decimal")) => Self::Money,
            ("map", _) if text(schema, "values") == "string" => Self::Tags,
            ("array", _) => {
                let items = schema.get("items").map_or(Self::Unknown, |items| Self::within(items, named));
                Self::List(Box::new(items))
            }
            ("fixed", _) => {
                let size = schema.get("size").and_then(Value::as_u64);
                size.and_then(|size| usize::try_from(size).ok()).map_or(Self::Unknown, Self::Fixed)
            }
            ("enum", _) => {
                let symbols = schema.get("symbols").and_then(Value::as_array).into_iter().flatten();
                Self::Word(symbols.filter_map(Value::as_str).map(str::to_owned).collect())
            }
            ("record", _) => {
                let fields = schema.get("fields").and_then(Value::as_array).into_iter().flatten();
                let member = |field: &Value| Member {
                    name: text(field, "name"),
                    doc: text(field, "doc"),
                    shape: field.get("type").map_or(Self::Unknown, |inner| Self::within(inner, named)),
                };
                Self::Record(fields.map(member).collect())
            }
            _ => Self::Unknown,
        };
        let name = text(schema, "name");
        if !name.is_empty() {
            named.insert(format!("{}.{name}", text(schema, "namespace")), shape.clone());
        }
        shape
    }

    /// The Arrow type. Only types that Delta and Iceberg know too: nothing unsigned, microseconds in UTC.
    pub(super) fn data_type(&self) -> DataType {
        match self {
            Self::Boolean => DataType::Boolean,
            Self::Long => DataType::Int64,
            Self::Time => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Money => MONEY,
            Self::Text | Self::Fixed(_) | Self::Word(_) => DataType::Utf8,
            Self::Tags => DataType::Map(tag_entries(), false),
            Self::List(item) => DataType::List(element(item)),
            Self::Record(members) => DataType::Struct(struct_fields(members)),
            Self::Maybe(inner) => inner.data_type(),
            Self::Unknown => DataType::Null,
        }
    }

    /// True when every part is known.
    #[cfg(test)]
    pub(super) fn is_known(&self) -> bool {
        match self {
            Self::List(inner) | Self::Maybe(inner) => inner.is_known(),
            Self::Record(members) => members.iter().all(|member| member.shape.is_known()),
            Self::Unknown => false,
            _ => true,
        }
    }
}

/// The entries of a map, named as Parquet's specification names them.
pub(super) fn tag_entries() -> Arc<Field> {
    Arc::new(Field::new("key_value", DataType::Struct(tag_fields()), false))
}

pub(super) fn tag_fields() -> Fields {
    Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, true)])
}

/// An item of a list. Nested fields are nullable, so that one added later has a value in older segments.
pub(super) fn element(item: &Shape) -> Arc<Field> {
    Arc::new(Field::new("element", item.data_type(), true))
}

pub(super) fn struct_fields(members: &[Member]) -> Fields {
    members.iter().map(|member| Field::new(&member.name, member.shape.data_type(), true)).collect()
}
