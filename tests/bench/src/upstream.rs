//! A minimal upstream: a thread for each connection, one fixed answer, so that it is never what limits.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use crate::Outcome;

/// What a request body looks like; about 90 bytes.
pub const BODY: &str =
    r#"{"model":"bench","messages":[{"role":"user","content":"Say hello."}],"max_tokens":16}"#;
/// The same, asking for a stream.
pub const STREAM_BODY: &str = r#"{"model":"bench","messages":[{"role":"user","content":"Say hello."}],"max_tokens":16,"stream":true,"stream_options":{"include_usage":true}}"#;

const ANSWER: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1793577600,"model":"bench","choices":[{"index":0,"message":{"role":"assistant","content":"Hello! How can I help you today?"},"finish_reason":"stop"}],"usage":{"prompt_tokens":10,"completion_tokens":9,"total_tokens":19}}"#;
const CHUNK: &str = r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1793577600,"model":"bench","choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}],"usage":null}"#;

/// How it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manner {
    /// Time to the first byte.
    pub delay: Duration,
    /// Chunks of a stream, one each `chunk_every`; 0 for one JSON document.
    pub chunks: u32,
    /// Time between chunks.
    pub chunk_every: Duration,
}

impl Manner {
    /// One document, after that time.
    #[must_use]
    pub const fn document(delay: Duration) -> Self {
        Self { delay, chunks: 0, chunk_every: Duration::ZERO }
    }
}

/// Serves on a free loopback port, on threads of this process, for as long as the process lives.
///
/// # Errors
/// When nothing can be listened on.
pub fn start(manner: Manner) -> Outcome<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::Builder::new().name("upstream".to_owned()).spawn(move || {
        for stream in listener.incoming().flatten() {
            let serving = std::thread::Builder::new().stack_size(128 << 10);
            // A connection that ends is no fault of the upstream.
            let served = serving.spawn(move || drop(serve(stream, manner)));
            if let Err(error) = served {
                eprintln!("upstream: failed to start a thread: {error}");
            }
        }
    })?;
    Ok(address)
}

fn serve(mut stream: TcpStream, manner: Manner) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: req-1\r\ncontent-length: {}\r\n\r\n{ANSWER}",
        ANSWER.len()
    );
    let mut buffer = vec![0; 16 << 10];
    let mut filled = 0;
    loop {
        let whole = match request_length(&buffer[..filled]) {
            Some(length) if length <= filled => length,
            _ => {
                let read = stream.read(&mut buffer[filled..])?;
                if read == 0 {
                    return Ok(());
                }
                filled += read;
                continue;
            }
        };
        buffer.copy_within(whole..filled, 0);
        filled -= whole;
        if !manner.delay.is_zero() {
            std::thread::sleep(manner.delay);
        }
        if manner.chunks == 0 {
            stream.write_all(answer.as_bytes())?;
        } else {
            stream_chunks(&mut stream, manner)?;
        }
    }
}

fn stream_chunks(stream: &mut TcpStream, manner: Manner) -> std::io::Result<()> {
    stream.write_all(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
    )?;
    let event = format!("{CHUNK}\n\n");
    let chunk = format!("{:x}\r\n{event}\r\n", event.len());
    for _ in 0..manner.chunks {
        stream.write_all(chunk.as_bytes())?;
        std::thread::sleep(manner.chunk_every);
    }
    let last = "data: {\"model\":\"bench\",\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":9}}\n\ndata: [DONE]\n\n";
    stream.write_all(format!("{:x}\r\n{last}\r\n0\r\n\r\n", last.len()).as_bytes())
}

/// Bytes of the first request in the buffer, as far as its head is there.
fn request_length(buffer: &[u8]) -> Option<usize> {
    let head = find(buffer, b"\r\n\r\n")? + 4;
    Some(head + content_length(&buffer[..head])?)
}

/// What `content-length` says; 0 where it is absent.
pub(crate) fn content_length(head: &[u8]) -> Option<usize> {
    for line in head.split(|byte| *byte == b'\n') {
        let Some((name, value)) = line.split_at_checked(15) else { continue };
        if name.eq_ignore_ascii_case(b"content-length:") {
            return std::str::from_utf8(value).ok()?.trim().parse().ok();
        }
    }
    Some(0)
}

/// Where a pattern begins.
pub(crate) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
