//! The threads `job-0`, `job-1`, ... of the lanes, and the [`Handle`] with which the state thread gives them work.
//!
//! The first worker of each lane is there from the start, the others come when there is more to do than workers; none
//! goes before the handle does. Knows nothing of what jobs do.
//!
//! **Invariant:** [`Handle::start`] and [`Handle::cancel`] never block, and whoever claims a task first ends it, once.

use super::Event;
use crate::cancel::Cancel;
use crate::clock;
use crate::domain::job::{JobId, JobSpec, Lane, Outcome};
use crate::probe::Probe;
use crate::thread::{self, Exit, panic_text};
use crossbeam_channel::{Receiver, Sender, unbounded};
use log::{error, warn};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Stack of a worker: a download does its TLS there.
const STACK: usize = 512 * 1024;
/// How long [`Handle::stop`] waits for the workers.
const PARTING: Duration = Duration::from_secs(2);

/// A job on its way. Not `Debug`: a spec carries the secrets of an app.
#[derive(Clone)]
pub(super) struct Task {
    pub(super) job: JobId,
    pub(super) spec: Arc<JobSpec>,
    /// Ends it early.
    pub(super) cancel: Cancel,
    /// Taken by the worker that ends it.
    claimed: Arc<AtomicBool>,
}

impl Task {
    /// Whether the caller is the one who has to end it.
    fn claim(&self) -> bool {
        !self.claimed.swap(true, Ordering::SeqCst)
    }
}

/// What a worker takes from its queue.
enum Order {
    Do(Task),
    /// Answered by being taken.
    Probe(Probe),
}

/// Workers of one kind, and what waits for them. The queue holds a task per job of the core, which is bounded there.
#[derive(Debug)]
struct Queue {
    orders: Sender<Order>,
    waiting: Receiver<Order>,
    limit: usize,
    workers: Cell<usize>,
}

impl Queue {
    fn new(limit: usize) -> Queue {
        let (orders, waiting) = unbounded();
        Queue { orders, waiting, limit, workers: Cell::new(0) }
    }
}

type SpawnWorker = Box<dyn Fn(usize, Receiver<Order>) -> io::Result<()> + Send>;

/// What the state thread holds. Dropping it cancels everything.
pub struct Handle {
    transfer: Queue,
    control: Queue,
    query: Queue,
    local: Queue,
    spawn_worker: SpawnWorker,
    /// Threads so far: the number of the next one.
    threads: Cell<usize>,
    /// What has not ended, as far as `ended` has been read.
    tasks: RefCell<BTreeMap<JobId, Task>>,
    ended: Receiver<JobId>,
    exits: Receiver<usize>,
}

impl Handle {
    /// Starts the first workers. `perform` does a task and may call its second argument when the Engine has accepted it.
    pub(super) fn new(
        perform: impl Fn(&Task, &dyn Fn()) -> Outcome + Send + Sync + 'static,
        emit: impl Fn(Event) + Send + Sync + 'static,
        on_exit: impl Fn(Exit) + Send + Sync + 'static,
    ) -> io::Result<Handle> {
        let (ends, ended) = unbounded();
        let (goodbyes, exits) = unbounded();
        let (worker, on_exit) = (Arc::new(Worker { perform, emit, ends }), Arc::new(on_exit));
        let spawn_worker = Box::new(move |number, waiting: Receiver<Order>| {
            let (worker, on_exit, goodbyes) = (worker.clone(), on_exit.clone(), goodbyes.clone());
            let at_exit = move |exit| {
                let _ = goodbyes.send(number);
                on_exit(exit);
            };
            let body = move || {
                for order in &waiting {
                    match order {
                        Order::Do(task) => worker.take(&task),
                        Order::Probe(probe) => probe.answer(),
                    }
                }
            };
            thread::spawn_with_stack(&format!("job-{number}"), STACK, at_exit, body).map(drop)
        });
        let handle = Handle {
            transfer: Queue::new(2),
            control: Queue::new(4),
            query: Queue::new(2),
            local: Queue::new(1),
            spawn_worker,
            threads: Cell::new(0),
            tasks: RefCell::default(),
            ended,
            exits,
        };
        for queue in [&handle.control, &handle.transfer, &handle.query, &handle.local] {
            handle.add_worker(queue)?;
        }
        Ok(handle)
    }

    /// Hands a job over. Never blocks.
    pub fn start(&self, job: JobId, spec: JobSpec) {
        self.forget_ended();
        let lane = spec.lane();
        let task = Task { job, spec: Arc::new(spec), cancel: Cancel::new(), claimed: Arc::default() };
        let mut tasks = self.tasks.borrow_mut();
        tasks.insert(job, task.clone());
        let unfinished = tasks.values().filter(|task| task.spec.lane() == lane).count();
        let queue = self.queue(lane);
        if unfinished > queue.workers.get()
            && queue.workers.get() < queue.limit
            && let Err(error) = self.add_worker(queue)
        {
            warn!("no further worker for jobs: {error}");
        }
        drop(queue.orders.send(Order::Do(task)));
    }

