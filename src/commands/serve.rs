//! `bursar up` and the roles as separate processes: start, say where things are, stop in good order.

use std::path::Path;

use crate::cli::Place;
use crate::config::{Config, JournalKind};
use crate::exit::{Failure, Outcome};
use crate::roles::{Roles, Running};
use crate::{print, starter};

/// All roles in one process on the embedded journal.
pub(crate) async fn up(place: &Place) -> Outcome {
    let fresh = place.config.is_none() && !place.data.join("bursar.toml").exists();
    if fresh {
        starter::write_files(&place.data)?;
    }
    let config = Config::load(&place.data, place.config.as_deref())?;
    if config.journal.kind != JournalKind::Embedded {
        return Err(Failure::usage(anyhow::anyhow!(
            "`up` runs on the embedded journal; with journal.kind = \"kafka\" start the roles: bursar ledger, shim, ingest, query"
        )));
    }
    let running = Running::start(&config, Roles::UP).await?;
    let first = match running.publisher() {
        Some(publisher) => starter::publish_first(publisher, &config.data).await?,
        None => false,
    };
    // Who is told where to send requests may send one at once.
    running.serves().await;
    welcome(&config, &running, first)?;
    serve(running).await
}

/// One role alone.
pub(crate) async fn role(place: &Place, roles: Roles) -> Outcome {
    let config = Config::load(&place.data, place.config.as_deref())?;
    if config.journal.kind == JournalKind::Embedded {
        return Err(Failure::usage(anyhow::anyhow!(
            "separate roles meet on Apache Kafka: set journal.kind = \"kafka\" (or run all roles with `bursar up`)"
        )));
    }
    let running = Running::start(&config, roles).await?;
    if let Some(shim) = running.shim_address() {
        print::out(&format!("shim listens on http://{shim}\n"))?;
    }
    print::out(&format!("admin listens on http://{}\n", running.admin_address()))?;
    serve(running).await
}

/// Runs until a signal comes or a role fails.
async fn serve(running: Running) -> Outcome {
    let failed = tokio::select! {
        signal = signal() => { tracing::info!(signal = signal?, "stopping"); None }
        reason = running.failed() => Some(reason),
    };
    let stopped = running.stop().await;
    match failed {
        // What the role itself says is the better reason, where it says one.
        Some(reason) => match stopped {
            Err(failure) => Err(Failure { error: failure.error.context(reason), ..failure }),
            Ok(()) => Err(Failure::from(anyhow::anyhow!("{reason}"))),
        },
        None => stopped,
    }
}

/// Waits for a word to stop: SIGTERM, or SIGINT from a terminal.
pub(super) async fn signal() -> anyhow::Result<&'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}

fn welcome(config: &Config, running: &Running, first: bool) -> Outcome {
    let Some(shim) = running.shim_address() else { return Ok(()) };
    let data = config.data.display();
    let keys = config.data.join(starter::KEYS_FILE);
    let mut text =
        format!("Bursar serves on http://{shim} (administration on http://{})\n", running.admin_address());
    text.push_str(&format!(
        "Facts are as durable as the disk under {data}: the embedded journal is flushed before a fact counts.\n"
    ));
    if first {
        text.push_str(&format!(
            "Wrote {data}/bursar.toml and {data}/policy.toml; keys are in {}.\n",
            keys.display()
        ));
    }
    if Path::new(&keys).exists() {
        text.push_str(&format!(
            "\nTry:\n  source {keys}\n  curl http://{shim}/v1/chat/completions -H \"Authorization: Bearer $BURSAR_KEY_RESEARCH\" \\\n    \
             -H 'Content-Type: application/json' \\\n    \
             -d '{{\"model\": \"small\", \"messages\": [{{\"role\": \"user\", \"content\": \"Say hello.\"}}]}}'\n  \
             bursar --data {data} budgets\n",
            keys = keys.display(),
        ));
    }
    if std::env::var("OPENAI_API_KEY").is_err() {
        text.push_str("\nOPENAI_API_KEY is not set here, so requests to the provider openai will fail. `bursar demo` needs no key.\n");
    }
    print::out(&text)
}
