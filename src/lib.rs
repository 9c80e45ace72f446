//! reagent: the device agent. This page is its architecture; what it is for and how it is started is in the README.
//!
//! # Bird's-eye view
//!
//! ```text
//!                 what happens                                what is done
//!  signals ───────┐                                            ┌───▶ wamp     calls, answers, publications
//!  wamp ──────────┤            ┌──────────────────────────┐    │
//!  docker-events ─┼──▶ inbox ─▶│ state: State::step       ├────┼───▶ jobs     start, cancel
//!  jobs ──────────┤   (1024)   │ one transaction per turn │    │
//!  logs ──────────┘            └────────────┬─────────────┘    └───▶ logs     follow, say, forget
//!                                        SQLite
//!  container output ──▶ log-<name> ──▶ logs ── bulk lane, drops the oldest ──▶ wamp
//! ```
//!
//! The agent is one pure function, [`domain::State::step`]: an event goes in, a list of effects comes out. One thread owns
//! that value and the database. Around it stand threads that each own one thing that blocks (the router's socket, a
//! container's log, the Engine's event stream) and turn it into events. Protocols are state machines without IO inside those
//! threads: bytes in, values out. There is no async runtime and no lock.
//!
//! The core compares what is *wanted* (by the backend), *recorded* (in the database) and *observed* (in the Engine), and finds
//! the next step from the difference. A message that got lost, a restart in the middle of an update and a reconnect are the
//! same case: the comparison runs again.
//!
//! # Threads
//!
//! | name | owns | lives | ends by |
//! | --- | --- | --- | --- |
//! | `main` | the lock of the only instance | as long as the process | the state thread's end, 10 s more at most; then the machine that goes down, or a new start |
//! | `state` | the core and the SQLite connection | as long as the process | a signal, or a refusal of the router that is final |
//! | `signals` | the signal pipe | as long as the process | a second signal ends the process at once |
//! | `watchdog` | the signs of life for a service manager that expects them; else there is none | until the shutdown | its handle |
//! | `wamp` | the session: TLS, WebSocket, calls, both lanes out | as long as the process | a stop; a write that makes no progress |
//! | `wamp-pump` | reading the raw socket | one connection | the socket's shutdown |
//! | `wamp-race` | one attempt to connect to one address | an attempt | its bound |
//! | `docker-events` | the Engine's event stream, the pings of an absent one | as long as the process | closing its socket |
//! | `job-<n>` | one call of the Engine or one query at a time | the first of each lane always, the others while busy | its job's cancel token |
//! | `logs` | rings, batches, who listens | as long as the process | a stop |
//! | `log-<name>` | one container's log stream | while the container runs | closing its socket |
//! | `log-list` | the calls that list one compose project | until they are answered | closing its socket; their deadline |
//!
//! Threads start in [`thread`] alone: with a name, a stack of a size that was thought about, and a hook that tells their owner
//! how they ended. One that panics is started again with a back-off; five panics in ten minutes end the process, and so does
//! one of the state thread: its supervisor outside starts it from a database that is consistent.
//!
//! # Invariants
//!
//! 1. **The state thread waits for its inbox and its disk, for nothing else.** Its sends go into queues that never block;
//!    the others may block on the inbox. So blocking sends cannot form a circle.
//! 2. **Whatever waits can be ended.** A socket has a closer in its owner's handle, a call of the Engine has a deadline, and a
//!    transfer has one that starts anew with every sign of progress.
//! 3. **Commit, then act.** What one turn wants stored is one transaction, done before its other effects. A full disk delays
//!    the storing and never the acting.
//! 4. **Control goes before bulk.** Pongs, answers and state reports have a lane of their own ahead of log lines. The thread
//!    that reads the socket runs no handler.
//! 5. **Log lines pass the state thread by.** Only the history, in batches, goes through it, since only it may write.
//! 6. **No locks, no statics that change** outside [`os`] and [`cancel`], and no 64-bit atomics: ARMv5 has none.
//! 7. **A connection has a generation.** An answer, subscription or result of a lost session is recognised and dropped.
//!
//! # Code map
//!
//! | module | what it is | knows of |
//! | --- | --- | --- |
//! | [`domain`] | the core: apps, transitions, reports, the connect sequence; pure | nothing but [`clock`]'s values |
//! | [`rpc`] | the table of what can be called | the core |
//! | [`state`] | the thread around the core, the store (the only SQL), the edges' supervision | everything |
//! | [`wamp`] | the session; `message`, `auth` and `session` are pure | [`net`], [`os`] |
//! | [`net`] | TLS settings, the choice of a proxy and its handshakes; pure but for the trust store | nothing |
//! | [`docker`] | the Engine's API; `http1` and `stream` are pure | [`os`] |
//! | [`logs`] | history and publication of container output; pure but for `actor`, `follower`, `source`, `excerpt` | [`docker`], the core's messages |
//! | [`jobs`] | the workers | [`docker`], [`os`], [`logs`] |
//! | [`agent`] | the boot sequence | everything |
//! | [`service`] | what a service manager is told, the watchdog | [`os`] |
//! | [`args`], [`flock`], [`logger`], [`startup`], [`signals`], [`release`] | command line, device file, log, first lines, signals, version | [`os`] |
//! | [`os`] | what differs between systems; the only place for `unsafe` | nothing |
//! | [`thread`], [`clock`], [`cancel`], [`probe`], [`secret`] | one concept each | nothing |
//!
//! # Reading order
//!
//! This page, [`domain`], [`domain::transition`] with [`domain::plan`], [`state::main_loop`], [`rpc`]. After these the rest is detail: what a
//! word means on the wire is in `wamp` and `docker`, what is done to a container is in `jobs`. Rules that the compiler does
//! not know are in `tests/tidy.rs`.

pub mod agent;
pub mod args;
pub mod cancel;
pub mod clock;
pub mod docker;
pub mod domain;
pub mod flock;
pub mod jobs;
pub mod logger;
pub mod logs;
pub mod net;
pub mod os;
pub mod probe;
pub mod release;
pub mod rpc;
pub mod secret;
pub mod service;
pub mod signals;
pub mod sorted;
pub mod startup;
pub mod state;
pub mod thread;
pub mod wamp;
