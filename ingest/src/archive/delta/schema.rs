//! A topic's Arrow schema as Delta writes it.

use arrow_schema::{DataType, Field, Fields, TimeUnit};
use bursar_schemas::columns;
use bursar_schemas::position::Topic;
use serde_json::{Value, json};

/// The type's name or form in Delta; none for a type that the contract's tables do not have.
fn data_type(of: &DataType) -> Option<Value> {
    Some(match of {
        DataType::Boolean => json!("boolean"),
        DataType::Int32 => json!("integer"),
        DataType::Int64 => json!("long"),
        DataType::Utf8 => json!("string"),
        DataType::Binary => json!("binary"),
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => json!("timestamp"),
        DataType::Decimal128(digits, scale) => json!(format!("decimal({digits},{scale})")),
        DataType::List(item) => json!({
            "type": "array",
            "elementType": data_type(item.data_type())?,
            "containsNull": item.is_nullable(),
        }),
        DataType::Struct(members) => structure(members)?,
        DataType::Map(entries, _) => {
            let DataType::Struct(pair) = entries.data_type() else { return None };
            let [key, value] = pair.as_ref() else { return None };
            json!({
                "type": "map",
                "keyType": data_type(key.data_type())?,
                "valueType": data_type(value.data_type())?,
                "valueContainsNull": value.is_nullable(),
            })
        }
        _ => return None,
    })
}

fn field(of: &Field) -> Option<Value> {
    let data_type = data_type(of.data_type())?;
    // A column added later is null in older segments; one that was there from the start stays what it is.
    Some(json!({"name": of.name(), "type": data_type, "nullable": of.is_nullable(), "metadata": {}}))
}

fn structure(fields: &Fields) -> Option<Value> {
    let fields = fields.iter().map(|it| field(it)).collect::<Option<Vec<_>>>()?;
    Some(json!({"type": "struct", "fields": fields}))
}

/// The schema of a topic's table, as the text that Delta's `metaData` holds.
pub(super) fn schema_string(topic: Topic) -> Option<String> {
    structure(columns::schema(topic).fields()).map(|schema| schema.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn every_topics_table_has_a_schema_in_delta() {
        for topic in Topic::ALL {
            let schema: Value = serde_json::from_str(&schema_string(topic).unwrap()).unwrap();
            let fields = schema["fields"].as_array().unwrap();
            assert_eq!(fields.len(), columns::schema(topic).fields().len(), "{topic}");
            assert_eq!(
                fields[0],
                json!({"name": "offset", "type": "long", "nullable": false, "metadata": {}})
            );
        }
        let spend: Value = serde_json::from_str(&schema_string(Topic::Spend).unwrap()).unwrap();
        let of = |name: &str| {
            let found = spend["fields"].as_array().unwrap().iter().find(|field| field["name"] == name);
            found.unwrap()["type"].clone()
        };
        assert_eq!(of("amount"), "decimal(38,12)");
        assert_eq!(of("at"), "timestamp");
        assert_eq!(of("tags")["valueType"], "string");
        assert_eq!(of("lines")["elementType"]["type"], "struct");
    }
}
