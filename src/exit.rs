//! Exit codes: what a script can tell apart.

/// Why the program ends with something other than 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Something failed that is not the caller's doing.
    Failed = 1,
    /// The command line, a configuration or a policy file is wrong.
    Usage = 2,
    /// The running server refused: no such thing, not allowed, or a conflict.
    Refused = 3,
    /// No server answers and there is no data folder to read.
    NoServer = 4,
}

/// An error with its exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) error: anyhow::Error,
}

impl Failure {
    pub(crate) fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self { exit: Exit::Usage, error: error.into() }
    }

    pub(crate) fn refused(message: impl std::fmt::Display) -> Self {
        Self { exit: Exit::Refused, error: anyhow::anyhow!("{message}") }
    }

    pub(crate) fn no_server(message: impl std::fmt::Display) -> Self {
        Self { exit: Exit::NoServer, error: anyhow::anyhow!("{message}") }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { exit: Exit::Failed, error: error.into() }
    }
}

/// What every command returns.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;
