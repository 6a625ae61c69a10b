//! What `--prompt-cache` keeps, when it is used again, and what may stand in its place.

use std::fs;
use std::path::Path;
use std::process::Output;

use lossy_testkit::tiny_model;

use crate::program::{Home, text};

const PROMPT: &str = "Thequickbrownfoxjumpsoverthelazydog,again:";

/// One run with the cache `name`, in the home's folder.
fn run(home: &Home, name: &str, args: &[&str]) -> Output {
    let prompt = PROMPT.repeat(6);
    let all = [
        "run",
        "wide.gguf",
        "-p",
        &prompt,
        "-n",
        "2",
        "--temp",
        "0",
        "--probe",
        "never",
        "--prompt-cache",
        name,
    ];
    home.lossy(&[&all, args].concat()).output().expect("the program starts")
}

#[track_caller]
fn assert_used(what: &str, output: &Output) {
    let stderr = text(&output.stderr);
    assert!(output.status.success() && stderr.contains(" cached)"), "{what}: {stderr}");
}

#[track_caller]
fn assert_refused(what: &str, output: &Output, expected: &str) {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{what}: {stderr}");
    assert!(stderr.contains(expected), "{what}: {stderr}");
}

fn home_with_model() -> Home {
    let home = Home::new();
    tiny_model::write_wide(home.path());
    home
}

#[test]
fn everything_that_a_cache_depends_on_makes_it_another_one() {
    let home = home_with_model();
    // With every character, since a calibration needs 64 different tokens.
    let own = format!("{}{}", include_str!("prompt_cache.rs"), ('!'..='~').collect::<String>());
    fs::write(home.path().join("own.txt"), own).unwrap();
    for (made, used, expected) in [
        (
            &["--kv", "f16"][..],
            &["--kv", "f16", "--activations", "f32"][..],
            "its kind of activations is q8, but f32 is in use",
        ),
        (
            &["--kv", "f32", "--activations", "f32"],
            &["--kv", "f32"],
            "its kind of activations is f32, but q8 is in use",
        ),
        (&[], &["--kv", "q8"], "its KV scheme is f16, but q8"),
        (&["--kv", "k2v2"], &["--kv", "k2v2:sinks=16"], "its KV scheme is k2v2"),
        (
            &["--kv", "k2v2"],
            &["--kv", "k2v2", "--exact-prefill"],
            "its prefill is as stored, but exact is in use",
        ),
        (&["--kv", "k2v2"], &["--kv", "k2v2", "--calibrate", "own.txt"], "its calibration is "),
        (&[], &["--positions", "yarn:factor=2"], "its position map is auto, but yarn"),
        (
            &["--positions", "self-extend:group=4,window=128"],
            &["--positions", "self-extend:group=8,window=128"],
            "its position map is self-extend:group=4",
        ),
    ] {
        let _ = fs::remove_file(home.path().join("a.kv"));
        let first = run(&home, "a.kv", made);
        assert!(first.status.success(), "{made:?}: {}", text(&first.stderr));
        assert_used(&format!("{made:?} again"), &run(&home, "a.kv", made));
        assert_refused(&format!("{made:?}, then {used:?}"), &run(&home, "a.kv", used), expected);
        assert_used(&format!("{made:?} after a refusal"), &run(&home, "a.kv", made));
    }
    // One byte of the model is another one, at its end, where a weight is.
    let path = home.path().join("wide.gguf");
    let mut model = fs::read(&path).unwrap();
    *model.last_mut().unwrap() ^= 1;
    fs::write(&path, model).unwrap();
    assert_refused("another model", &run(&home, "a.kv", &[]), "its model is ");
}

#[test]
fn what_changes_no_bit_does_not_matter() {
    let home = home_with_model();
    let wanted = run(&home, "a.kv", &["--kv", "q8"]);
    assert!(wanted.status.success(), "{}", text(&wanted.stderr));
    for args in [&["-b", "16"][..], &["-t", "1"], &["-c", "800"], &["--seed", "7"], &["-v"], &["-c", "2048"]]
    {
        let output = run(&home, "a.kv", &[&["--kv", "q8"], args].concat());
        assert_used(&format!("{args:?}"), &output);
        assert!(output.stdout.starts_with(wanted.stdout.trim_ascii_end()), "{args:?}");
    }
}

#[test]
fn a_file_that_is_not_as_it_was_written_is_refused_wherever_it_differs() {
    let home = home_with_model();
    assert!(run(&home, "a.kv", &[]).status.success());
    let path = home.path().join("a.kv");
    let whole = fs::read(&path).unwrap();
    for at in [8, 45, 60, whole.len() / 2, whole.len() - 1] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert_refused(&format!("byte {at}"), &run(&home, "a.kv", &[]), "--prompt-cache a.kv");
    }
    for bytes in [[&whole[..], b"x"].concat(), [&whole[..], &whole].concat()] {
        fs::write(&path, bytes).unwrap();
        assert_refused("longer", &run(&home, "a.kv", &[]), "something follows its end");
    }
    for end in [1, 8, 41, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..end]).unwrap();
        assert_refused(&format!("{end} bytes"), &run(&home, "a.kv", &[]), "--prompt-cache a.kv");
    }
    fs::write(&path, "my thesis").unwrap();
    let other = run(&home, "a.kv", &[]);
    assert_refused("another file", &other, "is not a saved KV cache");
    assert!(!text(&other.stderr).contains("delete"), "{}", text(&other.stderr));
    assert_eq!(fs::read(&path).unwrap(), b"my thesis");
}

#[test]
fn an_empty_file_is_a_new_cache() {
    let home = home_with_model();
    fs::write(home.path().join("a.kv"), "").unwrap();
    assert!(run(&home, "a.kv", &[]).status.success());
    assert_used("the second time", &run(&home, "a.kv", &[]));
}

#[test]
fn a_place_where_no_file_can_be_is_named_before_the_prompt_is_read() {
    let home = home_with_model();
    fs::create_dir(home.path().join("folder")).unwrap();
    for (name, expected) in
        [("folder", "folder is a directory, not a file"), ("none/a.kv", "there is no directory none")]
    {
        let output = run(&home, name, &[]);
        assert_refused(name, &output, expected);
        assert!(
            !text(&output.stderr).contains("delete") && output.stdout.is_empty(),
            "{}",
            text(&output.stderr)
        );
    }
}

#[cfg(unix)]
#[test]
fn a_dangling_link_stays_a_link_and_a_pipe_or_a_device_is_refused_at_once() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let home = home_with_model();
    let inside = |name: &str| home.path().join(name);
    symlink("target.kv", inside("link.kv")).unwrap();
    assert!(run(&home, "link.kv", &[]).status.success());
    assert!(fs::symlink_metadata(inside("link.kv")).unwrap().is_symlink());
    assert_eq!(fs::metadata(inside("target.kv")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_used("through the link", &run(&home, "link.kv", &[]));

    let made = std::process::Command::new("mkfifo").arg(inside("pipe")).status().unwrap();
    assert!(made.success());
    for path in [inside("pipe"), Path::new("/dev/null").to_path_buf()] {
        let name = path.display().to_string();
        assert_refused(&name, &run(&home, &name, &[]), "is no regular file");
    }
}
