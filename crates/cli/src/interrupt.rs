//! Ctrl-C asks the work under way to stop.

use std::ops::ControlFlow;
use std::process;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a shell reports for a program that Ctrl-C has ended: 128 and the signal's number.
pub const EXIT_CODE: u8 = 130;

static ASKED: AtomicBool = AtomicBool::new(false);
static SECOND_ENDS: AtomicBool = AtomicBool::new(true);

/// What Ctrl-C does when it was pressed already and the work has not stopped yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Second {
    /// ends the program
    Ends,
    /// nothing: a chat outlives an impatient user
    Ignored,
}

/// From now on Ctrl-C does not end the program at once.
pub fn listen(second: Second) {
    static LISTEN: Once = Once::new();
    SECOND_ENDS.store(second == Second::Ends, Ordering::Relaxed);
    LISTEN.call_once(|| {
        // Without a handler Ctrl-C ends the program, which is no reason not to start.
        let _ = ctrlc::set_handler(|| {
            if ASKED.swap(true, Ordering::Relaxed) && SECOND_ENDS.load(Ordering::Relaxed) {
                process::exit(EXIT_CODE.into());
            }
        });
    });
}

/// Whether Ctrl-C was pressed since [`reset`].
pub fn is_asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}

/// What a callback of progress returns: breaks after Ctrl-C.
pub fn go_on() -> ControlFlow<()> {
    if is_asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// Starts a new piece of work.
pub fn reset() {
    ASKED.store(false, Ordering::Relaxed);
}
