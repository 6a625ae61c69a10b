//! Starts a server in this process.

use std::path::PathBuf;
use std::sync::mpsc;
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
            threads: 2,
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

/// A server that runs until it is dropped.
pub struct Server {
    pub port: u16,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Wanted {
    pub fn start(self) -> Server {
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
        Server { port, end: Some(end), thread: Some(thread) }
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
