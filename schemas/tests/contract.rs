//! The contract's bytes: schemas and golden samples are checked in, another Avro implementation agrees, and
//! nothing that a stream may hold makes a reader panic.
//!
//! `BURSAR_BLESS=1` writes the files of a *new* kind or version; what was released is never edited.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::PathBuf;

use apache_avro::schema::{RecordSchema, UnionSchema};
use apache_avro::types::Value;
use apache_avro::{Decimal, Schema};
use bursar_schemas::facts::Fact;
use bursar_schemas::ids::hex;
use bursar_schemas::{samples, wire};
use proptest::prelude::*;

/// Says which schema each id stands for.
const IDS: &str = "ids.json";

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn blessing() -> bool {
    std::env::var_os("BURSAR_BLESS").is_some()
}

/// Compares with what is checked in; when blessing, writes what is missing or differs.
fn check(path: &PathBuf, text: &str) {
    if blessing() && fs::read_to_string(path).ok().as_deref() != Some(text) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let held = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(held, text, "{}", path.display());
}

fn files(name: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(folder(name)).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn checked_in_schema(kind: &str) -> Schema {
    let text = fs::read_to_string(folder("avro").join(format!("{kind}.avsc"))).unwrap();
    Schema::parse_str(&text).unwrap()
}

fn datum(fact: &Fact) -> Vec<u8> {
    let mut datum = Vec::new();
    fact.encode(&mut datum);
    datum
}

#[test]
fn schemas_are_the_checked_in_ones() {
    for (kind, id, _) in Fact::KINDS {
        let text = serde_json::to_string_pretty(&Fact::schema(*id).unwrap()).unwrap() + "\n";
        check(&folder("avro").join(format!("{kind}.avsc")), &text);
    }
    // Readers in other languages find a record's schema by the id that it carries.
    let ids: BTreeMap<u32, &str> = Fact::KINDS.iter().map(|(kind, id, _)| (*id, *kind)).collect();
    assert_eq!(ids.len(), Fact::KINDS.len(), "an id stands for two kinds");
    check(&folder("avro").join(IDS), &(serde_json::to_string_pretty(&ids).unwrap() + "\n"));
    let kinds = Fact::KINDS.iter().map(|(kind, ..)| format!("{kind}.avsc"));
    let kinds = kinds.chain([IDS.to_owned()]).collect();
    assert_eq!(files("avro"), kinds, "a schema without its kind, or a kind without its schema");
}

#[test]
fn golden_bytes_are_read_for_ever() {
    let golden = folder("golden/v1");
    for fact in samples::facts() {
        let kind = fact.kind();
        check(&golden.join(format!("{kind}.hex")), &(hex(&wire::encode(&fact)) + "\n"));
        check(&golden.join(format!("{kind}.txt")), &format!("{fact:#?}\n"));
        let held = fs::read_to_string(golden.join(format!("{kind}.hex"))).unwrap();
        let digits: Vec<u32> = held.trim().chars().map(|digit| digit.to_digit(16).unwrap()).collect();
        let bytes: Vec<u8> =
            digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect();
        assert_eq!(wire::decode(&bytes).unwrap(), fact, "{kind}");
    }
    assert_eq!(files("golden/v1").len(), 2 * Fact::KINDS.len());
}

#[test]
fn another_implementation_reads_and_writes_the_same_bytes() {
    for fact in samples::facts() {
        let schema = checked_in_schema(fact.kind());
        let bytes = datum(&fact);
        let mut rest = bytes.as_slice();
        let value = apache_avro::from_avro_datum(&schema, &mut rest, None).unwrap();
        assert!(rest.is_empty(), "{} leaves {} bytes", fact.kind(), rest.len());
        assert!(value.validate(&schema), "{}", fact.kind());
        // A map's order is not part of Avro: with more than one entry the other side may write another one.
        let again = apache_avro::to_avro_datum(&schema, value.clone()).unwrap();
        let read = Fact::decode(fact.schema_id(), &mut again.as_slice()).unwrap().unwrap();
        assert_eq!(read, fact);
        if !has_long_map(&value) {
            assert_eq!(hex(&again), hex(&bytes), "{}", fact.kind());
        }
        // The debug text is a second, independent statement of some of the values.
        let head = format!("{value:?}");
        assert!(head.contains("TimestampMicros(1793714706789012)"), "{head}");
    }
}

fn has_long_map(value: &Value) -> bool {
    match value {
        Value::Map(entries) => entries.len() > 1,
        Value::Record(fields) => fields.iter().any(|(_, value)| has_long_map(value)),
        Value::Union(_, inner) => has_long_map(inner),
        _ => false,
    }
}

/// A stream of choices for building a random value of a schema.
struct Choices<'a>(std::iter::Cycle<std::slice::Iter<'a, u64>>);

impl Choices<'_> {
    fn next(&mut self) -> u64 {
        *self.0.next().unwrap()
    }
    fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(count).unwrap()).unwrap()
    }
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next().to_le_bytes()[0]).collect()
    }
    fn text(&mut self) -> String {
        let length = self.below(5);
        (0..length).map(|_| char::from_u32(u32::try_from(self.next() % 0xd7ff).unwrap()).unwrap()).collect()
    }
    /// A long within what every field of the contract takes.
    fn long(&mut self) -> i64 {
        i64::try_from(self.next() >> (33 + self.below(30))).unwrap()
    }
}

