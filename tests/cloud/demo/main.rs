//! `make run`: the local cloud, a registry, the agent and an app, and what happens between them, as it happens.
//!
//! `demo [--seconds N] [--plain] [--agent FILE]`. Ends on Ctrl-C, on SIGTERM, with its terminal, when its reader goes away, or N seconds after
//! the app has answered; then everything that it has started is gone. An agent that was killed is started again, as the
//! service manager of a device does.

#![expect(clippy::print_stderr, reason = "a program for the terminal")]

#[path = "../mod.rs"]
mod cloud;
#[allow(dead_code, reason = "the measurement uses another half")]
mod parts;
mod screen;
mod story;
#[path = "../../util/temp_dir.rs"]
mod temp_dir;

use cloud::Cloud;
use cloud::peer::Payload;
use cloud::wanted::WantedApp;
use crossbeam_channel::{Receiver, select};
use parts::{Agent, Engine, Registry};
use reagent::{clock, release};
use screen::{Kind, Screen};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use story::{Entry, Story};
use temp_dir::TempDir;

const USAGE: &str = "usage: demo [--seconds N] [--plain] [--agent FILE]";

/// How long the app may take from the start of the agent until it answers.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often the port is tried, the process looked at, and the signals asked for.
const TICK: Duration = Duration::from_millis(20);

/// How long a connection to the app may take.
const CONNECT: Duration = Duration::from_millis(200);

#[derive(Default)]
struct Flags {
    seconds: Option<u64>,
    plain: bool,
    agent: Option<PathBuf>,
}

fn flags(mut words: impl Iterator<Item = String>) -> Option<Flags> {
    let mut flags = Flags::default();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--seconds" => flags.seconds = Some(words.next()?.parse().ok()?),
            "--plain" => flags.plain = true,
            "--agent" => flags.agent = Some(words.next()?.into()),
            _ => return None,
        }
    }
    Some(flags)
}

