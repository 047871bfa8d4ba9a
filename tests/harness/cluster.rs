//! A deployment on Apache Kafka: every role a process of its own that can be killed and started again, and a broker
//! that belongs to the test and may be killed as well.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use super::{Place, Process, component, free_address, settings, wait_for};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/components/kafka");

/// A broker of the test's own.
pub struct Broker {
    folder: PathBuf,
    /// What it printed at its start.
    pub lines: BTreeMap<String, String>,
}

impl Broker {
    /// Starts a fresh broker below a folder; `more` are further arguments.
    pub fn start(folder: &Path, more: &[&str]) -> Self {
        let folder = folder.join("broker");
        let lines = Self::script(&folder, "start", more);
        Self { folder, lines }
    }

    fn script(folder: &Path, action: &str, more: &[&str]) -> BTreeMap<String, String> {
        let run = Command::new("bash").arg(SCRIPT).arg(action).arg(folder).args(more).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(run.status.success(), "kafka {action}: {}", text(&run.stderr));
        let lines = text(&run.stdout);
        lines.lines().filter_map(|it| it.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    }

    pub fn bootstrap(&self) -> &str {
        &self.lines["BOOTSTRAP"]
    }

    /// SIGKILL.
    pub fn kill(&self) {
        Self::script(&self.folder, "kill9", &[]);
    }

    /// Starts it again after a kill, on the same data and ports; returns when it answers.
    pub fn again(&self) {
        Self::script(&self.folder, "start", &[]);
    }

    /// SIGSTOP: connections stay open and nothing answers; until [`Broker::thaw`].
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = std::fs::read_to_string(self.folder.join("pid")).unwrap();
        assert!(Command::new("kill").args([signal, pid.trim()]).status().unwrap().success());
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Not through `script`: a second panic would hide the first.
        Command::new("bash").arg(SCRIPT).arg("kill9").arg(&self.folder).output().ok();
    }
}

/// Settings as `section.key` with a TOML value each.
pub type Settings = BTreeMap<String, String>;

fn toml(settings: &Settings) -> String {
    let mut sections: BTreeMap<&str, String> = BTreeMap::new();
    for (name, value) in settings {
        let (section, key) = name.split_once('.').expect("section.key");
        sections.entry(section).or_default().push_str(&format!("{key} = {value}\n"));
    }
    sections.iter().map(|(section, lines)| format!("[{section}]\n{lines}")).collect()
}

/// A TOML string.
pub fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

/// One role: how it is started, and its process while there is one.
pub struct Role {
    pub name: String,
    command: String,
    pub data: PathBuf,
    pub admin: SocketAddr,
    /// Where a shim serves.
    pub listen: SocketAddr,
    settings: Mutex<Settings>,
    environment: Vec<(String, String)>,
    process: Mutex<Option<Process>>,
}

impl Role {
    /// Changes a setting for the next start.
    pub fn set(&self, name: &str, value: &str) {
        let mut settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        settings.insert(name.to_owned(), value.to_owned());
    }

    /// Starts it and waits until it serves.
    pub fn start(&self) {
        let file = self.data.join(format!("{}.toml", self.name));
        std::fs::write(&file, toml(&self.settings.lock().unwrap())).unwrap();
        let ready = format!("admin listens on http://{}", self.admin);
        let arguments = [self.command.as_str(), "--config", file.to_str().unwrap()];
        let environment: Vec<(&str, &str)> =
            self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let process = Process::start(&self.data, &arguments, &environment, &ready);
        *self.process.lock().unwrap() = Some(process);
    }

    /// Waits until the process has ended by itself, and gives what it has written to its log since its start.
    pub fn ends_by_itself(&self) -> String {
        let mut process = self.process.lock().unwrap().take().expect("a role that runs");
        let status = wait_for(&format!("{} to end", self.name), || process.child.try_wait().unwrap());
        assert!(!status.success(), "{} ended as if all were well", self.name);
        self.log()
    }

    /// Starts it though it will not serve, and gives what it complained of.
    pub fn refuses_to_start(&self) -> String {
        let file = self.data.join(format!("{}.toml", self.name));
        let mut command = Command::new(super::BURSAR);
        command.args([self.command.as_str(), "--config", file.to_str().unwrap()]);
        command.env("BURSAR_DATA", &self.data).envs(self.environment.iter().cloned());
        let output = command.output().unwrap();
        assert!(!output.status.success(), "{} ended as if all were well", self.name);
        String::from_utf8(output.stderr).unwrap()
    }

    pub fn is_up(&self) -> bool {
        self.process.lock().unwrap().is_some()
    }

    /// SIGKILL; it must run.
    pub fn kill(&self) {
        let mut process = self.process.lock().unwrap().take().expect("a role that runs");
        let ended = process.child.try_wait().unwrap();
        assert!(ended.is_none(), "{} ended by itself: {ended:?}\n{}", self.name, self.log_end());
        process.kill();
    }

    /// SIGSTOP: its connections stay open and nothing moves; until [`Role::thaw`].
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on, as if it had slept.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let process = self.process.lock().unwrap();
        let id = process.as_ref().expect("a role that runs").child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    /// SIGTERM, and a good end.
    pub fn stop(&self) {
        self.process.lock().unwrap().take().expect("a role that runs").stop();
    }