fn random(schema: &Schema, named: &HashMap<String, Schema>, choices: &mut Choices<'_>) -> Value {
    match schema {
        Schema::Boolean => Value::Boolean(choices.below(2) == 1),
        Schema::Long => Value::Long(choices.long()),
        Schema::TimestampMicros => Value::TimestampMicros(choices.next().cast_signed()),
        Schema::String => Value::String(choices.text()),
        Schema::Decimal(_) => {
            let pico = i128::from(choices.next().cast_signed()) << choices.below(50);
            let bytes = pico.to_be_bytes();
            let spare = bytes
                .windows(2)
                .take_while(|pair| (pair[0] == 0 && pair[1] < 0x80) || (pair[0] == 0xff && pair[1] >= 0x80));
            Value::Decimal(Decimal::from(&bytes[spare.count()..]))
        }
        Schema::Fixed(fixed) => Value::Fixed(fixed.size, choices.bytes(fixed.size)),
        Schema::Enum(words) => {
            let index = choices.below(words.symbols.len());
            Value::Enum(u32::try_from(index).unwrap(), words.symbols[index].clone())
        }
        Schema::Union(union) => random_union(union, named, choices),
        Schema::Array(array) => {
            let count = choices.below(4);
            Value::Array((0..count).map(|_| random(&array.items, named, choices)).collect())
        }
        // At most one entry, as the order of more is not part of Avro.
        Schema::Map(_) => {
            let count = choices.below(2);
            Value::Map((0..count).map(|_| (choices.text(), Value::String(choices.text()))).collect())
        }
        Schema::Record(record) => random_record(record, named, choices),
        Schema::Ref { name } => random(&named[&name.fullname(None)], named, choices),
        other => panic!("the contract has no {other:?}"),
    }
}

fn random_union(union: &UnionSchema, named: &HashMap<String, Schema>, choices: &mut Choices<'_>) -> Value {
    match choices.below(2) {
        0 => Value::Union(0, Box::new(Value::Null)),
        _ => Value::Union(1, Box::new(random(&union.variants()[1], named, choices))),
    }
}

fn random_record(record: &RecordSchema, named: &HashMap<String, Schema>, choices: &mut Choices<'_>) -> Value {
    let field = |field: &apache_avro::schema::RecordField| {
        (field.name.clone(), random(&field.schema, named, choices))
    };
    Value::Record(record.fields.iter().map(field).collect())
}

fn named_types(schema: &Schema, named: &mut HashMap<String, Schema>) {
    if let Some(name) = schema.name().filter(|_| !matches!(schema, Schema::Ref { .. })) {
        named.insert(name.fullname(None), schema.clone());
    }
    match schema {
        Schema::Record(record) => record.fields.iter().for_each(|field| named_types(&field.schema, named)),
        Schema::Array(array) => named_types(&array.items, named),
        Schema::Union(union) => union.variants().iter().for_each(|branch| named_types(branch, named)),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_another_implementation_writes_is_read_and_written_alike(
        seed in prop::collection::vec(any::<u64>(), 97..=97),
    ) {
        for (kind, id, _) in Fact::KINDS {
            let schema = checked_in_schema(kind);
            let mut named = HashMap::new();
            named_types(&schema, &mut named);
            let value = random(&schema, &named, &mut Choices(seed.iter().cycle()));
            let bytes = apache_avro::to_avro_datum(&schema, value).unwrap();
            let mut rest = bytes.as_slice();
            let fact = Fact::decode(*id, &mut rest).unwrap().unwrap();
            prop_assert!(rest.is_empty());
            prop_assert_eq!(hex(&datum(&fact)), hex(&bytes), "{}", kind);
        }
    }

    #[test]
    fn no_bytes_make_a_reader_panic(noise in prop::collection::vec(any::<u8>(), 0..200)) {
        for (_, id, _) in Fact::KINDS {
            let mut framed = vec![0];
            framed.extend_from_slice(&id.to_be_bytes());
            framed.extend_from_slice(&noise);
            prop_assert_eq!(wire::glance(&framed), wire::decode(&framed).map(|fact| wire::Front::of(&fact)));
            if let Ok(fact) = wire::decode(&framed) {
                // Whatever is taken for a fact has an encoding that reads as the same fact.
                prop_assert_eq!(wire::decode(&wire::encode(&fact)).unwrap(), fact);
            }
        }
    }
}

#[test]
fn cut_or_flipped_bytes_never_panic() {
    for fact in samples::facts() {
        let bytes = wire::encode(&fact);
        assert_eq!(wire::glance(&bytes), Ok(wire::Front::of(&fact)));
        for length in 0..bytes.len() {
            let read = wire::decode(&bytes[..length]);
            assert!(read.is_err(), "{} cut at {length} was read", fact.kind());
            assert_eq!(wire::glance(&bytes[..length]).err(), read.err(), "{} cut at {length}", fact.kind());
        }
        for index in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[index] ^= 1 << bit;
                let read = wire::decode(&flipped);
                let front = read.as_ref().map(wire::Front::of).map_err(Clone::clone);
                assert_eq!(wire::glance(&flipped), front, "{} flipped at {index}", fact.kind());
                if let Ok(other) = read {
                    assert_ne!(other, fact, "{} has two encodings, at byte {index}", fact.kind());
                }
            }
        }
        let longer = [bytes.as_slice(), b"\0"].concat();
        assert!(wire::decode(&longer).is_err(), "{} with a byte more was read", fact.kind());
    }
}
