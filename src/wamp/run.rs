//! The `wamp` thread: waits for commands, bytes, room for events and deadlines, and lets the pure parts decide.
//!
//! It blocks in one place (`wait`), and for the socket's write timeout at most in writes. Events go into a queue of its
//! own and from there to the users as they have room, so a user that does not keep up holds back the reading of further
//! messages, and never a pong or a ping that is due.
//! Order of a turn: events out, commands, frames in, deadlines, then a little bulk.

use crate::cancel::{Cancel, Guard};
use crate::clock;
use crate::net::proxy::Variables;
use crate::wamp::dial::{Dialer, Failure, Next};
use crate::wamp::endpoint::{self, Target};
use crate::wamp::handshake::{Handshake, Progress};
use crate::wamp::lane::Outlet;
use crate::wamp::pump::{self, Pumped};
use crate::wamp::session::{self, End, Milestone, Output, Session};
use crate::wamp::socket::{Frame, Socket};
use crate::wamp::{Command, Declaration, Event, Phase, Settings, message};
use crossbeam_channel::{Receiver, Select, SendTimeoutError, Sender, TryRecvError, TrySendError};
use log::{debug, info, log, warn};
use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// More than this waiting for the users, and nothing further is read.
const MAX_EVENTS: usize = 4096;
const MAX_EVENT_BYTES: usize = 8 * 1024 * 1024;
const EVENT_OVERHEAD: usize = 128;
/// Commands and frames of one turn, so that neither starves the other.
const COMMANDS_PER_TURN: usize = 256;
const FRAMES_PER_TURN: usize = 256;
/// Distance between two looks at how much bulk is under way.
const BULK_RETRY: Duration = Duration::from_millis(20);
/// Distance between two looks at whether more of what waits can be written.
const WRITE_RETRY: Duration = Duration::from_millis(10);
/// Dials whose name lookup hangs, at most; each holds a thread until the resolver gives up.
const HANGING_LOOKUPS: usize = 4;
/// What the users get to take the last events.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Everything the thread owns.
pub(super) struct Runner<T> {
    commands: Receiver<Command>,
    bulk: Outlet,
    events: Sender<T>,
    wrap: fn(Event) -> T,
    cancel: Cancel,
    variables: Variables,
    queue: VecDeque<(T, usize)>,
    queued_bytes: usize,
    settings: Settings,
    declared: BTreeMap<Declaration, Phase>,
    dialer: Dialer,
    generation: u64,
    joined_before: bool,
    redial: bool,
    stopping: bool,
    lookups: Arc<()>,
    link: Link,
    /// Frames may be waiting although the pump's channel is empty.
    unread: bool,
    bulk_at: Option<Duration>,
}

/// The way to the router.
enum Link {
    Waiting { until: Duration },
    Connecting { dial: Dial, target: Target, input: Receiver<Pumped> },
    Opening { dial: Dial, handshake: Handshake, guard: Guard },
    Up { socket: Socket, session: Box<Session>, _guard: Guard },
    Over,
}

#[derive(Clone, Copy)]
struct Dial {
    began: Duration,
    bound: Duration,
}

impl Dial {
    fn is_over(self, now: Duration) -> bool {
        self.began.saturating_add(self.bound) <= now
    }

    fn timeout(self, target: &Target) -> String {
        target.reason(&format!("no connection within {} ms", self.bound.as_millis()))
    }
}

impl<T> Runner<T> {
    pub(super) fn new(
        settings: Settings,
        commands: Receiver<Command>,
        bulk: Outlet,
        events: Sender<T>,
        wrap: fn(Event) -> T,
        cancel: Cancel,
        variables: Variables,
    ) -> Runner<T> {
        Runner {
            commands,
            bulk,
            events,
            wrap,
            cancel,
            variables,
            queue: VecDeque::new(),
            queued_bytes: 0,
            settings,
            declared: BTreeMap::new(),
            dialer: Dialer::new(),
            generation: 0,
            joined_before: false,
            redial: false,
            stopping: false,
            lookups: Arc::new(()),
            link: Link::Waiting { until: Duration::ZERO },
            unread: false,
            bulk_at: None,
        }
    }