    /// Ends a job early; it ends as [`Outcome::Cancelled`], or as it just did. One that is not known any more is nothing.
    /// Never blocks.
    pub fn cancel(&self, job: JobId) {
        self.forget_ended();
        if let Some(task) = self.tasks.borrow().get(&job) {
            task.cancel.cancel();
            // It may be waiting behind transfers that take hours: the worker that never waits for anything ends it.
            drop(self.local.orders.send(Order::Do(task.clone())));
        }
    }

    /// Asks the worker of the local lane whether it works: the others may wait for an engine, and for hours. Never blocks.
    pub fn probe(&self, probe: Probe) {
        drop(self.local.orders.send(Order::Probe(probe)));
    }

    /// Cancels everything and waits for the workers, at most 2 s: the names of the threads that did not end in time. Who
    /// reads the events should go on doing so, on another thread, or have gone.
    pub fn stop(self) -> Vec<String> {
        let mut left: Vec<usize> = (0..self.threads.get()).collect();
        let exits = self.exits.clone();
        drop(self);
        let deadline = clock::mono() + PARTING;
        while !left.is_empty()
            && let Ok(number) = exits.recv_timeout(deadline.saturating_sub(clock::mono()))
        {
            left.retain(|other| *other != number);
        }
        left.into_iter().map(|number| format!("job-{number}")).collect()
    }

    fn queue(&self, lane: Lane) -> &Queue {
        match lane {
            Lane::Transfer => &self.transfer,
            Lane::Control => &self.control,
            Lane::Query => &self.query,
            Lane::Local => &self.local,
        }
    }

    fn add_worker(&self, queue: &Queue) -> io::Result<()> {
        let number = self.threads.get();
        (self.spawn_worker)(number, queue.waiting.clone())?;
        self.threads.set(number + 1);
        queue.workers.set(queue.workers.get() + 1);
        Ok(())
    }

    fn forget_ended(&self) {
        let mut tasks = self.tasks.borrow_mut();
        self.ended.try_iter().for_each(|job| drop(tasks.remove(&job)));
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.tasks.borrow().values().for_each(|task| task.cancel.cancel());
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("jobs", &self.tasks.borrow().keys()).finish_non_exhaustive()
    }
}

/// What all workers share.
struct Worker<P, E> {
    perform: P,
    emit: E,
    ends: Sender<JobId>,
}

impl<P: Fn(&Task, &dyn Fn()) -> Outcome, E: Fn(Event)> Worker<P, E> {
    /// Does a task, unless somebody else has it; one that was cancelled before ends without being begun.
    fn take(&self, task: &Task) {
        if !task.claim() {
            return;
        }
        let outcome = if task.cancel.is_cancelled() { Outcome::Cancelled } else { self.guarded(task) };
        let _ = self.ends.send(task.job);
        (self.emit)(Event::Ended { job: task.job, outcome });
    }

