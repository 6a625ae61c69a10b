//! The official clients of others, each in a process of its own, against a server in this one.
//!
//! The scripts are in `tests/clients`; `tools/fetch_test_clients.py` puts in place what they need.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use lossy_engine::{BatchItem, Cache, CacheOptions, Engine, EngineOptions, Logits, ModelSource};
use lossy_server::Access;
use lossy_testkit::TestModel;
use serde_json::Value;

use super::start::{Server, Wanted};

/// What the clients run with.
struct Programs {
    python: String,
    node: String,
    node_modules: String,
    browser_python: String,
    axe: String,
    chromium: String,
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn programs() -> &'static Programs {
    static PROGRAMS: OnceLock<Programs> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        let script = repository().join("tools/fetch_test_clients.py");
        let output = Command::new("python3").arg(script).arg("--print").output().expect("python3 runs");
        let paths: Value = serde_json::from_slice(&output.stdout).expect("paths as JSON");
        let path = |name: &str| {
            let path = paths[name].as_str().expect(name).to_string();
            assert!(
                Path::new(&path).exists(),
                "{path} is not there: python3 tools/fetch_test_clients.py brings it, or says what does"
            );
            path
        };
        Programs {
            python: path("python"),
            node: path("node"),
            node_modules: path("node_modules"),
            browser_python: path("browser_python"),
            axe: path("axe"),
            chromium: path("chromium"),
        }
    })
}

/// Runs a script, which says what does not hold.
#[track_caller]
fn run(server: &Server, script: &str, options: &[&str]) {
    let programs = programs();
    let interpreter = if script.ends_with(".mjs") { &programs.node } else { &programs.python };
    run_with(interpreter, server, script, options);
}

#[track_caller]
fn run_with(interpreter: &str, server: &Server, script: &str, options: &[&str]) {
    let programs = programs();
    let mut command = Command::new(interpreter);
    command
        .arg(repository().join("crates/server/tests/clients").join(script))
        .arg(format!("http://127.0.0.1:{}", server.port))
        .args(options)
        .env("NODE_PATH", &programs.node_modules)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    let output = command.output().expect("the client runs");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    println!("{text}");
    assert!(output.status.success(), "{script} {options:?}:\n{text}");
}

fn smollm2() -> Server {
    Wanted { kv: vec!["k2v2"], n_ctx: 8192, ..Wanted::default() }.start()
}

fn qwen() -> Server {
    Wanted { model: TestModel::QwenCoder.path(), n_ctx: 4096, ..Wanted::default() }.start()
}

/// Walks through the page in a browser.
#[track_caller]
fn walk(server: &Server, options: &[&str]) {
    let Programs { browser_python, axe, chromium, .. } = programs();
    let options = [&["--chromium", chromium, "--axe", axe], options].concat();
    run_with(browser_python, server, "page.py", &options);
}

#[test]
fn the_page_in_a_browser() {
    let kv = vec!["k2v2", "f16"];
    let open = Wanted { kv: kv.clone(), n_ctx: 8192, ..Wanted::default() };
    walk(&open.start_alone(), &["--without", "secret"]);
    let access = Access { keys: vec!["secret".into()], ..Access::default() };
    let server = Wanted { kv, access, ..Wanted::default() }.start_alone();
    walk(&server, &["--api-key", "secret", "--only", "secret"]);
}

#[test]
fn openai_for_python() {
    let server = smollm2();
    for script in ["openai_chat.py", "openai_completions.py", "openai_errors.py", "openai_json.py"] {
        run(&server, script, &[]);
    }
}

#[test]
fn openai_for_python_calls_tools() {
    run(&qwen(), "openai_tools.py", &[]);
}

#[test]
fn openai_for_python_has_responses() {
    run(&qwen(), "openai_responses.py", &["--tools"]);
}

#[test]
fn openai_for_python_has_decisions() {
    run(&smollm2(), "openai_decisions.py", &[]);
}

#[test]
fn anthropic_for_python() {
    run(&qwen(), "anthropic_messages.py", &["--tools"]);
}

#[test]
fn openai_for_node() {
    run(&qwen(), "openai_node.mjs", &["--tools"]);
}

#[test]
fn langchain_and_litellm() {
    let server = qwen();
    run(&server, "langchain_client.py", &["--tools"]);
    run(&server, "litellm_client.py", &["--tools"]);
}

#[test]
fn the_program_llm() {
    run(&smollm2(), "llm_client.py", &[]);
}

#[test]
fn lm_eval_one_by_one_at_once_and_in_batches() {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("log-likelihoods.json");
    let server = Wanted { n_ctx: 2048, ..Wanted::default() }.start();
    run(&server, "lm_eval_client.py", &["--json", file.to_str().expect("a path of text")]);
    check_log_likelihoods(&file);
}

#[test]
fn every_endpoint_as_it_is_described() {
    run(&Wanted { n_ctx: 512, ..Wanted::default() }.start(), "schemathesis_run.py", &["--examples", "12"]);
}

#[test]
fn the_same_bytes_whoever_else_asks() {
    let few = ["--long-tokens", "5000", "--answer-tokens", "12", "--rounds", "1"];
    run(&smollm2(), "same_bytes.py", &few);
}

#[test]
fn clients_that_fail_or_mean_harm() {
    let server = smollm2();
    run(&server, "faults.py", &[]);
    run(&server, "hostile.py", &[]);
}

/// The sum of log-probabilities of `ids` after the first `n_before`, as the engine gives them in one pass.
fn log_likelihood(engine: &mut Engine, cache: &Arc<Cache>, ids: &[u32], n_before: usize) -> f64 {
    let mut sequence = cache.sequence();
    let mut batch = [BatchItem { sequence: &mut sequence, tokens: ids, logits: Logits::All }];
    let rows = engine.forward(&mut batch).unwrap();
    (n_before..ids.len())
        .map(|position| {
            let logits = rows.row(position - 1);
            let sum: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
            f64::from(logits[ids[position] as usize]) - sum.ln()
        })
        .sum()
}

/// What `lm_eval` is told is what the model says without a server.
fn check_log_likelihoods(file: &Path) {
    let source = ModelSource::open(&TestModel::SmolLm2.path()).unwrap();
    let mut engine = Engine::load(&source, &EngineOptions::default()).unwrap();
    let cache = engine.cache(&CacheOptions::scheme("f16".parse().unwrap())).unwrap();
    let told: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let ids = |value: &Value| -> Vec<u32> {
        value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
    };
    let choices = told["choices"].as_array().unwrap();
    assert!(choices.len() > 20, "{} choices", choices.len());
    for choice in choices {
        let mut all = ids(&choice["context_ids"]);
        let n_before = all.len();
        all.extend(ids(&choice["continuation_ids"]));
        let wanted = log_likelihood(&mut engine, &cache, &all, n_before);
        let found = choice["loglikelihood"].as_f64().unwrap();
        assert!((found - wanted).abs() < 1e-4, "{wanted} and {found}: {choice}");
    }
}
