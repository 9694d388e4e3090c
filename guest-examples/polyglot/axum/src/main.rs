//! A web server with axum, and so hyper and tokio, unchanged: `axum ADDRESS`.

mod fcntl;

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Router, serve::Listener};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// Listens until the pod stops. WASI has no signals: peapod says it by letting accept fail.
struct UntilStopped {
    listener: TcpListener,
    stopped: Arc<Notify>,
}

impl Listener for UntilStopped {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok(accepted) => return accepted,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(_) => {
                    self.stopped.notify_one();
                    pending::<()>().await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A Wasm container has one thread, and so has the runtime.
#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "0.0.0.0:8080".into());
    let requests = Arc::new(AtomicU64::new(0));
    let app = Router::new()
        .route("/", get(greet))
        .route("/echo", post(async |body: String| body))
        .with_state(Arc::clone(&requests));
    let stopped = Arc::new(Notify::new());
    let listener =
        UntilStopped { listener: TcpListener::bind(&address).await?, stopped: Arc::clone(&stopped) };
    println!("axum listens on {}", listener.local_addr()?);
    axum::serve(listener, app).with_graceful_shutdown(async move { stopped.notified().await }).await?;
    println!("{} requests", requests.load(Ordering::Relaxed));
    Ok(())
}

async fn greet(State(requests): State<Arc<AtomicU64>>) -> String {
    format!("hello from axum, request {}\n", requests.fetch_add(1, Ordering::Relaxed) + 1)
}
