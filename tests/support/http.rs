//! HTTP/1.1 by hand: whatever bytes a test wants, and the answer taken apart.

use super::server::TestServer;
use super::within;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Names in lower case, in the order in which they came.
    pub headers: Vec<(String, String)>,
    /// The body, its chunks joined.
    pub body: Vec<u8>,
    /// Whether the server closed the connection behind it.
    pub closed: bool,
}

impl Response {
    /// The value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e} in {self:?}"))
    }
}

/// Sends a request with a `Host`, `Connection: close`, the length of the body and these headers.
pub async fn request(server: &TestServer, method: &str, path: &str, headers: &str, body: &[u8]) -> Response {
    let length = body.len();
    let mut bytes = format!(
        "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n",
        server.addr()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    exchange(server, &bytes).await
}

/// Sends bytes on a new socket and reads one answer.
pub async fn exchange(server: &TestServer, bytes: &[u8]) -> Response {
    within("an HTTP answer", async {
        let mut stream = TcpStream::connect(server.addr()).await.expect("the server accepts");
        stream.write_all(bytes).await.expect("the server reads");
        let mut input = Vec::new();
        read_response(&mut stream, &mut input).await.expect("a whole answer")
    })
    .await
}

/// Negotiates at a hub (`/conformance`), with a query that begins with `?` or is empty.
pub async fn negotiate(server: &TestServer, hub: &str, query: &str) -> Value {
    let response = request(server, "POST", &format!("{hub}/negotiate{query}"), "", b"").await;
    assert_eq!(response.status, 200, "{response:?}");
    response.json()
}

/// Reads the head of an answer; what follows it stays in `input`. `None` when the stream ends first.
pub async fn read_head(stream: &mut TcpStream, input: &mut Vec<u8>) -> Option<Response> {
    let end = loop {
        if let Some(at) = find(input, b"\r\n\r\n") {
            break at;
        }
        if !more(stream, input).await {
            return None;
        }
    };
    let head: Vec<u8> = input.drain(..end + 4).collect();
    let head = String::from_utf8(head).expect("a head is text");
    let mut lines = head.trim_end().split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().expect("a status code");
    let headers = lines
        .map(|line| {
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("a header without a colon: {line}"));
            (name.to_ascii_lowercase(), value.trim().to_owned())
        })
        .collect();
    Some(Response { status, headers, body: Vec::new(), closed: false })
}

/// Reads an answer with its body, by length, by chunks or to the end of the stream. `None` when it is not whole.
pub async fn read_response(stream: &mut TcpStream, input: &mut Vec<u8>) -> Option<Response> {
    let mut response = read_head(stream, input).await?;
    if let Some(length) = response.header("content-length") {
        let length: usize = length.parse().expect("a length");
        while input.len() < length {
            if !more(stream, input).await {
                return None;
            }
        }
        response.body = input.drain(..length).collect();
    } else if response.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        response.body = read_chunks(stream, input).await?;
    } else if response.status >= 200 && response.status != 204 {
        while more(stream, input).await {}
        response.body = std::mem::take(input);
        response.closed = true;
    }
    let asked = response.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    if asked && !response.closed {
        response.closed = !more(stream, input).await;
    }
    Some(response)
}

async fn read_chunks(stream: &mut TcpStream, input: &mut Vec<u8>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let chunk = read_chunk(stream, input).await?;
        if chunk.is_empty() {
            return Some(body);
        }
        body.extend(chunk);
    }
}

/// Reads a chunk of a body, empty at its end. `None` when the stream ends first.
pub async fn read_chunk(stream: &mut TcpStream, input: &mut Vec<u8>) -> Option<Vec<u8>> {
    let end = loop {
        if let Some(at) = find(input, b"\r\n") {
            break at;
        }
        if !more(stream, input).await {
            return None;
        }
    };
    let line: Vec<u8> = input.drain(..end + 2).collect();
    let size = std::str::from_utf8(&line).ok()?.trim().split(';').next()?.to_owned();
    let size = usize::from_str_radix(&size, 16).expect("the size of a chunk");
    while input.len() < size + 2 {
        if !more(stream, input).await {
            return None;
        }
    }
    let chunk = input.drain(..size).collect();
    input.drain(..2);
    Some(chunk)
}

async fn more(stream: &mut TcpStream, input: &mut Vec<u8>) -> bool {
    matches!(stream.read_buf(input).await, Ok(1..))
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
