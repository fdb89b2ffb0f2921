use super::Duplex;
use super::serve::Seat;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use axum::response::Response;
use bytes::Bytes;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tracing::debug;

/// The part of a request that opens a WebSocket. Holds nothing of the request but what it copied: a kept header value would pin hyper's
/// whole read buffer.
pub(crate) struct UpgradeRequest {
    accept_key: String,
    on_upgrade: OnUpgrade,
    seat: Option<Seat>,
}

impl UpgradeRequest {
    /// Tells whether the request asks for a WebSocket in a form that can be granted (RFC 6455 4.2.1).
    pub(crate) fn is_valid(request: &Request) -> bool {
        let headers = request.headers();
        request.method() == Method::GET
            && request.version() == Version::HTTP_11
            && lists(headers, header::CONNECTION, "upgrade")
            && lists(headers, header::UPGRADE, "websocket")
            && headers.get(header::SEC_WEBSOCKET_VERSION).is_some_and(|v| v == "13")
            && headers.get(header::SEC_WEBSOCKET_KEY).is_some_and(is_key)
            && request.extensions().get::<OnUpgrade>().is_some()
    }

    /// Takes the upgrade out of a valid request.
    pub(crate) fn take(request: &mut Request) -> Option<Self> {
        let accept_key = derive_accept_key(request.headers().get(header::SEC_WEBSOCKET_KEY)?.as_bytes());
        let on_upgrade = request.extensions_mut().remove::<OnUpgrade>()?;
        let seat = request.extensions_mut().remove::<Seat>();
        Some(Self { accept_key, on_upgrade, seat })
    }
}

/// Grants the upgrade, and hands the stream to `opened` once the HTTP stack has let go of it, with bytes that were read too far.
///
/// `opened` should spawn: what is awaited inside the upgrade's task keeps that task's memory.
pub(crate) fn upgrade(
    request: UpgradeRequest,
    send_buffer: Option<usize>,
    opened: impl FnOnce(Duplex, Box<[u8]>) + Send + 'static,
) -> Response {
    tokio::spawn(async move {
        match request.on_upgrade.await {
            Ok(upgraded) => {
                let (duplex, early) = take_back(upgraded, request.seat);
                if let Duplex::Tcp(socket, _) = &duplex {
                    let _ = socket.set_nodelay(true);
                    if let Some(size) = send_buffer {
                        let _ = SockRef::from(socket).set_send_buffer_size(size);
                    }
                }
                // a copy: the read buffer it came in is hyper's, and large
                opened(duplex, early.to_vec().into());
            }
            Err(e) => debug!(error = %e, "an upgrade was not finished"),
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let key = HeaderValue::from_str(&request.accept_key).expect("base64 is a header value");
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, key);
    response
}

/// The raw TCP stream where there is one: under hyper-util's builder (ours and `axum::serve`'s), then under hyper's own.
fn take_back(upgraded: Upgraded, seat: Option<Seat>) -> (Duplex, Bytes) {
    let upgraded = match auto::upgrade::downcast::<TokioIo<TcpStream>>(upgraded) {
        Ok(parts) => return (Duplex::Tcp(parts.io.into_inner(), seat), parts.read_buf),
        Err(upgraded) => upgraded,
    };
    match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => (Duplex::Tcp(parts.io.into_inner(), seat), parts.read_buf),
        Err(upgraded) => (Duplex::Boxed(Box::new(TokioIo::new(upgraded)), seat), Bytes::new()),
    }
}

/// Tells whether a header that is a list, in one line or several, names something. Firefox sends `Connection: keep-alive, Upgrade`.
fn lists(headers: &HeaderMap, name: HeaderName, wanted: &str) -> bool {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|item| item.trim().eq_ignore_ascii_case(wanted))
}

/// Sixteen bytes in base64: that much is asked for, and nothing is done with it but hashing.
fn is_key(key: &HeaderValue) -> bool {
    key.len() == 24 && key.as_bytes().ends_with(b"==")
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::routing::any;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;

    #[tokio::test]
    async fn a_socket_that_was_taken_back_is_set_up_whatever_server_it_was_under() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (sender, mut opened) = mpsc::channel(1);
        let router: Router = Router::new().fallback(any(async move |mut request: Request| {
            assert!(UpgradeRequest::is_valid(&request));
            let request = UpgradeRequest::take(&mut request).unwrap();
            upgrade(request, Some(50_000), move |duplex, early| sender.try_send((duplex, early)).unwrap())
        }));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nearly";
        client.write_all(request).await.unwrap();
        let (Duplex::Tcp(socket, None), early) = opened.recv().await.unwrap() else {
            panic!("axum gives a TCP stream")
        };
        assert_eq!(&*early, b"early");
        assert!(socket.nodelay().unwrap());
        // Linux doubles what is asked for
        assert!((50_000..=100_000).contains(&SockRef::from(&socket).send_buffer_size().unwrap()));
    }
}