    /// Fails when the process has ended though nobody asked it to.
    pub fn must_run(&self) {
        let mut process = self.process.lock().unwrap();
        let ended = process.as_mut().expect("a role that was started").child.try_wait().unwrap();
        assert!(ended.is_none(), "{} ended by itself: {ended:?}\n{}", self.name, self.log_end());
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.data.join("log.txt")).unwrap_or_default()
    }

    fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

/// The roles of one deployment, each with a data folder of its own; only the deployment's key is shared.
pub struct Cluster {
    pub place: Place,
    pub prefix: String,
    settings: Settings,
    environment: Vec<(String, String)>,
    roles: Vec<Role>,
}

impl Cluster {
    /// Settings for a deployment on a broker and the S3 server of `tests/run`; none of its roles yet.
    pub fn new(bootstrap: &str) -> Self {
        let s3 = settings(&component("BURSAR_TEST_S3_ENV").expect("an S3 server beside the broker"));
        let place = Place::new("");
        let own = place.data().file_name().unwrap().to_str().unwrap().replace('.', "");
        let mut common = Settings::new();
        for (name, value) in [
            ("journal.kind", quoted("kafka")),
            ("kafka.brokers", quoted(bootstrap)),
            ("kafka.prefix", quoted(&own)),
            ("kafka.replication", "1".to_owned()),
            ("kafka.min_insync_replicas", "1".to_owned()),
            ("kafka.dev", "true".to_owned()),
            ("ledger.takeover_seconds", "3".to_owned()),
            ("archive.url", quoted(&format!("s3://{}/{own}", s3["BUCKET"]))),
            ("archive.seal_seconds", "1".to_owned()),
        ] {
            common.insert(name.to_owned(), value);
        }
        for (name, file) in [("key", "deployment.key"), ("admin_token", "admin.token")] {
            let path = place.data().join(file);
            common.insert(format!("deployment.{name}"), quoted(&format!("file:{}", path.display())));
        }
        let environment = [
            ("AWS_ENDPOINT_URL", s3["ENDPOINT"].as_str()),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_REGION", s3["REGION"].as_str()),
            ("AWS_ACCESS_KEY_ID", s3["ACCESS_KEY"].as_str()),
            ("AWS_SECRET_ACCESS_KEY", s3["SECRET_KEY"].as_str()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
        Self { place, prefix: own, settings: common, environment, roles: Vec::new() }
    }

    /// Starts roles, each by its name and command, and puts a policy in force.
    pub fn start(bootstrap: &str, roles: &[(&str, &str)], policy: &str) -> Self {
        let mut cluster = Self::new(bootstrap);
        for (name, command) in roles {
            cluster.add(name, command);
        }
        let file = cluster.place.write("policy.toml", policy);
        cluster.place.run(&["apply", file.to_str().unwrap()]);
        cluster
    }

    /// A setting of every role that is added after it.
    pub fn set(&mut self, name: &str, value: &str) {
        self.settings.insert(name.to_owned(), value.to_owned());
    }

    /// A variable in the environment of every role that is added after it.
    pub fn environment(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Adds a role and starts it.
    pub fn add(&mut self, name: &str, command: &str) {
        let data = self.place.data().join(name);
        std::fs::create_dir_all(&data).unwrap();
        let first = !self.roles.iter().any(|it| it.command == command);
        let admin = if command == "ledger" && first { self.place.admin } else { free_address() };
        let listen = if command == "shim" && first { self.place.shim } else { free_address() };
        if command == "query" {
            self.place.query = Some(admin);
        }
        let mut settings = self.settings.clone();
        settings.insert("admin.listen".to_owned(), quoted(&admin.to_string()));
        settings.insert("shim.listen".to_owned(), quoted(&listen.to_string()));
        let role = Role {
            name: name.to_owned(),
            command: command.to_owned(),
            data,
            admin,
            listen,
            settings: Mutex::new(settings),
            environment: self.environment.clone(),
            process: Mutex::default(),
        };
        role.start();
        self.roles.push(role);
    }

    pub fn role(&self, name: &str) -> &Role {
        self.roles.iter().find(|role| role.name == name).unwrap_or_else(|| panic!("no role {name}"))
    }

    pub fn roles(&self) -> &[Role] {
        &self.roles
    }

    /// What `bursar status` says of a role.
    pub fn status(&self, name: &str) -> Value {
        let server = format!("http://{}", self.role(name).admin);
        let text = self.place.run(&["--server", &server, "status", "--format", "json"]);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Stops the roles that run, those that were started last first.
    pub fn stop(&self) {
        for role in self.roles.iter().rev().filter(|role| role.is_up()) {
            role.stop();
        }
    }
}

/// A cluster on a broker of the test's own.
pub struct Deployment {
    pub cluster: Cluster,
    pub broker: Broker,
    /// The broker's; it goes last.
    _folder: tempfile::TempDir,
}

impl Deployment {
    /// Starts a fresh broker, then the roles, and puts a policy in force.
    pub async fn start(roles: &'static [(&'static str, &'static str)], policy: String) -> Arc<Self> {
        let start = move || {
            let folder = tempfile::tempdir().unwrap();
            let broker = Broker::start(folder.path(), &[]);
            let cluster = Cluster::start(broker.bootstrap(), roles, &policy);
            Arc::new(Self { cluster, broker, _folder: folder })
        };
        tokio::task::spawn_blocking(start).await.unwrap()
    }
}
