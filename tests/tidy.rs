//! Keeps the tree tidy: short files, pages that name what is there, nothing of the machine it was built on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const LONGEST_FILE: usize = 400;

/// Files that may be longer, with the lines they have now. A ratchet: the numbers only ever fall, and a file
/// that has become short enough leaves the list.
const LONGER: [(&str, usize); 0] = [];

const PAGES: [&str; 3] = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"];

/// Folders that hold what tools make, not what people write.
const GENERATED: [&str; 4] = [".git", "target", "__pycache__", "node_modules"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file of the tree, as paths below the root, with its text where it is text.
fn files() -> Vec<(String, Option<String>)> {
    let (mut files, mut folders) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().expect("file names are text");
            let path = folder.join(&name);
            if entry.file_type().unwrap().is_dir() {
                if !GENERATED.contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if !GENERATED.contains(&name.as_str()) {
                let text = String::from_utf8(std::fs::read(root().join(&path)).unwrap()).ok();
                files.push((path.into_os_string().into_string().unwrap(), text));
            }
        }
    }
    assert!(files.iter().any(|(path, _)| path == "tests/tidy.rs"), "the tree was not walked");
    files
}

#[test]
fn files_are_short() {
    let mut faults = Vec::new();
    for (path, text) in files() {
        let code = [".rs", ".py", ".sh"].iter().any(|end| path.ends_with(end));
        let Some(text) = text.filter(|_| code) else { continue };
        let lines = text.lines().count();
        match LONGER.iter().find(|(longer, _)| *longer == path) {
            None if lines > LONGEST_FILE => faults.push(format!("{path} has {lines} lines")),
            Some((_, known)) if lines > *known => faults.push(format!("{path} grew to {lines} lines")),
            Some(_) if lines <= LONGEST_FILE => faults.push(format!("{path} is short now: take it off")),
            _ => {}
        }
    }
    assert!(faults.is_empty(), "cut by domain names: {faults:#?}");
}

#[test]
fn exceptions_name_files_that_are_there() {
    for (path, _) in LONGER {
        assert!(root().join(path).is_file(), "{path} is gone: take it off");
    }
}

/// Words in backticks, outside fenced blocks.
fn quoted(page: &str) -> Vec<String> {
    let mut fenced = false;
    let mut words = Vec::new();
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            words.extend(
                line.split('`').skip(1).step_by(2).flat_map(str::split_whitespace).map(str::to_owned),
            );
        }
    }
    words
}

/// Whether a word means a path of this tree: it begins with an entry of the root, or is a source or a page.
fn is_path(word: &str, top: &BTreeSet<String>) -> bool {
    if word.contains(['<', '>', '{', '}', '*', '$', '(', ':', '=', '"', '…']) {
        return false;
    }
    match word.split_once('/') {
        Some((first, _)) => top.contains(first),
        None => [".rs", ".md"].iter().any(|end| word.len() > end.len() && word.ends_with(end)),
    }
}

#[test]
fn pages_name_paths_that_are_there() {
    let top: BTreeSet<String> = std::fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let (mut checked, mut missing) = (0, Vec::new());
    for name in PAGES {
        let page = std::fs::read_to_string(root().join(name)).unwrap();
        for word in quoted(&page).iter().filter(|word| is_path(word, &top)) {
            checked += 1;
            if !root().join(word).exists() {
                missing.push(format!("{name}: {word}"));
            }
        }
    }
    assert!(missing.is_empty(), "not there: {missing:#?}");
    assert!(checked > 0, "no path was found in any page");
}

#[test]
fn nothing_tells_of_the_machine_it_was_built_on() {
    // Put together here, so that this file does not hold them itself.
    let words =
        [["/wo", "rk/"], ["/ro", "ot/"], ["/home/", "runner"], ["/tmp/", "t-"]].map(|parts| parts.concat());
    let mut found = Vec::new();
    for (path, text) in files() {
        for (index, line) in text.iter().flat_map(|text| text.lines()).enumerate() {
            if words.iter().any(|word| line.contains(word.as_str())) {
                found.push(format!("{path}:{}: {}", index + 1, line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}