fn main() -> ExitCode {
    let Some(flags) = flags(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let mut screen = Screen::new(flags.plain);
    let signals = match Signals::new([SIGHUP, SIGINT, SIGTERM]) {
        Ok(signals) => signals,
        Err(error) => {
            eprintln!("demo: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut end = End { signals, asked: false };
    let outcome = Demo::set_up(&flags, &mut screen).and_then(|mut demo| {
        let shown = demo.show(flags.seconds, &mut screen, &mut end);
        demo.tidy_up(&mut screen);
        shown
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // A script that was interrupted together with us.
        Err(_) if end.is_asked() => ExitCode::from(130),
        Err(error) => {
            screen.line(Kind::Error, &error);
            ExitCode::FAILURE
        }
    }
}

/// Whether somebody wants it to end.
struct End {
    signals: Signals,
    asked: bool,
}

impl End {
    fn is_asked(&mut self) -> bool {
        self.asked |= self.signals.pending().next().is_some();
        self.asked
    }
}

/// Everything that runs. The order is that of the end: the agent before what it uses.
struct Demo {
    agent: Agent,
    cloud: Cloud,
    engine: Engine,
    /// Ends by being dropped.
    registry: Registry,
    folder: TempDir,
    app: WantedApp,
    binary: PathBuf,
    story: Story,
}

impl Demo {
    fn set_up(flags: &Flags, screen: &mut Screen) -> Result<Demo, String> {
        screen.title("reagent: a device, its cloud and an app on this machine. Ctrl-C ends it and removes everything.");
        let binary = flags.agent.clone().map_or_else(|| parts::built_agent(None), Ok)?;
        let folder = TempDir::new("demo");
        let mut engine = Engine::ready()?;
        let version = engine.docker(&["version", "--format", "{{.Server.Version}}"])?;
        let whose = if engine.is_ours() { "started for this demonstration" } else { "was running" };
        screen.line(Kind::Setup, &format!("Docker Engine {version} ({whose})"));
        if engine.docker(&["info", "--format", "{{.DefaultRuntime}}"])? == "bounded" {
            let wrapper = "containers run by tests/env/runc-bounded, since this machine lacks CAP_SYS_RESOURCE";
            screen.line(Kind::Setup, wrapper);
        }
        let registry = Registry::start(&folder)?;
        let app = WantedApp::new(501, "demo").port(8080, "http").env("GREETING", "hello");
        engine.own(&[app.container()], &registry.address())?;
        screen.line(Kind::Setup, &format!("registry at {}, the app's image is being pushed", registry.address()));
        registry.push(&app.image(release::ARCH), &app.version, "big")?;
        let cloud = Cloud::start(0, &registry.address()).map_err(|failure| format!("{failure:?}"))?;
        screen.line(Kind::Setup, &format!("cloud at {}", cloud.router.url()));
        cloud.backend.want(app.clone());
        parts::write_flock(folder.path(), &cloud.flock())?;
        let agent = Agent::start(&binary, folder.path())?;
        let text = format!("agent {}, process {}, files in {}", release::VERSION, agent.pid(), folder.path().display());
        screen.line(Kind::Setup, &text);
        Ok(Demo { agent, cloud, engine, registry, folder, app, binary, story: Story::default() })
    }

    fn show(&mut self, seconds: Option<u64>, screen: &mut Screen, end: &mut End) -> Result<(), String> {
        let logs = self.cloud.backend.subscribe_logs(&self.app.container());
        let patience = clock::mono() + PATIENCE;
        let mut answered = None;
        let mut seen = 0;
        while !end.is_asked() && !screen.gone() {
            self.next(&mut seen, &logs, screen);
            let now = clock::mono();
            match (answered, seconds) {
                (None, _) => {
                    if let Some((url, text)) = self.visit() {
                        screen.line(Kind::Web, &format!("{url} answers: {text}"));
                        self.hint(screen);
                        answered = Some(now);
                    } else if now > patience {
                        return Err(format!("the app does not answer after {PATIENCE:?}\n{}", self.end_of_log()));
                    }
                }
                (Some(at), Some(seconds)) if now > at + Duration::from_secs(seconds) => break,
                _ => {}
            }
            if let Some(status) = self.agent.ended() {
                if answered.is_none() {
                    return Err(format!("the agent has ended ({status})\n{}", self.end_of_log()));
                }
                screen.line(Kind::Device, &format!("its agent has ended ({status})"));
                self.story.agent_died();
                self.agent = Agent::start(&self.binary, self.folder.path())?;
                let text = format!("started again as a service manager does, process {}", self.agent.pid());
                screen.line(Kind::Setup, &text);
            }
        }
        Ok(())
    }

    /// Shows what has arrived, or waits a little for it.
    fn next(&mut self, seen: &mut usize, logs: &Receiver<Payload>, screen: &mut Screen) {
        let mut entries = Vec::new();
        for call in self.cloud.backend.calls_since(*seen) {
            *seen += 1;
            entries.extend(self.story.call(&call));
        }
        select! {
            recv(logs) -> payload => {
                if let Ok(payload) = payload {
                    entries.extend(self.story.log(&payload));
                }
            }
            // A closed pipe is always ready: the end of the process is seen elsewhere.
            recv(self.agent.lines) -> line => match line {
                Ok(line) if !line.trim().is_empty() => entries.push(Entry::Line(Kind::Agent, line)),
                Ok(_) => {}
                Err(_) => std::thread::sleep(TICK),
            },
            default(TICK) => {}
        }
        for entry in entries {
            match entry {
                Entry::Line(kind, text) => screen.line(kind, &text),
                Entry::Progress { current, total } => screen.progress(current, total),
                Entry::Pulled(text) => screen.done(&text),
            }
        }
    }

    /// The app's first page, once it runs and its port is known.
    fn visit(&self) -> Option<(String, String)> {
        let port = self.story.host_port.filter(|_| self.story.state == "RUNNING")?;
        let mut stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), CONNECT).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.take(65_536).read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let ok = head.lines().next()?.contains(" 200 ");
        ok.then(|| (format!("http://127.0.0.1:{port}/"), body.trim().to_owned()))
    }

    fn hint(&self, screen: &mut Screen) {
        let (pid, container) = (self.agent.pid(), self.app.container());
        screen.line(Kind::Hint, &format!("kill -9 {pid}: the app runs on, the next agent finds it"));
        screen.line(Kind::Hint, &format!("docker kill {container}: the agent notices and starts it again"));
    }

    /// The app is uninstalled by the agent, the agent ends; what they leave is removed by force, and said.
    fn tidy_up(mut self, screen: &mut Screen) {
        screen.line(Kind::Setup, "ending: the cloud asks for the app to be uninstalled");
        let mark = self.cloud.backend.mark();
        let mut seen = mark;
        let asked =
            self.story.connected() && self.cloud.backend.request_target(self.app.app_key, "UNINSTALLED").is_ok();
        let deadline = clock::mono() + Duration::from_secs(30);
        let logs = crossbeam_channel::never();
        while asked && self.story.state != "UNINSTALLED" && self.agent.ended().is_none() && clock::mono() < deadline {
            self.next(&mut seen, &logs, screen);
        }
        let Demo { mut agent, cloud, engine, registry, folder, .. } = self;
        match agent.stop(Duration::from_secs(12)) {
            Some(status) => screen.line(Kind::Setup, &format!("the agent has ended ({status})")),
            None => screen.line(Kind::Error, "the agent does not end on SIGTERM, it is killed"),
        }
        drop(agent);
        let (containers, images) = engine.leftovers();
        for left in containers.iter().chain(&images) {
            screen.line(Kind::Error, &format!("the agent has left {left}, it is removed"));
        }
        engine.clear();
        let rest = engine.leftovers();
        drop((cloud, registry, engine, folder));
        if rest == (Vec::new(), Vec::new()) {
            screen.line(Kind::Setup, "no container, image, process or file of this demonstration is left");
        } else {
            screen.line(Kind::Error, &format!("could not be removed: {rest:?}"));
        }
    }

    fn end_of_log(&self) -> String {
        let log = std::fs::read_to_string(parts::log(self.folder.path())).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}
