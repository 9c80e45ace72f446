//! Archives of sources that arrive in pieces: `write_data` (storage chapter 7.3, apps chapter 5.10, 6.4).
//!
//! ```text
//!             BEGIN                 END
//!    none ─────────────▶ receiving ─────────────▶ none
//!      ▲                  │  ▲  │ cancel
//!      │ error, 10 min    │  │  ▼
//!      ◀──────────────────┘  │ cancelled
//!      ▲                     │  │  │
//!      │ other than BEGIN    └──┘  │
//!      ◀───────────────────────────┘
//! ```
//!
//! A container has at most one transfer. **Invariant:** the messages of a container are obeyed one at a time, in the order in
//! which they arrived, and each is answered when it is on the disk: who waits for the answers is slowed down to what the
//! disk can take, who does not is refused what would have to be kept in memory.

use super::app::{AppKey, AppState, Stage};
use super::job::{JobSpec, Outcome, Piece, Upload};
use super::message::{Level, LogCommand};
use super::timers::Timer;
use super::{Job, State, lines, names};
use crate::rpc::Reply;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Pieces of one container that may wait.
const WAITING: usize = 64;
/// Bytes of hexadecimal text that may wait, of all containers.
const BYTES: usize = 16 << 20;
/// Bytes of one piece, decoded.
const PIECE: usize = 8 << 20;
/// Transfers at once.
const TRANSFERS: usize = 32;
/// Logs that are kept for apps that are not known: the first upload comes before the request.
const STRANGERS: usize = 64;
/// A transfer of which nothing was heard for so long is over.
const EXPIRY: Duration = Duration::from_secs(600);
/// From one progress message to the next.
const PROGRESS: Duration = Duration::from_millis(200);

/// A call of `write_data`, its names checked: `file` is a plain file name, `container` a log topic's last part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it says.
    pub word: Word,
    /// `<AppName>.<ext>`.
    pub file: String,
    /// In lower case.
    pub container: String,
    /// Bytes of the archive; 0 if unknown.
    pub total: u64,
    /// The sender's id of the transfer.
    pub id: String,
}

/// The first argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// `BEGIN`
    Begin,
    /// A piece in hexadecimal digits.
    Data(String),
    /// `END`
    End,
    /// A piece that was not kept: too much waits.
    Lost,
}

impl Word {
    fn bytes(&self) -> usize {
        if let Word::Data(hex) = self { hex.len() } else { 0 }
    }
}

/// All transfers.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Transfers {
    /// By container.
    lines: BTreeMap<String, Line>,
    /// Containers of apps that are not known, the newest last: they have a log like any other.
    strangers: VecDeque<String>,
}

/// The messages of a container and its transfer.
#[derive(Debug, Clone, Default, PartialEq)]
struct Line {
    /// By number of the invocation, which is the order of arrival; `None`: whether the caller may is not known yet.
    waiting: BTreeMap<u64, Option<Message>>,
    /// The invocation that a worker has, and what it does.
    running: Option<(u64, Does)>,
    transfer: Option<Transfer>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Does {
    Begin,
    /// Bytes of the piece.
    Data(u64),
    End,
}

#[derive(Debug, Clone, PartialEq)]
struct Transfer {
    /// Names its part file and its timers.
    number: u64,
    id: String,
    file: String,
    total: u64,
    position: u64,
    cancelled: bool,
    /// When progress was shown last.
    shown: Option<Duration>,
}

impl Transfer {
    fn upload(&self, piece: Piece) -> JobSpec {
        JobSpec::Upload(Box::new(Upload { file: self.file.clone(), transfer: self.number, piece }))
    }

    fn percent(&self) -> String {
        let share = if self.total == 0 { 1.0 } else { self.position as f64 / self.total as f64 };
        format!("{:.3}%", share * 100.0)
    }
}

impl State {
    /// A call has arrived: its place is kept while the caller is checked.
    pub(super) fn transfer_arrives(&mut self, invocation: u64, container: &str) {
        self.transfers.lines.entry(container.to_owned()).or_default().waiting.insert(invocation, None);
    }

