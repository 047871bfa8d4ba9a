//! Tells webhooks of alerts, beside the ledger that acts: it asks which deliveries are due, sends each until it is taken,
//! and has the ledger record what became of it.
//!
//! A delivery whose record got lost is sent again under the same id: at least once, and idempotent for whoever looks at
//! the id.

mod message;
mod post;
mod queue;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bursar_gateway_shim::Authorities;
use bursar_ledger::alerts::AlertState;
use bursar_ledger::runner::{LedgerHandle, NotRunning, Report};
use bursar_schemas::policy::Webhook;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::clock::Clock;
use crate::prometheus;
use crate::publisher::Publisher;
use post::Post;
use queue::{Ended, Key, Next, Queue};

/// Time between two looks at what is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Deliveries taken on at once for each webhook and partition; the others stay with the ledger.
const AT_ONCE: usize = 64;

/// How long a stop waits for answers under way.
const GOODBYE: Duration = Duration::from_secs(3);

/// What happened to one webhook's deliveries since the start.
#[derive(Debug, Clone, Default)]
struct Figures {
    delivered: u64,
    given_up: u64,
    failures: u64,
    /// Why the last attempt failed; none after one that did not.
    trouble: Option<String>,
}

type Shared = Arc<Mutex<BTreeMap<String, Figures>>>;

/// The task that tells webhooks.
pub(crate) struct Messenger {
    task: JoinHandle<()>,
    stop: watch::Sender<bool>,
    figures: Shared,
}

impl Messenger {
    /// Starts it; references in policy start from `base`.
    pub(crate) fn start(
        ledger: LedgerHandle,
        publisher: Arc<Publisher>,
        clock: Clock,
        base: PathBuf,
        authorities: &Authorities,
    ) -> anyhow::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let figures = Shared::default();
        let work = Work {
            ledger,
            publisher,
            clock,
            post: Post::new(base, authorities)?,
            queue: Queue::default(),
            posts: JoinSet::new(),
            figures: Arc::clone(&figures),
        };
        Ok(Self { task: tokio::spawn(work.run(stopped)), stop, figures })
    }

    /// Waits a moment for answers under way; what has none is sent again by whoever acts next.
    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.task.await {
            tracing::warn!(%error, "the task that tells webhooks did not end well");
        }
    }

    /// How each webhook is, for `bursar status`.
    pub(crate) fn state(&self) -> impl Fn() -> Value + Send + Sync + 'static {
        let figures = Arc::clone(&self.figures);
        move || {
            let figures = figures.lock().unwrap_or_else(PoisonError::into_inner);
            let line = |it: &Figures| {
                let trouble = it.trouble.as_ref().map(|why| format!("; last failure: {why}"));
                let trouble = trouble.unwrap_or_default();
                json!(format!("{} delivered, {} given up{trouble}", it.delivered, it.given_up))
            };
            Value::Object(figures.iter().map(|(webhook, it)| (webhook.clone(), line(it))).collect())
        }
    }

    /// Prometheus text.
    pub(crate) fn metrics(&self, ledger: LedgerHandle) -> Arc<dyn Fn() -> String + Send + Sync> {
        let figures = Arc::clone(&self.figures);
        Arc::new(move || {
            let figures = figures.lock().unwrap_or_else(PoisonError::into_inner);
            metrics(&ledger, &figures)
        })
    }
}

fn metrics(ledger: &LedgerHandle, figures: &BTreeMap<String, Figures>) -> String {
    let mut text = String::new();
    let counts = ledger.status();
    let raised: u64 = counts.iter().map(|it| it.alerts.raised).sum();
    let due: u64 = counts.iter().map(|it| it.alerts.due).sum();
    for (name, help, kind, value) in [
        ("bursar_alerts_raised_total", "Alerts that the log holds.", "counter", raised),
        ("bursar_alert_deliveries_due", "Deliveries to webhooks that the log says are due.", "gauge", due),
    ] {
        prometheus::single(&mut text, name, help, kind, value);
    }
    let name = "bursar_alert_deliveries_total";
    prometheus::head(&mut text, name, "Deliveries to webhooks that ended in this process.", "counter");
    for (webhook, it) in figures {
        for (outcome, value) in [("delivered", it.delivered), ("given_up", it.given_up)] {
            // Writing to a text cannot fail.
            let _ = writeln!(text, "{name}{{webhook=\"{webhook}\",outcome=\"{outcome}\"}} {value}");
        }
    }
    let name = "bursar_alert_delivery_failures_total";
    prometheus::head(&mut text, name, "Attempts of this process that a webhook did not take.", "counter");
    for (webhook, it) in figures {
        let _ = writeln!(text, "{name}{{webhook=\"{webhook}\"}} {}", it.failures);
    }
    text
}

