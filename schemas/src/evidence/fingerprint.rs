//! Fingerprints of Avro schemas: SHA-256 of the Parsing Canonical Form that the Avro specification defines.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::facts::Fact;
use crate::ids::Digest;
use crate::position::Topic;

/// The attributes that the form keeps, in its order.
const KEPT: [&str; 7] = ["name", "type", "fields", "symbols", "items", "values", "size"];

fn canonical(schema: &Value, out: &mut String) {
    match schema {
        Value::Array(branches) => list(branches, out),
        Value::Object(object) => {
            // A primitive written in full is its name alone.
            if let (Some(Value::String(name)), false) = (object.get("type"), is_complex(object)) {
                out.push_str(&Value::String(name.clone()).to_string());
                return;
            }
            out.push('{');
            let mut first = true;
            for key in KEPT {
                let Some(value) = object.get(key) else { continue };
                if !std::mem::take(&mut first) {
                    out.push(',');
                }
                out.push_str(&format!("\"{key}\":"));
                match (key, value, object.get("namespace")) {
                    ("name", Value::String(name), Some(Value::String(space))) => {
                        out.push_str(&Value::String(format!("{space}.{name}")).to_string());
                    }
                    ("name" | "symbols" | "size", ..) => out.push_str(&value.to_string()),
                    _ => canonical(value, out),
                }
            }
            out.push('}');
        }
        other => out.push_str(&other.to_string()),
    }
}

fn is_complex(object: &serde_json::Map<String, Value>) -> bool {
    ["name", "fields", "symbols", "items", "values", "size"].iter().any(|key| object.contains_key(*key))
}

fn list(items: &[Value], out: &mut String) {
    out.push('[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        canonical(item, out);
    }
    out.push(']');
}

/// A schema's Parsing Canonical Form.
pub(super) fn canonical_form(schema: &Value) -> String {
    let mut form = String::new();
    canonical(schema, &mut form);
    form
}

/// Fingerprint of a schema.
#[must_use]
pub fn fingerprint(schema: &Value) -> Digest {
    Digest(Sha256::digest(canonical_form(schema).as_bytes()).into())
}

fn of_topic(topic: Topic) -> Digest {
    let carried = Fact::KINDS.iter().filter(|(.., home)| home.is_none_or(|home| home == topic));
    let line = |id: u32| Some(format!("{id} {}\n", fingerprint(&Fact::schema(id)?)));
    let lines: String = carried.filter_map(|(_, id, _)| line(*id)).collect();
    Digest(Sha256::digest(lines.as_bytes()).into())
}

/// Fingerprint of all schemas that a topic carries: SHA-256 over a line for each, in the order of their ids, with the
/// id, a space and the schema's fingerprint in hexadecimal digits.
#[must_use]
pub fn contract_fingerprint(topic: Topic) -> Digest {
    static ALL: LazyLock<BTreeMap<Topic, Digest>> =
        LazyLock::new(|| Topic::ALL.into_iter().map(|topic| (topic, of_topic(topic))).collect());
    ALL.get(&topic).copied().unwrap_or_else(|| of_topic(topic))
}
