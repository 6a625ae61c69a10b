//! Files that appear whole or not at all, written by threads and processes at once, onto links, pipes and devices.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::thread;

use lossy_formats::{AtomicFile, WriteError};

/// Names which file a child process of [`two_processes_and_two_threads_each_leave_a_whole_file`] writes, and what.
const CHILD: &str = "LOSSY_TEST_ATOMIC_FILE";
const N_WRITES: usize = 200;
const N_BYTES: usize = 10_000;

fn write(path: &Path, content: &[u8]) {
    let mut file = AtomicFile::create(path).unwrap();
    // In two parts, so that a mixture is possible if the temporary file were shared.
    let (start, end) = content.split_at(content.len() / 2);
    file.write_all(start).unwrap();
    file.write_all(end).unwrap();
    file.commit_unsynced().unwrap();
}

fn write_often(path: &Path, letter: u8) {
    (0..N_WRITES).for_each(|_| write(path, &vec![letter; N_BYTES]));
}

#[test]
fn two_processes_and_two_threads_each_leave_a_whole_file() {
    if let Some(path) = std::env::var_os(CHILD) {
        let path = Path::new(&path);
        thread::scope(|scope| {
            scope.spawn(|| write_often(path, b'a'));
            scope.spawn(|| write_often(path, b'b'));
        });
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    write(&path, &[b'0'; N_BYTES]);
    let child = || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "two_processes_and_two_threads_each_leave_a_whole_file"]);
        command.env(CHILD, &path).spawn().unwrap()
    };
    let mut children = [child(), child()];
    let mut letters = std::collections::BTreeSet::new();
    while children.iter_mut().any(|child| child.try_wait().unwrap().is_none()) {
        let seen = fs::read(&path).unwrap();
        assert_eq!(seen, vec![seen[0]; N_BYTES]);
        letters.insert(seen[0]);
    }
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert!(letters.len() > 1, "no write was seen");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn a_committed_file_has_the_permissions_of_any_new_file_and_a_dropped_one_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a");
    drop(AtomicFile::create(&path).unwrap());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    let mut file = AtomicFile::create(&path).unwrap();
    file.write_all(b"text").unwrap();
    assert!(!path.exists());
    file.commit().unwrap();
    let other = directory.path().join("b");
    fs::write(&other, "").unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions(), fs::metadata(&other).unwrap().permissions());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    assert_eq!(fs::read(&path).unwrap(), b"text");
}

#[test]
fn a_check_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a");
    AtomicFile::check(&path).unwrap();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    fs::write(&path, "old").unwrap();
    AtomicFile::check(&path).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert!(AtomicFile::check(directory.path()).is_err());
}

#[test]
fn what_cannot_be_written_is_named() {
    let message = |path: &Path| AtomicFile::create(path).err().unwrap().to_string();
    let nowhere = Path::new("no/such/directory/file");
    assert_eq!(
        message(nowhere),
        "writing to no/such/directory/file: there is no directory no/such/directory"
    );
    let directory = tempfile::tempdir().unwrap();
    let name = directory.path().display();
    assert_eq!(message(directory.path()), format!("{name} is a directory, not a file"));
}

#[test]
fn an_error_of_the_system_keeps_its_kind() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("file"), "").unwrap();
    let kind = |path: &Path| std::io::Error::from(AtomicFile::create(path).err().unwrap()).kind();
    assert_eq!(kind(&directory.path().join("file/below")), std::io::ErrorKind::NotADirectory);
    assert_eq!(kind(&directory.path().join("none/below")), std::io::ErrorKind::NotFound);
}

#[cfg(unix)]
mod unix {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;
    use std::time::{Duration, Instant};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn make_pipe(path: &Path) {
        assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    }

