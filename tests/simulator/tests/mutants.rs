//! Every deliberate fault can still be put into the tree; `tests/simulator/mutations` runs them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::Path;

use bursar_simulator::mutants::{LIST, read};

#[test]
fn every_mutant_still_applies() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mutants = read(LIST);
    let names: BTreeSet<&str> = mutants.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names.len(), mutants.len(), "names are unique");
    assert!(mutants.len() >= 20, "the list was not read: {}", mutants.len());
    assert_eq!(mutants.len(), LIST.matches("\n== ").count(), "every block was read");
    for mutant in &mutants {
        let text = mutant.apply(&root).expect("it applies");
        assert_ne!(text, std::fs::read_to_string(root.join(&mutant.file)).unwrap(), "{}", mutant.name);
    }
}
