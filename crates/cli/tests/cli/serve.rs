//! `lossy serve` as a process: what it says, what it serves, how it ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use lossy_testkit::tiny_model;
use serde_json::Value;

use crate::program::{Home, error_line};

/// A process that serves, from when it listens.
struct Serving {
    child: Child,
    address: String,
    /// what it said before
    said: Vec<String>,
}

impl Serving {
    #[track_caller]
    fn start(home: &Home, args: &[&str]) -> Serving {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lossy"));
        command.env_clear().envs(home.variables()).current_dir(home.path());
        command.args(["serve", "--port", "0"]).args(args).stderr(Stdio::piped());
        let mut serving = Serving {
            child: command.spawn().expect("the program starts"),
            address: String::new(),
            said: Vec::new(),
        };
        let mut lines = BufReader::new(serving.child.stderr.take().expect("a pipe")).lines();
        for line in &mut lines {
            let line = line.expect("text");
            if let Some(address) = line.split("listening on http://").nth(1) {
                serving.address = address.to_string();
                break;
            }
            serving.said.push(line);
        }
        assert!(!serving.address.is_empty(), "it ended: {:?}", serving.said);
        // What it says later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        serving
    }

    fn get(&self, path: &str) -> Value {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        serde_json::from_str(text.split("\r\n\r\n").nth(1).unwrap()).expect("JSON")
    }

    /// Asks it to end; its exit code.
    fn end(mut self) -> Option<i32> {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_loss_of_every_setting_is_served_as_it_was_measured() {
    let home = Home::new();
    let model = tiny_model::write_wide(home.path()).display().to_string();
    let measured = home
        .lossy(&["measure", &model, "--kv", "k2v2,k3v3", "-c", "512", "--tokens", "300", "-o", "json"])
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&measured.stdout).expect("a report");
    let kl = |index: usize| &report["divergence"][0]["settings"][index]["kl"]["mean"]["value"];
    let serving = Serving::start(
        &home,
        &[&model, "-c", "1024", "--kv", "k2v2", "--also-kv", "k3v3,k4v4,f16", "--probe", "never"],
    );
    for told in [&serving.get("/props")["loss"], &serving.get("/v1/models")["data"][0]["meta"]["loss"]] {
        let of = |name: &str| {
            let found = told.as_array().unwrap().iter().find(|setting| setting["kv"] == name);
            found.unwrap_or_else(|| panic!("{name} is not in {told}"))
        };
        for (index, name) in ["k2v2", "k3v3"].into_iter().enumerate() {
            let setting = of(name);
            assert_eq!(setting["status"], "measured", "{setting}");
            assert_eq!(&setting["kl"], kl(index), "{setting}");
            assert_eq!(setting["measured_n_ctx"], 512);
            assert_eq!(setting["n_scored"], 300);
            assert!(setting["texts"].as_array().is_some_and(|texts| !texts.is_empty()), "{setting}");
            assert!(setting["command"].as_str().is_some_and(|c| c.contains("lossy measure")), "{setting}");
        }
        assert_eq!(of("k4v4")["status"], "not measured");
        assert!(of("k4v4")["kl"].is_null());
        assert_eq!(of("f16")["status"], "exact");
    }
    assert_eq!(serving.end(), Some(0));
}

#[test]
fn a_scheme_that_was_measured_with_other_positions_is_not_measured() {
    let home = Home::new();
    let model = tiny_model::write_wide(home.path()).display().to_string();
    let measure = ["measure", &model, "--kv", "k2v2", "-c", "512", "--tokens", "300"];
    assert!(home.lossy(&measure).output().unwrap().status.success());
    let status = |serving: &Serving| serving.get("/props")["loss"][0]["status"].clone();
    let serving = |args: &[&str]| {
        Serving::start(&home, &[&[model.as_str(), "--kv", "k2v2", "--probe", "never"], args].concat())
    };
    assert_eq!(status(&serving(&["-c", "1024"])), "measured");
    assert_eq!(status(&serving(&["-c", "2048"])), "not measured");
    assert_eq!(status(&serving(&["-c", "1024", "--positions", "self-extend:group=4"])), "not measured");
}

#[test]
fn a_budget_of_loss_chooses_what_is_served() {
    let home = Home::new();
    let model = tiny_model::write_wide(home.path()).display().to_string();
    let serving = Serving::start(&home, &[&model, "-c", "1024", "--max-loss", "kl=5"]);
    assert!(serving.said.iter().any(|line| line.ends_with(", within kl=5")), "{:?}", serving.said);
    let loss = serving.get("/props")["loss"].clone();
    assert_eq!(loss[0]["kv"], "k2v2", "{loss}");
    assert!(loss[0]["kl"].as_f64().is_some_and(|kl| kl > 0.0 && kl < 5.0), "{loss}");
}

#[test]
fn what_cannot_be_served_is_an_error_before_it_listens() {
    let home = Home::new();
    let model = tiny_model::write_wide(home.path()).display().to_string();
    let error = |args: &[&str]| error_line(&mut home.lossy(&[&["serve", &model], args].concat()));
    assert!(error(&["--host", "nowhere.invalid"]).contains("--host nowhere.invalid"));
    assert!(error(&["--api-key-file", "none.txt"]).contains("none.txt"));
    std::fs::write(home.path().join("empty.txt"), " \n").unwrap();
    assert!(error(&["--api-key-file", "empty.txt"]).contains("it has no key"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    assert!(error(&["--port", &port, "-c", "256"]).contains(&port));
}
