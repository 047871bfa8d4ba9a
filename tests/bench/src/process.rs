//! Child processes and what the system says of them (Linux).

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Fault, Outcome};

/// How long a process may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// A child process; killed when it is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
}

impl Process {
    /// Starts a command and reads what it prints until a line holds `ready`, which is returned.
    ///
    /// # Errors
    /// When it ends before.
    pub fn start(command: &mut Command, name: &str, ready: &str) -> Outcome<(Self, String)> {
        let mut child = command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn()?;
        let out = child.stdout.take().ok_or("a child without output")?;
        let process = Self { child, name: name.to_owned() };
        let mut lines = BufReader::new(out).lines();
        loop {
            match lines.next() {
                Some(Ok(line)) if line.contains(ready) => {
                    // The rest is read to its end, or the child would block on a full pipe.
                    std::thread::spawn(move || lines.for_each(drop));
                    return Ok((process, line));
                }
                Some(Ok(_)) => {}
                _ => return Err(Fault::from(format!("{name} ended before it served"))),
            }
        }
    }

    /// Starts another of this program's own subcommands, which prints the address it serves on.
    ///
    /// # Errors
    /// When it does not.
    pub fn own(arguments: &[&str]) -> Outcome<(Self, SocketAddr)> {
        let program = std::env::current_exe()?;
        let name = arguments.first().copied().unwrap_or("own");
        let (process, line) = Self::start(Command::new(program).args(arguments), name, "127.0.0.1:")?;
        Ok((process, line.trim().parse()?))
    }

    /// Processor time so far, user and system, in microseconds.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn processor_us(&self) -> Outcome<u64> {
        processor_us(&self.child.id().to_string())
    }

    /// Resident memory in kibibytes.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn resident_kib(&self) -> Outcome<u64> {
        memory_kib(&self.child.id().to_string(), "VmRSS:")
    }

    /// Waits until the process does next to nothing any more.
    ///
    /// # Errors
    /// When the system does not tell, or it is still busy after a minute.
    pub fn settle(&self) -> Outcome {
        const LOOK: Duration = Duration::from_millis(200);
        let deadline = Instant::now() + PATIENCE;
        let mut before = self.processor_us()?;
        loop {
            std::thread::sleep(LOOK);
            let now = self.processor_us()?;
            if now - before <= 20_000 {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Fault::from(format!("{} did not come to rest", self.name)));
            }
            before = now;
        }
    }

    /// SIGTERM, and a good end.
    ///
    /// # Errors
    /// When it ends badly or not at all.
    pub fn stop(mut self) -> Outcome {
        let asked = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        if !asked.success() {
            return Err(Fault::from(format!("{} is gone", self.name)));
        }
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return if status.success() {
                    Ok(())
                } else {
                    Err(Fault::from(format!("{} ended with {status}", self.name)))
                };
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(Fault::from(format!("{} did not stop", self.name)))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already, which is as good.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Processor time of a process so far (`self` for this one), user and system, in microseconds.
///
/// # Errors
/// When the system does not tell.
pub fn processor_us(process: &str) -> Outcome<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, after) = stat.rsplit_once(')').ok_or("no such process")?;
    let fields: Vec<&str> = after.split_whitespace().collect();
    let ticks = |index: usize| -> Outcome<u64> { Ok(fields.get(index).ok_or("a short stat")?.parse()?) };
    // The system counts hundredths of a second, on every Linux there is.
    Ok((ticks(11)? + ticks(12)?) * 10_000)
}

/// A figure of a process's memory (`VmRSS:`, `VmHWM:`) in kibibytes.
///
/// # Errors
/// When the system does not tell.
pub fn memory_kib(process: &str, figure: &str) -> Outcome<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(figure)).ok_or("no such figure")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

/// Runs a command to its end; what it printed.
///
/// # Errors
/// When it fails, with what it complained of.
pub fn run(command: &mut Command) -> Outcome<String> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(String::from_utf8(output.stdout)?);
    }
    Err(Fault::from(format!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr))))
}

/// The log file of a child's complaints, below a folder.
///
/// # Errors
/// When it cannot be opened.
pub fn log_file(folder: &Path) -> Outcome<std::fs::File> {
    Ok(std::fs::File::options().create(true).append(true).open(folder.join("log.txt"))?)
}
