//! Ctrl-C and SIGTERM ask the work under way to stop.

use std::ops::ControlFlow;
use std::process;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// What a shell reports for a program that Ctrl-C has ended: 128 and the signal's number.
const CTRL_C: u8 = 130;
/// The same for SIGTERM.
#[cfg(unix)]
const TERMINATED: u8 = 143;

static ASKED: AtomicBool = AtomicBool::new(false);
static SECOND_ENDS: AtomicBool = AtomicBool::new(true);
static CODE: AtomicU8 = AtomicU8::new(CTRL_C);

/// What Ctrl-C does when it was pressed already and the work has not stopped yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Second {
    /// ends the program
    Ends,
    /// nothing: a chat outlives an impatient user
    Ignored,
}

/// From now on Ctrl-C and SIGTERM do not end the program at once; but SIGTERM does in a chat, which would go on.
pub fn listen(second: Second) {
    static LISTEN: Once = Once::new();
    SECOND_ENDS.store(second == Second::Ends, Ordering::Relaxed);
    LISTEN.call_once(|| {
        // Without a handler a signal ends the program, which is no reason not to start.
        let _ = ctrlc::set_handler(|| {
            if ASKED.swap(true, Ordering::Relaxed) && SECOND_ENDS.load(Ordering::Relaxed) {
                process::exit(CTRL_C.into());
            }
        });
        #[cfg(unix)]
        if let Ok(mut signals) = signal_hook::iterator::Signals::new([signal_hook::consts::SIGTERM]) {
            std::thread::spawn(move || {
                for _ in signals.forever() {
                    CODE.store(TERMINATED, Ordering::Relaxed);
                    if ASKED.swap(true, Ordering::Relaxed) || !SECOND_ENDS.load(Ordering::Relaxed) {
                        process::exit(TERMINATED.into());
                    }
                }
            });
        }
    });
}

/// Whether a signal came since [`reset`].
pub fn is_asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}

/// The exit code of a program that a signal has stopped.
pub fn exit_code() -> u8 {
    CODE.load(Ordering::Relaxed)
}

/// Is ready when a signal has come.
pub async fn asked() {
    // Signals come rarely, and a tenth of a second is soon enough.
    while !is_asked() {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// What a callback of progress returns: breaks after a signal.
pub fn go_on() -> ControlFlow<()> {
    if is_asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// Starts a new piece of work after Ctrl-C. A program that is to end stays so.
pub fn reset() {
    ASKED.store(exit_code() != CTRL_C, Ordering::Relaxed);
}
