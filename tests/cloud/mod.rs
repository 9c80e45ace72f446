//! The local cloud: a small but correct WAMP router and the backend of the platform, for `make run` and for tests.
//!
//! [`router`] listens and owns a [`realm`]; [`peer`] is a WAMP client written without the agent's code, so that the two
//! check each other; [`backend`] is the peer that answers what the agent calls. The same tests run against the real
//! Crossbar.

#![allow(dead_code, reason = "the program and the tests use different halves")]

pub mod backend;
pub mod broker;
pub mod cra;
pub mod dealer;
pub mod flock;
pub mod peer;
pub mod platform;
pub mod realm;
pub mod router;
pub mod wanted;
pub mod wire;

use backend::Backend;
use flock::{Identity, USER_SECRET};
use peer::{Failure, Login, Peer};
use reagent::clock;
use router::Router;
use std::time::Duration;

#[cfg(test)]
mod backend_tests;
#[cfg(test)]
mod router_tests;

/// A router with a backend for one device.
pub struct Cloud {
    // The backend's session ends before the router does.
    pub backend: Backend,
    pub router: Router,
    /// `host:port` of the registry for the `.flock`.
    pub registry: String,
}

impl Cloud {
    /// Starts both on a loopback port, 0 for a free one.
    pub fn start(port: u16, registry: &str) -> Result<Cloud, Failure> {
        let identity = Identity::generated();
        let router = Router::start(port, identity.users()).map_err(|error| Failure::Gone(error.to_string()))?;
        let backend = Backend::start(&router.url(), identity)?;
        Ok(Cloud { backend, router, registry: registry.to_owned() })
    }

    /// The text of the device's `.flock`.
    pub fn flock(&self) -> String {
        format!("{:#}", self.backend.identity.flock(&self.router.url(), &self.registry))
    }

    /// A signed-in user of the front end: account 42 or 43.
    pub fn user(&self, account: &str) -> Result<Peer, Failure> {
        Peer::join(&Login::new(&self.router.url(), account, USER_SECRET))
    }

    /// The router dies and forgets everything; see [`Router::go_down`].
    pub fn go_down(&mut self) {
        self.router.go_down();
    }

    /// The router is back on its port. Returns once the backend is back, too.
    pub fn come_back(&mut self) -> std::io::Result<()> {
        self.router.come_back()?;
        let deadline = clock::mono() + peer::PATIENCE;
        while clock::mono() < deadline {
            // The router's view counts: the backend may not have noticed that its old session is gone.
            let sessions = self.router.sessions("system");
            if self.backend.session().is_some_and(|session| sessions.contains(&session)) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "the backend did not come back"))
    }
}