    #[test]
    fn a_private_file_is_its_owners_and_one_that_is_there_keeps_its_permissions() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        AtomicFile::create_private(&path).unwrap().commit().unwrap();
        assert_eq!(mode(&path), 0o600);
        AtomicFile::create(&path).unwrap().commit().unwrap();
        assert_eq!(mode(&path), 0o600);
        fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        AtomicFile::create_private(&path).unwrap().commit().unwrap();
        assert_eq!(mode(&path), 0o640);
    }

    #[test]
    fn a_link_stays_a_link_and_a_dangling_one_gets_its_target() {
        let directory = tempfile::tempdir().unwrap();
        let inside = |name: &str| directory.path().join(name);
        fs::create_dir(inside("other")).unwrap();
        fs::write(inside("target"), "old").unwrap();
        symlink("target", inside("link")).unwrap();
        symlink("other/new", inside("dangling")).unwrap();
        symlink("dangling", inside("twice")).unwrap();
        write(&inside("link"), b"new");
        write(&inside("twice"), b"made");
        for link in ["link", "dangling", "twice"] {
            assert!(fs::symlink_metadata(inside(link)).unwrap().is_symlink(), "{link}");
        }
        assert_eq!(fs::read(inside("target")).unwrap(), b"new");
        assert_eq!(fs::read(inside("other/new")).unwrap(), b"made");
        assert!(!fs::symlink_metadata(inside("other/new")).unwrap().is_symlink());

        symlink("nowhere/file", inside("lost")).unwrap();
        let error = AtomicFile::create(&inside("lost")).err().unwrap();
        assert!(matches!(error, WriteError::NoDirectory { .. }), "{error}");
        symlink("circle", inside("circle")).unwrap();
        let error = AtomicFile::create(&inside("circle")).err().unwrap();
        assert!(matches!(error, WriteError::Io { .. }), "{error}");
    }

    #[test]
    fn a_device_stays_a_device() {
        let directory = tempfile::tempdir().unwrap();
        // Through a link, so that a mistake here costs the link and not the device.
        let null = directory.path().join("null");
        symlink("/dev/null", &null).unwrap();
        write(&null, b"gone");
        assert!(fs::symlink_metadata(&null).unwrap().is_symlink());
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    }

    #[test]
    fn a_pipe_without_a_reader_is_refused_at_once_and_one_with_a_reader_is_written_to() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        make_pipe(&pipe);
        let start = Instant::now();
        let error = AtomicFile::create(&pipe).err().unwrap();
        assert!(matches!(error, WriteError::NoReader { .. }), "{error}");
        assert!(start.elapsed() < Duration::from_secs(5));

        // More than a pipe holds, so that the writer has to wait for the reader.
        let content = vec![7; 1 << 20];
        let read = thread::scope(|scope| {
            let reader = scope.spawn(|| fs::read(&pipe).unwrap());
            let mut file = loop {
                match AtomicFile::create(&pipe) {
                    Err(WriteError::NoReader { .. }) => thread::yield_now(),
                    other => break other.unwrap(),
                }
            };
            file.write_all(&content).unwrap();
            file.commit().unwrap();
            reader.join().unwrap()
        });
        assert!(read == content);
        assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
    }

    #[test]
    fn a_socket_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let _listener = UnixListener::bind(&path).unwrap();
        let error = AtomicFile::create(&path).err().unwrap();
        assert!(matches!(error, WriteError::Socket { .. }), "{error}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_open_file_of_a_process_is_appended_to_and_not_replaced() {
        use std::os::fd::AsRawFd;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        fs::write(&path, "before ").unwrap();
        let open = fs::File::options().append(true).open(&path).unwrap();
        let link = directory.path().join("stdout");
        symlink(format!("/proc/self/fd/{}", open.as_raw_fd()), &link).unwrap();
        write(&link, b"after");
        assert_eq!(fs::read(&path).unwrap(), b"before after");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }
}

#[test]
fn of_files_that_belong_together_all_appear_or_none() {
    let directory = tempfile::tempdir().unwrap();
    let paths = ["a", "b", "c"].map(|name| directory.path().join(name));
    let begun = || {
        let begin = |path: &std::path::PathBuf| {
            let mut file = AtomicFile::create(path).unwrap();
            file.write_all(b"content").unwrap();
            file
        };
        paths.iter().map(begin).collect::<Vec<_>>()
    };
    let files = begun();
    // In the way of the first file, which comes last.
    fs::create_dir(&paths[0]).unwrap();
    assert!(AtomicFile::commit_all(files).is_err());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "a file of a set is left");
    fs::remove_dir(&paths[0]).unwrap();
    AtomicFile::commit_all(begun()).unwrap();
    assert!(paths.iter().all(|path| fs::read(path).unwrap() == b"content"));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3);
}
