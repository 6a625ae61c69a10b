//! `lossy serve`

use std::fs;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use lossy_engine::{Cache, CacheOptions, KvScheme, PositionScheme};
use lossy_eval::Certificate;
use lossy_server::{Access, Address, DocumentOptions, Limits, Made, Notes, Served, ServerOptions, Setting};

use crate::args::{EngineArgs, Listed, LossArgs, ModelArgs, SamplingArgs, TemplateArgs};
use crate::loaded::{Loaded, in_file, make_cache};
use crate::loss::{self, LossOf, file_name};
use crate::outcome::Outcome;
use crate::terminal::{Spinner, note};
use crate::units::parse_bytes;
use crate::{directories, hub, interrupt, usage_error};

/// Serves a model to many users at once, over OpenAI's interface
///
/// Requests run together and share one KV cache. Whatever was read stays loaded: a second question to a document needs no
/// second reading, also after a restart. The same request has the same answer alone and in a crowd. What the KV scheme costs
/// stands at /props and /v1/models.
///
/// Only programs of this machine can reach it, unless --host says otherwise. SIGTERM or Ctrl-C ends it when the answers that
/// run are finished, a second one at once.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  lossy serve
  lossy serve user/repo:Q4_K_M --kv k2v2 -c 32768 --port 9000
  LOSSY_API_KEY=secret lossy serve model.gguf --host 0.0.0.0 --allowed-hosts box.example
  curl http://127.0.0.1:8080/v1/chat/completions -d '{\"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}'")]
pub struct ServeArgs {
    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    network: NetworkArgs,

    #[command(flatten)]
    work: WorkArgs,

    #[command(flatten)]
    documents: DocumentArgs,

    #[command(flatten)]
    template: TemplateArgs,

    #[command(flatten)]
    sampling: SamplingArgs,

    #[command(flatten)]
    engine: EngineArgs,

    #[command(flatten)]
    loss: LossArgs,

    /// No lines but errors and the address
    #[arg(short = 'q', long)]
    quiet: bool,
}

/// Where it listens, and to whom.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Network")]
struct NetworkArgs {
    /// Address or name to listen at
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1", env = "LOSSY_HOST")]
    host: String,

    /// Port; 0: any that is free
    #[arg(long, value_name = "PORT", default_value_t = 8080, env = "LOSSY_PORT")]
    port: u16,

    /// Listens at a Unix socket instead
    #[arg(long, value_name = "FILE", conflicts_with_all = ["host", "port"])]
    socket: Option<PathBuf>,

    /// A key that requests must send; may be given several times. The environment is safer than the command line, where
    /// others of this machine can read it
    #[arg(long, value_name = "KEY", env = "LOSSY_API_KEY", hide_env_values = true, value_delimiter = ',')]
    api_key: Vec<String>,

    /// A file with keys, one a line
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,

    /// Further names by which this server may be called, such as box.example; *: any
    #[arg(long, value_name = "HOSTS", value_delimiter = ',')]
    allowed_hosts: Vec<String>,

    /// Web pages that may use this server, such as https://app.example; *: any
    #[arg(long, value_name = "ORIGINS", value_delimiter = ',')]
    cors_origins: Vec<String>,

    /// The model's name in requests and answers [default: its file's name]; several: any of them
    #[arg(short = 'a', long, value_name = "NAMES", value_delimiter = ',')]
    alias: Vec<String>,

    /// /metrics does not answer
    #[arg(long)]
    no_metrics: bool,

    /// There is no page at /
    #[arg(long)]
    no_page: bool,

    /// Largest body of a request
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = parse_bytes)]
    max_body: usize,

    /// Seconds that answers may still take after SIGTERM
    #[arg(long, value_name = "SECONDS", default_value_t = 25)]
    drain_timeout: u64,
}

/// How requests run.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Requests")]
struct WorkArgs {
    /// [-np] Requests that run at once
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    parallel: u16,

    /// Requests that may wait; more are refused with status 429
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    max_waiting: u32,

