//! Cost at full load: processor time of a request and throughput, beside the proxy, every fact arriving.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use crate::Outcome;
use crate::facts::Told;
use crate::load::{Served, keep_busy, request};
use crate::process::Process;
use crate::product::{On, Product};
use crate::sample::{Ratio, Tenths, middle};
use crate::upstream::BODY;

/// How it is measured.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Durability of the shim.
    pub durability: String,
    /// Connections, each with one request at a time.
    pub connections: usize,
    /// Rounds, whose median counts.
    pub rounds: usize,
    /// How long each side is kept busy in a round.
    pub busy: Duration,
}

/// One side's figures.
#[derive(Debug, Default)]
struct Side {
    per_second: Vec<u64>,
    /// Tenths of a microsecond of processor time for each request.
    processor: Vec<u64>,
    p50: Vec<u64>,
    p99: Vec<u64>,
    resident_kib: u64,
}

impl Side {
    async fn round(
        &mut self,
        address: SocketAddr,
        process: &Process,
        request: &[u8],
        plan: &Plan,
    ) -> Outcome<Served> {
        let before = process.processor_us()?;
        let served = keep_busy(address, request, plan.connections, plan.busy).await?;
        // What is left to be forwarded belongs to what was served.
        process.settle()?;
        let spent = process.processor_us()? - before;
        self.per_second.push(served.per_second());
        self.processor.push(spent * 10 / served.requests.max(1));
        self.p50.push(served.times.per_mille(500) / 1000);
        self.p99.push(served.times.per_mille(990) / 1000);
        self.resident_kib = self.resident_kib.max(process.resident_kib()?);
        Ok(served)
    }

    fn print(&self, name: &str) {
        println!(
            "  {name:6} {:>6} requests/s, {:>6} us of processor a request, p50 {} us, p99 {} us, {} MiB",
            middle(&self.per_second),
            Tenths(middle(&self.processor)),
            middle(&self.p50),
            middle(&self.p99),
            self.resident_kib / 1024,
        );
    }
}

/// Runs it and prints the figures.
///
/// # Errors
/// When a process fails, or facts are missing at the end.
pub async fn run(binary: &Path, on: &On, plan: &Plan) -> Outcome {
    let (_upstream, upstream) = Process::own(&["upstream"])?;
    let (proxy, proxy_at) = Process::own(&["proxy", "--upstream", &upstream.to_string()])?;
    let product = Product::start(binary, on, &plan.durability, upstream)?;
    let request = request(&product.key, BODY);
    let mut served = 1;
    let (mut proxied, mut shimmed) = (Side::default(), Side::default());
    for round in 0..=plan.rounds {
        if round == 1 {
            // The first round warmed up.
            (proxied, shimmed) = (Side::default(), Side::default());
        }
        proxied.round(proxy_at, &proxy, &request, plan).await?;
        served += shimmed.round(product.address, &product.shim, &request, plan).await?.requests;
        product.settle()?;
    }
    println!(
        "cost: {}, {}, instant upstream, c={}, {} rounds of {} ms in turns",
        on.name(),
        plan.durability,
        plan.connections,
        plan.rounds,
        plan.busy.as_millis()
    );
    proxied.print("proxy");
    shimmed.print("shim");
    println!(
        "  shim to proxy: throughput {}, processor time {}",
        Ratio::of(middle(&shimmed.per_second), middle(&proxied.per_second)),
        Ratio::of(middle(&shimmed.processor), middle(&proxied.processor)),
    );
    let (journal, _folder) = product.stop()?;
    println!("  {}", Told::read(journal.as_ref()).await?.must_be(served)?);
    Ok(())
}