    /// The caller of a call may not, or the call is none: the next may go on.
    pub(super) fn transfer_refused(&mut self, invocation: u64) {
        let line = self.transfers.lines.iter_mut().find(|(_, line)| line.waiting.get(&invocation) == Some(&None));
        let Some((container, line)) = line else { return };
        line.waiting.remove(&invocation);
        let container = container.clone();
        self.take_messages(&container);
    }

    /// A caller who may.
    pub(crate) fn transfer_allowed(&mut self, invocation: u64, mut message: Message) {
        let container = message.container.clone();
        let all = self.transfers.lines.values().flat_map(|line| line.waiting.values().flatten());
        let bytes: usize = all.map(|message| message.word.bytes()).sum();
        let line = self.transfers.lines.entry(container.clone()).or_default();
        let count = line.waiting.values().flatten().count();
        if count >= WAITING || bytes > 0 && bytes + message.word.bytes() > BYTES {
            // Refused in its turn, so that it breaks the transfer that it belongs to and no other.
            message.word = Word::Lost;
        }
        line.waiting.insert(invocation, Some(message));
        self.take_messages(&container);
    }

    /// Whether sources of a container are under way.
    pub(super) fn is_arriving(&self, container: &str) -> bool {
        let transfer = self.transfers.lines.get(container).and_then(|line| line.transfer.as_ref());
        transfer.is_some_and(|transfer| !transfer.cancelled)
    }

    /// Ends the transfer of a container: the next piece of it fails with `canceled` (3.15, 5.3 step 3).
    pub fn cancel_transfer(&mut self, container: &str) {
        let Some(line) = self.transfers.lines.get_mut(container) else { return };
        let Some(transfer) = line.transfer.as_mut().filter(|transfer| !transfer.cancelled) else { return };
        transfer.cancelled = true;
        let (number, discard) = (transfer.number, transfer.upload(Piece::Discard));
        let does = line.running.map(|(_, does)| does);
        self.timers.clear(Timer::Progress(number));
        self.note(Level::Info, format!("{container}: the upload is cancelled"));
        if does.is_none() {
            self.start_job(Job::Detached(None), discard);
        }
        // What is at its end comes to it.
        if does != Some(Does::End) {
            self.say_of_transfer(container, lines::UPLOAD_CANCELLED);
        }
    }

    /// Obeys what is next, as long as nothing has to be waited for.
    fn take_messages(&mut self, container: &str) {
        while let Some(line) = self.transfers.lines.get_mut(container) {
            if line.running.is_some() || line.waiting.first_key_value().is_some_and(|(_, next)| next.is_none()) {
                return;
            }
            match line.waiting.pop_first() {
                Some((invocation, Some(message))) => self.obey_message(container, invocation, message),
                _ => {
                    if line.transfer.is_none() {
                        self.transfers.lines.remove(container);
                    }
                    return;
                }
            }
        }
    }

    fn obey_message(&mut self, container: &str, invocation: u64, message: Message) {
        if message.word == Word::Begin {
            return self.begin_transfer(container, invocation, message);
        }
        let Some(line) = self.transfers.lines.get_mut(container) else { return };
        let Some(transfer) = line.transfer.as_mut() else {
            self.transfer_failed(container);
            let text = "no upload is under way for this container: send BEGIN first";
            return self.end_invocation(invocation, Err(text.to_owned()));
        };
        let is_of_it = transfer.id == message.id;
        if transfer.cancelled && (is_of_it || message.word != Word::End) {
            return self.break_off(container, Some(invocation), "canceled");
        }
        if !is_of_it {
            // It belongs to a transfer that was replaced.
            return self.end_invocation(invocation, Ok(Reply::default()));
        }
        let left = if transfer.total == 0 { u64::MAX } else { transfer.total - transfer.position };
        let (does, piece) = match message.word {
            Word::Data(hex) if hex.len() > 2 * PIECE => {
                let text = format!("a piece of more than {PIECE} bytes: send smaller ones");
                return self.break_off(container, Some(invocation), &text);
            }
            Word::Data(hex) if hex.len() as u64 / 2 > left => {
                let text = format!("more than the announced {} bytes", transfer.total);
                return self.break_off(container, Some(invocation), &text);
            }
            Word::Data(hex) => (Does::Data(hex.len() as u64 / 2), Piece::Data { hex, offset: transfer.position }),
            Word::End if transfer.total > 0 && left > 0 => {
                let text = format!("{left} of {} bytes are missing: send the archive anew", transfer.total);
                return self.break_off(container, Some(invocation), &text);
            }
            Word::End => (Does::End, Piece::End { length: transfer.position }),
            Word::Begin | Word::Lost => {
                let text = format!("{WAITING} pieces or {BYTES} bytes are waiting already: send one after the other");
                return self.break_off(container, Some(invocation), &text);
            }
        };
        let spec = transfer.upload(piece);
        line.running = Some((invocation, does));
        self.start_job(Job::Upload(container.to_owned()), spec);
    }

