//! The program `lossy`; see the library of the same name.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    lossy::run()
}
