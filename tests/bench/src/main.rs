//! The benchmarks' command line: one subcommand for each figure.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bursar_bench::product::On;
use bursar_bench::upstream::Manner;
use bursar_bench::{
    Fault, Outcome, archive, cold, consume, cost, feedback, latency, memory, provable, proxy, storage,
    upstream,
};
use clap::{Args, Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures Bursar beside a do-nothing proxy and a bare consumer.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    figure: Figure,
}

/// What is measured, and on what.
#[derive(Debug, Args)]
struct Subject {
    /// The release binary; by default the one beside this program.
    #[arg(long)]
    bursar: Option<PathBuf>,
    /// Bootstrap servers of Kafka; the embedded journal without it.
    #[arg(long)]
    kafka: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Figure {
    /// Added latency beside the proxy.
    Latency {
        #[command(flatten)]
        subject: Subject,
        #[arg(long, default_value = "overlapped")]
        durability: String,
        /// The upstream's time to its first byte.
        #[arg(long, default_value_t = 20_000)]
        delay_us: u64,
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        #[arg(long, default_value_t = 200)]
        requests: usize,
    },
    /// Processor time and throughput beside the proxy.
    Cost {
        #[command(flatten)]
        subject: Subject,
        #[arg(long, default_value = "relaxed")]
        durability: String,
        #[arg(long, default_value_t = 64)]
        connections: usize,
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        #[arg(long, default_value_t = 3000)]
        busy_ms: u64,
    },
    /// Resident memory with many open streams.
    Memory {
        #[command(flatten)]
        subject: Subject,
        #[arg(long, default_value_t = 1000)]
        streams: u64,
        #[arg(long, default_value_t = 20)]
        seconds: u32,
    },
    /// From a settlement to the balance seen elsewhere, beside one hop.
    Feedback {
        #[command(flatten)]
        subject: Subject,
        #[arg(long, default_value_t = 500)]
        a_second: u32,
        #[arg(long, default_value_t = 20)]
        seconds: u64,
    },
    /// The first request of a path that nobody has used before, beside one hop.
    Cold {
        #[command(flatten)]
        subject: Subject,
        #[arg(long, default_value_t = 300)]
        paths: usize,
    },
    /// The ledger fed by Kafka beside a bare consumer.
    Consume {
        /// Bootstrap servers.
        #[arg(long)]
        kafka: String,
        #[arg(long, default_value_t = 500_000)]
        attempts: u64,
        #[arg(long, default_value_t = 5)]
        rounds: usize,
    },
    /// The archiver fed by Kafka beside a bare consumer, and its memory.
    Archive {
        /// Bootstrap servers.
        #[arg(long)]
        kafka: String,
        #[arg(long, default_value_t = 500_000)]
        attempts: u64,
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// Lanes that the backlog is spread over.
        #[arg(long, default_value_t = 1)]
        lanes: u32,
    },
    /// From a fact's append to a checkpoint in the store that covers it.
    Provable {
        /// The configured age in seconds.
        #[arg(long, default_value_t = 5)]
        age: u64,
        /// Facts a second, over all lanes.
        #[arg(long, default_value_t = 20)]
        a_second: u64,
        #[arg(long, default_value_t = 30)]
        seconds: u64,
        #[arg(long, default_value_t = 4)]
        lanes: u32,
        /// An empty place in a store, such as s3://bucket/prefix, which keeps what it is given [default: a folder of its own]
        #[arg(long, value_name = "URL")]
        store: Option<String>,
    },
    /// What a request takes in the bucket, broken down by column.
    Storage {
        /// The archive's folder.
        archive: PathBuf,
    },
    /// `bursar verify` beside `sha256sum` over the same records.
    Verify {
        #[command(flatten)]
        subject: Subject,
        /// The archive's folder.
        archive: PathBuf,
        /// The log's public key.
        #[arg(long)]
        key: PathBuf,
        #[arg(long, default_value_t = 5)]
        rounds: usize,
    },
    /// Archives what stands on a broker once; prints what that took.
    #[command(hide = true)]
    Archiver {
        #[arg(long)]
        kafka: String,
        #[arg(long)]
        prefix: String,
        #[arg(long)]
        facts: u64,
    },
    /// Serves fixed answers; prints its address.
    #[command(hide = true)]
    Upstream {
        #[arg(long, default_value_t = 0)]
        delay_us: u64,
        #[arg(long, default_value_t = 0)]
        chunks: u32,
        #[arg(long, default_value_t = 1000)]
        chunk_every_ms: u64,
    },
    /// Passes everything on; prints its address.
    #[command(hide = true)]
    Proxy {
        #[arg(long)]
        upstream: std::net::SocketAddr,
    },
}

impl Subject {
    fn resolve(self) -> Outcome<(PathBuf, On)> {
        let beside = || std::env::current_exe().map(|own| own.with_file_name("bursar"));
        let binary = self.bursar.map_or_else(beside, Ok)?;
        if !binary.is_file() {
            return Err(Fault::from(format!("there is no binary at {}", binary.display())));
        }
        Ok((binary, self.kafka.map_or(On::Embedded, On::Kafka)))
    }
}

async fn run(figure: Figure) -> Outcome {
    match figure {
        Figure::Storage { archive } => storage::sizes(&archive),
        Figure::Verify { subject, archive, key, rounds } => {
            storage::verify(&subject.resolve()?.0, &archive, &key, rounds)
        }
        Figure::Latency { subject, durability, delay_us, rounds, requests } => {
            let (binary, on) = subject.resolve()?;
            latency::run(&binary, &on, &latency::Plan { durability, delay_us, rounds, requests }).await
        }
        Figure::Cost { subject, durability, connections, rounds, busy_ms } => {
            let (binary, on) = subject.resolve()?;
            let busy = Duration::from_millis(busy_ms);
            cost::run(&binary, &on, &cost::Plan { durability, connections, rounds, busy }).await
        }
        Figure::Memory { subject, streams, seconds } => {
            let (binary, on) = subject.resolve()?;
            memory::run(&binary, &on, streams, seconds).await
        }
        Figure::Feedback { subject, a_second, seconds } => {
            let (binary, on) = subject.resolve()?;
            let On::Kafka(brokers) = on else { return Err(Fault::from("--kafka is needed")) };
            feedback::run(&binary, &brokers, a_second, seconds).await
        }
        Figure::Cold { subject, paths } => {
            let (binary, on) = subject.resolve()?;
            let On::Kafka(brokers) = on else { return Err(Fault::from("--kafka is needed")) };
            cold::run(&binary, &brokers, paths).await
        }
        Figure::Consume { kafka, attempts, rounds } => consume::run(&kafka, attempts, rounds).await,
        Figure::Archive { kafka, attempts, rounds, lanes } => {
            archive::run(&kafka, attempts, rounds, lanes).await
        }
        Figure::Archiver { kafka, prefix, facts } => archive::once(&kafka, &prefix, facts).await,
        Figure::Provable { age, a_second, seconds, lanes, store } => {
            let plan = provable::Plan { age: Duration::from_secs(age), a_second, seconds, lanes };
            provable::run(plan, store).await
        }
        Figure::Upstream { delay_us, chunks, chunk_every_ms } => {
            let (delay, chunk_every) =
                (Duration::from_micros(delay_us), Duration::from_millis(chunk_every_ms));
            println!("{}", upstream::start(Manner { delay, chunks, chunk_every })?);
            std::future::pending().await
        }
        Figure::Proxy { upstream } => {
            println!("{}", proxy::start(upstream).await?);
            std::future::pending().await
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("bursar-bench: failed to start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(cli.figure)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bursar-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
