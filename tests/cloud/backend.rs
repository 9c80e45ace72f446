//! The backend of the platform as a test double: answers what the agent calls, remembers all of it in order, and does
//! what a test asks in between (another answer, an error, a delay, silence).
//!
//! The thread `backend` owns the [`Platform`] and the peer `system`, and joins again whenever its session is lost. The
//! test's own handle is used from one thread.

#![allow(clippy::print_stderr, reason = "a failing test says what it saw")]

use super::flock::{BACKEND_SECRET, Identity};
use super::peer::{Failure, Invocation, Login, PATIENCE, Payload, Peer};
use super::platform::{PROCEDURES, Platform};
use super::wanted::WantedApp;
use crossbeam_channel::{Receiver, Sender, bounded, never, select, unbounded};
use reagent::clock;
use serde_json::{Map, Value, json};
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::thread::JoinHandle;
use std::time::Duration;

/// A call that the agent made.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// When it arrived, on the monotonic clock of the test process.
    pub at: Duration,
    pub procedure: String,
    pub args: Vec<Value>,
    pub kwargs: Map<String, Value>,
    pub caller: String,
}

impl Call {
    /// The first argument, null if there is none.
    pub fn argument(&self) -> &Value {
        self.args.first().unwrap_or(&Value::Null)
    }

    /// Whether the procedure ends in this name.
    pub fn is(&self, name: &str) -> bool {
        self.procedure.rsplit('.').next() == Some(name)
    }
}

/// What is answered in place of the platform's own answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The platform's own.
    Usual,
    /// These positional arguments.
    Args(Vec<Value>),
    /// An error.
    Error(String, Vec<Value>),
    /// Nothing, until [`Backend::release`].
    Silence,
    /// Another answer, after a while.
    Later(Duration, Box<Answer>),
}

type Question = Box<dyn FnOnce(&mut Core) + Send>;

/// A running backend. Dropping it ends its thread and its session.
pub struct Backend {
    pub identity: Identity,
    questions: Option<Sender<Question>>,
    thread: Option<JoinHandle<()>>,
    calls: RefCell<Vec<Call>>,
    called: Receiver<Call>,
    testaments: RefCell<Vec<Value>>,
    testified: Receiver<Payload>,
}

impl Backend {
    /// Joins the router at `url` as `system` and offers everything; fails if that is refused.
    pub fn start(url: &str, identity: Identity) -> Result<Backend, Failure> {
        let (questions, asked) = unbounded();
        let (invoked, invocations) = unbounded();
        let (record, called) = unbounded();
        let (testament, testified) = unbounded();
        let mut core = Core {
            login: Login::new(url, "system", BACKEND_SECRET),
            platform: Platform::new(identity.clone()),
            peer: None,
            invoked,
            record,
            testament,
            listeners: Vec::new(),
            once: HashMap::new(),
            instead: HashMap::new(),
            held: Vec::new(),
            timed: Vec::new(),
        };
        core.join()?;
        let thread = reagent::thread::spawn("backend", |_| {}, move || core.run(&asked, &invocations))
            .map_err(|error| Failure::Gone(error.to_string()))?;
        Ok(Backend {
            identity,
            questions: Some(questions),
            thread: Some(thread),
            calls: RefCell::default(),
            called,
            testaments: RefCell::default(),
            testified,
        })
    }

