//! Starts a server in this process.

use std::path::PathBuf;
use std::sync::{Condvar, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use lossy_engine::{
    CacheOptions, Engine, EngineOptions, GenerationOptions, KvScheme, ModelSource, SamplingOptions,
};
use lossy_server::{
    Access, Address, DocumentOptions, Limits, Made, Notes, Served, ServerOptions, Setting, serve,
};
use lossy_testkit::TestModel;
use tokio::sync::oneshot;

/// How a test wants it.
#[derive(Clone)]
pub struct Wanted {
    pub model: PathBuf,
    pub address: Address,
    pub kv: Vec<&'static str>,
    pub n_ctx: usize,
    pub budget: Option<usize>,
    /// One as a rule: tests run side by side, and threads that wait for each other take time from other tests.
    pub threads: usize,
    pub access: Access,
    pub limits: Limits,
    pub directory: Option<PathBuf>,
    pub ram: Option<usize>,
    pub metrics: bool,
    pub page: bool,
    pub drain: Duration,
}

impl Default for Wanted {
    fn default() -> Wanted {
        Wanted {
            model: TestModel::SmolLm2.path(),
            address: Address::Tcp("127.0.0.1:0".parse().unwrap()),
            kv: vec!["f16"],
            n_ctx: 4096,
            budget: None,
            threads: 1,
            access: Access::default(),
            limits: Limits::default(),
            directory: None,
            ram: Some(256 << 20),
            metrics: true,
            page: true,
            drain: Duration::from_secs(20),
        }
    }
}

/// Who has servers: tests that may run side by side, and one that wants the machine for itself.
#[derive(Default)]
struct Turns {
    n_beside: usize,
    is_one_alone: bool,
}

static TURNS: Mutex<Turns> = Mutex::new(Turns { n_beside: 0, is_one_alone: false });
static CHANGED: Condvar = Condvar::new();

/// The right to run servers. One who waits to be alone lets others begin meanwhile, so a test may start several.
struct Turn {
    is_alone: bool,
}

impl Turn {
    fn take(is_alone: bool) -> Turn {
        let must_wait = |turns: &mut Turns| turns.is_one_alone || is_alone && turns.n_beside > 0;
        let mut turns = CHANGED.wait_while(TURNS.lock().unwrap(), must_wait).unwrap();
        if is_alone {
            turns.is_one_alone = true;
        } else {
            turns.n_beside += 1;
        }
        Turn { is_alone }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut turns = TURNS.lock().unwrap();
        if self.is_alone {
            turns.is_one_alone = false;
        } else {
            turns.n_beside -= 1;
        }
        CHANGED.notify_all();
    }
}

/// A server that runs until it is dropped.
pub struct Server {
    pub port: u16,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _turn: Turn,
}

impl Wanted {
    pub fn start(self) -> Server {
        self.start_in(Turn::take(false))
    }

    /// A server beside which no other runs, for a client that a busy machine would make too slow.
    pub fn start_alone(self) -> Server {
        Wanted { threads: 2, ..self }.start_in(Turn::take(true))
    }

    fn start_in(self, turn: Turn) -> Server {
        let (end, ended) = oneshot::channel::<()>();
        let (ready, url) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let source = ModelSource::open(&self.model).unwrap();
            let options = EngineOptions {
                n_threads: Some(self.threads),
                kv_budget: self.budget,
                ..EngineOptions::default()
            };
            let mut engine = Engine::load(&source, &options).unwrap();
            let mut settings = Vec::new();
            for kv in &self.kv {
                let kv: KvScheme = kv.parse().unwrap();
                let options = CacheOptions { n_ctx: Some(self.n_ctx), ..CacheOptions::scheme(kv) };
                settings.push(Setting { cache: engine.cache(&options).unwrap(), certificate: None });
            }
            let served = Served {
                id: "test".to_string(),
                path: self.model.display().to_string(),
                info: source.info().clone(),
                weight_bytes: engine.weight_bytes(),
                tokenizer: source.tokenizer().unwrap(),
                template: source.chat_template().unwrap(),
                template_variables: serde_json::Map::new(),
                settings,
                made: Made::default(),
            };
            let options = ServerOptions {
                address: self.address,
                aliases: Vec::new(),
                access: self.access,
                limits: self.limits,
                documents: DocumentOptions { ram: self.ram, directory: self.directory, disk: 1 << 30 },
                defaults: GenerationOptions {
                    sampling: SamplingOptions::greedy(),
                    ..GenerationOptions::default()
                },
                seed: None,
                metrics: self.metrics,
                page: self.page,
                keep_billing_header: false,
                heartbeat: Duration::from_millis(500),
                drain: self.drain,
                notes: Notes::new(|line| println!("{line}")),
            };
            let ready = move |url: &str| ready.send(url.to_string()).unwrap();
            let ended = async move {
                // Also when the sender is dropped.
                let _ = ended.await;
            };
            serve(engine, served, options, ready, ended).unwrap();
        });
        let url = url.recv_timeout(Duration::from_secs(120)).expect("the server starts");
        // A Unix socket has none.
        let port = url.rsplit(':').next().unwrap().parse().unwrap_or(0);
        Server { port, end: Some(end), thread: Some(thread), _turn: turn }
    }
}

impl Server {
    /// As SIGTERM does.
    pub fn ask_to_end(&mut self) {
        if let Some(end) = self.end.take() {
            let _ = end.send(());
        }
    }

    /// Waits until it has ended.
    pub fn join(&mut self) {
        self.ask_to_end();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server ends without a panic");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.join();
        }
    }
}
