//! Logs: to standard error, `BURSAR_LOG` sets the level, `BURSAR_LOG_FORMAT=json` the form.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// Installs the subscriber; a quiet program shows warnings only.
pub(crate) fn install(quiet: bool) {
    let default = if quiet {
        "error"
    } else {
        "info,datafusion=warn,object_store=warn,rdkafka=warn,librdkafka=warn,fjall=warn,lsm_tree=warn"
    };
    let filter = EnvFilter::try_from_env("BURSAR_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // A file or a collector shall not have to read the escapes of a terminal.
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_writer(std::io::stderr);
    if std::env::var("BURSAR_LOG_FORMAT").is_ok_and(|format| format == "json") {
        builder.json().init();
    } else {
        builder.with_target(false).init();
    }
}