    /// Looks at or changes what the platform knows.
    pub fn platform<T: Send + 'static>(&self, look: impl FnOnce(&mut Platform) -> T + Send + 'static) -> T {
        self.ask(|core| look(&mut core.platform))
    }

    /// Wants an app, without telling the agent: it learns of it at its next connect.
    pub fn want(&self, app: WantedApp) {
        self.platform(|platform| platform.want(app));
    }

    /// What the platform has on an app now.
    #[track_caller]
    pub fn known(&self, app_key: u64, stage: &str) -> WantedApp {
        let of = stage.to_owned();
        let known = self.platform(move |platform| platform.app(app_key, &of).cloned());
        known.unwrap_or_else(|| panic!("the platform knows no app {app_key} {stage}"))
    }

    /// Nobody has this privilege, until [`Backend::allow`].
    pub fn deny(&self, privilege: &str) {
        let privilege = privilege.to_owned();
        self.platform(|platform| platform.denied.insert(privilege));
    }

    /// Ends [`Backend::deny`].
    pub fn allow(&self, privilege: &str) {
        let privilege = privilege.to_owned();
        self.platform(move |platform| platform.denied.remove(&privilege));
    }

    /// Wants an app and tells the agent, as the platform does: with keyword arguments only.
    pub fn request_app_state(&self, app: &WantedApp) -> Result<Payload, Failure> {
        self.want(app.clone());
        self.call_agent("request_app_state", vec![], app.request())
    }

    /// [`Backend::request_app_state`] for an app that the platform knows, with another target.
    #[track_caller]
    pub fn request_target(&self, app_key: u64, target: &str) -> Result<Payload, Failure> {
        self.request_app_state(&self.known(app_key, "PROD").target(target))
    }

    /// Changes what is wanted of an app (`fresh` if the platform does not know it) and tells the agent of it, with nothing
    /// that the agent says in between. What was asked for, and the answer.
    pub fn request_changed(
        &self,
        fresh: WantedApp,
        change: impl FnOnce(&mut WantedApp) + Send + 'static,
    ) -> (WantedApp, Result<Payload, Failure>) {
        let uri = self.identity.uri("request_app_state");
        let (wanted, pending) = self.ask(move |core| {
            let (key, stage) = (fresh.app_key, fresh.stage.clone());
            let mut wanted = core.platform.app(key, &stage).cloned().unwrap_or(fresh);
            change(&mut wanted);
            core.platform.want(wanted.clone());
            let call = |peer: &Peer| peer.start_call(&uri, json!({}), vec![], wanted.request());
            let pending = core.peer.as_ref().map(call);
            (wanted, pending)
        });
        let gone = || Failure::Gone("the backend is not connected".to_owned());
        (wanted, pending.ok_or_else(gone).and_then(|pending| pending.wait(Duration::from_secs(30))))
    }

    /// Calls a procedure of the agent as `system`.
    pub fn call_agent(&self, name: &str, args: Vec<Value>, kwargs: Map<String, Value>) -> Result<Payload, Failure> {
        let uri = self.identity.uri(name);
        let pending =
            self.ask(move |core| core.peer.as_ref().map(|peer| peer.start_call(&uri, json!({}), args, kwargs)));
        pending.ok_or_else(|| Failure::Gone("the backend is not connected".to_owned()))?.wait(Duration::from_secs(30))
    }

    /// Answers a procedure (last part of its name, or all of it) differently until [`Answer::Usual`] is set.
    pub fn answer(&self, procedure: &str, answer: Answer) {
        let procedure = full_name(procedure);
        self.ask(move |core| core.instead.insert(procedure, answer));
    }

    /// Answers the next call of a procedure differently; several of these queue up.
    pub fn answer_once(&self, procedure: &str, answer: Answer) {
        let procedure = full_name(procedure);
        self.ask(move |core| core.once.entry(procedure).or_default().push_back(answer));
    }

    /// Gives the usual answer to all calls of a procedure that met [`Answer::Silence`]; how many these were.
    pub fn release(&self, procedure: &str) -> usize {
        let procedure = full_name(procedure);
        self.ask(move |core| {
            let (released, held) =
                std::mem::take(&mut core.held).into_iter().partition(|call: &Invocation| call.procedure == procedure);
            core.held = held;
            let released: Vec<Invocation> = released;
            let count = released.len();
            for call in released {
                core.give(call, Answer::Usual);
            }
            count
        })
    }

    /// All calls so far, in order.
    pub fn calls(&self) -> Vec<Call> {
        self.receive(|calls| calls.to_vec())
    }

    /// The calls after `mark`, in order.
    pub fn calls_since(&self, mark: usize) -> Vec<Call> {
        self.receive(|calls| calls[mark.min(calls.len())..].to_vec())
    }

    /// How many calls there were, for `&calls[mark..]` later.
    pub fn mark(&self) -> usize {
        self.receive(<[Call]>::len)
    }

    /// Waits until the calls so far contain what is looked for; after `limit` the test fails and prints them.
    #[track_caller]
    pub fn wait_for<T>(&self, limit: Duration, what: &str, look: impl Fn(&[Call]) -> Option<T>) -> T {
        let deadline = clock::mono() + limit;
        loop {
            if let Some(found) = self.receive(&look) {
                return found;
            }
            match self.called.recv_timeout(deadline.saturating_sub(clock::mono())) {
                Ok(call) => self.calls.borrow_mut().push(call),
                Err(_) => panic!("not within {limit:?}: {what}; the agent called\n{}", self.transcript()),
            }
        }
    }

    /// Waits until an app has been reported in a state after `mark`.
    #[track_caller]
    pub fn wait_for_state(&self, limit: Duration, mark: usize, app_key: u64, state: &str) -> Call {
        self.wait_for(limit, &format!("app {app_key} reported as {state}"), |calls| {
            calls[mark..].iter().find(|call| is_report(call, app_key) && call.argument()["state"] == state).cloned()
        })
    }

    /// Waits until a status has been reported after `mark`.
    #[track_caller]
    pub fn wait_for_status(&self, limit: Duration, mark: usize, status: &str) -> Call {
        self.wait_for(limit, &format!("the status {status}"), |calls| {
            let wanted = |call: &&Call| call.is("update_device_status") && call.argument()["status"] == status;
            calls[mark..].iter().find(wanted).cloned()
        })
    }

    /// The states in which an app was reported, in order.
    pub fn reports(&self, app_key: u64) -> Vec<String> {
        let state = |call: &Call| call.argument()["state"].as_str().map(str::to_owned);
        self.receive(|calls| calls.iter().filter(|call| is_report(call, app_key)).filter_map(state).collect())
    }

    /// The statuses of the device, in order.
    pub fn statuses(&self) -> Vec<String> {
        let status = |call: &Call| call.argument()["status"].as_str().map(str::to_owned);
        self.receive(|calls| calls.iter().filter(|call| call.is("update_device_status")).filter_map(status).collect())
    }

    /// The testaments of this device so far.
    pub fn testaments(&self) -> Vec<Value> {
        let own = |event: Payload| {
            event.args.into_iter().next().filter(|args| args["serial_number"] == self.identity.serial.as_str())
        };
        let mut testaments = self.testaments.borrow_mut();
        testaments.extend(self.testified.try_iter().filter_map(own));
        testaments.clone()
    }

    /// Listens to the logs of a container, over lost sessions too, until the receiver's topic is given up with
    /// [`Backend::unsubscribe_logs`].
    pub fn subscribe_logs(&self, container: &str) -> Receiver<Payload> {
        let (events, delivered) = unbounded();
        let topic = self.identity.log_topic(container);
        self.ask(move |core| {
            let id = core.peer.as_ref().and_then(|peer| peer.subscribe_into(&topic, "exact", events.clone()).ok());
            core.listeners.push((topic, events, id));
        });
        delivered
    }

    /// Ends the subscriptions of [`Backend::subscribe_logs`] for a container.
    pub fn unsubscribe_logs(&self, container: &str) {
        let topic = self.identity.log_topic(container);
        self.ask(move |core| {
            for (_, _, id) in core.listeners.extract_if(.., |(of, ..)| *of == topic) {
                if let (Some(peer), Some(id)) = (&core.peer, id) {
                    let _ = peer.unsubscribe(id);
                }
            }
        });
    }

    /// The id of the backend's session, which offers everything.
    pub fn session(&self) -> Option<u64> {
        self.ask(|core| core.peer.as_ref().map(Peer::session))
    }

    fn transcript(&self) -> String {
        let lines = self.receive(|calls| {
            let line = |call: &Call| {
                let args = json!(call.args).to_string();
                let cut = args.char_indices().nth(300).map_or(args.len(), |(at, _)| at);
                format!("  {:9.3} {} {}", call.at.as_secs_f64(), call.procedure, &args[..cut])
            };
            calls.iter().map(line).collect::<Vec<_>>()
        });
        lines.join("\n")
    }

    fn receive<T>(&self, look: impl FnOnce(&[Call]) -> T) -> T {
        let mut calls = self.calls.borrow_mut();
        calls.extend(self.called.try_iter());
        look(&calls)
    }

    fn ask<T: Send + 'static>(&self, question: impl FnOnce(&mut Core) -> T + Send + 'static) -> T {
        let (answer, answered) = bounded(1);
        let question: Question = Box::new(move |core| drop(answer.send(question(core))));
        let questions = self.questions.as_ref().expect("questions are asked before the drop");
        questions.send(question).expect("the backend's thread runs as long as its handle lives");
        answered.recv_timeout(PATIENCE * 2).expect("the backend's thread answers")
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.questions = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        if std::thread::panicking() {
            eprintln!("--- what the agent called\n{}", self.transcript());
        }
    }
}

