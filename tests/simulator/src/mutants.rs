//! Deliberate faults in production code, as named replacements of text, each to be caught by the simulator.

use std::path::Path;

/// The list.
pub const LIST: &str = include_str!("../mutants.txt");

/// One deliberate fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutant {
    /// Its name.
    pub name: String,
    /// The file, from the root of the tree.
    pub file: String,
    /// The text that is there once.
    pub find: String,
    /// What stands there instead.
    pub replace: String,
}

/// Reads a list: blocks of `== name`, `file: path`, the text, a line `----`, and what replaces it.
#[must_use]
pub fn read(list: &str) -> Vec<Mutant> {
    let mut mutants = Vec::new();
    for block in list.split("\n== ").skip(1) {
        let Some((name, rest)) = block.split_once('\n') else { continue };
        let Some((file, rest)) = rest.split_once('\n') else { continue };
        let Some((find, replace)) = rest.split_once("\n----\n") else { continue };
        mutants.push(Mutant {
            name: name.trim().to_owned(),
            file: file.trim_start_matches("file:").trim().to_owned(),
            find: find.to_owned(),
            replace: replace.trim_end_matches('\n').to_owned(),
        });
    }
    mutants
}

impl Mutant {
    /// The file's text with the fault in it.
    ///
    /// # Errors
    /// When the file cannot be read, or the text is not there exactly once.
    pub fn apply(&self, tree: &Path) -> Result<String, String> {
        let path = tree.join(&self.file);
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", self.file))?;
        match text.matches(&self.find).count() {
            1 => Ok(text.replace(&self.find, &self.replace)),
            count => Err(format!("{}: its text is {count} times in {}", self.name, self.file)),
        }
    }
}
