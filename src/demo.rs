//! `bursar demo`: every role in this process, a stand-in provider, a real trace, in about a minute.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use axum::http::Method;
use bursar_schemas::policy::Document;
use bursar_stand_in::provider::{RunningStandIn, StandIn, StandInConfig};
use bursar_stand_in::replay::{Outcome as Seen, ReplayConfig, TeamKey, replay};
use bursar_stand_in::trace::{self, Row};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use crate::admin::client::Client;
use crate::cli::{Demo, Output};
use crate::config::Config;
use crate::exit::{Failure, Outcome};
use crate::publisher::KeyRequest;
use crate::roles::{Roles, Running};
use crate::{clock, print};

/// Longest time that the demo replays.
const LONGEST: Duration = Duration::from_secs(50);

/// The demo's own settings: free ports, quick sealing so that segments can be looked at.
const SETTINGS: &str =
    "[shim]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[archive]\nseal_seconds = 5\n";

/// The team whose budget is too small for what it asks.
const POOR_BUDGET: &str = "0.25";

pub(crate) async fn run(demo: Demo) -> Outcome {
    let rows = rows(&demo)?;
    let temporary = match &demo.keep {
        Some(_) => None,
        None => Some(tempfile::tempdir().context("failed to make a temporary folder")?),
    };
    let data = match (&demo.keep, &temporary) {
        (Some(folder), _) => folder.clone(),
        (None, Some(folder)) => folder.path().to_path_buf(),
        (None, None) => PathBuf::new(),
    };
    if data.join("journal").exists() {
        return Err(Failure::usage(anyhow::anyhow!(
            "{} holds data already; name a new folder",
            data.display()
        )));
    }
    std::fs::create_dir_all(&data).with_context(|| format!("failed to make {}", data.display()))?;
    let config = Config::parse(SETTINGS, &data)?;
    let stand_in = StandIn::start(StandInConfig {
        bill: Some(data.join("stand-in-bill.jsonl")),
        first_byte_delay: Duration::from_millis(20),
        error_rate_per_mille: 20,
        ..StandInConfig::default()
    })
    .await?;
    let running = Running::start(&config, Roles::UP).await?;
    let shown = show(&running, &stand_in, &rows, &data).await;
    let stopped = running.stop().await;
    stand_in.stop().await;
    shown?;
    stopped?;
    match demo.keep {
        Some(folder) => print::out(&format!(
            "\nThe data is kept in {0}. Ask it with\n  bursar --data {0} sql \"SELECT team, code, count(*) FROM refusals GROUP BY team, code\"\n",
            folder.display()
        )),
        None => print::out(
            "\nThe data was in a temporary folder and is gone; `bursar demo --keep FOLDER` keeps it. Next: `bursar up`\n",
        ),
    }
}

fn rows(demo: &Demo) -> Outcome<Vec<Row>> {
    let mut rows = match &demo.trace {
        None => trace::builtin()?,
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("failed to read {}", path.display()))
                .map_err(Failure::usage)?;
            trace::read(&text)
                .with_context(|| format!("failed to read {}", path.display()))
                .map_err(Failure::usage)?
        }
    };
    rows.truncate(demo.requests);
    if rows.is_empty() {
        return Err(Failure::usage(anyhow::anyhow!("the trace has no requests")));
    }
    Ok(rows)
}

/// The demo's policy: two teams, one of them with less money than it will ask for.
fn policy(base_url: &str) -> String {
    format!(
        r#"
[[organisation]]
id = "demo"
[[team]]
id = "research"
organisation = "demo"
cost_center = "CC-100"
[[team]]
id = "support"
organisation = "demo"
cost_center = "CC-200"
[[budget]]
id = "demo-month"
scope = "organisation:demo"
window = "month"
amount = "100.00"
[[budget]]
id = "research-day"
scope = "team:research"
window = "day"
amount = "25.00"
[[budget]]
id = "support-day"
scope = "team:support"
window = "day"
amount = "{POOR_BUDGET}"
[[provider]]
id = "stand-in"
base_url = "{base_url}"
prices = "openai"
[[model]]
id = "small"
targets = [{{ provider = "stand-in", model = "gpt-4o-mini" }}, {{ provider = "stand-in", model = "gpt-4o" }}]
[[model]]
id = "large"
targets = [{{ provider = "stand-in", model = "gpt-4o" }}, {{ provider = "stand-in", model = "gpt-4o-mini" }}]
"#
    )
}