    /// Until stopped, given up, or abandoned by its users.
    pub(super) fn run(mut self) {
        while !matches!(self.link, Link::Over) {
            self.wait();
            if self.cancel.is_cancelled() {
                break;
            }
            self.deliver();
            self.take_commands();
            self.take_bytes();
            self.take_deadline();
            self.send_bulk();
        }
        self.link = Link::Over;
        self.bulk.set_open(false);
        let patience = clock::mono() + LAST_WORDS;
        while let Some((event, _)) = self.queue.pop_front() {
            let left = patience.saturating_sub(clock::mono());
            if let Err(SendTimeoutError::Timeout(_) | SendTimeoutError::Disconnected(_)) =
                self.events.send_timeout(event, left)
            {
                return debug!("nobody takes the last {} events", self.queue.len() + 1);
            }
        }
    }

    fn wait(&mut self) {
        let deadline = match &self.link {
            Link::Waiting { until } => *until,
            Link::Connecting { dial, .. } | Link::Opening { dial, .. } => dial.began.saturating_add(dial.bound),
            Link::Up { socket, session, .. } => {
                let retry = if socket.is_behind() { clock::mono() + WRITE_RETRY } else { Duration::MAX };
                let look = if self.bulk.is_busy() { clock::mono() + BULK_RETRY } else { Duration::MAX };
                session.deadline().min(self.bulk_at.unwrap_or(Duration::MAX)).min(retry).min(look)
            }
            Link::Over => return,
        };
        let holding_back = self.holding_back();
        let mut select = Select::new();
        select.recv(&self.commands);
        match &self.link {
            Link::Connecting { input, .. } => drop(select.recv(input)),
            Link::Opening { handshake, .. } => drop(select.recv(handshake.input())),
            Link::Up { socket, .. } if !holding_back => drop(select.recv(socket.input())),
            Link::Up { .. } | Link::Waiting { .. } | Link::Over => {}
        }
        let takes_bulk = self.takes_bulk();
        if takes_bulk {
            for input in self.bulk.inputs() {
                select.recv(input);
            }
        }
        if !self.queue.is_empty() {
            select.send(&self.events);
        }
        let now = clock::mono();
        let at_once = self.unread && !holding_back || takes_bulk && self.bulk.has_taken();
        let timeout = if at_once { Duration::ZERO } else { deadline.saturating_sub(now) };
        // An error is the timeout; what is ready is looked at in any case.
        let _ = select.ready_timeout(timeout.min(Duration::from_secs(3600)));
    }

    /// Whether the users must catch up before anything further is read.
    fn holding_back(&self) -> bool {
        self.queue.len() >= MAX_EVENTS || self.queued_bytes >= MAX_EVENT_BYTES
    }

    /// Hands an event on; `bytes` is the size of what it came from.
    fn emit(&mut self, event: Event, bytes: usize) {
        let bytes = bytes + EVENT_OVERHEAD;
        self.queued_bytes += bytes;
        self.queue.push_back(((self.wrap)(event), bytes));
    }

    fn deliver(&mut self) {
        while let Some((event, bytes)) = self.queue.pop_front() {
            self.queued_bytes -= bytes;
            match self.events.try_send(event) {
                Ok(()) => {}
                Err(TrySendError::Full(event)) => {
                    self.queued_bytes += bytes;
                    return self.queue.push_front((event, bytes));
                }
                Err(TrySendError::Disconnected(_)) => {
                    (self.queue, self.queued_bytes) = (VecDeque::new(), 0);
                    return self.stop();
                }
            }
        }
    }