/// An attempt that has come back.
type Answer = (AlertState, String, anyhow::Result<u16>);

struct Work {
    ledger: LedgerHandle,
    publisher: Arc<Publisher>,
    clock: Clock,
    post: Post,
    queue: Queue,
    /// At most one for each webhook.
    posts: JoinSet<Answer>,
    figures: Shared,
}

/// Resolves when it is to stop: when it is told so, or nobody is left who could tell it.
async fn told(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await.is_ok();
}

impl Work {
    async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut ticker = tokio::time::interval(LOOK_EVERY);
        ticker.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let done = tokio::select! {
                () = told(&mut stop) => break,
                _ = ticker.tick() => self.look().await,
                Some(answer) = self.posts.join_next() => self.take(answer).await,
            };
            if let Err(error) = done {
                tracing::debug!(%error, "webhooks are not told");
            }
        }
        let answers = async {
            while let Some(answer) = self.posts.join_next().await {
                if self.take(answer).await.is_err() {
                    break;
                }
            }
        };
        if tokio::time::timeout(GOODBYE, answers).await.is_err() {
            tracing::info!("a webhook did not answer before the end; the next start sends the alert again");
        }
    }

    /// Sends what is due and has its turn.
    async fn look(&mut self) -> Result<(), NotRunning> {
        let due = self.ledger.due_deliveries(AT_ONCE).await?;
        let keys = due.iter().map(|(alert, webhook)| (alert.id(), webhook.clone()));
        self.queue.keep(&keys.collect::<BTreeSet<Key>>());
        let policy = self.publisher.state();
        for (alert, webhook) in due {
            // It was raised under a policy that is still to be read here.
            if alert.policy > policy.version {
                continue;
            }
            let now = Instant::now();
            let key = (alert.id(), webhook);
            let Some(found) = policy.document.webhooks.iter().find(|it| it.id == key.1) else {
                if let Some(ended) = self.queue.abandon(&key, now) {
                    tracing::info!(webhook = key.1, alert = key.0, "policy has no such webhook any more");
                    self.count(&key.1, &ended);
                    self.tell(&alert, &key.1, ended).await?;
                }
                continue;
            };
            match self.queue.next(&key, now) {
                Next::Send => self.send(found, alert),
                Next::Tell(ended) => self.tell(&alert, &key.1, ended).await?,
                Next::Nothing => {}
            }
        }
        Ok(())
    }

    fn send(&mut self, webhook: &Webhook, alert: AlertState) {
        let (post, webhook, now) = (self.post.clone(), webhook.clone(), (self.clock)());
        self.posts.spawn(async move {
            let answer = post.send(&webhook, &alert, now).await;
            (alert, webhook.id, answer)
        });
    }

    async fn take(&mut self, answer: Result<Answer, tokio::task::JoinError>) -> Result<(), NotRunning> {
        let (alert, webhook, answer) = match answer {
            Ok(answer) => answer,
            Err(error) => {
                tracing::error!(%error, "an attempt to tell a webhook ended by itself");
                return Ok(());
            }
        };
        let age = Duration::from_micros(
            u64::try_from((self.clock)().0.saturating_sub(alert.at.0)).unwrap_or_default(),
        );
        let key = (alert.id(), webhook);
        let ended = self.queue.answered(&key, answer.as_ref().ok().copied(), age, Instant::now());
        let why = match &answer {
            Ok(status) => format!("it answered {status}"),
            Err(error) => format!("{error:#}"),
        };
        let taken = ended.is_some_and(|ended| ended.delivered);
        if taken {
            tracing::info!(webhook = key.1, alert = key.0, "a webhook took an alert");
        } else {
            let given_up = ended.is_some();
            tracing::warn!(webhook = key.1, alert = key.0, why, given_up, "a webhook did not take an alert");
        }
        {
            let mut figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
            let figures = figures.entry(key.1.clone()).or_default();
            figures.failures += u64::from(!taken);
            figures.trouble = (!taken).then_some(why);
        }
        let Some(ended) = ended else { return Ok(()) };
        self.count(&key.1, &ended);
        self.tell(&alert, &key.1, ended).await
    }

    fn count(&self, webhook: &str, ended: &Ended) {
        let mut figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
        let figures = figures.entry(webhook.to_owned()).or_default();
        *if ended.delivered { &mut figures.delivered } else { &mut figures.given_up } += 1;
    }

    /// Has the ledger record how a delivery ended.
    async fn tell(&self, alert: &AlertState, webhook: &str, ended: Ended) -> Result<(), NotRunning> {
        let Ended { delivered, attempts, status } = ended;
        let report = Report {
            partition: alert.partition,
            producer: alert.producer,
            number: alert.number,
            webhook: webhook.to_owned(),
            delivered,
            attempts,
            status,
        };
        self.ledger.told(report).await
    }
}
