//! A server that receives alerts, and checks their signatures by their definitions.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use sha2::{Digest as _, Sha256};

pub const KEY: [u8; 32] = *b"canary: nobody else may sign so.";

/// What a webhook received: its headers, lower case, and the body.
pub type Received = (BTreeMap<String, String>, Vec<u8>);

/// A server that answers 500 to the first request and 204 to all others, and keeps what it received.
pub struct Receiver {
    pub address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Receiver {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&received);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                // Whoever sends may be killed in mid-message.
                let Some(message) = receive(&stream) else { continue };
                let first = {
                    let mut kept = kept.lock().unwrap();
                    kept.push(message);
                    kept.len() == 1
                };
                let status = if first { "500 Not yet" } else { "204 Taken" };
                // The sender may have gone: that is for the test to see.
                write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").ok();
            }
        });
        Self { address, received }
    }

    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }
}

/// A message; none when it breaks off.
fn receive(stream: &TcpStream) -> Option<Received> {
    let mut reader = BufReader::new(stream);
    let (mut headers, mut line) = (BTreeMap::new(), String::new());
    while reader.read_line(&mut line).ok()? > 2 {
        if let Some((name, value)) = line.trim().split_once(": ") {
            headers.insert(name.to_lowercase(), value.to_owned());
        }
        line.clear();
    }
    let mut body = vec![0; headers.get("content-length")?.parse().unwrap()];
    reader.read_exact(&mut body).ok()?;
    Some((headers, body))
}

/// The secret of [`KEY`], as a webhook's reference is to hold it.
pub fn secret() -> String {
    format!("whsec_{}\n", base64(&KEY))
}

/// Base64 by its definition: six bits a letter, filled up with `=`.
pub fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    let letter = |six: &[u8]| {
        let value = (0..6).fold(0, |value, at| value * 2 + six.get(at).copied().unwrap_or(0));
        char::from(LETTERS[usize::from(value)])
    };
    let mut text: String = bits.chunks(6).map(letter).collect();
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    text
}

/// HMAC by its definition (RFC 2104), for a key that is shorter than a block.
pub fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let padded =
        |with: u8| -> Vec<u8> { (0..64).map(|at| key.get(at).copied().unwrap_or(0) ^ with).collect() };
    let inner = Sha256::digest([padded(0x36).as_slice(), message].concat());
    Sha256::digest([padded(0x5c).as_slice(), &inner].concat()).into()
}

pub fn check_signature((headers, body): &Received) {
    let signed = format!("{}.{}.", headers["webhook-id"], headers["webhook-timestamp"]);
    let signature = hmac(&KEY, &[signed.as_bytes(), body].concat());
    assert_eq!(headers["webhook-signature"], format!("v1,{}", base64(&signature)));
    let sent: i64 = headers["webhook-timestamp"].parse().unwrap();
    assert!((jiff::Timestamp::now().as_second() - sent).abs() < 300, "{sent}");
    assert_eq!(headers["content-type"], "application/json");
}
