//! The real binary with a policy of three hard budgets on every path: `up` on the embedded journal, or the roles
//! `shim` and `ledger` as processes of their own on Kafka.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bursar_ingest::embedded::EmbeddedJournal;
use bursar_ingest::kafka::{KafkaJournal, KafkaSettings};
use bursar_schemas::ports::Journal;

use crate::process::{Process, log_file, run};
use crate::{Fault, Outcome};

/// Which journal the product runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum On {
    /// `bursar up`: every role in one process.
    Embedded,
    /// Roles of their own on the broker at that address.
    Kafka(String),
}

impl On {
    /// For a table.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Embedded => "embedded, `up`",
            Self::Kafka(_) => "Kafka, role `shim`",
        }
    }
}

/// A running product.
#[derive(Debug)]
pub struct Product {
    binary: PathBuf,
    folder: tempfile::TempDir,
    on: On,
    prefix: String,
    /// The process that the shim runs in; alone in it on Kafka.
    pub shim: Process,
    /// The ledger, where it is another process.
    pub ledger: Option<Process>,
    /// Where the shim serves.
    pub address: SocketAddr,
    admin: SocketAddr,
    /// A virtual key's secret.
    pub key: String,
}

fn free_address() -> Outcome<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Three hard budgets, one provider, one priced model.
#[must_use]
pub fn policy(upstream: SocketAddr) -> String {
    format!(
        r#"
[[organisation]]
id = "acme"
[[team]]
id = "bench"
organisation = "acme"
cost_center = "CC-1"
[[budget]]
id = "acme-month"
scope = "organisation:acme"
window = "month"
amount = "900000000.00"
[[budget]]
id = "bench-month"
scope = "team:bench"
window = "month"
amount = "900000000.00"
[[budget]]
id = "bench-day"
scope = "team:bench"
window = "day"
amount = "900000000.00"
[[provider]]
id = "upstream"
base_url = "http://{upstream}/v1"
[[model]]
id = "bench"
targets = [{{ provider = "upstream", model = "bench" }}]
[[price]]
provider = "upstream"
model = "bench"
max_output = 4096
meters = {{ input = "0.25", output = "2.00" }}
"#
    )
}

impl Product {
    /// Starts it in front of an upstream and waits until a key is served.
    ///
    /// # Errors
    /// When a process does not start or a command fails.
    pub fn start(binary: &Path, on: &On, durability: &str, upstream: SocketAddr) -> Outcome<Self> {
        let folder = tempfile::Builder::new().prefix("bursar-bench-").tempdir()?;
        let data = folder.path();
        let (address, admin, ledger_admin) = (free_address()?, free_address()?, free_address()?);
        let prefix = format!("bench-{}-{}", std::process::id(), address.port());
        let mut common = format!("[shim]\nlisten = \"{address}\"\ndurability = \"{durability}\"\n");
        if let On::Kafka(brokers) = on {
            common.push_str(&format!(
                "[journal]\nkind = \"kafka\"\n[kafka]\nbrokers = \"{brokers}\"\nprefix = \"{prefix}\"\n\
                 replication = 1\nmin_insync_replicas = 1\ndev = true\n"
            ));
        }
        std::fs::write(data.join("policy.toml"), policy(upstream))?;
        let role = |name: &str, admin: SocketAddr, ready: &str| {
            let file = data.join(format!("{name}.toml"));
            std::fs::write(&file, format!("{common}[admin]\nlisten = \"{admin}\"\n"))?;
            let mut command = Command::new(binary);
            command.arg(name).arg("--config").arg(&file).env("BURSAR_DATA", data);
            command.env_remove("OPENAI_API_KEY").stderr(log_file(data)?);
            Process::start(&mut command, name, ready).map(|(process, _)| process).map_err(|error| {
                let log = std::fs::read_to_string(data.join("log.txt")).unwrap_or_default();
                Fault::from(format!("{error}: {log}"))
            })
        };
        let (shim, ledger) = match on {
            On::Embedded => (role("up", ledger_admin, "Bursar serves on")?, None),
            On::Kafka(_) => {
                let ready = format!("admin listens on http://{ledger_admin}");
                let ledger = role("ledger", ledger_admin, &ready)?;
                (role("shim", admin, &format!("admin listens on http://{admin}"))?, Some(ledger))
            }
        };
        let mut product = Self {
            binary: binary.to_path_buf(),
            folder,
            on: on.clone(),
            prefix,
            shim,
            ledger,
            address,
            admin: ledger_admin,
            key: String::new(),
        };
        product.prepare()?;
        Ok(product)
    }

    /// Publishes policy, makes a key and waits until the shim serves it.
    fn prepare(&mut self) -> Outcome {
        let policy = self.folder.path().join("policy.toml").display().to_string();
        if self.ledger.is_some() {
            self.command(&["apply", &policy])?;
        }
        let secret = self.folder.path().join("bench.secret");
        let file = secret.display().to_string();
        self.command(&["keys", "create", "--team", "bench", "--secret-file", &file])?;
        std::fs::read_to_string(secret)?.trim().clone_into(&mut self.key);
        let request = crate::load::request(&self.key, crate::upstream::BODY);
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let served = crate::load::Client::connect(self.address)?.call(&request);
            match served {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    fn command(&self, arguments: &[&str]) -> Outcome<String> {
        let mut command = Command::new(&self.binary);
        let server = format!("http://{}", self.admin);
        run(command.args(arguments).env("BURSAR_DATA", self.folder.path()).env("BURSAR_SERVER", server))
    }

    /// Publishes the policy with more of it.
    ///
    /// # Errors
    /// When the command fails.
    pub fn apply(&self, upstream: SocketAddr, more: &str) -> Outcome {
        let file = self.folder.path().join("more.toml");
        std::fs::write(&file, policy(upstream) + more)?;
        self.command(&["apply", &file.display().to_string()]).map(|_| ())
    }

    /// The budgets as the ledger lists them.
    ///
    /// # Errors
    /// When the command fails.
    pub fn budgets(&self) -> Outcome<String> {
        self.command(&["budgets", "--format", "csv"])
    }

    /// Waits until every process of it rests.
    ///
    /// # Errors
    /// When one does not.
    pub fn settle(&self) -> Outcome {
        self.shim.settle()?;
        self.ledger.as_ref().map_or(Ok(()), Process::settle)
    }

    /// The shim's metrics, as Prometheus text.
    ///
    /// # Errors
    /// When they cannot be fetched.
    pub fn metrics(&self) -> Outcome<String> {
        crate::load::get(self.address, "/metrics")
    }

    /// How Kafka is reached for this product's topics.
    #[must_use]
    pub fn kafka(&self) -> Option<KafkaSettings> {
        match &self.on {
            On::Embedded => None,
            On::Kafka(brokers) => Some(KafkaSettings::new(brokers, &self.prefix)),
        }
    }

    /// Stops all processes in good order, then hands out the journal that they wrote, with the folder it lies in.
    ///
    /// # Errors
    /// When one ends badly.
    pub fn stop(self) -> Outcome<(Arc<dyn Journal>, tempfile::TempDir)> {
        let kafka = self.kafka();
        self.shim.stop()?;
        if let Some(ledger) = self.ledger {
            ledger.stop()?;
        }
        let journal: Arc<dyn Journal> = match kafka {
            Some(settings) => Arc::new(KafkaJournal::new(&settings)?),
            None => Arc::new(EmbeddedJournal::open(self.folder.path().join("journal"), 1)?),
        };
        Ok((journal, self.folder))
    }
}
