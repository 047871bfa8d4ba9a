//! Metrics in Prometheus' text format.

use std::fmt::Write as _;

/// What stands before a metric's values: its meaning, and its kind, `counter` or `gauge`.
pub(crate) fn head(out: &mut String, name: &str, help: &str, kind: &str) {
    // Writing to a text cannot fail.
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// A metric of one value without labels.
pub(crate) fn single(out: &mut String, name: &str, help: &str, kind: &str, value: u64) {
    head(out, name, help, kind);
    let _ = writeln!(out, "{name} {value}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_says_what_it_means_before_its_value() {
        let mut out = String::new();
        single(&mut out, "eggs_total", "Eggs laid.", "counter", 3);
        head(&mut out, "hens", "Hens by their colour.", "gauge");
        assert_eq!(
            out,
            "# HELP eggs_total Eggs laid.\n# TYPE eggs_total counter\neggs_total 3\n\
             # HELP hens Hens by their colour.\n# TYPE hens gauge\n"
        );
    }
}