async fn show(running: &Running, stand_in: &RunningStandIn, rows: &[Row], data: &Path) -> Outcome {
    let publisher = running.publisher().context("the administration is not running")?;
    let policy = policy(&stand_in.base_url);
    publisher.apply(&Document::from_toml([("demo policy", policy.as_str())])?, "demo", None).await?;
    let mut teams = Vec::new();
    for team in ["research", "support"] {
        let request = KeyRequest { team: Some(team.to_owned()), ..KeyRequest::default() };
        let (_, secret) = publisher.create_key(request, "demo").await?;
        teams.push(TeamKey { team: team.to_owned(), key: secret.expose().to_owned() });
    }
    let shim = running.shim_address().context("the shim is not running")?;
    print::out(&format!(
        "Bursar runs on http://{shim} with its data in {}.\n\
         A stand-in provider answers (with noise, at OpenAI's prices). Replaying {} requests of a production trace:\n\
         Azure LLM inference trace 2023, CC-BY 4.0. Team support has ${POOR_BUDGET} a day, which will not do.\n\n",
        data.display(),
        rows.len(),
    ))?;
    let client = Client::new(&format!("http://{}", running.admin_address()), running.local_token());
    let outcomes = watch(&client, shim, teams, rows).await?;
    settled(&client).await?;
    report(&client, &outcomes, stand_in).await
}

/// Replays with a progress bar that shows both teams' budgets filling.
async fn watch(
    client: &Client,
    shim: std::net::SocketAddr,
    teams: Vec<TeamKey>,
    rows: &[Row],
) -> Outcome<Vec<Seen>> {
    let bar = ProgressBar::with_draw_target(u64::try_from(rows.len()).ok(), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.set_style(style);
    let settings = ReplayConfig {
        base_url: format!("http://{shim}/v1"),
        seed: 1,
        teams,
        models: vec!["small".to_owned(), "large".to_owned()],
        concurrency: 16,
        ..ReplayConfig::default()
    };
    let begun = tokio::time::Instant::now();
    let replaying = replay(&settings, rows, |progress, _| {
        bar.set_position(u64::try_from(progress.done).unwrap_or(0));
        if begun.elapsed() > LONGEST { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    tokio::pin!(replaying);
    let mut ticker = tokio::time::interval(Duration::from_millis(700));
    loop {
        tokio::select! {
            outcomes = &mut replaying => {
                bar.finish_and_clear();
                return Ok(outcomes?);
            }
            _ = ticker.tick() => {
                let budgets = client.get("/v1/budgets").await?;
                bar.set_message(filling(&budgets));
            }
        }
    }
}

/// Waits a moment for the answers whose clients had left: they are read to their end, to learn what they cost.
async fn settled(client: &Client) -> Outcome {
    for _ in 0..50 {
        let budgets = client.get("/v1/budgets").await?;
        let rows = budgets["budgets"].as_array().map(Vec::as_slice).unwrap_or_default();
        if rows.iter().all(|row| row["reserved"] == "0.00") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

fn filling(budgets: &Value) -> String {
    let rows = budgets["budgets"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut parts = Vec::new();
    for row in rows.iter().filter(|row| row["budget"] != "demo-month") {
        let text = |field: &str| row[field].as_str().unwrap_or_default().to_owned();
        let short = |money: String| money.chars().take(money.find('.').unwrap_or(0) + 4).collect::<String>();
        parts.push(format!("{} ${}/{}", text("budget"), short(text("settled")), text("limit")));
    }
    parts.join("  ")
}

async fn report(client: &Client, outcomes: &[Seen], stand_in: &RunningStandIn) -> Outcome {
    let count = |test: fn(&Seen) -> bool| outcomes.iter().filter(|outcome| test(outcome)).count();
    let totals = stand_in.totals();
    print::out(&format!(
        "{} requests: {} served, {} refused for want of money, {} failed.\nThe stand-in billed {} answers: ${}\n\nBudgets\n",
        outcomes.len(),
        count(|it| it.served),
        count(|it| it.error_code.as_deref() == Some("budget_exceeded")),
        count(|it| !it.served && it.error_code.as_deref() != Some("budget_exceeded")),
        totals.billed,
        bursar_schemas::money::Money::from_pico(totals.billed_pico),
    ))?;
    let budgets = client.get("/v1/budgets").await?;
    let rows = budgets["budgets"].as_array().map(Vec::as_slice).unwrap_or_default();
    print::rows(
        rows,
        &["budget", "limit", "settled", "reserved", "leased_idle", "stranded", "available"],
        Output::Table,
    )?;
    let now = clock::system()?();
    let month: String = crate::admin::server::time(now.0).chars().take(7).collect();
    let path = format!("/v1/chargeback?month={month}&by=team,model&format=table");
    let chargeback = client.raw(Method::GET, &path, None, "*/*").await?;
    print::out(&format!("\n{}", String::from_utf8_lossy(&chargeback)))
}
