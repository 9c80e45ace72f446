//! The bulk lane: publications that may wait and may be dropped (logs, terminal output; field lesson C2).
//!
//! Producers are any threads and never block; the `wamp` thread takes entries out when it has nothing better to do. A
//! byte budget and a number of entries bound it: over either, the oldest droppable entries go and are counted. What is
//! not droppable waits in a queue of its own and is merged in by number, so that dropping moves nothing. Without a
//! session there is nobody to publish to: entries are discarded. A producer that heeds [`Bulk::room`] loses nothing here.
//!
//! **Invariant:** what one producer published comes out in that order, with gaps at droppable entries alone.

mod pace;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use pace::Pace;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Bytes of payload that may wait.
pub const BUDGET: usize = 1024 * 1024;
/// Entries of each kind that may wait.
const ENTRIES: usize = 2048;
/// Entries that are not droppable may exceed the budget by this factor; then further ones are dropped too.
const HARD_FACTOR: usize = 4;

/// The lane. Clones are the same lane.
#[derive(Debug, Clone)]
pub struct Bulk {
    droppable: Queue,
    kept: Queue,
    gauge: Arc<Gauge>,
}

#[derive(Debug, Clone)]
struct Queue {
    entries: Sender<Box<Entry>>,
    oldest: Receiver<Box<Entry>>,
}

/// A publication that waits.
#[derive(Debug)]
pub struct Entry {
    /// The topic.
    pub topic: String,
    /// Positional arguments.
    pub args: Vec<Value>,
    weight: usize,
    /// Its place among the entries of both queues.
    number: usize,
}

#[derive(Debug)]
struct Gauge {
    open: AtomicBool,
    bytes: AtomicUsize,
    dropped: AtomicUsize,
    next: AtomicUsize,
    /// What may be handed over at once to an empty lane.
    room: AtomicUsize,
    budget: usize,
}

impl Bulk {
    /// An empty, closed lane for about `budget` bytes.
    pub fn new(budget: usize) -> Bulk {
        let queue = || {
            let (entries, oldest) = bounded(ENTRIES);
            Queue { entries, oldest }
        };
        let (open, zero) = (AtomicBool::new(false), || AtomicUsize::new(0));
        let gauge = Gauge { open, bytes: zero(), dropped: zero(), next: zero(), room: pace::MOST.into(), budget };
        Bulk { droppable: queue(), kept: queue(), gauge: Arc::new(gauge) }
    }

    /// Queues a publication, behind the ones before it. Never blocks.
    pub fn publish(&self, topic: String, args: Vec<Value>, droppable: bool) {
        let gauge = &self.gauge;
        if !gauge.open.load(Ordering::SeqCst) {
            return;
        }
        let weight = topic.len() + args.iter().map(weight).sum::<usize>();
        self.make_room(weight);
        let limit = if droppable { gauge.budget } else { gauge.budget.saturating_mul(HARD_FACTOR) };
        if gauge.bytes.load(Ordering::SeqCst).saturating_add(weight) > limit {
            gauge.dropped.fetch_add(1, Ordering::SeqCst);
            return;
        }
        gauge.bytes.fetch_add(weight, Ordering::SeqCst);
        let number = gauge.next.fetch_add(1, Ordering::SeqCst);
        let mut entry = Box::new(Entry { topic, args, weight, number });
        let queue = if droppable { &self.droppable } else { &self.kept };
        // Other producers may take the room that is made; somebody gets it each time.
        for _ in 0..8 {
            match queue.entries.try_send(entry) {
                Ok(()) => return,
                Err(TrySendError::Full(back) | TrySendError::Disconnected(back)) => entry = back,
            }
            if !droppable {
                break;
            }
            if let Ok(oldest) = queue.oldest.try_recv() {
                self.drop_entry(&oldest);
            }
        }
        self.drop_entry(&entry);
    }

    /// How many bytes may be handed over now: about what the link takes in half a second, from 2 KiB to 256 KiB, and none
    /// while earlier ones wait.
    pub fn room(&self) -> usize {
        let gauge = &self.gauge;
        if gauge.bytes.load(Ordering::SeqCst) > 0 { 0 } else { gauge.room.load(Ordering::SeqCst) }
    }

    /// How many entries were dropped for lack of room, since the start (wraps with the machine's word).
    pub fn dropped(&self) -> usize {
        self.gauge.dropped.load(Ordering::SeqCst)
    }

    /// Drops the oldest droppable entries until one more of this weight fits.
    fn make_room(&self, weight: usize) {
        while self.gauge.bytes.load(Ordering::SeqCst).saturating_add(weight) > self.gauge.budget {
            match self.droppable.oldest.try_recv() {
                Ok(entry) => self.drop_entry(&entry),
                Err(_) => return,
            }
        }
    }

