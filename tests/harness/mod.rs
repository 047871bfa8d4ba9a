//! What the whole-product tests share: the real binary as child processes, a stand-in provider, the command line.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

pub mod canary;
pub mod clients;
pub mod cluster;
pub mod tls;
pub mod webhook;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The real binary.
pub const BURSAR: &str = env!("CARGO_BIN_EXE_bursar");

/// A child process that is killed when it is dropped.
pub struct Process {
    pub child: Child,
    name: String,
}

impl Process {
    /// Starts `bursar ARGS` and waits until it prints that it serves.
    pub fn start(data: &Path, args: &[&str], environment: &[(&str, &str)], ready: &str) -> Self {
        let name = args.join(" ");
        let log = std::fs::File::options().create(true).append(true).open(data.join("log.txt")).unwrap();
        let mut command = Command::new(BURSAR);
        command
            .args(args)
            .envs(environment.iter().copied())
            .env("BURSAR_DATA", data)
            .env_remove("OPENAI_API_KEY");
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen = Vec::new();
        loop {
            match lines.next() {
                Some(Ok(line)) if line.contains(ready) => break,
                Some(Ok(line)) => seen.push(line),
                _ => {
                    let log = std::fs::read_to_string(data.join("log.txt")).unwrap_or_default();
                    panic!("bursar {name} ended before it served: {:?}\n{seen:?}\n{log}", child.wait());
                }
            }
        }
        // The rest is read to its end, or the child would block on a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, name }
    }

    /// SIGKILL: no handler runs.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and a good end within a minute.
    pub fn stop(mut self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(status.success(), "bursar {} ended with {status}", self.name);
                return;
            }
            assert!(Instant::now() < deadline, "bursar {} did not stop within a minute", self.name);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already, which is as good.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// An address on loopback that was free a moment ago. It lies below the ports that outgoing connections take, so
/// that a killed process finds its own free again.
pub fn free_address() -> SocketAddr {
    static DRAWN: AtomicU16 = AtomicU16::new(0);
    let first = std::process::id().wrapping_mul(7919) % 9000;
    loop {
        let drawn = u32::from(DRAWN.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(10_240 + (first + drawn) % 9000).unwrap();
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            return listener.local_addr().unwrap();
        }
    }
}

/// A small generator of its own, so that a seed means the same for ever (xorshift64*).
pub struct Seeded(u64);

impl Seeded {
    pub const fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub const fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % bound
    }
}

/// A number from the environment, or its default.
pub fn setting(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

/// A data folder with a configuration, and the command line that works on it.
pub struct Place {
    pub folder: tempfile::TempDir,
    pub shim: SocketAddr,
    pub admin: SocketAddr,
    /// Where SQL is answered, when that is another process than the administration's.
    pub query: Option<SocketAddr>,
}

impl Place {
    /// A folder on the embedded journal; `more` is added to its configuration.
    pub fn new(more: &str) -> Self {
        let place = Self {
            folder: tempfile::tempdir().unwrap(),
            shim: free_address(),
            admin: free_address(),
            query: None,
        };
        let settings =
            format!("[admin]\nlisten = \"{}\"\n[shim]\nlisten = \"{}\"\n{more}", place.admin, place.shim);
        std::fs::write(place.data().join("bursar.toml"), settings).unwrap();
        place
    }

    pub fn data(&self) -> &Path {
        self.folder.path()
    }

    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.data().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// `bursar up`, serving.
    pub fn up(&self) -> Process {
        self.up_with(&[])
    }

    pub fn up_with(&self, environment: &[(&str, &str)]) -> Process {
        Process::start(self.data(), &["up"], environment, "Bursar serves on")
    }

    /// Runs a command and returns what it printed; a failure is the test's.
    pub fn run(&self, args: &[&str]) -> String {
        let (success, out, error) = self.try_run(args);
        assert!(success, "bursar {args:?} failed: {error}\n{}", self.log());
        out
    }

    /// Runs a command: whether it succeeded, what it printed, what it complained of.
    pub fn try_run(&self, args: &[&str]) -> (bool, String, String) {
        let mut command = Command::new(BURSAR);
        command.args(args).env("BURSAR_DATA", self.data());
        if let Some(query) = self.query {
            let server = if matches!(args[0], "sql" | "chargeback" | "gaps") { query } else { self.admin };
            command.env("BURSAR_SERVER", format!("http://{server}"));
        }
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.success(), text(output.stdout), text(output.stderr))
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.data().join("log.txt")).unwrap_or_default()
    }

    /// A new key's secret.
    pub fn key(&self, team: &str) -> String {
        let name = format!("{team}-{}.secret", self.folder.path().read_dir().unwrap().count());
        let file = self.data().join(name);
        self.run(&["keys", "create", "--team", team, "--secret-file", file.to_str().unwrap()]);
        std::fs::read_to_string(file).unwrap().trim().to_owned()
    }

    /// The accounts' books.
    pub fn budgets(&self) -> Vec<Value> {
        serde_json::from_str(&self.run(&["budgets", "--format", "json"])).unwrap()
    }

    /// Rows of a statement.
    pub fn sql(&self, statement: &str) -> Vec<Value> {
        let text = self.run(&["sql", statement, "--format", "json"]);
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        match value {
            Value::Array(rows) => rows,
            Value::Object(mut object) => match object.remove("rows") {
                Some(Value::Array(rows)) => rows,
                other => panic!("no rows: {other:?}"),
            },
            other => panic!("no rows: {other}"),
        }
    }

    /// This month in UTC, as `chargeback --month` takes it.
    pub fn month() -> String {
        jiff::Timestamp::now().to_string().chars().take(7).collect()
    }
}

