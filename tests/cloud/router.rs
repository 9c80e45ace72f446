//! The router as a set of threads around one [`Realm`]: a listener, two threads per connection, and the thread
//! `router` that owns the realm. Its faults are switched while it runs.

use super::realm::{Conn, Output, Realm, User};
use super::wire::{self, Gate, Half, Out};
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tungstenite::http::{HeaderValue, StatusCode, header::SEC_WEBSOCKET_PROTOCOL};
use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket};

/// How long the router's own threads may take to answer the test.
const PATIENCE: Duration = Duration::from_secs(10);

/// What passes the router, for tests that look at the wire: see [`Router::tap`].
#[derive(Debug, Clone, PartialEq)]
pub enum Traffic {
    /// A peer has done its WebSocket handshake.
    Opened(Conn),
    /// A message from a peer.
    FromPeer(Conn, Value),
    /// A message to a peer.
    ToPeer(Conn, Value),
    /// A ping from a peer (answered).
    Ping(Conn),
    /// The connection is gone.
    Closed(Conn),
}

enum Input {
    Opened(Conn, Sender<Out>),
    Message(Conn, Value),
    Ping(Conn),
    Pong(Conn),
    Closed(Conn),
    /// The test's: runs on the router's thread.
    Control(Box<dyn FnOnce(&mut Core) + Send>),
}

/// A running router. Dropping it ends all its threads and connections.
pub struct Router {
    port: u16,
    inputs: Sender<Input>,
    gate: Gate,
    next: Arc<AtomicUsize>,
    listener: Option<Listener>,
    core: Option<JoinHandle<()>>,
}

