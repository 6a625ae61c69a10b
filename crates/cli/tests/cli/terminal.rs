//! The program on a pseudo-terminal, as somebody sits before it: keys in, and what appears on the screen.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::Child;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use pty_process::Size;
use pty_process::blocking::{Command, open};

use crate::program::Home;

/// Nothing takes a minute, even on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(180);

pub const UP: &str = "\x1b[A";
pub const LEFT: &str = "\x1b[D";
pub const BACKSPACE: &str = "\x7f";
pub const ENTER: &str = "\r";
pub const CTRL_C: &str = "\x03";
pub const CTRL_D: &str = "\x04";

/// What the line editor writes when it is ready for keys: pasted text is to be marked.
const READY: &str = "\x1b[?2004h";

/// A program on a terminal of 100 columns.
pub struct Terminal {
    child: Child,
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    /// everything so far
    shown: Vec<u8>,
    /// bytes of `shown` before which nothing is looked for any more
    n_read: usize,
}

impl Terminal {
    /// Starts `lossy ARGS`.
    pub fn start(home: &Home, args: &[&str]) -> Terminal {
        let (pty, pts) = open().expect("a pseudo-terminal");
        pty.resize(Size::new(40, 100)).expect("its size can be set");
        let command = Command::new(env!("CARGO_BIN_EXE_lossy")).env_clear().envs(home.variables());
        let command = command.env("TERM", "xterm").current_dir(home.path()).args(args);
        let child = command.spawn(pts).expect("the program starts");
        let keyboard = File::from(OwnedFd::from(pty));
        let mut output = keyboard.try_clone().expect("a second handle");
        let (sender, screen) = channel();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            // A terminal whose program has ended is an error to read from.
            while let Ok(n @ 1..) = output.read(&mut bytes) {
                if sender.send(bytes[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        Terminal { child, keyboard, screen, shown: Vec::new(), n_read: 0 }
    }

    /// Waits for `text`; returns what was shown before it since the last call.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let new = &self.shown[self.n_read..];
            if let Some(at) = new.windows(text.len()).position(|window| window == text.as_bytes()) {
                let before = String::from_utf8_lossy(&new[..at]).into_owned();
                self.n_read += at + text.len();
                return before;
            }
            match self.screen.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.shown.extend(bytes),
                Err(error) => panic!("no {text:?}: {error}; shown was {:?}", self.everything()),
            }
        }
    }

    /// Waits until a message can be typed; returns what was shown before since the last call.
    #[track_caller]
    pub fn wait_for_prompt(&mut self) -> String {
        let before = self.wait_for(READY);
        self.wait_for("> ");
        before
    }

    /// Presses keys.
    pub fn press(&mut self, keys: &str) {
        self.press_bytes(keys.as_bytes());
    }

    /// Sends bytes that no key has.
    pub fn press_bytes(&mut self, bytes: &[u8]) {
        self.keyboard.write_all(bytes).expect("the program reads the keys");
    }

    /// Types a line once the program is ready for it.
    #[track_caller]
    pub fn type_line(&mut self, line: &str) {
        self.wait_for_prompt();
        self.press(line);
        self.press(ENTER);
    }

    /// Waits for the end of the program; returns its exit code.
    #[track_caller]
    pub fn end(mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Read on, lest the program waits for its terminal.
            match self.screen.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.shown.extend(bytes),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
                Err(_) => panic!("the program does not end; shown was {:?}", self.everything()),
            }
        }
        self.child.wait().expect("the program's status").code()
    }

    /// All that was shown.
    pub fn everything(&self) -> String {
        String::from_utf8_lossy(&self.shown).into_owned()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It has ended already if the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
