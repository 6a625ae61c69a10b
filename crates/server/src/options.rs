//! How a server is run.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lossy_engine::GenerationOptions;

/// Where it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// TCP
    Tcp(SocketAddr),
    /// a Unix socket
    Unix(PathBuf),
}

impl Address {
    /// Whether only programs of this machine reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Address::Tcp(address) => address.ip().is_loopback(),
            Address::Unix(_) => true,
        }
    }
}

/// Who may use it.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// keys of which a request must send one; none: anybody may
    pub keys: Vec<String>,
    /// names of this server that a request may ask for, besides those of this machine
    pub hosts: Vec<String>,
    /// web pages elsewhere that may use it, such as `https://example.org`
    pub origins: Vec<String>,
}

/// What a request may take at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// bytes of a body
    pub body: usize,
    /// bytes of a schema or grammar
    pub schema: usize,
    /// requests that run at once
    pub parallel: usize,
    /// requests that wait
    pub waiting: usize,
    /// connections at once
    pub connections: usize,
    /// for the head of a request, and between two pieces of its body
    pub patience: Duration,
    /// answers to one request
    pub n: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            body: 64 << 20,
            schema: 1 << 20,
            parallel: 16,
            waiting: 256,
            connections: 1024,
            patience: Duration::from_secs(30),
            n: 16,
        }
    }
}

/// Where documents stay loaded.
#[derive(Clone, Debug, Default)]
pub struct DocumentOptions {
    /// most bytes of pages that no request uses; `None`: as many as the KV budget holds
    pub ram: Option<usize>,
    /// where they are saved
    pub directory: Option<PathBuf>,
    /// most bytes there
    pub disk: u64,
}

/// Who is told what happens beside requests: a line for each.
#[derive(Clone)]
pub struct Notes(Arc<dyn Fn(&str) + Send + Sync>);

impl Notes {
    /// Calls `tell` with each line.
    pub fn new(tell: impl Fn(&str) + Send + Sync + 'static) -> Notes {
        Notes(Arc::new(tell))
    }

    /// Tells a line.
    pub(crate) fn tell(&self, line: &str) {
        (self.0)(line);
    }
}

impl fmt::Debug for Notes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Notes")
    }
}

/// How a server is run.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// where it listens
    pub address: Address,
    /// further names of the model
    pub aliases: Vec<String>,
    /// who may use it
    pub access: Access,
    /// what a request may take
    pub limits: Limits,
    /// documents that stay loaded
    pub documents: DocumentOptions,
    /// what a request does not say
    pub defaults: GenerationOptions,
    /// what an answer has that names no seed: this one, or a random one
    pub seed: Option<u64>,
    /// whether `/metrics` answers
    pub metrics: bool,
    /// whether there is a page at `/`
    pub page: bool,
    /// whether system texts that begin with `x-anthropic-billing-header:` stay in the prompt
    pub keep_billing_header: bool,
    /// a stream says something after so long a silence
    pub heartbeat: Duration,
    /// how long answers may go on after SIGTERM
    pub drain: Duration,
    /// who is told of damaged files and the like
    pub notes: Notes,
}
