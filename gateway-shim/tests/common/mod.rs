//! What the tests of the running shim share: a small ledger, a provider and a client over one journal in memory.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    dead_code,
    reason = "a test fails by panicking, and each test file uses a part of this"
)]

pub mod ledger;
pub mod provider;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bursar_gateway_shim::{Handles, RunningShim, Secret, SecretError, Shim, ShimConfig};
use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{Fact, Head, KeyIssued, PolicyPublished, Role};
use bursar_schemas::ids::{Digest, ProducerId};
use bursar_schemas::memory::{MemoryJournal, MemoryShelf};
use bursar_schemas::policy::Document;
use bursar_schemas::ports::{Journal, Outlet};
use bursar_schemas::position::{Lane, Topic};
use bursar_schemas::price::PriceTable;
use bursar_schemas::producer::{Draft, Identity, Recorder};
use bursar_schemas::wire;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use sha2::Digest as _;

use ledger::FakeLedger;
use provider::Provider;

pub const KEY: &str = "bsk-test-key-of-the-search-team";
pub const PROVIDER_KEY: &str = "sk-CANARY-provider-key";

pub fn now() -> Micros {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Micros(i64::try_from(since.as_micros()).unwrap())
}

pub fn recorder(id: u8, role: Role, outlet: Arc<dyn Outlet>) -> Arc<Recorder> {
    let identity = Identity::new(ProducerId([id; 16]), role, [id; 32], &[9; 32]);
    Arc::new(Recorder::new(identity, outlet))
}

pub fn facts(journal: &MemoryJournal, topic: Topic) -> Vec<Fact> {
    let records = journal.records(Lane::new(topic, 0));
    records.iter().map(|record| wire::decode(&record.value).unwrap()).collect()
}

/// Names of the facts of a topic that speak of requests, in order.
pub fn kinds(journal: &MemoryJournal, topic: Topic) -> Vec<&'static str> {
    let own = ["ProducerOpened", "ProducerHead"];
    facts(journal, topic).iter().map(Fact::kind).filter(|kind| !own.contains(kind)).collect()
}

