//! The first request of a path that nobody has used before: it waits for its lease, which takes a hop to the ledger and
//! one back. Beside it hops of the same run, and the second request of the same path.

use std::path::Path;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::feedback::hops;
use crate::load::{Client, request};
use crate::process::Process;
use crate::product::{On, Product};
use crate::sample::{Ratio, Samples};
use crate::upstream::BODY;
use crate::{Fault, Outcome};

/// Rests between two paths, so that each is met while nothing else is under way.
const REST: Duration = Duration::from_millis(20);

/// A hard budget of its own for each of so many end users.
fn budgets(paths: usize) -> String {
    let budget = |number| {
        format!(
            "[[budget]]\nid = \"user-{number}\"\nscope = \"end_user:u{number}\"\nwindow = \"day\"\namount = \"1000.00\"\n"
        )
    };
    (0..paths).map(budget).collect()
}

/// The request of an end user.
fn request_of(key: &str, number: usize) -> Outcome<Vec<u8>> {
    let open = BODY.find('{').ok_or("the body is an object")? + 1;
    let (brace, rest) = BODY.split_at(open);
    Ok(request(key, &format!("{brace}\"user\":\"u{number}\",{rest}")))
}

/// Runs it on a broker and prints the figures.
///
/// # Errors
/// When a process, the broker or a request fails.
pub async fn run(binary: &Path, brokers: &str, paths: usize) -> Outcome {
    let on = On::Kafka(brokers.to_owned());
    let (_upstream, upstream) = Process::own(&["upstream"])?;
    let product = Product::start(binary, &on, "overlapped", upstream)?;
    product.apply(upstream, &budgets(paths))?;
    let last = format!("user-{}", paths.saturating_sub(1));
    let deadline = Instant::now() + Duration::from_secs(60);
    while !product.budgets()?.contains(&last) {
        if Instant::now() > deadline {
            return Err(Fault::from("the windows of the budgets did not open within a minute"));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    product.settle()?;
    let (stop, stopped) = watch::channel(false);
    let hops = tokio::spawn(hops(brokers.to_owned(), stopped));
    let (address, key) = (product.address, product.key.clone());
    let measured = tokio::task::spawn_blocking(move || -> Outcome<(Samples, Samples)> {
        let mut client = Client::connect(address)?;
        let (mut cold, mut warm) = (Samples::default(), Samples::default());
        for number in 0..paths {
            let request = request_of(&key, number)?;
            cold.add(client.call(&request)?);
            warm.add(client.call(&request)?);
            std::thread::sleep(REST);
        }
        Ok((cold, warm))
    });
    let (cold, warm) = measured.await??;
    stop.send_replace(true);
    let hops = hops.await??;
    println!("cold: Kafka, {paths} paths, four hard budgets on each");
    println!("  one hop, produce to consume {} ({} of them)", hops.summary(), hops.len());
    println!("  first request of a path     {}", cold.summary());
    println!("  second request of it        {}", warm.summary());
    println!(
        "  first, in hops: p50 {}, p99 {}",
        Ratio::of(cold.per_mille(500), hops.per_mille(500)),
        Ratio::of(cold.per_mille(990), hops.per_mille(990)),
    );
    product.stop()?;
    Ok(())
}
