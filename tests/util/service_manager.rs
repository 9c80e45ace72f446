//! A service manager that only listens: it notes what it is told, and expects signs of life if it is told to.

use super::{Options, TempDir};
use crossbeam_channel::{Receiver, unbounded};
use reagent::clock;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// When a test gives up.
const LIMIT: Duration = Duration::from_secs(30);

/// See the module: what it is told, and when.
pub struct ServiceManager {
    pub heard: Receiver<(Duration, String)>,
    _folder: TempDir,
}

impl ServiceManager {
    /// One that starts the agent with `options`; it expects a sign of life within `period`, if that is given.
    pub fn of(options: &mut Options, period: Option<Duration>) -> ServiceManager {
        let folder = TempDir::new("notify");
        let path = folder.join("socket");
        let socket = UnixDatagram::bind(&path).expect("a fresh folder takes a socket");
        ServiceManager::listen(options, socket, path.display().to_string(), period, folder)
    }

    /// [`ServiceManager::of`] with a name that only the kernel knows, after `@`.
    pub fn with_name(options: &mut Options, name: &str) -> ServiceManager {
        let address = SocketAddr::from_abstract_name(name.as_bytes()).expect("a short name");
        let socket = UnixDatagram::bind_addr(&address).expect("nobody has that name");
        ServiceManager::listen(options, socket, format!("@{name}"), None, TempDir::new("unused"))
    }

    fn listen(
        options: &mut Options,
        socket: UnixDatagram,
        address: String,
        period: Option<Duration>,
        folder: TempDir,
    ) -> ServiceManager {
        let env = &mut options.env;
        env.push(("NOTIFY_SOCKET".to_owned(), address));
        env.extend(period.map(|period| ("WATCHDOG_USEC".to_owned(), period.as_micros().to_string())));
        let (tell, heard) = unbounded();
        // A manager without a listener ends this: nobody waits for it longer than that.
        socket.set_read_timeout(Some(LIMIT * 10)).expect("a limit can be set");
        let listen = move || {
            let mut message = [0; 512];
            while let Ok(length) = socket.recv(&mut message)
                && tell.send((clock::mono(), String::from_utf8_lossy(&message[..length]).into_owned())).is_ok()
            {
            }
        };
        reagent::thread::spawn("manager", |_| {}, listen).expect("a thread starts");
        ServiceManager { heard, _folder: folder }
    }

    /// Everything up to the message that begins like this.
    #[track_caller]
    pub fn until(&self, start: &str) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            let Ok((_, message)) = self.heard.recv_timeout(LIMIT) else { panic!("no {start:?} but {seen:?}") };
            let found = message.starts_with(start);
            seen.push(message);
            if found {
                return seen;
            }
        }
    }
}
