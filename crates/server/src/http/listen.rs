//! Connections: accepted, bounded in number, not waited for without end, and ended in an orderly way.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

use crate::options::{Address, Limits};

/// Bytes of the head of a request, at most.
const MOST_HEAD: usize = 64 << 10;
/// Header lines of a request, at most.
const MOST_HEADERS: usize = 100;
/// After an error such as too many open files, the next connection is waited for.
const PAUSE: Duration = Duration::from_millis(100);

/// A socket that listens.
pub enum Listener {
    /// TCP
    Tcp(TcpListener),
    /// a Unix socket, which is removed in the end
    Unix(UnixListener, PathBuf),
}

impl Listener {
    /// Listens at an address.
    ///
    /// # Errors
    /// It is in use, or may not be used.
    pub async fn bind(address: &Address) -> io::Result<Listener> {
        match address {
            Address::Tcp(address) => Ok(Listener::Tcp(TcpListener::bind(address).await?)),
            Address::Unix(path) => {
                remove_dead(path).await?;
                let listener = UnixListener::bind(path)?;
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
                Ok(Listener::Unix(listener, path.clone()))
            }
        }
    }

    /// Where it listens, as a client names it.
    pub fn url(&self) -> String {
        match self {
            Listener::Tcp(listener) => match listener.local_addr() {
                Ok(address) => format!("http://{address}"),
                Err(error) => format!("an address that the system does not tell: {error}"),
            },
            Listener::Unix(_, path) => format!("unix:{}", path.display()),
        }
    }

    /// Serves connections until `ended` is ready, and then those that are still open for as long as `drain` says.
    pub async fn serve(self, app: Router, limits: Limits, ended: impl Future<Output = ()>, drain: Duration) {
        let connections = Connections {
            app,
            limits,
            places: Arc::new(Semaphore::new(limits.connections)),
            graceful: GracefulShutdown::new(),
        };
        tokio::pin!(ended);
        loop {
            let Ok(place) = connections.places.clone().acquire_owned().await else { break };
            let accepted = tokio::select! {
                () = &mut ended => break,
                accepted = self.accept() => accepted,
            };
            match accepted {
                Ok(Stream::Tcp(stream)) => {
                    // Tokens are small, and each is to be seen at once.
                    let _ = stream.set_nodelay(true);
                    connections.run(stream, place);
                }
                Ok(Stream::Unix(stream)) => connections.run(stream, place),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
        if let Listener::Unix(_, path) = &self {
            let _ = std::fs::remove_file(path);
        }
        drop(self);
        let _ = tokio::time::timeout(drain, connections.graceful.shutdown()).await;
    }

    async fn accept(&self) -> io::Result<Stream> {
        match self {
            Listener::Tcp(listener) => listener.accept().await.map(|(stream, _)| Stream::Tcp(stream)),
            Listener::Unix(listener, _) => listener.accept().await.map(|(stream, _)| Stream::Unix(stream)),
        }
    }
}

enum Stream {
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
}

struct Connections {
    app: Router,
    limits: Limits,
    places: Arc<Semaphore>,
    graceful: GracefulShutdown,
}

impl Connections {
    fn run(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        place: tokio::sync::OwnedSemaphorePermit,
    ) {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.patience)
            .max_buf_size(MOST_HEAD)
            .max_headers(MOST_HEADERS)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(self.app.clone()));
        let watched = self.graceful.watch(connection);
        tokio::spawn(async move {
            // A client that breaks off, or sends no HTTP, is its own concern.
            let _ = watched.await;
            drop(place);
        });
    }
}

/// Removes the socket of a server that is gone.
async fn remove_dead(path: &Path) -> io::Result<()> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if is_socket && tokio::net::UnixStream::connect(path).await.is_err() {
        std::fs::remove_file(path)?;
    }
    Ok(())
}
