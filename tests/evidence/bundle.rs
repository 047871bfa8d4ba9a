//! The evidence of one request: whole, and worth nothing once anything in it is changed.

use std::path::Path;

use bursar_ingest::archive::open_store;
use bursar_query::evidence::{Bundle, VerifyOptions, prove, verify_bundle};
use bursar_schemas::evidence::Proof;
use bursar_schemas::ids::RequestId;
use serde_json::Value;

use super::fixture::{World, key, signer};
use super::product::follow_recipe;
use super::witness::{cosign, sizes};

async fn bundle_of(world: &World, request: RequestId) -> Bundle {
    bundle_in(&world.archive(), request).await
}

async fn bundle_in(archive: &Path, request: RequestId) -> Bundle {
    let options = VerifyOptions { keys: vec![key()], ..VerifyOptions::default() };
    let (store, _) = open_store(archive.to_str().unwrap()).unwrap();
    prove(store, &options, request).await.unwrap()
}

#[tokio::test]
async fn a_bundle_holds_every_fact_of_its_request() {
    let (world, request) = World::honest().await;
    let bundle = bundle_of(&world, request).await;
    let text = serde_json::to_vec(&bundle).unwrap();
    let report = verify_bundle(&text, &[key()]).unwrap();
    assert!(report.holds, "{}", report.to_text());
    for kind in ["RequestOpened", "RouteDecided", "Settled", "RequestClosed"] {
        assert_eq!(report.facts.iter().filter(|fact| fact.contains(kind)).count(), 1, "{}", report.to_text());
    }
    assert_eq!(report.facts.len(), 4);
    assert_eq!(bundle.scanned.too_old, 0);
    assert!(
        !verify_bundle(&text, &[signer(2).verifier().clone()]).unwrap().holds,
        "another key was believed"
    );
    let proof = Proof::parse(&bundle.segments[0].proof).unwrap();
    assert!(proof.verify(bundle.segments[0].manifest.as_bytes(), &[key()]).is_ok());
}

/// Every value within a JSON document, changed a little, one at a time.
fn changed(value: &Value) -> Vec<Value> {
    match value {
        Value::String(text) if !text.is_empty() => {
            let middle = text.char_indices().nth(text.chars().count() / 2).unwrap();
            let other = if middle.1 == '1' { '2' } else { '1' };
            let mut changed = text.clone();
            changed.replace_range(middle.0..middle.0 + middle.1.len_utf8(), &other.to_string());
            vec![Value::String(changed)]
        }
        Value::Number(number) => vec![Value::from(number.as_u64().unwrap_or(0) + 1)],
        Value::Array(items) => {
            let mut all: Vec<Value> = (0..items.len())
                .map(|index| {
                    let mut fewer = items.clone();
                    fewer.remove(index);
                    Value::Array(fewer)
                })
                .collect();
            for (index, item) in items.iter().enumerate() {
                for item in changed(item) {
                    let mut items = items.clone();
                    items[index] = item;
                    all.push(Value::Array(items));
                }
            }
            all
        }
        Value::Object(fields) => {
            let of = |(name, value): (&String, &Value)| {
                let name = name.clone();
                changed(value).into_iter().map(move |value| (name.clone(), value)).collect::<Vec<_>>()
            };
            fields
                .iter()
                .filter(|(name, _)| !["how_to_check", "scanned"].contains(&name.as_str()))
                .flat_map(of)
                .map(|(name, value)| {
                    let mut fields = fields.clone();
                    fields.insert(name, value);
                    Value::Object(fields)
                })
                .collect()
        }
        _ => Vec::new(),
    }
}

#[tokio::test]
async fn no_part_of_a_bundle_can_be_changed() {
    let (world, request) = World::honest().await;
    let copy = world.copy();
    let (witness, _) = cosign(&copy, *sizes(&copy).last().unwrap());
    let keys = [key(), witness];
    let whole = serde_json::to_value(bundle_in(&copy.root, request).await).unwrap();
    let report = verify_bundle(&serde_json::to_vec(&whole).unwrap(), &keys).unwrap();
    assert!(report.holds, "{}", report.to_text());
    let facts = whole["facts"].as_array().unwrap().len();
    // Whoever follows the recipe in another language finds the same.
    let file = world.folder.path().join("bundle.json");
    let lines = [keys[0].to_string(), keys[1].to_string()];
    let followed = |bundle: &Value| {
        std::fs::write(&file, serde_json::to_string(bundle).unwrap()).unwrap();
        follow_recipe(&file, &lines)
    };
    if let Some(proved) = followed(&whole) {
        assert_eq!(proved.unwrap(), ["RequestClosed", "RequestOpened", "RouteDecided", "Settled"]);
    }
    let mut tried = 0;
    for changed in changed(&whole) {
        // That facts were left out shows in what is proved, not as a fault: a bundle can only prove what it holds.
        let report = verify_bundle(&serde_json::to_vec(&changed).unwrap(), &keys);
        let fewer = changed["facts"].as_array().unwrap().len() < facts;
        let holds = report.is_ok_and(|report| report.holds && report.facts.len() == facts);
        assert!(!holds || fewer, "a changed bundle holds: {changed:#}");
        // A process for each is slow: every seventh.
        if tried % 7 == 0 && !fewer && changed["format"] == whole["format"] {
            let proved = followed(&changed);
            assert!(proved.is_none_or(|proved| proved.is_err()), "the recipe does not see it: {changed:#}");
        }
        tried += 1;
    }
    assert!(tried > 30, "only {tried} changes");
}

#[tokio::test]
async fn a_bundle_says_which_witnesses_saw_its_history() {
    let (world, request) = World::honest().await;
    let copy = world.copy();
    let (witness, _) = cosign(&copy, *sizes(&copy).last().unwrap());
    let text = serde_json::to_vec(&bundle_in(&copy.root, request).await).unwrap();
    let report = verify_bundle(&text, &[key(), witness.clone()]).unwrap();
    assert!(report.holds, "{}", report.to_text());
    assert_eq!(report.witnesses.first().map(|it| it.key.clone()), Some(witness.to_string()));
    assert!(
        report.to_text().contains("was cosigned by witness.example at 2026-11-04T"),
        "{}",
        report.to_text()
    );
    // Who knows no witness is told that there is one.
    let report = verify_bundle(&text, &[key()]).unwrap();
    assert!(report.holds && report.witnesses.is_empty());
    assert!(report.to_text().contains("the lines of witness.example"), "{}", report.to_text());
    // A witness that somebody counts on and that said nothing, here or at all.
    let alone = serde_json::to_vec(&bundle_of(&world, request).await).unwrap();
    let report = verify_bundle(&alone, &[key(), witness]).unwrap();
    assert!(
        !report.holds && report.to_text().contains("not cosigned by witness.example"),
        "{}",
        report.to_text()
    );
    let report = verify_bundle(&alone, &[key()]).unwrap();
    assert!(report.holds && report.to_text().contains("No witness has cosigned"), "{}", report.to_text());
}

#[tokio::test]
async fn a_request_that_nobody_made_has_no_evidence() {
    let (world, _) = World::honest().await;
    let options = VerifyOptions { keys: vec![key()], ..VerifyOptions::default() };
    let (store, _) = open_store(world.archive().to_str().unwrap()).unwrap();
    let error = prove(store, &options, RequestId([1; 16])).await.unwrap_err();
    assert!(error.to_string().contains("no fact about request"), "{error}");
}
