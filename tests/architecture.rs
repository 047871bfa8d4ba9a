//! Holds the drawing in ARCHITECTURE.md, and the rules behind it, against the real dependency graph.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Depends on: of each package, by name.
type Arrows = BTreeSet<(String, String)>;

/// What a crate must not have beneath it, however deep.
const NEVER_BENEATH: [(&str, &[&str]); 6] = [
    ("bursar-schemas", &["tokio", "hyper", "axum", "rdkafka", "datafusion", "object_store", "fjall"]),
    ("bursar-ledger", &["hyper", "axum", "rdkafka", "datafusion", "object_store", "fjall"]),
    ("bursar-gateway-shim", &["axum", "rdkafka", "datafusion", "object_store", "fjall"]),
    ("bursar-query", &["rdkafka", "fjall"]),
    ("bursar-ingest", &["datafusion", "axum"]),
    ("bursar-stand-in", &["rdkafka", "datafusion", "object_store", "fjall"]),
];

const SIBLINGS: [&str; 4] = ["bursar-gateway-shim", "bursar-ingest", "bursar-ledger", "bursar-query"];

struct Graph {
    /// Package ids of the workspace's own crates.
    members: BTreeSet<String>,
    names: BTreeMap<String, String>,
    /// Normal and build dependencies of each package id; those of tests are left out.
    dependencies: BTreeMap<String, Vec<String>>,
}

fn output(program: &str, arguments: &[&str]) -> String {
    let run = Command::new(program).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let run = run.unwrap_or_else(|error| panic!("failed to run {program}: {error}"));
    assert!(run.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&run.stderr));
    String::from_utf8(run.stdout).unwrap()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}")).to_owned()
}

impl Graph {
    fn read() -> Self {
        let cargo = env!("CARGO");
        let version = output(cargo, &["-vV"]);
        let host =
            version.lines().find_map(|line| line.strip_prefix("host: ")).expect("cargo names its host");
        // Of this platform only: the packages of the others need not be there.
        let metadata = output(
            cargo,
            &["metadata", "--format-version", "1", "--offline", "--locked", "--filter-platform", host],
        );
        let metadata: Value = serde_json::from_str(&metadata).unwrap();
        let list = |value: &Value| value.as_array().unwrap().clone();
        let used =
            |dependency: &Value| list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"] != "dev");
        let node = |node: &Value| {
            let beneath =
                list(&node["deps"]).iter().filter(|it| used(it)).map(|it| text(&it["pkg"])).collect();
            (text(&node["id"]), beneath)
        };
        Self {
            members: list(&metadata["workspace_members"]).iter().map(text).collect(),
            names: list(&metadata["packages"])
                .iter()
                .map(|it| (text(&it["id"]), text(&it["name"])))
                .collect(),
            dependencies: list(&metadata["resolve"]["nodes"]).iter().map(node).collect(),
        }
    }

    fn member(&self, name: &str) -> &String {
        self.members.iter().find(|id| self.names[*id] == name).unwrap_or_else(|| panic!("no crate {name}"))
    }

    /// The arrows between the workspace's own crates.
    fn arrows(&self) -> Arrows {
        let of = |from: &String| -> Vec<(String, String)> {
            let inner = self.dependencies[from].iter().filter(|to| self.members.contains(*to));
            inner.map(|to| (self.names[from].clone(), self.names[to].clone())).collect()
        };
        self.members.iter().flat_map(of).collect()
    }

    /// How a crate reaches each package beneath it: names from the top down.
    fn beneath(&self, name: &str) -> BTreeMap<String, Vec<String>> {
        let (mut ways, mut seen) = (BTreeMap::new(), BTreeSet::new());
        let mut open = vec![(self.member(name), vec![name.to_owned()])];
        while let Some((id, way)) = open.pop() {
            for next in self.dependencies[id].iter().filter(|next| seen.insert((*next).clone())) {
                let mut way = way.clone();
                way.push(self.names[next].clone());
                ways.insert(self.names[next].clone(), way.clone());
                open.push((next, way));
            }
        }
        ways
    }
}

/// The lines of the block that is fenced as `arrows`.
fn drawn() -> Arrows {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/ARCHITECTURE.md")).unwrap();
    let block = page.split_once("```arrows\n").expect("ARCHITECTURE.md has a block of arrows").1;
    let block = block.split_once("\n```").expect("the block is closed").0;
    let arrow = |line: &str| {
        let (from, to) = line.split_once(" -> ").unwrap_or_else(|| panic!("not an arrow: {line:?}"));
        (from.to_owned(), to.to_owned())
    };
    block.lines().filter(|line| !line.is_empty()).map(arrow).collect()
}

#[test]
fn the_drawing_is_the_graph() {
    let (real, drawn) = (Graph::read().arrows(), drawn());
    assert!(!real.is_empty(), "no arrows were found at all");
    let undrawn: Vec<_> = real.difference(&drawn).collect();
    let unreal: Vec<_> = drawn.difference(&real).collect();
    assert!(
        undrawn.is_empty() && unreal.is_empty(),
        "not drawn: {undrawn:?}; drawn but not there: {unreal:?}"
    );
}

#[test]
fn siblings_never_import_siblings() {
    let graph = Graph::read();
    for sibling in SIBLINGS {
        let beneath = graph.beneath(sibling);
        assert!(beneath.contains_key("bursar-schemas"), "{sibling} does not stand on schemas");
        for other in SIBLINGS {
            assert_eq!(beneath.get(other), None, "{sibling} imports {other}");
        }
    }
}

#[test]
fn the_ground_floor_and_the_stand_in_stand_alone() {
    let graph = Graph::read();
    for alone in ["bursar-schemas", "bursar-stand-in"] {
        let inner: Vec<_> = graph.arrows().into_iter().filter(|(from, _)| from == alone).collect();
        assert!(inner.is_empty(), "{inner:?}");
    }
}

#[test]
fn no_crate_has_beneath_it_what_it_must_not_know() {
    let graph = Graph::read();
    let known: BTreeSet<_> = graph.names.values().map(String::as_str).collect();
    for (name, forbidden) in NEVER_BENEATH {
        let beneath = graph.beneath(name);
        for package in forbidden {
            assert!(known.contains(package), "{package} is nowhere in the graph: has it been renamed?");
            assert_eq!(beneath.get(*package), None, "{name} must not know {package}");
        }
    }
}
