use crate::protocol::websocket::{self, FrameReader, Piece, Violation};
use crate::transport::{Duplex, UpgradeRequest, upgrade};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Makes a route that sends every WebSocket message back as it came, through the very frame reader and writer of the hub's WebSocket
/// transport, so that a protocol suite (Autobahn's cases) can judge them. A message of more than 16 MiB is refused with close code 1009.
pub fn websocket_echo<S: Clone + Send + Sync + 'static>() -> MethodRouter<S> {
    get(|mut request: Request| async move {
        let valid = UpgradeRequest::is_valid(&request);
        match UpgradeRequest::take(&mut request).filter(|_| valid) {
            Some(request) => upgrade(request, None, |duplex, early| drop(tokio::spawn(run(duplex, early)))),
            None => bad_request(),
        }
    })
}

fn bad_request() -> Response {
    (StatusCode::BAD_REQUEST, "a WebSocket upgrade is expected here").into_response()
}

async fn run(duplex: Duplex, early: Box<[u8]>) {
    // a client that is gone has nobody to be told about it
    let _ = match duplex {
        Duplex::Tcp(socket, _seat) => echo(socket, early).await,
        Duplex::Boxed(stream, _seat) => echo(stream, early).await,
        // an upgrade never comes to that
        Duplex::Http(_) => Ok(()),
    };
}

async fn echo(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin, early: Box<[u8]>) -> io::Result<()> {
    let mut reader = FrameReader::default();
    let mut message = Vec::new();
    let mut bytes = early.into_vec();
    let mut answers = Vec::new();
    loop {
        let goodbye = take_in(&mut reader, &mut bytes, &mut message, &mut answers);
        stream.write_all(&answers).await?;
        answers.clear();
        if goodbye.is_break() {
            break;
        }
        bytes.resize(READ_SIZE, 0);
        let n = stream.read(&mut bytes).await?;
        if n == 0 {
            return Ok(());
        }
        bytes.truncate(n);
    }
    stream.shutdown().await?;
    while stream.read(&mut bytes).await? > 0 {}
    Ok(())
}

/// Answers what is in `bytes`; breaks when the connection has to end.
fn take_in(
    reader: &mut FrameReader,
    bytes: &mut [u8],
    message: &mut Vec<u8>,
    answers: &mut Vec<u8>,
) -> std::ops::ControlFlow<()> {
    let close = |code: u16, answers: &mut Vec<u8>| {
        websocket::write_frame(answers, websocket::CLOSE, &code.to_be_bytes());
        std::ops::ControlFlow::Break(())
    };
    let mut at = 0;
    while at < bytes.len() {
        let (used, piece) = match reader.next(&mut bytes[at..]) {
            Ok(next) => next,
            Err(Violation(code)) => return close(code, answers),
        };
        at += used;
        match piece {
            Some(Piece::Data { payload, .. }) if message.len() + payload.len() > LARGEST => {
                return close(TOO_BIG, answers);
            }
            Some(Piece::Data { opcode, payload, last }) => {
                message.extend_from_slice(payload);
                if last {
                    websocket::write_frame(answers, opcode, message);
                    *message = Vec::new();
                }
            }
            Some(Piece::Ping(payload)) => websocket::write_frame(answers, websocket::PONG, payload),
            Some(Piece::Close(code)) => return close(code.unwrap_or(1000), answers),
            Some(Piece::Pong) | None => {}
        }
    }
    std::ops::ControlFlow::Continue(())
}

const READ_SIZE: usize = 64 * 1024;
const LARGEST: usize = 16 * 1024 * 1024;
const TOO_BIG: u16 = 1009;
