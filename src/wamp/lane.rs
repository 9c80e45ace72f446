//! The bulk lane: publications that may wait and may be dropped (logs, terminal output; field lesson C2).
//!
//! Producers are any threads and never block; the `wamp` thread takes entries out when it has nothing better to do. A
//! byte budget and a number of entries bound it: over either, the oldest droppable entries go and are counted. What is
//! not droppable is queued again behind them. Without a session there is nobody to publish to: entries are discarded.

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Bytes of payload that may wait.
pub const BUDGET: usize = 1024 * 1024;
const ENTRIES: usize = 2048;
/// Entries that are not droppable may exceed the budget by this factor; then they go too.
const HARD_FACTOR: usize = 4;

/// The lane. Clones are the same lane.
#[derive(Debug, Clone)]
pub struct Bulk {
    entries: Sender<Box<Entry>>,
    oldest: Receiver<Box<Entry>>,
    gauge: Arc<Gauge>,
}

/// A publication that waits.
#[derive(Debug)]
pub struct Entry {
    /// The topic.
    pub topic: String,
    /// Positional arguments.
    pub args: Vec<Value>,
    droppable: bool,
    weight: usize,
}

#[derive(Debug)]
struct Gauge {
    open: AtomicBool,
    bytes: AtomicUsize,
    dropped: AtomicUsize,
    budget: usize,
}

impl Bulk {
    /// An empty, closed lane for about `budget` bytes.
    pub fn new(budget: usize) -> Bulk {
        let (entries, oldest) = bounded(ENTRIES);
        let (open, bytes, dropped) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
        Bulk { entries, oldest, gauge: Arc::new(Gauge { open, bytes, dropped, budget }) }
    }

    /// Queues a publication, behind the ones before it. Never blocks.
    pub fn publish(&self, topic: String, args: Vec<Value>, droppable: bool) {
        if !self.gauge.open.load(Ordering::SeqCst) {
            return;
        }
        let weight = topic.len() + args.iter().map(weight).sum::<usize>();
        let limit = if droppable { self.gauge.budget } else { self.gauge.budget.saturating_mul(HARD_FACTOR) };
        self.make_room(weight);
        if self.gauge.bytes.load(Ordering::SeqCst).saturating_add(weight) > limit {
            self.gauge.dropped.fetch_add(1, Ordering::SeqCst);
            return;
        }
        self.gauge.bytes.fetch_add(weight, Ordering::SeqCst);
        self.push(Box::new(Entry { topic, args, droppable, weight }));
    }

    /// Whether the lane is over half full: a sign to send less.
    pub fn is_crowded(&self) -> bool {
        self.gauge.bytes.load(Ordering::SeqCst) > self.gauge.budget / 2
    }

    /// How many entries were dropped for lack of room, since the start (wraps with the machine's word).
    pub fn dropped(&self) -> usize {
        self.gauge.dropped.load(Ordering::SeqCst)
    }

    /// Opens or closes the lane; a closed one is empty.
    pub(super) fn set_open(&self, open: bool) {
        self.gauge.open.store(open, Ordering::SeqCst);
        if !open {
            while self.pop().is_some() {}
        }
    }

    /// The oldest entry.
    pub(super) fn pop(&self) -> Option<Entry> {
        let entry = self.oldest.try_recv().ok()?;
        self.gauge.bytes.fetch_sub(entry.weight, Ordering::SeqCst);
        Some(*entry)
    }

    /// Readable when there is an entry.
    pub(super) fn input(&self) -> &Receiver<Box<Entry>> {
        &self.oldest
    }

    /// Drops the oldest droppable entries until one more of this weight fits.
    fn make_room(&self, weight: usize) {
        let mut kept = Vec::new();
        for _ in 0..self.oldest.len() {
            let bytes = self.gauge.bytes.load(Ordering::SeqCst).saturating_add(weight);
            if bytes <= self.gauge.budget && self.entries.len() + kept.len() < ENTRIES {
                break;
            }
            match self.oldest.try_recv() {
                Ok(entry) if entry.droppable => self.drop_entry(&entry),
                Ok(entry) => kept.push(entry),
                Err(_) => break,
            }
        }
        for entry in kept {
            self.push(entry);
        }
    }