/// All facts of one kind.
#[macro_export]
macro_rules! all_of {
    ($journal:expr, $topic:ident, $kind:ident) => {
        $crate::common::facts(&$journal, bursar_schemas::position::Topic::$topic)
            .into_iter()
            .filter_map(|fact| match fact {
                bursar_schemas::facts::Fact::$kind(fact) => Some(*fact),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
}

/// Polls until something is so; fails after ten seconds.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(tokio::time::Instant::now() < deadline, "never came to pass: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub struct Answered {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Bytes,
}

impl Answered {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// How a stage is set.
pub struct Setting {
    pub policy: String,
    pub limits: Vec<(&'static str, i128)>,
    pub outlet: Option<Arc<dyn Outlet>>,
    pub shelf: MemoryShelf,
    pub config: Box<dyn Fn(&mut ShimConfig)>,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            policy: String::new(),
            limits: Vec::new(),
            outlet: None,
            shelf: MemoryShelf::default(),
            config: Box::new(|_| {}),
        }
    }
}

pub struct Stage {
    pub journal: MemoryJournal,
    pub provider: Provider,
    pub second: Provider,
    pub ledger: FakeLedger,
    pub shim: RunningShim,
    pub client: Client<HttpConnector, Full<Bytes>>,
}

/// One organisation with the team `search`; `m` costs 1 µ$ a token in and 2 µ$ out, at the provider `main`;
/// `two` tries `main` and then `other`, where `m` costs the double.
pub fn policy(main: &str, other: &str, more: &str) -> String {
    format!(
        r#"
        [[organisation]]
        id = "acme"
        [[team]]
        id = "search"
        organisation = "acme"
        [[provider]]
        id = "main"
        base_url = "{main}/v1"
        api_key = "env:MAIN_KEY"
        timeout_ms = 1000
        prices = "openai"
        [[provider]]
        id = "other"
        base_url = "{other}/v1"
        [[model]]
        id = "alias"
        targets = [{{ provider = "main", model = "m" }}]
        [[model]]
        id = "two"
        targets = [{{ provider = "main", model = "m" }}, {{ provider = "other", model = "m" }}]
        [[model]]
        id = "unpriced"
        targets = [{{ provider = "main", model = "nobody-knows" }}]
        [[price]]
        provider = "main"
        model = "m"
        meters = {{ input = "1", output = "2" }}
        max_output = 100
        [[price]]
        provider = "other"
        model = "m"
        meters = {{ input = "2", output = "4" }}
        max_output = 100
        {more}
        "#
    )
}

pub fn publish(journal: &MemoryJournal, toml: &str) {
    let document = Document::from_toml([("test.toml", toml)]).unwrap();
    let policy = recorder(3, Role::Policy, Arc::new(journal.clone()));
    let lane = Lane::new(Topic::Policy, 0);
    let head = Head::draft(now(), 0, "");
    let published = PolicyPublished {
        head: head.clone(),
        version: 1,
        author: "test".to_owned(),
        approver: None,
        source_revision: None,
        document: document.to_json(),
    };
    let issued = |key: &str, secret: &str, models: Vec<String>| KeyIssued {
        head: head.clone(),
        key: key.to_owned(),
        secret_hash: Digest(sha2::Sha256::digest(secret.as_bytes()).into()),
        organisation: "acme".to_owned(),
        team: Some("search".to_owned()),
        project: None,
        tags: [("env".to_owned(), "test".to_owned())].into(),
        models,
        author: "test".to_owned(),
    };
    let drafts: Vec<Fact> = vec![
        published.into(),
        issued("key-1", KEY, Vec::new()).into(),
        issued("key-2", "bsk-only-two", vec!["two".to_owned()]).into(),
    ];
    drop(policy.record(drafts.into_iter().map(|fact| Draft { lane, fact })).unwrap());
}

/// What a shim is started with.
pub fn handles(journal: Arc<dyn Journal>, recorder: Arc<Recorder>, shelf: MemoryShelf) -> Handles {
    Handles {
        journal,
        recorder,
        secrets: Arc::new(|reference| match reference {
            "env:MAIN_KEY" => Ok(Secret::new(PROVIDER_KEY.to_owned())),
            other => Err(SecretError { reference: other.to_owned(), reason: "unknown".to_owned() }),
        }),
        clock: Arc::new(now),
        random: Arc::new(|bytes| {
            use std::sync::atomic::{AtomicU64, Ordering};
            static COUNT: AtomicU64 = AtomicU64::new(1);
            let count = COUNT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
            bytes.iter_mut().zip(count).for_each(|(byte, random)| *byte = random);
        }),
        prices: PriceTable::default(),
        shelf: Arc::new(shelf),
    }
}

impl Stage {
    pub async fn set(setting: Setting) -> Self {
        Self::set_with(setting, |_| ()).await
    }

    /// As [`Stage::set`], showing the journal before anything is written to it.
    pub async fn set_with(setting: Setting, show: impl FnOnce(&MemoryJournal)) -> Self {
        let journal = MemoryJournal::new(1);
        show(&journal);
        let (provider, second) = (Provider::start().await, Provider::start().await);
        publish(&journal, &policy(&provider.base, &second.base, &setting.policy));
        let ledger = FakeLedger::start(&journal, &setting.limits);
        let mut config = ShimConfig::new(([127, 0, 0, 1], 0).into(), 1, [1; 32], [2; 32]);
        (setting.config)(&mut config);
        let outlet = setting.outlet.unwrap_or_else(|| Arc::new(journal.clone()));
        let journal_port = Arc::new(journal.clone());
        let handles = handles(journal_port, recorder(1, Role::Shim, outlet), setting.shelf);
        let shim = Shim::start(config, handles).await.unwrap();
        let client = Client::builder(TokioExecutor::new()).build_http();
        let stage = Self { journal, provider, second, ledger, shim, client };
        until("the shim is ready", || stage.shim.readiness().ready).await;
        stage
    }

    pub async fn plain() -> Self {
        Self::set(Setting::default()).await
    }

    /// Where an answer is dropped as soon as its client has left.
    pub async fn dropping() -> Self {
        let config = |config: &mut ShimConfig| config.read_on = Duration::ZERO;
        Self::set(Setting { config: Box::new(config), ..Setting::default() }).await
    }

    /// With a hard budget of so many micro-dollars.
    pub async fn hard(micro_dollars: i128) -> Self {
        Self::set(Setting {
            policy: HARD.to_owned(),
            limits: vec![("team-search", micro_dollars)],
            ..Setting::default()
        })
        .await
    }

    pub fn request(&self, path: &str, body: impl Into<Bytes>) -> http::Request<Full<Bytes>> {
        http::Request::post(format!("http://{}{path}", self.shim.local_addr()))
            .header("authorization", format!("Bearer {KEY}"))
            .header("content-type", "application/json")
            .body(Full::new(body.into()))
            .unwrap()
    }

    pub async fn send(&self, request: http::Request<Full<Bytes>>) -> Answered {
        let (parts, body) = self.client.request(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answered { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    pub async fn chat(&self, body: &str) -> Answered {
        self.send(self.request("/v1/chat/completions", body.to_owned())).await
    }

    pub async fn get(&self, path: &str) -> Answered {
        let request = http::Request::get(format!("http://{}{path}", self.shim.local_addr()))
            .header("authorization", format!("Bearer {KEY}"))
            .body(Full::default())
            .unwrap();
        self.send(request).await
    }
}

pub const HARD: &str = r#"
    [[budget]]
    id = "team-search"
    scope = "team:search"
    window = "total"
    amount = "1"
"#;

/// A chat body with an output cap.
pub fn chat(model: &str, cap: u64, more: &str) -> String {
    format!(
        r#"{{"model":"{model}","max_tokens":{cap},"messages":[{{"role":"user","content":"CANARY prompt"}}]{more}}}"#
    )
}