    /// Further KV schemes, between commas, that a request may choose with its field `kv`
    #[arg(long, value_name = "SCHEMES")]
    also_kv: Vec<Listed<KvScheme>>,

    /// Further position maps, between commas, that a request may choose with its field `positions`
    #[arg(long, value_name = "MAPS")]
    also_positions: Vec<Listed<PositionScheme>>,

    /// Leaves system texts that begin with x-anthropic-billing-header: in the prompt. They change with every request, and so
    /// no request would find its beginning in the cache
    #[arg(long)]
    keep_billing_header: bool,
}

/// Documents that stay loaded.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Documents that stay loaded")]
struct DocumentArgs {
    /// Most memory of documents that no request uses [default: half of the machine's, or --kv-budget]
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    cache_ram: Option<usize>,

    /// Where they are saved, to be there after a restart
    #[arg(long, value_name = "DIR", env = "LOSSY_CACHE_DIR")]
    cache_dir: Option<PathBuf>,

    /// Most bytes of files there
    #[arg(long, value_name = "SIZE", default_value = "20G", value_parser = parse_bytes, requires = "cache_dir")]
    cache_disk: usize,
}

impl NetworkArgs {
    fn address(&self) -> Result<Address> {
        if let Some(path) = &self.socket {
            return Ok(Address::Unix(path.clone()));
        }
        let name = self.host.trim_start_matches('[').trim_end_matches(']');
        let mut found =
            (name, self.port).to_socket_addrs().with_context(|| format!("--host {}", self.host))?;
        let address: Option<SocketAddr> = found.next();
        address.map(Address::Tcp).with_context(|| format!("--host {} has no address", self.host))
    }

    fn access(&self) -> Result<Access> {
        let mut keys = self.api_key.clone();
        if let Some(path) = &self.api_key_file {
            let text =
                fs::read_to_string(path).with_context(|| format!("--api-key-file {}", path.display()))?;
            let n_before = keys.len();
            keys.extend(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_string));
            if keys.len() == n_before {
                bail!("--api-key-file {}: it has no key", path.display());
            }
        }
        if keys.iter().any(|key| key.trim().is_empty()) {
            bail!("an API key is empty: leave --api-key and LOSSY_API_KEY out if none is needed");
        }
        Ok(Access { keys, hosts: self.allowed_hosts.clone(), origins: self.cors_origins.clone() })
    }
}

/// Serves until a signal comes.
pub fn run(args: ServeArgs) -> Result<Outcome> {
    let cache_options = args.engine.cache_options()?;
    loss::check_choice(args.loss.max_loss.as_ref(), &cache_options)?;
    if args.sampling.logprobs.is_some() {
        return Err(
            usage_error("a request says whether it wants log-probabilities: leave out --logprobs").into()
        );
    }
    let (address, access) = (args.network.address()?, args.network.access()?);
    if !address.is_local() && access.keys.is_empty() && !args.quiet {
        note(&format!(
            "warning: anybody who reaches {} can use this server: --api-key restricts it to those who have a key",
            args.network.host
        ));
    }
    let model = args.model.name().unwrap_or_else(|| hub::DEFAULT_MODEL.to_string());
    let path = hub::resolve(&model)?;
    let mut loaded = Loaded::open(&path, &args.engine.engine_options()?, cache_options)?;
    args.template.apply(&mut loaded)?;
    if !args.quiet {
        loaded.tell_positions();
    }
    let mut loss_of = LossOf { model: &mut loaded, path: &path, is_quiet: args.quiet };
    let is_own = args.engine.calibration.calibrate.is_some();
    if let Outcome::Interrupted = loss_of.settle(&args.loss, is_own)? {
        return Ok(Outcome::Interrupted);
    }
    let defaults = args.sampling.options();
    loaded.check(&defaults.sampling)?;
    let settings = settings(&mut loaded, &args.work, &path)?;
    let options = ServerOptions {
        address,
        aliases: args.network.alias.iter().skip(1).cloned().collect(),
        access,
        limits: Limits {
            body: args.network.max_body,
            parallel: args.work.parallel.into(),
            waiting: args.work.max_waiting as usize,
            ..Limits::default()
        },
        documents: DocumentOptions {
            ram: args.documents.cache_ram.or_else(|| default_ram(args.engine.kv_budget)),
            directory: args.documents.cache_dir.clone(),
            disk: args.documents.cache_disk as u64,
        },
        seed: u64::try_from(args.sampling.seed).ok(),
        defaults,
        metrics: !args.network.no_metrics,
        page: !args.network.no_page,
        keep_billing_header: args.work.keep_billing_header,
        heartbeat: Duration::from_secs(5),
        drain: Duration::from_secs(args.network.drain_timeout),
        notes: Notes::new(note),
    };
    // A template with a mistake is found now, not by the first request.
    loaded.template()?;
    let id = args.network.alias.first().cloned().unwrap_or_else(|| name_of(&path));
    let (tokenizer, info) = (loaded.tokenizer.clone(), loaded.info.clone());
    let (weight_bytes, template_variables) =
        (loaded.engine.weight_bytes(), loaded.template_variables.clone());
    let (engine, template) = loaded.into_parts();
    let path = path.display().to_string();
    let made = Made::default();
    let served =
        Served { id, path, info, weight_bytes, tokenizer, template, template_variables, settings, made };
    interrupt::listen(interrupt::Second::Ends);
    let ready = |url: &str| note(&format!("listening on {url}"));
    lossy_server::serve(engine, served, options, ready, interrupt::asked())?;
    // To end when it is asked to is what a server does.
    Ok(Outcome::Done)
}