    /// Queues an entry that is accounted for; if other producers have taken the room meanwhile, the oldest goes.
    fn push(&self, mut entry: Box<Entry>) {
        for _ in 0..8 {
            match self.entries.try_send(entry) {
                Ok(()) => return,
                Err(TrySendError::Full(back) | TrySendError::Disconnected(back)) => entry = back,
            }
            if let Ok(oldest) = self.oldest.try_recv() {
                self.drop_entry(&oldest);
            }
        }
        self.drop_entry(&entry);
    }

    fn drop_entry(&self, entry: &Entry) {
        self.gauge.bytes.fetch_sub(entry.weight, Ordering::SeqCst);
        self.gauge.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

/// About the bytes that a value takes.
fn weight(value: &Value) -> usize {
    8 + match value {
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(weight).sum(),
        Value::Object(map) => map.iter().map(|(key, value)| key.len() + weight(value)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(budget: usize) -> Bulk {
        let bulk = Bulk::new(budget);
        bulk.set_open(true);
        bulk
    }

    fn drain(bulk: &Bulk) -> Vec<String> {
        std::iter::from_fn(|| bulk.pop()).map(|entry| entry.topic).collect()
    }

    #[test]
    fn entries_come_out_in_the_order_they_went_in() {
        let bulk = open(BUDGET);
        for topic in ["a", "b", "c"] {
            bulk.publish(topic.to_owned(), vec![Value::Null], true);
        }
        assert_eq!(drain(&bulk), ["a", "b", "c"]);
        assert_eq!(bulk.dropped(), 0);
    }

    #[test]
    fn c2_over_budget_the_oldest_droppable_go_and_the_others_stay() {
        let bulk = open(1000);
        bulk.publish("end".to_owned(), vec![], false);
        for number in 0..50 {
            bulk.publish(format!("line {number:02}"), vec!["x".repeat(85).into()], true); // 100 bytes each
        }
        let left = drain(&bulk);
        assert!(left.contains(&"end".to_owned()), "{left:?}");
        assert_eq!(left.last().map(String::as_str), Some("line 49"));
        assert_eq!(left.len() + bulk.dropped(), 51);
        assert!((8..=10).contains(&left.len()), "{left:?}");
        let lines: Vec<_> = left.iter().filter(|topic| topic.starts_with("line")).collect();
        assert!(lines.is_sorted(), "{lines:?}");
        assert_eq!(bulk.gauge.bytes.load(Ordering::SeqCst), 0, "everything is accounted for");
    }

    #[test]
    fn c2_a_flood_of_small_or_of_undroppable_entries_is_bounded_too() {
        let bulk = open(usize::MAX);
        for _ in 0..ENTRIES + 100 {
            bulk.publish(String::new(), vec![], true);
        }
        assert_eq!((drain(&bulk).len(), bulk.dropped()), (ENTRIES, 100));
        let bulk = open(1000);
        for _ in 0..1000 {
            bulk.publish("x".repeat(100), vec![], false);
        }
        assert_eq!((drain(&bulk).len(), bulk.dropped()), (40, 960));
        bulk.publish("x".repeat(1001), vec![], true);
        assert_eq!(drain(&bulk).len(), 0, "larger than the whole budget");
    }

    #[test]
    fn a_closed_lane_discards() {
        let bulk = Bulk::new(BUDGET);
        bulk.publish("before".to_owned(), vec![], false);
        bulk.set_open(true);
        bulk.publish("during".to_owned(), vec![], true);
        bulk.set_open(false);
        bulk.publish("after".to_owned(), vec![], false);
        bulk.set_open(true);
        assert_eq!(drain(&bulk), [""; 0]);
        assert_eq!(bulk.dropped(), 0, "that nobody listens is no loss");
    }

    #[test]
    fn many_producers_never_block_and_the_account_stays_right() {
        let bulk = open(10_000);
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let bulk = bulk.clone();
                let body = move || {
                    for number in 0..5000 {
                        bulk.publish(format!("{thread} {number}"), vec!["payload".into()], number % 10 != 0);
                    }
                };
                crate::thread::spawn("producer", |_| {}, body).unwrap()
            })
            .collect();
        let mut taken = 0;
        while threads.iter().any(|thread| !thread.is_finished()) {
            taken += usize::from(bulk.pop().is_some());
        }
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(taken + drain(&bulk).len() + bulk.dropped(), 20_000);
        assert_eq!(bulk.gauge.bytes.load(Ordering::SeqCst), 0);
    }
}
