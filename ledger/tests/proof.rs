//! Every name that PROOF.md speaks of is there: paths, functions, deliberate faults and checkers. A reader is to find
//! what a step stands on.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

use std::path::{Path, PathBuf};

const PROOF: &str = include_str!("../PROOF.md");

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every source file below a folder.
fn sources(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|it| it == "rs") {
            found.push(std::fs::read_to_string(&path).unwrap());
        }
    }
}

fn sources_of(folders: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    folders.iter().for_each(|folder| sources(&root().join(folder), &mut found));
    found
}

/// The parts of the text between two such marks. A line's end within one is a space.
fn between(mark: char) -> Vec<String> {
    PROOF
        .split(mark)
        .skip(1)
        .step_by(2)
        .map(|it| it.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

fn is_made_of(text: &str, others: &str) -> bool {
    text.chars().all(|it| it.is_ascii_alphanumeric() || others.contains(it))
}

#[test]
fn paths_are_there() {
    let paths: Vec<String> =
        between('`').into_iter().filter(|it| it.contains('/') && is_made_of(it, "/._-")).collect();
    assert!(paths.len() > 10, "{paths:?}");
    let missing: Vec<&String> = paths.iter().filter(|path| !root().join(path).exists()).collect();
    assert!(missing.is_empty(), "not there: {missing:?}");
}

#[test]
fn functions_are_there() {
    let sources = sources_of(&["schemas/src", "ledger/src", "gateway-shim/src"]);
    let is_there = |name: &String| {
        let (owner, function) = name.split_once("::").unwrap();
        let defined = format!("fn {function}");
        sources.iter().any(|text| {
            let of_owner = text.lines().any(|line| line.starts_with("impl") && line.contains(owner));
            let follows = |rest: &str| rest.starts_with(['(', '<']);
            of_owner && text.split(&defined).skip(1).any(follows)
        })
    };
    let names: Vec<String> =
        between('`').into_iter().filter(|it| it.contains("::") && is_made_of(it, ":_")).collect();
    assert!(names.len() > 15, "{names:?}");
    let missing: Vec<&String> = names.iter().filter(|name| !is_there(name)).collect();
    assert!(missing.is_empty(), "not there: {missing:?}");
    assert!(!is_there(&"Fold::never_written".to_owned()), "the search finds anything");
}

#[test]
fn deliberate_faults_and_checkers_are_there() {
    let list = std::fs::read_to_string(root().join("tests/simulator/mutants.txt")).unwrap();
    let faults: Vec<String> =
        between('`').into_iter().filter(|it| it.contains('-') && is_made_of(it, "-")).collect();
    assert!(faults.len() > 30, "{faults:?}");
    let known = |name: &String| list.lines().any(|line| line.strip_prefix("== ") == Some(name));
    let missing: Vec<&String> = faults.iter().filter(|name| !known(name)).collect();
    assert!(missing.is_empty(), "not there: {missing:?}");
    let simulator = sources_of(&["tests/simulator/src"]);
    let named = PROOF.split("checker \"").skip(1).map(|rest| rest.split('"').next().unwrap());
    let checkers: Vec<String> = named.map(|it| it.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert!(!checkers.is_empty());
    let unknown = |it: &&String| !simulator.iter().any(|text| text.contains(it.as_str()));
    let missing: Vec<&String> = checkers.iter().filter(unknown).collect();
    assert!(missing.is_empty(), "not there: {missing:?}");
}
