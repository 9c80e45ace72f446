//! Whatever dies, is cancelled or goes away in whatever state of whatever action: each app ends where it was wanted, and
//! nothing is left over (S7, S4, decisions 17 and 22).
//!
//! [`states::ALL`] is the table: how a state is reached and held, and where the app ends after each [`Blow`]. The
//! ordinary tests take few rows. `make kills` takes those that are marked there, with `KILLS=all` all of them, with
//! `KILLS=text` those whose words contain it, and prints what each took.

mod leaks;
mod scene;
mod states;

use super::stage::progress;
use crate::util::wait_until;
use crossbeam_channel::unbounded;
use reagent::{clock, thread};
use scene::{Blow, Scene};
use states::State;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// After a failure the first attempt waits up to 6 s, a second up to 24 s; a trial lasts 12 s.
const RECOVERY: Duration = Duration::from_secs(120);
/// What a cancel may take, from the request to the report of its end (S4).
const PROMPT: Duration = Duration::from_secs(5);
/// The rows of the ordinary tests.
const SHORT: &str = "put back";
/// Scenes at once: they mostly wait.
const AT_ONCE: usize = 4;

/// Where an app ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It runs, in this version.
    Running(&'static str),
    /// It is installed.
    Present,
    /// It is gone, but for its data.
    Removed,
    /// It is gone.
    Uninstalled,
    /// This is reported, and nothing is done: a developer has to go on.
    Rests(&'static str),
    /// Its sources still arrive.
    Arrives,
}

impl End {
    fn state(self) -> &'static str {
        match self {
            End::Running(_) => "RUNNING",
            End::Present => "PRESENT",
            End::Removed => "REMOVED",
            End::Uninstalled => "UNINSTALLED",
            End::Rests(state) => state,
            End::Arrives => "TRANSFERING",
        }
    }
}

impl Scene {
    /// Waits until the app has come to rest: for a second nothing more was reported, and the engine agrees.
    #[track_caller]
    fn settles(&self, end: End) {
        let quiet = Duration::from_secs(1);
        wait_until(RECOVERY, &format!("it ends as {end:?}, it is {}", self.reported()), || {
            let calls = self.stage.backend.calls();
            let last = calls.iter().rfind(|call| call.argument()["app_key"] == self.app.app_key).map(|call| call.at);
            let rests = self.reported() == end.state() && last.is_none_or(|at| at + quiet < clock::mono());
            (rests && self.engine_has(end)).then_some(())
        });
    }
}

/// What came of a row: how long it took from the blow to the end, or of a cancel to its report.
struct Row {
    state: &'static State,
    blow: Blow,
    took: Result<Duration, String>,
}

fn play(state: &'static State, blow: Blow) -> Duration {
    let end = (state.end)(blow).expect("it has an end");
    let mut scene = Scene::new(blow, (state.app)());
    (state.reach)(&mut scene);
    progress(&format!("{}, {blow:?}", state.name));
    let began = clock::mono();
    let took = if blow == Blow::Cancel {
        let took = scene.cancels(state.cancel.expect("it has a target"), end.state());
        assert!(took < PROMPT, "the cancel took {took:?}");
        took
    } else {
        scene.falls();
        scene.settles(end);
        clock::mono().saturating_sub(began)
    };
    scene.settles(end);
    match end {
        End::Arrives => scene.finishes_its_upload(),
        End::Rests(_) if matches!(blow, Blow::Session | Blow::Outage) => scene.was_told_what_it_acts_on(),
        _ => {}
    }
    scene.leaves_nothing_else(end);
    took
}

fn words(state: &State, blow: Blow) -> String {
    format!("{} {blow:?}", state.name)
}

/// The rows of this run.
fn chosen() -> Vec<(&'static State, Blow)> {
    use Blow::{Agent, Cancel, Engine, EngineKilled, Outage, PowerAgentFirst, PowerEngineFirst, Session};
    const BLOWS: [Blow; 8] = [Agent, Engine, EngineKilled, PowerAgentFirst, PowerEngineFirst, Cancel, Session, Outage];
    let rows = states::ALL.iter().flat_map(|state| BLOWS.iter().map(move |blow| (state, *blow)));
    let rows = rows.filter(|(state, blow)| (state.end)(*blow).is_some());
    match std::env::var("KILLS").ok() {
        None => rows.filter(|(state, blow)| words(state, *blow).contains(SHORT)).collect(),
        Some(text) if text == "short" => rows.filter(|(state, blow)| state.short.contains(blow)).collect(),
        Some(all) if all == "all" => rows.collect(),
        Some(text) => rows.filter(|(state, blow)| words(state, *blow).contains(&text)).collect(),
    }
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

#[test]
fn s4_s7_x3_whatever_ends_in_the_middle_every_app_ends_as_it_was_wanted_and_nothing_is_left() {
    let began = clock::mono();
    let chosen = chosen();
    let count = chosen.len();
    assert!(count > 0, "no row has these words");
    let (give, take) = unbounded();
    chosen.into_iter().for_each(|row| give.send(row).expect("its other end is here"));
    drop(give);
    let (told, results) = unbounded();
    let worker = |n: usize| {
        let (take, told) = (take.clone(), told.clone());
        let body = move || {
            for (state, blow) in take {
                let took = catch_unwind(AssertUnwindSafe(|| play(state, blow))).map_err(|panic| text_of(&*panic));
                drop(told.send(Row { state, blow, took }));
            }
        };
        thread::spawn(&format!("kills-{n}"), |_| {}, body).expect("a thread starts")
    };
    let workers: Vec<_> = (0..AT_ONCE).map(worker).collect();
    drop(told);
    let mut rows: Vec<Row> = results.iter().collect();
    workers.into_iter().for_each(|worker| drop(worker.join()));
    rows.sort_by_key(|row| words(row.state, row.blow));
    let mut failed = Vec::new();
    for row in &rows {
        let shown = match &row.took {
            Ok(took) => format!("{:.1} s", took.as_secs_f64()),
            Err(text) => format!("FAILED: {text}"),
        };
        progress(&format!("| {} | {:?} | {shown} |", row.state.name, row.blow));
        if row.took.is_err() {
            failed.push(format!("{}: {shown}", words(row.state, row.blow)));
        }
    }
    let took = clock::mono().saturating_sub(began);
    progress(&format!("{} of {count} rows, {:.0} s", count - failed.len(), took.as_secs_f64()));
    assert!(rows.len() == count && failed.is_empty(), "{} of {count} rows:\n{}", failed.len(), failed.join("\n"));
}