    fn take_commands(&mut self) {
        for _ in 0..COMMANDS_PER_TURN {
            match self.commands.try_recv() {
                Ok(command) => self.on_command(command),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    self.commands = crossbeam_channel::never();
                    self.stop();
                }
            }
        }
        self.settle(0);
    }

    fn on_command(&mut self, command: Command) {
        match &command {
            Command::Configure(settings) => return self.settings = settings.clone(),
            Command::Probe(_) => return,
            Command::Declare { entry, phase } => drop(self.declared.insert(entry.clone(), *phase)),
            Command::Withdraw(entry) => drop(self.declared.remove(entry)),
            Command::Redial { .. } if matches!(self.link, Link::Up { .. }) => self.redial = true,
            Command::Redial { .. } if !self.stopping => {
                return self.link = Link::Waiting { until: Duration::ZERO };
            }
            Command::Stop => return self.stop(),
            _ => {}
        }
        if let Link::Up { session, .. } = &mut self.link {
            session.on_command(clock::mono(), command);
        } else if let Some(refusal) = session::refuse(command) {
            self.emit(refusal, 0);
        }
    }

    fn stop(&mut self) {
        self.stopping = true;
        match &mut self.link {
            Link::Up { session, .. } => session.on_command(clock::mono(), Command::Stop),
            link => *link = Link::Over,
        }
    }

    fn take_bytes(&mut self) {
        match std::mem::replace(&mut self.link, Link::Over) {
            Link::Connecting { dial, target, input } => match input.try_recv() {
                Ok(Pumped::Connected(tcp)) => self.connected(dial, target, tcp, input),
                Ok(Pumped::Bytes(_) | Pumped::End(None)) | Err(TryRecvError::Disconnected) => {
                    self.failed(Failure::Other, target.reason("the connection ended at once"));
                }
                Ok(Pumped::End(Some(reason))) => {
                    self.failed(Failure::Other, target.reason(&format!("connect: {reason}")));
                }
                Err(TryRecvError::Empty) => self.link = Link::Connecting { dial, target, input },
            },
            Link::Opening { dial, handshake, guard } => self.progressed(dial, handshake.advance(), guard),
            link => {
                self.link = link;
                self.take_frames();
            }
        }
    }

    fn take_frames(&mut self) {
        for frame in 0.. {
            let holding_back = self.holding_back();
            let Link::Up { socket, session, .. } = &mut self.link else { return };
            if holding_back || frame == FRAMES_PER_TURN {
                self.unread = true;
                break;
            }
            match socket.read() {
                Ok(None) => {
                    self.unread = false;
                    break;
                }
                Ok(Some(frame)) => {
                    session.on_frame();
                    let bytes = match frame {
                        Frame::Text(text) => {
                            match message::decode(&text) {
                                Ok(message) => session.on_message(clock::mono(), message),
                                Err(error) => warn!("a frame of the router is skipped: {error}"),
                            }
                            text.len()
                        }
                        Frame::Unusable(kind) => {
                            warn!("a frame of the router is skipped: {kind}");
                            0
                        }
                        Frame::Control => 0,
                    };
                    self.settle(bytes);
                }
                Err(error) => {
                    session.on_closed(error.to_string());
                    break;
                }
            }
        }
        self.settle(0);
        self.write(Socket::flush); // a pong that no further read has flushed
        self.settle(0);
    }

    fn take_deadline(&mut self) {
        let now = clock::mono();
        let holding_back = self.holding_back();
        match &mut self.link {
            Link::Waiting { until } if *until <= now => self.dial(now),
            Link::Connecting { dial, target, .. } if dial.is_over(now) => {
                let reason = dial.timeout(target);
                self.failed(Failure::ConnectTimeout, reason);
            }
            Link::Opening { dial, handshake, .. } if dial.is_over(now) => {
                let reason = dial.timeout(handshake.target());
                self.failed(Failure::ConnectTimeout, reason);
            }
            Link::Up { session, .. } => {
                if holding_back {
                    session.on_held_back(now);
                }
                if session.deadline() <= now {
                    session.on_deadline(now);
                    self.settle(0);
                }
                if self.bulk_at.is_some_and(|at| at <= now) {
                    self.bulk_at = None;
                }
                if matches!(&self.link, Link::Up { socket, .. } if socket.is_behind()) {
                    self.write(Socket::flush);
                    self.settle(0);
                }
            }
            _ => {}
        }
    }

    /// Whether bulk can be written now.
    fn takes_bulk(&self) -> bool {
        let is_open =
            matches!(&self.link, Link::Up { socket, session, .. } if session.is_open() && !socket.is_behind());
        is_open && self.bulk_at.is_none()
    }

    /// Writes a little bulk, if what was written before is on its way.
    fn send_bulk(&mut self) {
        let Link::Up { socket, .. } = &self.link else { return };
        if self.bulk.is_empty() && !self.bulk.is_busy() {
            return;
        }
        let now = clock::mono();
        let mut allowed = self.bulk.look(now, socket.backlog());
        let mut written = false;
        while self.takes_bulk() && !self.bulk.is_empty() {
            if allowed == 0 {
                self.bulk_at = Some(now + BULK_RETRY);
                break;
            }
            let Some(entry) = self.bulk.pop() else { break };
            let Link::Up { session, .. } = &mut self.link else { break };
            if let Some(text) = session.bulk_frame(entry.topic, entry.args) {
                allowed = allowed.saturating_sub(text.len());
                written = true;
                self.write_text(text);
            }
        }
        if written {
            self.write(Socket::flush);
            self.settle(0);
        }
    }

    /// Does what the session wants done; `bytes` is the size of the frame that caused it.
    fn settle(&mut self, bytes: usize) {
        let mut written = false;
        loop {
            let Link::Up { session, .. } = &mut self.link else { return };
            let outputs = session.outputs();
            if outputs.is_empty() {
                if !written {
                    return;
                }
                self.write(Socket::flush);
                written = false;
            }
            for output in outputs {
                match output {
                    Output::Send(text) => {
                        written = true;
                        self.write_text(text);
                    }
                    Output::Ping => {
                        written = true;
                        self.write(Socket::ping);
                    }
                    Output::Close => self.write(|socket| {
                        socket.close();
                        Ok(())
                    }),
                    Output::Reached(Milestone::Welcomed) => self.dialer.welcomed(),
                    Output::Reached(Milestone::Claimed) => self.dialer.presence_answered(true),
                    Output::Reached(Milestone::NotClaimed) => self.dialer.presence_answered(false),
                    Output::Emit(event) => {
                        if let Event::Joined { session, generation } = &event {
                            info!(
                                "joined {} as {} (session {session}, {generation}.)",
                                self.settings.url, self.settings.authid
                            );
                            self.dialer.joined(clock::mono());
                            self.bulk.set_open(true);
                        }
                        self.joined_before |= matches!(event, Event::Testament { .. });
                        self.emit(event, bytes);
                    }
                    Output::End(end) => {
                        if written {
                            self.write(Socket::flush); // the answer to a goodbye
                        }
                        return self.ended(end);
                    }
                }
            }
        }
    }

    fn write_text(&mut self, text: String) {
        self.bulk.wrote(text.len());
        self.write(|socket| socket.write(text));
    }

    fn write(&mut self, write: impl FnOnce(&mut Socket) -> Result<(), endpoint::Error>) {
        if let Link::Up { socket, session, .. } = &mut self.link
            && let Err(error) = write(socket)
        {
            session.on_closed(error.to_string());
        }
    }

    fn dial(&mut self, now: Duration) {
        let attempt = self.dialer.begin();
        let bound = self.dialer.bound(self.settings.connect_timeout);
        debug!("dial {attempt} to {} within {} ms", self.settings.url, bound.as_millis());
        if Arc::strong_count(&self.lookups) > HANGING_LOOKUPS {
            return self.failed(Failure::Other, "name lookups of earlier attempts are still hanging".to_owned());
        }
        let target = match Target::new(&self.settings, &self.variables) {
            Ok(target) => target,
            Err(error) => return self.failed(Failure::Other, error.to_string()),
        };
        let (host, port) = target.first_hop();
        match pump::spawn(host.to_owned(), port, bound, self.lookups.clone()) {
            Ok(input) => self.link = Link::Connecting { dial: Dial { began: now, bound }, target, input },
            Err(error) => self.failed(Failure::Other, format!("no thread for the connection: {error}")),
        }
    }

    fn connected(&mut self, dial: Dial, target: Target, tcp: TcpStream, input: Receiver<Pumped>) {
        let closer = match tcp.try_clone() {
            Ok(closer) => closer,
            Err(error) => return self.failed(Failure::Other, error.to_string()),
        };
        let guard = self.cancel.on_cancel(move || drop(closer.shutdown(Shutdown::Both)));
        self.progressed(dial, Handshake::start(target, tcp, input), guard);
    }

    fn progressed(&mut self, dial: Dial, progress: Result<Progress, endpoint::Error>, guard: Guard) {
        match progress {
            Ok(Progress::Pending(handshake)) => self.link = Link::Opening { dial, handshake, guard },
            Ok(Progress::Open(socket)) => {
                self.dialer.connected();
                self.generation += 1;
                let (settings, now) = (self.settings.clone(), clock::mono());
                let session = Session::new(self.generation, settings, &self.declared, self.joined_before, now);
                self.link = Link::Up { socket, session: Box::new(session), _guard: guard };
                self.unread = true;
                self.settle(0);
            }
            Err(error) => self.failed(Failure::Other, error.to_string()),
        }
    }

    /// The session is over: drops the connection, which shuts it down, before anything else is tried.
    fn ended(&mut self, end: End) {
        let (failure, reason) = match end {
            End::Refused(refusal, reason) => (Failure::Refused(refusal), reason),
            End::Gone(reason) => (Failure::Other, reason),
        };
        let was_joined = matches!(&self.link, Link::Up { session, .. } if session.was_joined());
        self.link = Link::Over;
        self.bulk.set_open(false);
        (self.bulk_at, self.unread) = (None, false);
        let redial = std::mem::take(&mut self.redial);
        let now = clock::mono();
        if was_joined {
            let delay = self.dialer.lost(now, random());
            let delay = if redial { Duration::ZERO } else { delay };
            info!("session left: {reason}");
            self.emit(Event::Left { generation: self.generation, reason }, 0);
            self.link = Link::Waiting { until: now + delay };
        } else if redial {
            self.link = Link::Waiting { until: now };
        } else if !self.stopping {
            self.failed(failure, reason);
        }
        if self.stopping {
            self.link = Link::Over;
        }
    }

    fn failed(&mut self, failure: Failure, reason: String) {
        let attempt = self.dialer.attempt();
        match self.dialer.failed(failure, random()) {
            Next::Dial(retry_in) => {
                // The first of a series and every tenth: an operator must see why a device is offline (spec 1.7).
                let level =
                    if attempt == 1 || attempt.is_multiple_of(10) { log::Level::Warn } else { log::Level::Debug };
                log!(level, "dial {attempt} failed: {reason}; next in {} ms", retry_in.as_millis());
                self.emit(Event::AttemptFailed { attempt, reason, retry_in }, 0);
                self.link = Link::Waiting { until: clock::mono() + retry_in };
            }
            Next::GiveUp(refusal) => {
                log::error!("dial {attempt} failed: {reason}; no further one");
                self.emit(Event::GaveUp(refusal), 0);
                self.link = Link::Over;
            }
        }
    }
}

/// Jitter for the back-off. Not for secrets: the hasher's keys are random, which is all that is needed.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests;
