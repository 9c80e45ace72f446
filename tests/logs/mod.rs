//! The log hub against the fake Docker daemon: the containers of a compose project as one log.

mod projects;

use crate::util::docker_daemon::DockerDaemon;
use crate::util::wait_until;
use crossbeam_channel::{Receiver, bounded, unbounded};
use reagent::docker::{Address, Docker};
use reagent::domain::message::LogCommand;
use reagent::logs::{self, Event, Handle, Outflow, Publication};
use reagent::thread::Exit;
use serde_json::{Value, json};
use std::cell::Cell;
use std::time::Duration;

/// How long a test waits for anything.
const LIMIT: Duration = Duration::from_secs(30);

/// A hub in a session, with an engine, and with a viewer of each app.
pub struct Hub {
    handle: Handle,
    published: Receiver<Publication>,
    events: Receiver<Event>,
    exit: Receiver<Exit>,
    token: Cell<u64>,
}

impl Hub {
    pub fn with(daemon: &DockerDaemon) -> Hub {
        Hub::of(Docker::at(Address::from_setting(&daemon.host(), "").expect("the daemon has an address")))
    }

    pub fn of(docker: Docker) -> Hub {
        let ((publications, published), (inbox, events), (exits, exit)) = (unbounded(), unbounded(), bounded(1));
        let publish = move |publication: Option<Publication>| {
            publication.into_iter().for_each(|publication| publications.send(publication).unwrap_or_default());
            Outflow::FREE
        };
        let source = logs::source::of_engine(docker);
        let on_exit = move |exit| exits.send(exit).unwrap_or_default();
        let handle = logs::spawn("serial", source, publish, inbox, |event| event, on_exit).expect("a thread");
        let hub = Hub { handle, published, events, exit, token: Cell::new(0) };
        hub.handle.send(LogCommand::Session { up: true });
        let all = json!({"id": 1, "uri": "reswarm.logs.serial.", "match": "prefix"});
        hub.handle.send(LogCommand::SubscriptionCreated { args: vec![json!(7), all] });
        hub
    }

    pub fn follow(&self, container: &str, project: &str) {
        let (container, project) = (container.to_owned(), Some(project.to_owned()));
        self.handle.send(LogCommand::Follow { container, project });
    }

    pub fn unfollow(&self, container: &str) {
        self.handle.send(LogCommand::Unfollow { container: container.to_owned() });
    }

    /// Lines as viewers get them, until the last one is there.
    #[track_caller]
    pub fn lines_until(&self, last: &str) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        while lines.last().map(String::as_str) != Some(last) {
            match self.published.recv_timeout(LIMIT) {
                Ok(Publication { payload: Value::String(text), .. }) => {
                    lines.extend(text.split('\n').map(str::to_owned));
                }
                Ok(_) => {}
                Err(_) => panic!("{last:?} did not come, but {lines:#?}"),
            }
        }
        lines
    }

    /// The history of an app; every command before it has been obeyed then.
    #[track_caller]
    pub fn history(&self, container: &str) -> Vec<String> {
        let token = self.token.replace(self.token.get() + 1);
        self.handle.send(LogCommand::History { container: container.to_owned(), token });
        loop {
            match self.events.recv_timeout(LIMIT).expect("the history") {
                Event::History { token: of, lines, .. } if of == token => return lines,
                _ => {}
            }
        }
    }

    /// Ends the hub, and waits for it.
    #[track_caller]
    pub fn stop(self) -> Exit {
        self.handle.stop();
        self.exit.recv_timeout(LIMIT).expect("the hub ends")
    }
}

/// How many threads of this process have a name that begins like this.
pub fn threads(name: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("this process");
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|of| of.starts_with(name)).count()
}

/// Waits until so many connections to the daemon are open.
#[track_caller]
fn wait_for_connections(daemon: &DockerDaemon, count: usize) {
    wait_until(LIMIT, &format!("{count} connections"), || (daemon.connections() == count).then_some(()));
}