    /// A panic is the end of the job, not of the worker.
    fn guarded(&self, task: &Task) -> Outcome {
        let accepted = || (self.emit)(Event::Accepted(task.job));
        catch_unwind(AssertUnwindSafe(|| (self.perform)(task, &accepted))).unwrap_or_else(|payload| {
            let text = format!("job {} panicked: {}", task.job, panic_text(&*payload));
            error!("{text}");
            Outcome::Failed(text)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::job::Query;
    use crate::probe::Round;
    use crate::secret::Secret;

    const LIMIT: Duration = Duration::from_secs(10);

    fn pull(container: &str) -> JobSpec {
        let (username, password) = (Secret::default(), Secret::default());
        JobSpec::Pull { image: String::new(), username, password, container: container.to_owned() }
    }

    /// Pulls and listings last until they are cancelled, a stop of `panic` panics, everything else is done at once.
    fn pool() -> (Handle, Receiver<Event>, Receiver<Exit>) {
        let (events, seen) = unbounded();
        let (ends, exits) = unbounded();
        let perform = |task: &Task, accepted: &dyn Fn()| match &*task.spec {
            JobSpec::Pull { .. } | JobSpec::Query(Query::Containers) => {
                let (wake, woken) = crossbeam_channel::bounded::<()>(1);
                let _closer = task.cancel.on_cancel(move || {
                    let _ = wake.try_send(());
                });
                accepted();
                woken.recv_timeout(LIMIT).map_or(Outcome::Done, |()| Outcome::Cancelled)
            }
            JobSpec::Stop { container } => panic!("cannot stop {container}"),
            _ => Outcome::Done,
        };
        let handle =
            Handle::new(perform, move |event| drop(events.send(event)), move |exit| drop(ends.send(exit))).unwrap();
        (handle, seen, exits)
    }

    fn next(seen: &Receiver<Event>) -> Event {
        seen.recv_timeout(LIMIT).expect("an event")
    }

    fn ended(job: JobId, outcome: Outcome) -> Event {
        Event::Ended { job, outcome }
    }

    #[test]
    fn long_pulls_do_not_delay_short_jobs() {
        let (handle, seen, _) = pool();
        (1..=4).for_each(|job| handle.start(job, pull("app")));
        let mut begun = [next(&seen), next(&seen)];
        begun.sort_by_key(|event| format!("{event:?}"));
        assert_eq!(begun, [Event::Accepted(1), Event::Accepted(2)], "two at once");
        handle.start(5, JobSpec::Platform);
        assert_eq!(next(&seen), ended(5, Outcome::Done));
    }

    #[test]
    fn d1_questions_without_an_answer_delay_neither_apps_nor_the_machine_and_are_cancelled_while_they_wait() {
        let (handle, seen, _) = pool();
        let query = || JobSpec::Query(Query::Containers);
        (1..=50).for_each(|job| handle.start(job, query()));
        let _begun = [next(&seen), next(&seen)];
        handle.start(51, JobSpec::Look { container: "app".to_owned() });
        assert_eq!(next(&seen), ended(51, Outcome::Done));
        handle.start(52, JobSpec::Query(Query::Ipv4Addresses));
        assert_eq!(next(&seen), ended(52, Outcome::Done));
        (1..=50).rev().for_each(|job| handle.cancel(job));
        (1..=50).for_each(|_| assert!(matches!(next(&seen), Event::Ended { outcome: Outcome::Cancelled, .. })));
    }

    #[test]
    fn a_job_that_waits_behind_long_ones_is_cancelled_at_once_and_ends_once() {
        let (handle, seen, _) = pool();
        (1..=3).for_each(|job| handle.start(job, pull("app")));
        let _begun = [next(&seen), next(&seen)];
        handle.cancel(3);
        assert_eq!(next(&seen), ended(3, Outcome::Cancelled));
        handle.cancel(3);
        handle.cancel(1);
        assert_eq!(next(&seen), ended(1, Outcome::Cancelled));
        handle.start(4, JobSpec::Platform);
        assert_eq!(next(&seen), ended(4, Outcome::Done));
        handle.cancel(2);
        assert_eq!(next(&seen), ended(2, Outcome::Cancelled));
        handle.start(5, JobSpec::Platform);
        assert_eq!(next(&seen), ended(5, Outcome::Done), "nothing else about the others");
    }

    #[test]
    fn p2_a_job_that_panics_has_failed_and_its_worker_goes_on() {
        let (handle, seen, _) = pool();
        handle.start(1, JobSpec::Stop { container: "app".to_owned() });
        assert_eq!(next(&seen), ended(1, Outcome::Failed("job 1 panicked: cannot stop app".to_owned())));
        handle.start(2, JobSpec::Platform);
        assert_eq!(next(&seen), ended(2, Outcome::Done));
        assert_eq!(handle.threads.get(), 4, "no further worker was needed");
    }

    #[test]
    fn a_stop_cancels_everything_and_all_workers_end() {
        let (handle, seen, exits) = pool();
        (1..=3).for_each(|job| handle.start(job, pull("app")));
        let _begun = [next(&seen), next(&seen)];
        assert_eq!(handle.stop(), Vec::<String>::new());
        // The third may still have begun, in the place of one that was cancelled a moment before it.
        let mut ends: Vec<Event> = seen.iter().filter(|event| matches!(event, Event::Ended { .. })).collect();
        ends.sort_by_key(|event| format!("{event:?}"));
        assert_eq!(ends, [1, 2, 3].map(|job| ended(job, Outcome::Cancelled)));
        assert_eq!(exits.iter().collect::<Vec<_>>(), [const { Exit::Done }; 5]);
    }

    #[test]
    fn a_question_is_answered_by_the_worker_that_waits_for_nobody() {
        let (handle, seen, exits) = pool();
        let ask = || {
            let (probe, round) = Round::begin("jobs");
            handle.probe(probe);
            round
        };
        // Everybody else waits for an engine.
        (1..=6).for_each(|job| handle.start(job, pull("app")));
        (7..=9).for_each(|job| handle.start(job, JobSpec::Query(Query::Containers)));
        (1..=4).for_each(|_| drop(next(&seen)));
        assert!(ask().is_answered_within(LIMIT));
        let (probe, mut round) = Round::begin("jobs");
        handle.probe(probe.to("local"));
        assert!(!round.is_answered_within(Duration::ZERO), "the question was kept back");
        drop(probe);
        assert!(round.is_answered_within(LIMIT));
        assert_eq!(handle.stop(), Vec::<String>::new());
        assert_eq!(exits.iter().filter(|exit| *exit == Exit::Done).count(), 6);
    }

    #[test]
    fn workers_come_with_the_work_and_not_beyond_their_number() {
        let (handle, seen, _) = pool();
        let look = || JobSpec::Look { container: "app".to_owned() };
        (1..=100).for_each(|job| handle.start(job, look()));
        (1..=100).for_each(|_| drop(next(&seen)));
        assert!((4..=7).contains(&handle.threads.get()), "{}", handle.threads.get());
        handle.forget_ended();
        assert!(handle.tasks.borrow().is_empty());
    }
}