struct Listener {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Router {
    /// Starts on a loopback port, 0 for a free one.
    pub fn start(port: u16, users: HashMap<String, User>) -> io::Result<Router> {
        let (inputs, received) = unbounded();
        let mut core = Core {
            realm: Realm::new(users),
            outs: HashMap::new(),
            taps: Vec::new(),
            pongs: Vec::new(),
            overlooks: false,
            overlooked: Vec::new(),
            ended: false,
        };
        let thread = reagent::thread::spawn("router", |_| {}, move || core.run(&received))?;
        let gate = Gate::default();
        let mut router = Router { port, inputs, gate, next: Arc::default(), listener: None, core: Some(thread) };
        router.listen()?;
        Ok(router)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL for a `.flock`, with the path that the platform uses.
    pub fn url(&self) -> String {
        format!("ws://localhost:{}/ws-re-dev", self.port)
    }

    /// Adds or replaces a user.
    pub fn add_user(&self, authid: &str, user: User) {
        let authid = authid.to_owned();
        self.ask(move |core| core.realm.users.insert(authid, user));
    }

    /// The ids of the joined sessions of an authid.
    pub fn sessions(&self, authid: &str) -> Vec<u64> {
        let authid = authid.to_owned();
        self.ask(move |core| {
            let own = core.realm.sessions().filter(|(_, session)| session.authid == authid);
            own.map(|(_, session)| session.id).collect()
        })
    }

    /// The URIs that a session with this authid has registered, sorted.
    pub fn registrations(&self, authid: &str) -> Vec<String> {
        let authid = authid.to_owned();
        self.ask(move |core| {
            let own = |conn| core.realm.session(conn).is_some_and(|session| session.authid == authid);
            let mut uris: Vec<String> = core
                .realm
                .registrations
                .iter()
                .filter(|registration| own(registration.callee))
                .map(|registration| registration.uri.clone())
                .collect();
            uris.sort();
            uris
        })
    }

    /// The URIs that a session with this authid has subscribed to, sorted.
    pub fn subscriptions(&self, authid: &str) -> Vec<String> {
        let authid = authid.to_owned();
        self.ask(move |core| {
            let own = |conn| core.realm.session(conn).is_some_and(|session| session.authid == authid);
            let mut uris: Vec<String> = core
                .realm
                .subscriptions
                .iter()
                .filter(|subscription| subscription.subscribers.iter().any(|&conn| own(conn)))
                .map(|subscription| subscription.uri.clone())
                .collect();
            uris.sort();
            uris
        })
    }

    /// Everything that passes from now on, until the receiver is dropped.
    pub fn tap(&self) -> Receiver<Traffic> {
        let (tap, traffic) = unbounded();
        self.ask(move |core| core.taps.push(tap));
        traffic
    }

    /// Fault: the router process is gone. The port is closed, all connections are cut, the realm is forgotten (no
    /// testament, no meta event).
    pub fn go_down(&mut self) {
        if let Some(listener) = self.listener.take() {
            listener.stop.store(true, Ordering::SeqCst);
            // The listener is blocked in accept: wake it. Refused means that it has gone already.
            let _ = TcpStream::connect(("127.0.0.1", self.port));
            let _ = listener.thread.join();
        }
        self.ask(|core| {
            for out in core.outs.values() {
                let _ = out.send(Out::Cut);
            }
            core.outs.clear();
            let mut realm = Realm::new(std::mem::take(&mut core.realm.users));
            realm.refuse_presence = core.realm.refuse_presence;
            realm.refuse_auth = core.realm.refuse_auth;
            core.realm = realm;
        });
    }

    /// Ends [`Router::go_down`], on the same port.
    pub fn come_back(&mut self) -> io::Result<()> {
        if self.listener.is_none() { self.listen() } else { Ok(()) }
    }

    /// Fault: connections are accepted, but nothing is read or written, until switched off again.
    pub fn freeze(&self, frozen: bool) {
        self.gate.shut(frozen);
    }

    /// Fault: refuse the next `times` presence registrations as already existing.
    pub fn refuse_presence(&self, times: u32) {
        self.ask(move |core| core.realm.refuse_presence = times);
    }

    /// How many refusals of [`Router::refuse_presence`] are left.
    pub fn presence_refusals_left(&self) -> u32 {
        self.ask(|core| core.realm.refuse_presence)
    }

    /// Fault: call every signature invalid, until switched off again.
    pub fn refuse_auth(&self, refused: bool) {
        self.ask(move |core| core.realm.refuse_auth = refused);
    }

    /// Fault: connections that end go unnoticed, their sessions live on with all they hold, until switched off again: what
    /// a router believes when a peer's power or link has failed.
    pub fn overlook_losses(&self, overlooked: bool) {
        self.ask(move |core| {
            core.overlooks = overlooked;
            if !overlooked {
                for conn in std::mem::take(&mut core.overlooked) {
                    core.lose(conn);
                }
            }
        });
    }

    /// Cuts the TCP connections of an authid; its testaments are published. Returns how many there were.
    pub fn cut(&self, authid: &str) -> usize {
        self.with_connections(authid, |_, out| drop(out.send(Out::Cut)))
    }

    /// Says GOODBYE to the sessions of an authid.
    pub fn dismiss(&self, authid: &str, reason: &str) -> usize {
        let reason = reason.to_owned();
        self.with_connections(authid, move |_, out| {
            let _ = out.send(text(&json!([6, {}, reason])));
        })
    }

    /// Sends any message to the sessions of an authid, also what no router would send.
    pub fn inject(&self, authid: &str, message: Value) -> usize {
        self.with_connections(authid, move |_, out| drop(out.send(text(&message))))
    }

    /// Pings a session of an authid; how long the pong took, `None` if none came within `limit`.
    pub fn ping(&self, authid: &str, limit: Duration) -> Option<Duration> {
        let (pong, ponged) = bounded(1);
        let started = reagent::clock::mono();
        let of = authid.to_owned();
        self.ask(move |core| {
            let conn = core.connections(&of).first().copied();
            if let Some((conn, out)) = conn.and_then(|conn| Some((conn, core.outs.get(&conn)?))) {
                core.pongs.push((conn, pong));
                let _ = out.send(Out::Message(Message::Ping("router".into())));
            }
        });
        ponged.recv_timeout(limit).ok().map(|()| reagent::clock::mono() - started)
    }

    fn with_connections(&self, authid: &str, act: impl Fn(Conn, &Sender<Out>) + Send + 'static) -> usize {
        let authid = authid.to_owned();
        self.ask(move |core| {
            let connections = core.connections(&authid);
            for conn in &connections {
                if let Some(out) = core.outs.get(conn) {
                    act(*conn, out);
                }
            }
            connections.len()
        })
    }

    fn ask<T: Send + 'static>(&self, question: impl FnOnce(&mut Core) -> T + Send + 'static) -> T {
        let (answer, answered) = bounded(1);
        let control = Input::Control(Box::new(move |core| drop(answer.send(question(core)))));
        self.inputs.send(control).expect("the router's thread runs as long as its handle lives");
        answered.recv_timeout(PATIENCE).expect("the router's thread answers")
    }

    fn listen(&mut self) -> io::Result<()> {
        let listener = TcpListener::bind(("127.0.0.1", self.port))?;
        self.port = listener.local_addr()?.port();
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, inputs, gate, next) = (stop.clone(), self.inputs.clone(), self.gate.clone(), self.next.clone());
        let accept = move || {
            while let Ok((tcp, _)) = listener.accept() {
                if stopped.load(Ordering::SeqCst) {
                    break;
                }
                let conn = Conn::try_from(next.fetch_add(1, Ordering::SeqCst)).expect("a counter fits 64 bits");
                let (inputs, gate) = (inputs.clone(), gate.clone());
                let serve = move || {
                    // A peer that fails in the handshake has no session; there is nobody to tell.
                    let _ = serve(conn, tcp, gate, &inputs);
                    let _ = inputs.send(Input::Closed(conn));
                };
                if reagent::thread::spawn("router-conn", |_| {}, serve).is_err() {
                    break;
                }
            }
        };
        self.listener = Some(Listener { stop, thread: reagent::thread::spawn("router-accept", |_| {}, accept)? });
        Ok(())
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.freeze(false);
        self.go_down();
        let _ = self.inputs.send(Input::Control(Box::new(|core| core.ended = true)));
        if let Some(core) = self.core.take() {
            let _ = core.join();
        }
    }
}

