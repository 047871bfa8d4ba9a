//! Text for a terminal.

/// A text with every character written out that would move the cursor, end the line or turn the order of reading.
pub(super) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let steers = c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if steers {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_written_out() {
        assert_eq!(plain("a\nb\u{1b}[2J\u{7f}\u{9b}\u{202e}"), "a\\nb\\u{1b}[2J\\u{7f}\\u{9b}\\u{202e}");
        assert_eq!(plain("ünï 😀 …"), "ünï 😀 …");
    }
}
