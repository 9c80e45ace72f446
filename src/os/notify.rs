//! The notification socket of a service manager, by hand (sd_notify(3)): one datagram per message, and no answer.

use rustix::fd::OwnedFd;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sendto, socket_with};
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

/// Where the manager listens: a path, or a name of the kernel's after `@`.
pub const SOCKET: &str = "NOTIFY_SOCKET";
/// How long it waits for a sign of life, in microseconds.
pub const WATCHDOG_PERIOD: &str = "WATCHDOG_USEC";
/// The process that it waits for.
pub const WATCHDOG_PROCESS: &str = "WATCHDOG_PID";

/// Longest wait for room in the manager's queue.
const PATIENCE: Duration = Duration::from_secs(5);

/// A variable of the environment.
pub type Variable = (&'static str, OsString);

/// Takes the manager's variables out of the environment, so that no child talks to the manager in the agent's name. To be
/// called before there is a second thread; from then on they stay where they are.
#[expect(unsafe_code, reason = "changing the environment is unsafe while another thread may read it")]
pub fn take_variables() -> Vec<Variable> {
    let named = |name| env::var_os(name).filter(|value| !value.is_empty()).map(|value| (name, value));
    let found: Vec<Variable> = [SOCKET, WATCHDOG_PERIOD, WATCHDOG_PROCESS].into_iter().filter_map(named).collect();
    if !found.is_empty() && threads() == Some(1) {
        for (name, _) in &found {
            // SAFETY: this thread is the only one, as the kernel has just said, so nothing reads the environment meanwhile.
            unsafe { env::remove_var(name) };
        }
    }
    found
}

fn threads() -> Option<usize> {
    fs::read_dir("/proc/self/task").ok().map(Iterator::count)
}

/// The way to the manager.
#[derive(Debug)]
pub struct Notifier {
    socket: OwnedFd,
    address: SocketAddrUnix,
}

impl Notifier {
    /// Prepares to send to the address of [`SOCKET`]. Nobody has to listen there yet.
    ///
    /// # Errors
    /// It is neither a path nor a name, or it is too long; no descriptor is free.
    pub fn open(address: &OsStr) -> io::Result<Notifier> {
        let address = match address.as_bytes() {
            path @ [b'/', ..] => SocketAddrUnix::new(path)?,
            [b'@', name @ ..] if !name.is_empty() => abstract_name(name)?,
            _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a path nor a name after @")),
        };
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
        Ok(Notifier { socket, address })
    }

    /// Sends a message; waits up to five seconds while the manager's queue is full.
    ///
    /// # Errors
    /// Nobody listens, or the queue stayed full.
    pub fn send(&self, message: &str) -> io::Result<()> {
        self.send_with(message, SendFlags::NOSIGNAL)
    }

    /// Sends a message if there is room for it now.
    ///
    /// # Errors
    /// As [`Notifier::send`]; [`io::ErrorKind::WouldBlock`] while the queue is full.
    pub fn try_send(&self, message: &str) -> io::Result<()> {
        self.send_with(message, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
    }

    fn send_with(&self, message: &str, flags: SendFlags) -> io::Result<()> {
        loop {
            match sendto(&self.socket, message.as_bytes(), flags, &self.address) {
                Err(rustix::io::Errno::INTR) => {}
                sent => return sent.map(drop).map_err(io::Error::from),
            }
        }
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn abstract_name(name: &[u8]) -> io::Result<SocketAddrUnix> {
    SocketAddrUnix::new_abstract_name(name).map_err(io::Error::from)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn abstract_name(_name: &[u8]) -> io::Result<SocketAddrUnix> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "this system has no such names"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::scratch::Scratch;
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    use std::process::Command;

    fn received(manager: &UnixDatagram) -> String {
        let mut message = [0; 256];
        let length = manager.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..length]).into_owned()
    }

    #[test]
    fn a_message_is_one_datagram_to_a_path_or_to_a_name() {
        let scratch = Scratch::new();
        let path = scratch.join("notify");
        let name = format!("reagent-test-{}-notify", std::process::id());
        let by_path = UnixDatagram::bind(&path).unwrap();
        let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name.as_bytes()).unwrap()).unwrap();
        for (manager, address) in [(by_path, path.into_os_string()), (by_name, format!("@{name}").into())] {
            let notifier = Notifier::open(&address).unwrap();
            notifier.send("READY=1\nSTATUS=fine").unwrap();
            notifier.try_send("WATCHDOG=1").unwrap();
            assert_eq!(received(&manager), "READY=1\nSTATUS=fine", "{address:?}");
            assert_eq!(received(&manager), "WATCHDOG=1", "{address:?}");
        }
    }

    #[test]
    fn a_manager_that_does_not_read_is_not_waited_for_by_who_cannot_wait() {
        let scratch = Scratch::new();
        let path = scratch.join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::open(path.as_os_str()).unwrap();
        let full = (0..100_000).find_map(|_| notifier.try_send("STATUS=again").err()).unwrap();
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        drop(manager);
        assert!(notifier.send("READY=1").is_err(), "nobody listens any more");
    }

    #[test]
    fn an_address_that_is_none_is_refused() {
        for address in ["", "@", "vsock:2:1234", "relative", &format!("/{}", "x".repeat(200))] {
            assert!(Notifier::open(OsStr::new(address)).is_err(), "{address:?}");
        }
    }

    #[test]
    fn the_variables_go_from_the_environment_before_there_is_a_second_thread_and_stay_after_that() {
        // In a process of its own. The test harness has a thread more, so this one is not alone and may not touch them.
        const CHILD: &str = "REAGENT_TEST_NOTIFY";
        if env::var_os(CHILD).is_some() {
            let taken = take_variables();
            assert_eq!(taken, [(SOCKET, "/none".into()), (WATCHDOG_PERIOD, "5".into())]);
            assert!(threads() > Some(1) && env::var_os(SOCKET).is_some());
            return;
        }
        let output = Command::new(env::current_exe().unwrap())
            .arg("--exact")
            .arg("os::notify::tests::the_variables_go_from_the_environment_before_there_is_a_second_thread_and_stay_after_that")
            .env(CHILD, "1")
            .envs([(SOCKET, "/none"), (WATCHDOG_PERIOD, "5"), (WATCHDOG_PROCESS, "")])
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && told.contains("1 passed"), "{told}");
    }
}
