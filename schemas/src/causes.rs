//! What an error says together with its causes.

use std::error::Error;

/// An error's text and those of its causes, each once: libraries often repeat a cause in a text that names it as a
/// source besides, and as often do not.
#[must_use]
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Trouble {
        #[error("failed to fetch: {0}")]
        Repeated(#[source] Box<Trouble>),
        #[error("failed to connect")]
        Silent(#[source] io::Error),
    }

    #[test]
    fn causes_are_said_once_whether_or_not_the_text_has_them() {
        let refused = || Trouble::Silent(io::Error::other("connection refused"));
        assert_eq!(with_causes(&refused()), "failed to connect: connection refused");
        let whole = Trouble::Repeated(Box::new(refused()));
        assert_eq!(with_causes(&whole), "failed to fetch: failed to connect: connection refused");
    }
}