    fn drop_entry(&self, entry: &Entry) {
        self.gauge.bytes.fetch_sub(entry.weight, Ordering::SeqCst);
        self.gauge.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

/// The end of the lane that the `wamp` thread holds.
#[derive(Debug)]
pub(super) struct Outlet {
    bulk: Bulk,
    /// The first of each queue, taken out to be compared.
    droppable: Option<Box<Entry>>,
    kept: Option<Box<Entry>>,
    pace: Pace,
    /// [`Bulk::dropped`] when this was last looked at.
    dropped: usize,
    /// The loss was told in this session.
    told: bool,
}

impl Outlet {
    pub(super) fn new(bulk: Bulk) -> Outlet {
        Outlet { bulk, droppable: None, kept: None, pace: Pace::new(), dropped: 0, told: false }
    }

    /// Opens or closes the lane; both begin with an empty one, and with a link of which nothing is known.
    pub(super) fn set_open(&mut self, open: bool) {
        self.bulk.gauge.open.store(open, Ordering::SeqCst);
        while self.pop().is_some() {}
        (self.pace, self.told) = (Pace::new(), false);
        self.bulk.gauge.room.store(self.pace.room(), Ordering::SeqCst);
    }

    /// Measures the link by what is `under_way` on it; how much bulk may be added now, in bytes.
    pub(super) fn look(&mut self, now: Duration, under_way: usize) -> usize {
        self.pace.look(now, under_way, !self.is_empty());
        self.bulk.gauge.room.store(self.pace.room(), Ordering::SeqCst);
        let dropped = self.bulk.dropped();
        if std::mem::replace(&mut self.dropped, dropped) != dropped && !std::mem::replace(&mut self.told, true) {
            log::warn!("the link is too slow: log messages are dropped without a mark in the log");
        }
        self.pace.window().saturating_sub(under_way)
    }

    /// Bytes were written, bulk or other.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.pace.wrote(bytes);
    }

    /// Whether bulk waits or is under way: look again soon.
    pub(super) fn is_busy(&self) -> bool {
        self.pace.is_counting()
    }

    /// The oldest entry.
    pub(super) fn pop(&mut self) -> Option<Entry> {
        // Until neither brings anything new: a queue found empty after the other one's entry was seen had nothing before it.
        while fill(&mut self.droppable, &self.bulk.droppable) | fill(&mut self.kept, &self.bulk.kept) {}
        let droppable_first = match (&self.droppable, &self.kept) {
            (Some(droppable), Some(kept)) => droppable.number.wrapping_sub(kept.number).cast_signed() < 0,
            (droppable, _) => droppable.is_some(),
        };
        let entry = if droppable_first { self.droppable.take() } else { self.kept.take() }?;
        self.bulk.gauge.bytes.fetch_sub(entry.weight, Ordering::SeqCst);
        Some(*entry)
    }

    /// Whether there is nothing to pop.
    pub(super) fn is_empty(&self) -> bool {
        !self.has_taken() && self.inputs().iter().all(|input| input.is_empty())
    }

    /// Whether there is something to pop that makes no input readable.
    pub(super) fn has_taken(&self) -> bool {
        self.droppable.is_some() || self.kept.is_some()
    }

    /// Readable when there is another entry.
    pub(super) fn inputs(&self) -> [&Receiver<Box<Entry>>; 2] {
        [&self.bulk.droppable.oldest, &self.bulk.kept.oldest]
    }
}

/// Takes the first entry out of a queue, if there is no place for it yet; whether it did.
fn fill(head: &mut Option<Box<Entry>>, queue: &Queue) -> bool {
    if head.is_none() {
        *head = queue.oldest.try_recv().ok();
        return head.is_some();
    }
    false
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

    fn open(budget: usize) -> (Bulk, Outlet) {
        let bulk = Bulk::new(budget);
        let mut outlet = Outlet::new(bulk.clone());
        outlet.set_open(true);
        (bulk, outlet)
    }

    fn drain(outlet: &mut Outlet) -> Vec<String> {
        std::iter::from_fn(|| outlet.pop()).map(|entry| entry.topic).collect()
    }

    #[test]
    fn entries_come_out_in_the_order_they_went_in() {
        let (bulk, mut outlet) = open(BUDGET);
        for topic in ["a", "b", "c"] {
            bulk.publish(topic.to_owned(), vec![Value::Null], true);
        }
        assert_eq!(drain(&mut outlet), ["a", "b", "c"]);
        assert_eq!(bulk.dropped(), 0);
    }

    #[test]
    fn c2_over_budget_the_oldest_droppable_go_and_the_others_stay() {
        let (bulk, mut outlet) = open(1000);
        bulk.publish("end".to_owned(), vec![], false);
        for number in 0..50 {
            bulk.publish(format!("line {number:02}"), vec!["x".repeat(85).into()], true); // 100 bytes each
        }
        let left = drain(&mut outlet);
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
        let (bulk, mut outlet) = open(usize::MAX);
        for _ in 0..ENTRIES + 100 {
            bulk.publish(String::new(), vec![], true);
        }
        assert_eq!((drain(&mut outlet).len(), bulk.dropped()), (ENTRIES, 100));
        let (bulk, mut outlet) = open(1000);
        for _ in 0..1000 {
            bulk.publish("x".repeat(100), vec![], false);
        }
        assert_eq!((drain(&mut outlet).len(), bulk.dropped()), (40, 960));
        bulk.publish("x".repeat(1001), vec![], true);
        assert_eq!(drain(&mut outlet).len(), 0, "larger than the whole budget");
    }

    #[test]
    fn c2_what_is_kept_keeps_its_place_however_much_is_dropped_around_it() {
        let (bulk, mut outlet) = open(1000);
        let mut published = Vec::new();
        for number in 0..60 {
            let topic = format!("{number:02}");
            bulk.publish(topic.clone(), vec!["x".repeat(50).into()], number % 6 != 0); // 60 bytes each
            published.push(topic);
            if number % 20 == 0 {
                let first = outlet.pop().unwrap().topic; // one head of each kind is taken out now
                assert!(published.contains(&first));
            }
        }
        let left = drain(&mut outlet);
        assert!(left.is_sorted(), "{left:?}");
        let kept: Vec<_> = left.iter().filter(|topic| topic.parse::<u32>().unwrap() % 6 == 0).collect();
        assert!(kept.len() >= 7, "{left:?}");
        assert!(bulk.dropped() > 20 && left.last() == published.last(), "{left:?}");
        assert_eq!(left.len() + bulk.dropped() + 3, 60);
    }

    #[test]
    fn numbers_that_wrap_are_still_in_order() {
        let (bulk, mut outlet) = open(BUDGET);
        bulk.gauge.next.store(usize::MAX - 1, Ordering::SeqCst);
        for (topic, droppable) in [("a", true), ("b", false), ("c", true), ("d", false)] {
            bulk.publish(topic.to_owned(), vec![], droppable);
        }
        assert_eq!(drain(&mut outlet), ["a", "b", "c", "d"]);
    }

    #[test]
    fn c2_there_is_no_room_while_earlier_bulk_waits_and_a_new_session_starts_afresh() {
        let (bulk, mut outlet) = open(BUDGET);
        assert_eq!(bulk.room(), pace::MOST);
        bulk.publish("a".to_owned(), vec![], true);
        assert_eq!(bulk.room(), 0);
        for second in 0..20 {
            outlet.look(Duration::from_secs(second), 50_000);
        }
        assert!(outlet.is_busy());
        assert_eq!(outlet.look(Duration::from_secs(20), 50_000), 0);
        assert_eq!(drain(&mut outlet), ["a"]);
        assert_eq!(bulk.room(), 2048, "nothing leaves");
        assert!(outlet.look(Duration::from_secs(20), 0) >= 8192);
        assert!(!outlet.is_busy());
        outlet.set_open(false);
        outlet.set_open(true);
        assert_eq!(bulk.room(), pace::MOST);
    }

    #[test]
    fn a_closed_lane_discards() {
        let bulk = Bulk::new(BUDGET);
        let mut outlet = Outlet::new(bulk.clone());
        bulk.publish("before".to_owned(), vec![], false);
        outlet.set_open(true);
        bulk.publish("during".to_owned(), vec![], true);
        outlet.set_open(false);
        bulk.publish("after".to_owned(), vec![], false);
        outlet.set_open(true);
        assert_eq!(drain(&mut outlet), [""; 0]);
        assert_eq!(bulk.dropped(), 0, "that nobody listens is no loss");
    }

    #[test]
    fn many_producers_never_block_and_each_ones_order_and_the_account_stay_right() {
        let (bulk, mut outlet) = open(10_000);
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
        let mut last = [-1; 4];
        let mut take = |outlet: &mut Outlet| {
            let Some(entry) = outlet.pop() else { return 0 };
            let (thread, number) = entry.topic.split_once(' ').unwrap();
            let last = &mut last[thread.parse::<usize>().unwrap()];
            let number = number.parse().unwrap();
            assert!(*last < number, "{number} of thread {thread} comes after {last}");
            *last = number;
            1
        };
        while threads.iter().any(|thread| !thread.is_finished()) {
            taken += take(&mut outlet);
        }
        for thread in threads {
            thread.join().unwrap();
        }
        while take(&mut outlet) == 1 {
            taken += 1;
        }
        assert_eq!(taken + bulk.dropped(), 20_000);
        assert_eq!(bulk.gauge.bytes.load(Ordering::SeqCst), 0);
    }
}
