//! Resident memory with many open streams.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::facts::Told;
use crate::load::request;
use crate::process::Process;
use crate::product::{On, Product};
use crate::upstream::STREAM_BODY;
use crate::{Fault, Outcome};

/// Opens so many streams that receive a chunk a second each, and prints the most memory that the shim's process
/// had meanwhile.
///
/// # Errors
/// When a process or a stream fails, or facts are missing at the end.
pub async fn run(binary: &Path, on: &On, streams: u64, seconds: u32) -> Outcome {
    let chunks = seconds.to_string();
    let (_upstream, upstream) =
        Process::own(&["upstream", "--chunks", &chunks, "--chunk-every-ms", "1000", "--delay-us", "20000"])?;
    let product = Product::start(binary, on, "overlapped", upstream)?;
    // A first start reads far more than one that serves.
    let idle = product.shim.resident_kib()?;
    let request: Arc<[u8]> = request(&product.key, STREAM_BODY).into();
    let (received, open) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..streams {
        let (request, address) = (Arc::clone(&request), product.address);
        let (received, open) = (Arc::clone(&received), Arc::clone(&open));
        tasks.spawn(async move {
            // Spread over a second, as streams of many clients are.
            tokio::time::sleep(Duration::from_micros(index * 1_000_000 / streams.max(1))).await;
            let mut stream = tokio::net::TcpStream::connect(address).await?;
            stream.write_all(&request).await?;
            open.fetch_add(1, Ordering::Relaxed);
            let (mut buffer, mut last) = (vec![0; 4096], Vec::new());
            loop {
                let read = stream.read(&mut buffer).await?;
                if read == 0 {
                    return Err(Fault::from("a stream broke off"));
                }
                received.fetch_add(1, Ordering::Relaxed);
                last.extend_from_slice(&buffer[..read]);
                if last.ends_with(b"\r\n0\r\n\r\n") {
                    open.fetch_sub(1, Ordering::Relaxed);
                    return Ok(());
                }
                let keep = last.len().saturating_sub(16);
                last.drain(..keep);
            }
        });
    }
    let (mut most, mut most_open) = (0, 0);
    let mut looks = tokio::time::interval(Duration::from_millis(250));
    while !tasks.is_empty() {
        tokio::select! {
            ended = tasks.join_next() => {
                if let Some(ended) = ended { ended?? }
            }
            _ = looks.tick() => {
                let now = open.load(Ordering::Relaxed);
                most_open = most_open.max(now);
                if now == streams {
                    most = most.max(product.shim.resident_kib()?);
                }
            }
        }
    }
    println!("memory: {}, {most_open} open streams, a chunk a second each for {seconds} s", on.name());
    println!(
        "  {} pieces received; resident at most {} MiB, before the streams {} MiB",
        received.load(Ordering::Relaxed),
        most / 1024,
        idle / 1024
    );
    let (journal, _folder) = product.stop()?;
    println!("  {}", Told::read(journal.as_ref()).await?.must_be(streams + 1)?);
    Ok(())
}
