//! Metrics and health over HTTP, from a thread of its own.
//!
//! The thread asks the shards when it is asked, so that a relay that nobody watches does no work for it.

mod exposition;
mod health;
mod listener;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use health::{Report, Status};
use listener::Bounded;
use shard::metrics::Snapshot;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Asks every shard for its snapshot and waits a bounded time; a shard that did not answer is not in the result.
pub type Snapshots = Arc<dyn Fn() -> Vec<Snapshot> + Send + Sync>;

/// A server that runs until the program ends.
pub struct Server {
    /// Where it listens, with the real port.
    pub address: SocketAddr,
    stopping: Arc<AtomicBool>,
}

impl Server {
    /// Makes `/health` and `/ready` answer 503 from now on, so that a balancer looks elsewhere while we finish.
    pub fn announce_stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }
}

/// Serves `/metrics`, `/health` and `/ready` of so many `shards` at `address`. Fails when it cannot listen there.
pub fn start(address: SocketAddr, shards: usize, snapshots: Snapshots) -> io::Result<Server> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let stopping = Arc::new(AtomicBool::new(false));
    let source = Source { shards, snapshots, stopping: stopping.clone() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    std::thread::Builder::new().name("mtad-metrics".into()).spawn(move || {
        if let Err(error) = runtime.block_on(serve(listener, source)) {
            tracing::error!(%error, "metrics are served no longer");
        }
    })?;
    let server = Server { address, stopping };
    tracing::info!(address = %server.address, "metrics are served");
    Ok(server)
}

#[derive(Clone)]
struct Source {
    shards: usize,
    snapshots: Snapshots,
    stopping: Arc<AtomicBool>,
}

async fn serve(listener: std::net::TcpListener, source: Source) -> io::Result<()> {
    let listener = Bounded::new(tokio::net::TcpListener::from_std(listener)?);
    let routes = Router::new()
        .route("/metrics", get(metrics))
        .route("/health", get(health))
        .route("/ready", get(ready))
        .with_state(source);
    axum::serve(listener, routes).await
}

async fn metrics(State(source): State<Source>) -> Response {
    let text = exposition::write(&(source.snapshots)(), &exposition::Process::look());
    let kind =
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8"), (header::CONNECTION, "close")];
    (kind, text).into_response()
}

async fn health(State(source): State<Source>) -> Response {
    let report = source.report();
    answer(report.status == Status::Ok, &report)
}

async fn ready(State(source): State<Source>) -> Response {
    let report = source.report();
    answer(matches!(report.status, Status::Ok | Status::Degraded), &report)
}

fn answer(is_well: bool, report: &Report) -> Response {
    let code = if is_well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let kind = [(header::CONTENT_TYPE, "application/json"), (header::CONNECTION, "close")];
    (code, kind, report.text()).into_response()
}

impl Source {
    fn report(&self) -> Report {
        Report::new(self.shards, self.stopping.load(Ordering::Relaxed), &(self.snapshots)())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::time::{Duration, Instant};

    fn snapshot(shard: usize, spool_failed: u64) -> Snapshot {
        let gauges = vec![("spool_failed", "Whether the spool has failed.", spool_failed)];
        let takes_mail = spool_failed == 0;
        Snapshot {
            shard,
            counters: Vec::new(),
            gauges,
            latencies: Vec::new(),
            takes_mail,
            alarms: Vec::new(),
        }
    }

    fn server(snapshots: Vec<Snapshot>) -> Server {
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        start(any_port, 2, Arc::new(move || snapshots.clone())).unwrap()
    }

    fn ask(server: &Server, path: &str) -> String {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn health_is_503_when_anything_is_wrong_and_ready_is_200_while_mail_is_taken() {
        let good = server(vec![snapshot(0, 0), snapshot(1, 0)]);
        for path in ["/health", "/ready"] {
            let answer = ask(&good, path);
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            assert!(answer.contains("content-type: application/json\r\n"), "{answer}");
            assert!(answer.contains("\"status\": \"ok\""), "{answer}");
        }
        let half = server(vec![snapshot(0, 0), snapshot(1, 1)]);
        assert!(ask(&half, "/health").starts_with("HTTP/1.1 503 "));
        assert!(ask(&half, "/ready").starts_with("HTTP/1.1 200 "));
        let bad = server(vec![snapshot(1, 1)]);
        assert!(
            ask(&bad, "/health").starts_with("HTTP/1.1 503 ")
                && ask(&bad, "/ready").starts_with("HTTP/1.1 503 ")
        );
        good.announce_stop();
        for path in ["/health", "/ready"] {
            let answer = ask(&good, path);
            assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("stopping"), "{answer}");
        }
    }

    #[test]
    fn metrics_are_served_as_text_and_nothing_else_is() {
        let server = server(vec![snapshot(0, 0)]);
        let answer = ask(&server, "/metrics");
        assert!(answer.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{answer}");
        assert!(answer.contains("\nmtad_spool_failed{shard=\"0\"} 0\n"), "{answer}");
        assert!(ask(&server, "/").starts_with("HTTP/1.1 404 "));
    }

    #[test]
    fn silent_connections_are_closed_and_leave_room_for_others() {
        let server = server(vec![snapshot(0, 0), snapshot(1, 0)]);
        let begun = Instant::now();
        let silent: Vec<TcpStream> =
            (0..listener::CONNECTIONS_MAX * 2).map(|_| TcpStream::connect(server.address).unwrap()).collect();
        assert!(ask(&server, "/health").starts_with("HTTP/1.1 200 OK\r\n"));
        assert!(begun.elapsed() >= listener::CONNECTION_LIFE, "the bound of connections was not kept");
        drop(silent);
    }
}