    fn begin_transfer(&mut self, container: &str, invocation: u64, message: Message) {
        let number = self.id();
        let under_way = self.transfers.lines.values().filter(|line| line.transfer.is_some()).count();
        let Some(line) = self.transfers.lines.get_mut(container) else { return };
        if line.transfer.is_none() && under_way >= TRANSFERS {
            let text = format!("{TRANSFERS} uploads are under way already");
            self.transfer_failed(container);
            return self.end_invocation(invocation, Err(text));
        }
        let Message { file, total, id, .. } = message;
        let begun = Transfer { number, id, file, total, position: 0, cancelled: false, shown: None };
        let spec = begun.upload(Piece::Begin { total });
        line.running = Some((invocation, Does::Begin));
        // A part file of the same name goes with the beginning of the new one.
        let replaced = line.transfer.replace(begun.clone());
        if let Some(replaced) = replaced {
            self.forget_timers(replaced.number);
            if !replaced.cancelled && replaced.file != begun.file {
                self.start_job(Job::Detached(None), replaced.upload(Piece::Discard));
            }
        }
        self.warn_of_the_name(container, &begun.file);
        self.start_job(Job::Upload(container.to_owned()), spec);
    }

    /// A build looks for `<AppName>.<ext>`.
    fn warn_of_the_name(&mut self, container: &str, file: &str) {
        let app = names::parse_container(container).map(|parsed| parsed.name).unwrap_or_default();
        let expected = format!("{app}.{}", self.device.archive_extension);
        if file.to_lowercase() != expected.to_lowercase() {
            self.note(Level::Warn, format!("{container}: the archive {file:?} should be named {expected}"));
        }
    }

    /// A worker has done with a message, or not.
    pub(super) fn on_upload(&mut self, container: &str, outcome: Outcome) {
        let Some(line) = self.transfers.lines.get_mut(container) else { return };
        let (Some((invocation, does)), Some(transfer)) = (line.running.take(), line.transfer.as_mut()) else { return };
        if let Err(text) = done(outcome) {
            self.break_off(container, Some(invocation), &text);
            return self.take_messages(container);
        }
        let (number, cancelled) = (transfer.number, transfer.cancelled);
        self.timers.set(Timer::Transfer(number), self.now.mono + EXPIRY);
        if let Does::Data(bytes) = does {
            transfer.position += bytes;
        }
        let discard = (cancelled && does != Does::End).then(|| transfer.upload(Piece::Discard));
        self.end_invocation(invocation, Ok(Reply::default()));
        match does {
            Does::Begin => {
                self.bound_strangers(container);
                self.logs(LogCommand::ClearHistory { container: container.to_owned() });
                self.say_of_transfer(container, lines::UPLOAD_BEGUN);
            }
            Does::Data(_) if cancelled => {}
            Does::Data(_) => self.show_progress(container),
            Does::End => {
                if self.timers.is_set(Timer::Progress(number)) {
                    self.publish_progress(container);
                }
                self.say_of_transfer(container, lines::UPLOAD_FINISHED);
                self.end_transfer(container);
            }
        }
        if let Some(discard) = discard {
            self.start_job(Job::Detached(None), discard);
        }
        self.take_messages(container);
    }

    /// Ends a transfer that has failed, and answers the message that did it.
    fn break_off(&mut self, container: &str, invocation: Option<u64>, text: &str) {
        if let Some(transfer) = self.end_transfer(container).filter(|transfer| !transfer.cancelled) {
            self.start_job(Job::Detached(None), transfer.upload(Piece::Discard));
        }
        self.transfer_failed(container);
        if let Some(invocation) = invocation {
            self.end_invocation(invocation, Err(text.to_owned()));
        }
    }