/// Does the handshake of one connection and reads it to its end.
fn serve(conn: Conn, tcp: TcpStream, gate: Gate, inputs: &Sender<Input>) -> Result<(), tungstenite::Error> {
    tcp.set_nodelay(true)?;
    let mut socket = tungstenite::accept_hdr_with_config(Half::new(tcp, gate), choose_protocol, Some(wire::config()))
        .map_err(|error| match error {
        tungstenite::HandshakeError::Failure(error) => error,
        tungstenite::HandshakeError::Interrupted(_) => io::Error::from(io::ErrorKind::WouldBlock).into(),
    })?;
    let out = wire::split(&mut socket, Role::Server, "router-write")?;
    let _ = inputs.send(Input::Opened(conn, out.clone()));
    let end = read(conn, &mut socket, inputs);
    if matches!(end, Err(tungstenite::Error::Capacity(_) | tungstenite::Error::Protocol(_))) {
        let _ = out.send(Out::Cut);
    }
    end
}

fn read(conn: Conn, socket: &mut WebSocket<Half>, inputs: &Sender<Input>) -> Result<(), tungstenite::Error> {
    loop {
        let input = match socket.read()? {
            // What is no JSON becomes null, which the realm answers with an ABORT.
            Message::Text(text) => Input::Message(conn, serde_json::from_str(&text).unwrap_or(Value::Null)),
            Message::Binary(_) => Input::Message(conn, Value::Null),
            Message::Ping(_) => Input::Ping(conn),
            Message::Pong(_) => Input::Pong(conn),
            Message::Close(_) | Message::Frame(_) => continue,
        };
        if inputs.send(input).is_err() {
            return Ok(());
        }
    }
}

#[expect(clippy::result_large_err, reason = "the type is tungstenite's")]
fn choose_protocol(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    let offers = request.headers().get_all(SEC_WEBSOCKET_PROTOCOL).into_iter();
    let mut offers = offers.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    if offers.any(|offer| offer.trim() == "wamp.2.json") {
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("wamp.2.json"));
        return Ok(response);
    }
    let mut refusal = ErrorResponse::new(Some("this router speaks wamp.2.json".to_owned()));
    *refusal.status_mut() = StatusCode::BAD_REQUEST;
    Err(refusal)
}

fn text(message: &Value) -> Out {
    Out::Message(Message::text(message.to_string()))
}

/// What the thread `router` owns.
struct Core {
    realm: Realm,
    outs: HashMap<Conn, Sender<Out>>,
    taps: Vec<Sender<Traffic>>,
    pongs: Vec<(Conn, Sender<()>)>,
    overlooks: bool,
    overlooked: Vec<Conn>,
    ended: bool,
}

impl Core {
    fn run(&mut self, inputs: &Receiver<Input>) {
        while let Ok(input) = inputs.recv() {
            match input {
                Input::Opened(conn, out) => {
                    self.outs.insert(conn, out);
                    self.tell(|| Traffic::Opened(conn));
                }
                Input::Message(conn, message) if self.outs.contains_key(&conn) => {
                    self.tell(|| Traffic::FromPeer(conn, message.clone()));
                    self.realm.on_message(conn, &message);
                }
                // Late: the router was down in between.
                Input::Message(..) => {}
                Input::Ping(conn) => self.tell(|| Traffic::Ping(conn)),
                Input::Pong(conn) => {
                    self.pongs.retain(|(of, pong)| *of != conn || pong.send(()).is_err());
                }
                Input::Closed(conn) if self.overlooks => self.overlooked.push(conn),
                Input::Closed(conn) => self.lose(conn),
                Input::Control(act) => act(self),
            }
            for output in self.realm.outputs() {
                match output {
                    Output::Send(conn, message) => {
                        if let Some(out) = self.outs.get(&conn) {
                            let _ = out.send(text(&message));
                            self.tell(|| Traffic::ToPeer(conn, message.clone()));
                        }
                    }
                    Output::Close(conn) => {
                        // The peer closes the TCP connection after its half of the close, or when it likes.
                        if let Some(out) = self.outs.get(&conn) {
                            let _ = out.send(Out::Message(Message::Close(None)));
                        }
                    }
                }
            }
            if self.ended {
                return;
            }
        }
    }

    fn lose(&mut self, conn: Conn) {
        self.outs.remove(&conn);
        self.realm.on_closed(conn);
        self.tell(|| Traffic::Closed(conn));
    }

    fn tell(&mut self, traffic: impl Fn() -> Traffic) {
        self.taps.retain(|tap| tap.send(traffic()).is_ok());
    }

    fn connections(&self, authid: &str) -> Vec<Conn> {
        self.realm.sessions().filter(|(_, session)| session.authid == authid).map(|(conn, _)| conn).collect()
    }
}