/// The usual setting, and those that a request may choose, each with what is known of its loss.
fn settings(loaded: &mut Loaded, work: &WorkArgs, path: &Path) -> Result<Vec<Setting>> {
    let usual = loaded.cache_options.clone();
    let schemes = std::iter::once(usual.kv.clone())
        .chain(work.also_kv.iter().flat_map(|Listed(schemes)| schemes).cloned().map(Some));
    let maps: Vec<PositionScheme> = std::iter::once(usual.positions.clone())
        .chain(work.also_positions.iter().flat_map(|Listed(maps)| maps).cloned())
        .collect();
    let mut caches = vec![loaded.cache.clone()];
    let spinner = Spinner::start("preparing the caches");
    for (index, (kv, positions)) in
        schemes.flat_map(|kv| maps.iter().map(move |positions| (kv.clone(), positions.clone()))).enumerate()
    {
        if index > 0 {
            let options = CacheOptions { kv, positions, ..usual.clone() };
            caches.push(make_cache(&mut loaded.engine, &options, &spinner).map_err(in_file(path))?);
        }
    }
    drop(spinner);
    let hash = loaded.engine.source().fingerprint().to_string();
    let known =
        directories::certificates().load(&hash, crate::version::short(), loaded.engine.activations().name());
    Ok(caches.into_iter().map(|cache| Setting { certificate: certificate(&known, &cache), cache }).collect())
}

/// What is known of a cache's loss, at the longest texts that it was measured at. A scheme that was measured with the model's own
/// positions says nothing about it with others.
fn certificate(known: &[Certificate], cache: &Cache) -> Option<Certificate> {
    let positions = cache.positions().scheme();
    let is_own = *positions == PositionScheme::linear();
    let with_positions =
        lossy_eval::Setting { kv: cache.kv().clone(), positions: Some(positions.clone()) }.to_string();
    let alone = lossy_eval::Setting::from(cache.kv().clone()).to_string();
    let is_of = |name: &str| name == with_positions || is_own && name == alone;
    known.iter().filter(|certificate| is_of(&certificate.setting)).max_by_key(|known| known.n_ctx).cloned()
}

/// `smollm2-135m` of `smollm2-135m.gguf`.
fn name_of(path: &Path) -> String {
    let name = file_name(path);
    name.strip_suffix(".gguf").map_or(name.clone(), str::to_string)
}

/// Half of the machine's memory, where nothing else limits the cache.
fn default_ram(budget: Option<usize>) -> Option<usize> {
    if budget.is_some() {
        return None;
    }
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 2 * 1024)
}