fn is_report(call: &Call, app_key: u64) -> bool {
    call.is("update_app_on_device") && call.argument()["app_key"] == app_key
}

fn full_name(name: &str) -> String {
    let full = PROCEDURES.iter().find(|full| **full == name || full.rsplit('.').next() == Some(name));
    (*full.unwrap_or_else(|| panic!("the backend offers no {name}"))).to_owned()
}

/// What the thread `backend` owns.
struct Core {
    login: Login,
    platform: Platform,
    peer: Option<Peer>,
    invoked: Sender<Invocation>,
    record: Sender<Call>,
    testament: Sender<Payload>,
    listeners: Vec<(String, Sender<Payload>, Option<u64>)>,
    once: HashMap<String, VecDeque<Answer>>,
    instead: HashMap<String, Answer>,
    held: Vec<Invocation>,
    timed: Vec<(Duration, Invocation, Answer)>,
}

impl Core {
    fn run(&mut self, asked: &Receiver<Question>, invocations: &Receiver<Invocation>) {
        let nothing = never();
        loop {
            let due = self.timed.iter().map(|(due, ..)| *due).min();
            let mut pause = due.map_or(Duration::from_secs(3600), |due| due.saturating_sub(clock::mono()));
            if self.peer.is_none() {
                // While the router is down it is asked again and again, quickly: the agent comes back soon, too.
                pause = pause.min(Duration::from_millis(10));
            }
            let closed = self.peer.as_ref().map_or(&nothing, |peer| peer.closed()).clone();
            select! {
                recv(invocations) -> call => {
                    if let Ok(call) = call {
                        self.on_call(call);
                    }
                }
                recv(asked) -> question => match question {
                    Ok(question) => question(self),
                    Err(_) => return,
                },
                recv(closed) -> _ => self.peer = None,
                default(pause) => {}
            }
            if self.peer.is_none() {
                let _ = self.join();
            }
            self.give_due();
        }
    }

