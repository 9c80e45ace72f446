//! How the agent is doing, in one line for `systemctl status`: connected or not and why, and an engine that is away.
//!
//! Kept by the state thread, which hears of everything. A line is sent when it differs from the one before.

use super::Service;
use crate::{docker, wamp};

/// The line, and what it is made of.
#[derive(Debug)]
pub struct Status {
    service: Service,
    endpoint: String,
    link: Link,
    /// Why the engine is not reachable.
    engine: Option<String>,
    sent: String,
}

#[derive(Debug)]
enum Link {
    Offline,
    Connecting,
    Connected,
    Lost(String),
}

impl Status {
    /// Of an agent that is about to connect to `endpoint`, or is not, being told so by `-offline`. `None` if nobody wants to
    /// know.
    pub fn of(service: &Service, endpoint: &str, offline: bool) -> Option<Status> {
        let link = if offline { Link::Offline } else { Link::Connecting };
        let (service, endpoint) = (service.clone(), endpoint.to_owned());
        service.is_there().then(|| Status { service, endpoint, link, engine: None, sent: String::new() })
    }

    /// Something happened to the session.
    pub fn on_wamp(&mut self, event: &wamp::Event) {
        match event {
            wamp::Event::Joined { .. } => self.link = Link::Connected,
            wamp::Event::AttemptFailed { reason, .. } | wamp::Event::Left { reason, .. } => {
                self.link = Link::Lost(reason.clone());
            }
            _ => {}
        }
    }

    /// Something happened to the engine.
    pub fn on_docker(&mut self, event: &docker::events::Event) {
        match event {
            docker::events::Event::Up { .. } => self.engine = None,
            docker::events::Event::Down { reason } => self.engine = Some(reason.to_string()),
            docker::events::Event::Container(_) => {}
        }
    }

    /// Tells the manager, if there is something new.
    pub fn tell(&mut self) {
        let text = self.text();
        if text != self.sent && self.service.try_status(&text) {
            self.sent = text;
        }
    }

    fn text(&self) -> String {
        let link = match &self.link {
            Link::Offline => "not connecting, as -offline asks".to_owned(),
            Link::Connecting => format!("connecting to {}", self.endpoint),
            Link::Connected => format!("connected to {}", self.endpoint),
            Link::Lost(reason) => format!("not connected, trying again: {reason}"),
        };
        match &self.engine {
            None => link,
            Some(reason) => format!("{link}; {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::notify::SOCKET;
    use crate::os::scratch::Scratch;
    use std::io::ErrorKind;
    use std::os::unix::net::UnixDatagram;
    use std::time::Duration;

    #[test]
    fn every_change_is_told_once() {
        let scratch = Scratch::new();
        let path = scratch.join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_nonblocking(true).unwrap();
        let (service, _) = Service::new(vec![(SOCKET, path.into_os_string())], 1);
        let told = || {
            let mut message = [0; 256];
            match manager.recv(&mut message) {
                Ok(length) => String::from_utf8_lossy(&message[..length]).into_owned(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => String::new(),
                Err(error) => panic!("{error}"),
            }
        };
        let mut status = Status::of(&service, "ws://router/ws", false).unwrap();
        let lost = |reason: &str| wamp::Event::Left { generation: 1, reason: reason.to_owned() };
        let failed = |attempt| wamp::Event::AttemptFailed {
            attempt,
            reason: "refused".to_owned(),
            retry_in: Duration::from_secs(attempt),
        };
        let down = docker::events::Event::Down { reason: docker::Error::Unreachable("no socket".to_owned()) };
        let mut expect = |change: &dyn Fn(&mut Status), text: &str| {
            change(&mut status);
            status.tell();
            assert_eq!(told(), text);
            status.tell();
            assert_eq!(told(), "", "it is told once");
        };
        expect(&|_| {}, "STATUS=connecting to ws://router/ws");
        expect(&|status| status.on_wamp(&failed(1)), "STATUS=not connected, trying again: refused");
        expect(&|status| status.on_wamp(&failed(2)), "");
        let joined = wamp::Event::Joined { generation: 1, session: 5 };
        expect(&|status| status.on_wamp(&joined), "STATUS=connected to ws://router/ws");
        let away = docker::Error::Unreachable("no socket".to_owned());
        expect(&|status| status.on_docker(&down), &format!("STATUS=connected to ws://router/ws; {away}"));
        expect(
            &|status| status.on_wamp(&lost("no pong")),
            &format!("STATUS=not connected, trying again: no pong; {away}"),
        );
        let up = docker::events::Event::Up {
            api_version: docker::ApiVersion { major: 1, minor: 41 },
            server_version: "20.10".to_owned(),
        };
        expect(&|status| status.on_docker(&up), "STATUS=not connected, trying again: no pong");
    }

    #[test]
    fn without_a_manager_nothing_is_kept() {
        assert!(Status::of(&Service::default(), "ws://router/ws", false).is_none());
    }
}