    fn end_transfer(&mut self, container: &str) -> Option<Transfer> {
        let transfer = self.transfers.lines.get_mut(container)?.transfer.take()?;
        self.forget_timers(transfer.number);
        Some(transfer)
    }

    fn forget_timers(&mut self, number: u64) {
        self.timers.clear(Timer::Transfer(number));
        self.timers.clear(Timer::Progress(number));
    }

    /// An app whose sources were on their way has none (5.10).
    fn transfer_failed(&mut self, container: &str) {
        let waits = |app: &&super::slot::App| app.container == container && app.state == AppState::Transfering;
        if let Some(id) = self.apps.values().find(waits).map(|app| app.id) {
            self.report(id, AppState::Removed);
        }
    }

    /// Nothing was heard of a transfer for too long.
    pub(super) fn on_transfer_expired(&mut self, number: u64) {
        let Some(container) = self.container_of(number) else { return };
        if self.transfers.lines.get(&container).is_some_and(|line| line.running.is_some()) {
            // It is the disk that is slow.
            return self.timers.set(Timer::Transfer(number), self.now.mono + EXPIRY);
        }
        let is_cancelled = |line: &Line| line.transfer.as_ref().is_some_and(|transfer| transfer.cancelled);
        if !self.transfers.lines.get(&container).is_some_and(is_cancelled) {
            self.note(Level::Warn, format!("{container}: the upload has stopped, nothing came for 10 minutes"));
            self.say_of_transfer(&container, lines::UPLOAD_EXPIRED);
        }
        self.break_off(&container, None, "");
        self.take_messages(&container);
    }

    fn show_progress(&mut self, container: &str) {
        let Some(transfer) = self.transfers.lines.get(container).and_then(|line| line.transfer.as_ref()) else {
            return;
        };
        match transfer.shown {
            Some(at) if self.now.mono < at + PROGRESS => {
                self.timers.set(Timer::Progress(transfer.number), at + PROGRESS);
            }
            _ => self.publish_progress(container),
        }
    }

    pub(super) fn on_progress_due(&mut self, number: u64) {
        if let Some(container) = self.container_of(number) {
            self.publish_progress(&container);
        }
    }

    fn publish_progress(&mut self, container: &str) {
        let now = self.now.mono;
        let line = self.transfers.lines.get_mut(container);
        let Some(transfer) = line.and_then(|line| line.transfer.as_mut()) else { return };
        transfer.shown = Some(now);
        let (number, id, progress) = (transfer.number, transfer.file.clone(), transfer.percent());
        self.timers.clear(Timer::Progress(number));
        let status = "Transfer Progress:".to_owned();
        self.logs(LogCommand::Progress { container: container.to_owned(), id, status, progress });
    }

    /// The log of a container whose app was never asked for goes when there are too many of them.
    fn bound_strangers(&mut self, container: &str) {
        if self.is_stranger(container) {
            self.transfers.strangers.retain(|known| known != container);
            self.transfers.strangers.push_back(container.to_owned());
        }
        if self.transfers.strangers.len() > STRANGERS
            && let Some(oldest) = self.transfers.strangers.pop_front()
            && self.is_stranger(&oldest)
        {
            self.logs(LogCommand::Forget { container: oldest });
        }
    }

    fn is_stranger(&self, container: &str) -> bool {
        let key = names::parse_container(container).map_or(0, |parsed| parsed.key);
        !self.apps.contains_key(&AppKey { key, stage: Stage::Dev })
    }

    fn say_of_transfer(&mut self, container: &str, text: &str) {
        self.logs(LogCommand::Say { container: container.to_owned(), text: text.to_owned() });
    }

    fn container_of(&self, number: u64) -> Option<String> {
        let has = |line: &Line| line.transfer.as_ref().is_some_and(|transfer| transfer.number == number);
        self.transfers.lines.iter().find(|(_, line)| has(line)).map(|(container, _)| container.clone())
    }
}

fn done(outcome: Outcome) -> Result<(), String> {
    match outcome {
        Outcome::Done => Ok(()),
        Outcome::Failed(text) | Outcome::EngineGone(text) => Err(text),
        Outcome::Cancelled => Err("the agent is shutting down".to_owned()),
        other => Err(format!("unexpected {other:?}")),
    }
}
