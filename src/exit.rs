//! Exit codes: what a script can tell apart.

use bursar_schemas::causes::with_causes;

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

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&with_causes(&*self.error))
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { exit: Exit::Failed, error: error.into() }
    }
}

/// What every command returns.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

#[cfg(test)]
mod tests {
    use std::io;

    use anyhow::Error;
    use bursar_gateway_shim::StartError;
    use bursar_ingest::content::VaultError;
    use bursar_ingest::embedded::EmbeddedError;
    use bursar_ingest::spool::SpoolError;
    use bursar_ledger::core::Halt;
    use bursar_ledger::runner::RunnerError;
    use bursar_query::QueryError;
    use bursar_query::evidence::EvidenceError;
    use bursar_schemas::fold::FoldError;
    use bursar_schemas::ports::{JournalError, OutletError};
    use bursar_schemas::snapshot::Contradiction;

    use super::*;

    const CAUSE: &str = "the cable is out";

    #[test]
    fn a_chain_of_causes_says_each_thing_once() {
        let io = || io::Error::other(CAUSE);
        let journal = || JournalError::Failed(CAUSE.to_owned());
        let (dir, path) = ("journal".into(), "spool".into());
        let address = ([127, 0, 0, 1], 4000).into();
        for (error, begin) in [
            (Error::from(RunnerError::from(journal())), "failed to read the journal: journal failed"),
            (
                RunnerError::from(OutletError::Full(CAUSE.to_owned())).into(),
                "failed to write the ledger's records: ",
            ),
            (
                RunnerError::from(Contradiction::Journal(journal())).into(),
                "failed to go on from the last snapshot: ",
            ),
            (QueryError::from(journal()).into(), "failed to read the journal: "),
            (StartError::from(journal()).into(), "failed to ask the journal: "),
            (StartError::Listen { address, error: io() }.into(), "failed to listen on 127.0.0.1:4000: "),
            (EmbeddedError::Io { dir, error: io() }.into(), "failed to use the journal in journal: "),
            (SpoolError::Io { path, error: io() }.into(), "failed to use the spool at spool: "),
        ] {
            let text = format!("{error:#}");
            assert!(text.starts_with(begin) && text.matches(CAUSE).count() == 1, "{text}");
        }
        let halt = Halt::from(FoldError::Backwards { offset: 3, after: 5 });
        assert_eq!(
            format!("{:#}", Error::from(halt)),
            "failed to follow limits: offset 3 of limits came after offset 5"
        );
    }

    /// Where the store's own error names its cause twice, or keeps it to itself.
    #[test]
    fn what_a_store_says_is_said_once_and_whole() {
        let inner = || Error::from(io::Error::other(CAUSE)).context("failed to connect");
        let store = || object_store::Error::Generic { store: "S3", source: inner().into() };
        for (error, whole) in [
            (Error::from(VaultError::from(store())), "failed to use the store of captured content: "),
            (EvidenceError::from(store()).into(), "failed to read the archive: "),
            (store().into(), ""),
        ] {
            let failure = Failure::from(error);
            assert_eq!(failure.to_string(), format!("{whole}Generic S3 error: failed to connect: {CAUSE}"));
        }
    }
}
