//! The REST API under `schemathesis`, which makes requests of all kinds from the description that is served: whatever it asks, the
//! answer is one that the description has.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use hubwire::testing::RestRoutes;
use hubwire::{Hub, HubResult};
use tokio::net::TcpListener;

use crate::install;
use crate::suite;

#[test]
fn schemathesis() {
    let python = match install::python("rest") {
        Ok(python) => python,
        Err(missing) => return suite::skip("schemathesis", &missing),
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let drained = Arc::new(AtomicUsize::new(0));
    let address = runtime.block_on(serve(drained.clone()));
    let url = format!("http://{address}");
    eprintln!("schemathesis: seed {SEED}, {EXAMPLES} examples an operation");
    let mut command = Command::new(python.with_file_name("schemathesis"));
    command
        .args(["--config-file".as_ref(), install::source("rest/schemathesis.toml").as_os_str()])
        .args(["run", &format!("{url}/api/openapi.json"), "--url", &url, "--no-color"])
        .args(["--seed", SEED, "--max-examples", EXAMPLES, "--phases", "coverage,fuzzing"])
        .args(["--continue-on-failure", "--generation-database", "none", "--request-timeout", "10", "--checks", "all"])
        .env("HUBWIRE_REST_KEY", KEY)
        .env("SCHEMATHESIS_HOOKS", install::source("rest/hooks.py"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(install::scratch(""));
    let (status, output) = suite::complete("schemathesis", command);
    assert!(status.is_some_and(|status| status.success()), "schemathesis found something ({status:?}):\n{output}");
    assert!(drained.load(Ordering::SeqCst) > 0, "it has tried every operation:\n{output}");
}

/// A hub that is addressed under the names that schemathesis makes up only by chance; its answers are the same for each.
async fn serve(drained: Arc<AtomicUsize>) -> std::net::SocketAddr {
    async fn echo(text: String) -> HubResult<String> {
        Ok(text)
    }
    let hub = Hub::with_state(()).method("Echo", echo).build();
    let rest = RestRoutes {
        keys: vec![KEY.into()],
        hubs: vec![("a".into(), hub.clone()), ("chat".into(), hub.clone())],
        drain: Some(Box::new(move || {
            drained.fetch_add(1, Ordering::SeqCst);
        })),
        ..RestRoutes::default()
    };
    let router = Router::new().merge(hub.routes("/hubs/chat")).merge(rest.build());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    tokio::spawn(async move { hubwire::serve(listener, router).await });
    address
}

const KEY: &str = "a key of a test, of at least 32 bytes";
const SEED: &str = "20261128";
/// Beside those that go through the values at the edges; of a hundred operations each.
const EXAMPLES: &str = "6";
