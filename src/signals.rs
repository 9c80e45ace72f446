//! Signals as events: the thread `signals` reports SIGTERM and SIGINT, and ends the process at the second one.
//!
//! SIGPIPE is ignored by Rust's start-up code already. Children get the default actions back when they are started.

use crate::thread::{self, Exit};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};
use std::io;

/// A signal that asks the process to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal {
    /// 2 for SIGINT, 15 for SIGTERM.
    pub number: i32,
}

/// Ends the thread when it is closed; the signals stay harmless.
#[derive(Debug)]
pub struct Watch(Handle);

impl Watch {
    /// Ends the thread.
    pub fn close(&self) {
        self.0.close();
    }
}

/// Reports the first signal to `on_signal`; from then on a signal exits at once with 130 or 143 (128 and its number),
/// whatever the agent is waiting for. The handlers are in place when this returns.
///
/// # Errors
/// The system refuses the handlers or the thread.
pub fn watch(
    on_signal: impl FnOnce(Signal) + Send + 'static,
    on_exit: impl FnOnce(Exit) + Send + 'static,
) -> io::Result<Watch> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let watch = Watch(signals.handle());
    thread::spawn("signals", on_exit, move || {
        let mut signals = signals.forever();
        if let Some(number) = signals.next() {
            on_signal(Signal { number });
        }
        if let Some(number) = signals.next() {
            exit(128 + number);
        }
    })?;
    Ok(watch)
}

/// Ends the process without exit handlers: they could wait for the very thing that hangs.
pub fn exit(code: i32) -> ! {
    signal_hook::low_level::exit(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Pid, Signal as Kill, kill_process};
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};

    const CHILD: &str = "REAGENT_TEST_SIGNALS";

    #[test]
    fn the_first_signal_is_reported_and_the_second_exits_at_once() {
        if std::env::var_os(CHILD).is_some() {
            let report = |signal: Signal| println!("\ngot {}", signal.number);
            let _watch = watch(report, |_| {}).unwrap();
            println!("\nready");
            // Until the parent is gone.
            io::stdin().lines().for_each(drop);
            return;
        }
        for (kill, number, code) in [(Kill::TERM, 15, 143), (Kill::INT, 2, 130)] {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "signals::tests::the_first_signal_is_reported_and_the_second_exits_at_once"])
                .arg("--nocapture")
                .env(CHILD, "1")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
            // Kept open to the end: `wait` would close it, and the child ends with it.
            let _stdin = child.stdin.take();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
            let ready = lines.any(|line| line == "ready");
            kill_process(pid, kill).unwrap();
            let got = lines.any(|line| line == format!("got {number}"));
            kill_process(pid, kill).unwrap();
            let status = child.wait().unwrap();
            assert!(ready && got, "ready {ready}, got {got}");
            assert_eq!(status.code(), Some(code));
        }
    }

    #[test]
    fn a_closed_watch_ends_its_thread() {
        // In a process of its own, since handlers stay: this one must still end when its user wants it to.
        if std::env::var_os(CHILD).is_some() {
            let (ends, ended) = crossbeam_channel::bounded(1);
            let watch = watch(|_| {}, move |exit| ends.send(exit).unwrap()).unwrap();
            watch.close();
            assert_eq!(ended.recv_timeout(std::time::Duration::from_secs(10)), Ok(Exit::Done));
            return;
        }
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "signals::tests::a_closed_watch_ends_its_thread"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}
