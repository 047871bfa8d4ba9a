//! Clients that make the load: as little work as can be, so that what is measured is the other side.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::sample::Samples;
use crate::upstream::{content_length, find};
use crate::{Fault, Outcome};

/// The bytes of one request.
#[must_use]
pub fn request(key: &str, body: &str) -> Vec<u8> {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// How much of the buffer one whole answer takes, once it is there; its status must be 200.
fn answer_length(buffer: &[u8]) -> Outcome<Option<usize>> {
    let Some(head) = find(buffer, b"\r\n\r\n").map(|at| at + 4) else { return Ok(None) };
    let (head, body) = buffer.split_at(head);
    if !head.starts_with(b"HTTP/1.1 200 ") {
        return Err(Fault::from(format!("not served: {}", String::from_utf8_lossy(buffer))));
    }
    let chunked = find(&head.to_ascii_lowercase(), b"transfer-encoding: chunked").is_some();
    if chunked {
        return Ok(find(body, b"\r\n0\r\n\r\n").map(|at| head.len() + at + 7));
    }
    let length = content_length(head).unwrap_or(0);
    Ok((body.len() >= length).then_some(head.len() + length))
}

/// One connection, one request at a time.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn connect(address: SocketAddr) -> Outcome<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; 64 << 10] })
    }

    /// Sends a request and reads the whole answer; how long that took.
    ///
    /// # Errors
    /// When the answer's status is not 200, or the connection ends.
    pub fn call(&mut self, request: &[u8]) -> Outcome<Duration> {
        let begun = Instant::now();
        self.stream.write_all(request)?;
        let mut filled = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[filled..])?;
            if read == 0 {
                return Err(Fault::from("the connection ended within an answer"));
            }
            filled += read;
            if answer_length(&self.buffer[..filled])?.is_some() {
                return Ok(begun.elapsed());
            }
        }
    }
}

/// What came of a load.
#[derive(Debug, Clone, Default)]
pub struct Served {
    /// Requests that were answered with 200.
    pub requests: u64,
    /// From the first to the last.
    pub took: Duration,
    /// Each request's time.
    pub times: Samples,
}

impl Served {
    /// Requests a second.
    #[must_use]
    pub fn per_second(&self) -> u64 {
        let us = self.took.as_micros().max(1);
        u64::try_from(u128::from(self.requests) * 1_000_000 / us).unwrap_or(u64::MAX)
    }
}

/// Keeps so many connections busy for that long.
///
/// # Errors
/// The first answer that was not a good one.
pub async fn keep_busy(
    address: SocketAddr,
    request: &[u8],
    connections: usize,
    for_long: Duration,
) -> Outcome<Served> {
    let request: Arc<[u8]> = request.into();
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..connections {
        let (request, stop, done) = (Arc::clone(&request), Arc::clone(&stop), Arc::clone(&done));
        tasks.spawn(async move {
            let mut times = Samples::default();
            let mut stream = tokio::net::TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let mut buffer = vec![0; 16 << 10];
            while !stop.load(Ordering::Relaxed) {
                times.add(one(&mut stream, &request, &mut buffer).await?);
                done.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, Fault>(times)
        });
    }
    tokio::time::sleep(for_long).await;
    stop.store(true, Ordering::Relaxed);
    let mut served = Served::default();
    while let Some(ended) = tasks.join_next().await {
        served.times.append(&ended??);
    }
    served.took = begun.elapsed();
    served.requests = done.load(Ordering::Relaxed);
    Ok(served)
}

async fn one(stream: &mut tokio::net::TcpStream, request: &[u8], buffer: &mut Vec<u8>) -> Outcome<Duration> {
    let begun = Instant::now();
    stream.write_all(request).await?;
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).await?;
        if read == 0 {
            return Err(Fault::from("the connection ended within an answer"));
        }
        filled += read;
        if answer_length(&buffer[..filled])?.is_some() {
            return Ok(begun.elapsed());
        }
        if filled == buffer.len() {
            buffer.resize(filled * 2, 0);
        }
    }
}

/// Sends so many requests a second for that long, over as many connections as it takes; how many were served.
///
/// # Errors
/// The first answer that was not a good one.
pub async fn at_rate(address: SocketAddr, request: &[u8], a_second: u32, for_long: Duration) -> Outcome<u64> {
    const CONNECTIONS: u32 = 16;
    let request: Arc<[u8]> = request.into();
    let begun = tokio::time::Instant::now();
    let every = Duration::from_secs(1) * CONNECTIONS / a_second.max(1);
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..CONNECTIONS {
        let request = Arc::clone(&request);
        tasks.spawn(async move {
            let mut stream = tokio::net::TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let mut buffer = vec![0; 16 << 10];
            let mut due = begun + every * index / CONNECTIONS;
            let mut served = 0_u64;
            while due.duration_since(begun) < for_long {
                tokio::time::sleep_until(due).await;
                one(&mut stream, &request, &mut buffer).await?;
                due += every;
                served += 1;
            }
            Ok::<_, Fault>(served)
        });
    }
    let mut served = 0;
    while let Some(ended) = tasks.join_next().await {
        served += ended??;
    }
    Ok(served)
}

/// Fetches a page.
///
/// # Errors
/// When its status is not 200.
pub fn get(address: SocketAddr, path: &str) -> Outcome<String> {
    let mut stream = TcpStream::connect(address)?;
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n").as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    if !text.starts_with("HTTP/1.1 200 ") {
        return Err(Fault::from(format!("not served: {text}")));
    }
    Ok(text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}