    /// Joins, offers everything, listens to everything.
    fn join(&mut self) -> Result<(), Failure> {
        let peer = Peer::join(&self.login)?;
        for procedure in PROCEDURES {
            let invoked = self.invoked.clone();
            let options = json!({"force_reregister": true});
            peer.register(procedure, options, move |call| drop(invoked.send(call)))?;
        }
        peer.subscribe_into("reswarm.api.testament_device", "exact", self.testament.clone())?;
        for (topic, events, id) in &mut self.listeners {
            *id = Some(peer.subscribe_into(topic, "exact", events.clone())?);
        }
        self.peer = Some(peer);
        Ok(())
    }

    fn on_call(&mut self, call: Invocation) {
        let payload = &call.payload;
        let _ = self.record.send(Call {
            at: clock::mono(),
            procedure: call.procedure.clone(),
            args: payload.args.clone(),
            kwargs: payload.kwargs.clone(),
            caller: payload.details["caller_authid"].as_str().unwrap_or_default().to_owned(),
        });
        let once = self.once.get_mut(&call.procedure).and_then(VecDeque::pop_front);
        let answer = once.or_else(|| self.instead.get(&call.procedure).cloned()).unwrap_or(Answer::Usual);
        self.give(call, answer);
    }

    fn give(&mut self, call: Invocation, answer: Answer) {
        match answer {
            Answer::Usual => {
                let argument = call.payload.args.first().cloned().unwrap_or(Value::Null);
                call.answer(self.platform.answer(&call.procedure, &argument));
            }
            Answer::Args(args) => call.answer(args),
            Answer::Error(uri, args) => call.fail(&uri, args),
            Answer::Silence => self.held.push(call),
            Answer::Later(pause, then) => self.timed.push((clock::mono() + pause, call, *then)),
        }
    }

    fn give_due(&mut self) {
        let now = clock::mono();
        let due: Vec<_> = self.timed.extract_if(.., |(due, ..)| *due <= now).collect();
        for (_, call, answer) in due {
            self.give(call, answer);
        }
    }
}