/// Polls until `done` gives a value; fails with `what` after a minute.
pub fn wait_for<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited a minute for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Sends a whole request, head and body as they are, and reads status and body of the answer.
pub fn exchange(address: SocketAddr, head: &str, body: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    // A refusal may come before the whole body was taken in.
    stream.write_all(body).ok();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|it| it.parse().ok()).unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status, body.to_owned())
}

/// Status and body of a page.
pub fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let head = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    exchange(address, &head, b"")
}

/// Sends bytes as the body of a chat completion.
pub fn post(shim: SocketAddr, key: &str, body: &[u8]) -> (u16, String) {
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: {shim}\r\nAuthorization: Bearer {key}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    exchange(shim, &head, body)
}

/// A small chat completion's body.
pub fn chat(text: &str) -> Vec<u8> {
    let message = serde_json::json!({"role": "user", "content": text});
    serde_json::json!({"model": "small", "max_tokens": 20, "messages": [message]}).to_string().into_bytes()
}

/// Files below a folder that hold some bytes.
pub fn holding(folder: &Path, needle: &str, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            holding(&path, needle, found);
        } else if std::fs::read(&path).is_ok_and(|bytes| contains(&bytes, needle)) {
            found.push(path.display().to_string());
        }
    }
}

pub fn contains(bytes: &[u8], needle: &str) -> bool {
    // The journal's files are large and mostly empty; this search is fast also where tests are not optimised.
    String::from_utf8_lossy(bytes).contains(needle)
}

/// A real component that `tests/run` started; none where the test may be skipped since nothing was required.
pub fn component(variable: &str) -> Option<String> {
    match std::env::var(variable) {
        Ok(value) if !value.is_empty() => Some(value),
        _ => {
            let required = std::env::var("BURSAR_TEST_COMPONENTS").is_ok_and(|it| it == "required");
            assert!(!required, "{variable} is not set though components are required");
            eprintln!("skipped: {variable} is not set; `bash tests/run` starts every component");
            None
        }
    }
}

/// Reads `KEY=VALUE` lines.
pub fn settings(path: &str) -> std::collections::BTreeMap<String, String> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().filter_map(|line| line.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

/// Dollars as pico-dollars, by string arithmetic of its own.
pub fn pico(dollars: &str) -> i128 {
    let (sign, digits) = dollars.strip_prefix('-').map_or((1, dollars), |rest| (-1, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    sign * format!("{whole}{fraction:0<12}").parse::<i128>().unwrap()
}
