use super::args;
use super::banner::banner;
use super::composition::Composition;
use super::failure::Failure;
use super::listeners::{Listeners, addresses};
use super::signals::{Signals, Told};
use super::sources::load;
use super::tls::Certificate;
use super::{print, systemd};
use crate::ServeOptions;
use crate::config::{Config, Format};
use crate::observe::{Phase, log};
use crate::transport::Served;
use axum::Router;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

/// Serves until it is told to stop.
pub(super) fn serve(args: &args::Serve) -> Result<(), Failure> {
    let config = load(args.file.config.as_deref(), args.settings())?;
    log(config.log.format == Format::Json, EnvFilter::new(&config.log.filter));
    for warning in &config.warnings {
        warn!("{warning}");
    }
    warn_of_few_files(&config);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(config.server.worker_threads.unwrap_or_else(cores)).enable_all();
    let runtime = runtime.build().map_err(|e| Failure::failed(format!("cannot start: {e}")))?;
    let outcome = runtime.block_on(run(&config));
    // what was cut is not waited for
    runtime.shutdown_background();
    outcome
}

/// A connection that has no file descriptor waits in the kernel's queue.
fn warn_of_few_files(config: &Config) {
    let sockets = config.server.limits.max_connections.saturating_mul(config.server.listen.len());
    if let Some(files) = open_files().filter(|files| *files < sockets && !config.preset) {
        warn!(
            open_files = files,
            max_connections = sockets,
            "fewer files may be open than connections: raise the limit (ulimit -n, LimitNOFILE=), or lower server.limits.max_connections"
        );
    }
}

/// How many files this process may have open, where the system tells.
fn open_files() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

async fn run(config: &Config) -> Result<(), Failure> {
    // from here on a signal is ours to hear, also while the server starts
    let mut signals = Signals::listen().map_err(|e| Failure::failed(format!("cannot listen to signals: {e}")))?;
    let listeners = Listeners::open(config).await?;
    let composition = Composition::new(config);
    let certificate = config.server.tls.clone().map(Certificate::new);
    let (data, admin) = (addresses(&listeners.data), addresses(&listeners.admin));
    let mut serving = Serving::default();
    for listener in listeners.admin {
        // whoever asks for figures at the very end is not worth a wait
        let options = ServeOptions { shutdown_timeout: Duration::from_secs(1), ..ServeOptions::default() };
        serving.admin.serve(listener, composition.admin_routes(), options, None);
    }
    let routes = composition.data_routes(config);
    for listener in listeners.data {
        serving.data.serve(listener, routes.clone(), config.server.limits.clone(), certificate.clone());
    }
    composition.health.enter(Phase::Ready);
    systemd::ready();
    info!(version = env!("CARGO_PKG_VERSION"), ?data, ?admin, hubs = config.hubs.len(), "serving");
    if config.preset {
        // nobody may be reading
        print(&banner(config, &data, &admin)?).or_else(|failure| match failure {
            Failure::ClosedPipe => Ok(()),
            other => Err(other),
        })?;
    }
    let by = tokio::select! {
        by = told_to_stop(&mut signals, &composition.stop, certificate.as_deref()) => by,
        never = systemd::watchdog() => match never {},
        end = serving.ended() => return end,
    };
    tokio::select! {
        all_over = stop(config, &composition, serving) => if all_over { Ok(()) } else { Err(Failure::Cut) },
        () = told_too_often(&mut signals, by) => Err(Failure::Impatient),
    }
}

/// Who told the server to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Signal,
    Api,
}

async fn told_to_stop(signals: &mut Signals, stop: &CancellationToken, certificate: Option<&Certificate>) -> By {
    loop {
        tokio::select! {
            () = stop.cancelled() => return By::Api,
            told = signals.next() => match (told, certificate) {
                (Told::Stop, _) => return By::Signal,
                (Told::Reload, Some(certificate)) => certificate.reload(),
                (Told::Reload, None) => {}
            },
        }
    }
}

/// Waits for a signal from somebody who has sent one already. After a call of the API the first is a supervisor's, who knows nothing of it.
async fn told_too_often(signals: &mut Signals, by: By) {
    if by == By::Api {
        next_stop(signals).await;
        info!("told to stop, and stopping already; one more signal ends it at once");
    }
    next_stop(signals).await;
}

async fn next_stop(signals: &mut Signals) {
    while signals.next().await != Told::Stop {}
}

/// Readiness goes first, then the clients, then the listeners; health and metrics can be asked to the end. Returns whether all was over
/// in time.
async fn stop(config: &Config, composition: &Composition, serving: Serving) -> bool {
    let server = &config.server;
    composition.health.enter(Phase::Draining);
    systemd::stopping();
    info!(delay = ?server.drain_delay, timeout = ?server.drain_timeout, "stopping");
    tokio::time::sleep(server.drain_delay).await;
    // polls and posts of clients that are still there come over new connections
    let drained = composition.drain(server.drain_timeout).await;
    let answered = serving.data.stop().await;
    serving.admin.stop().await;
    let all_over = drained && answered;
    if all_over {
        info!("stopped");
    } else {
        warn!("stopped, with calls, requests or connections cut that had not ended in time");
    }
    all_over
}

#[derive(Default)]
struct Serving {
    data: Group,
    admin: Group,
}

impl Serving {
    /// Waits for a listener that ends by itself, which none should.
    async fn ended(&mut self) -> Result<(), Failure> {
        let ended = tokio::select! {
            Some(ended) = self.data.tasks.join_next() => ended,
            Some(ended) = self.admin.tasks.join_next() => ended,
            else => std::future::pending().await,
        };
        Err(Failure::failed(match ended {
            Ok(Ok(_)) => "a listener has ended".into(),
            Ok(Err(e)) => format!("a listener has ended: {e}"),
            Err(e) => format!("a listener has ended: {e}"),
        }))
    }
}

/// Accept loops that stop together.
#[derive(Default)]
struct Group {
    tasks: JoinSet<io::Result<Served>>,
    stop: CancellationToken,
}

impl Group {
    fn serve(
        &mut self,
        listener: TcpListener,
        routes: Router,
        options: ServeOptions,
        certificate: Option<Arc<Certificate>>,
    ) {
        let stop = self.stop.clone();
        let mut serve = crate::serve(listener, routes).with_options(options);
        if let Some(certificate) = certificate {
            serve = serve.with_security(certificate);
        }
        let serve = serve.with_graceful_shutdown(async move { stop.cancelled().await });
        self.tasks.spawn(serve.run());
    }

    /// Returns whether every request was answered in time.
    async fn stop(mut self) -> bool {
        self.stop.cancel();
        let mut answered = true;
        while let Some(ended) = self.tasks.join_next().await {
            answered &= matches!(ended, Ok(Ok(Served::Whole)));
        }
        answered
    }
}
