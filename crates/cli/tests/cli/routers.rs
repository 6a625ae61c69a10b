//! Two `lossy serve` behind routers of other people. The scripts are in `deploy/tests`; `tools/fetch_test_clients.py` puts in
//! place what they need.

use std::path::Path;
use std::process::Command;

use lossy_testkit::TestModel;
use serde_json::Value;

/// Runs the script with a router, which says what does not hold.
#[track_caller]
fn behind(router: &str) {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let script = repository.join("tools/fetch_test_clients.py");
    let printed = Command::new("python3").arg(script).arg("--print").output().expect("python3 runs");
    let paths: Value = serde_json::from_slice(&printed.stdout).expect("paths as JSON");
    let program = paths[router].as_str().expect(router);
    assert!(
        Path::new(program).exists(),
        "{program} is not there: python3 tools/fetch_test_clients.py routers brings it, or says what does"
    );
    let mut command = Command::new("python3");
    command
        .arg(repository.join("deploy/tests/routers.py"))
        .args(["--lossy", env!("CARGO_BIN_EXE_lossy"), "--model"])
        .arg(TestModel::SmolLm2.path())
        .arg(format!("--{}", router.replace('_', "-")))
        .arg(program)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    let output = command.output().expect("the script runs");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    println!("{text}");
    assert!(output.status.success(), "{text}");
}

#[test]
fn chats_find_their_documents_and_none_is_lost_behind_vllm_router() {
    behind("vllm_router");
}

#[test]
fn chats_find_their_documents_and_none_is_lost_behind_smg() {
    behind("smg");
}
