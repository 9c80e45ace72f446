//! Whether what the agent reported was so: its reports beside the engine's own record. Pure.
//!
//! A report of a settled state has to have been true at some moment of its window: a slack before it arrived, for the way
//! from the agent's decision to the backend on a busy machine. If the agent was off line, dead or without an
//! answering engine in that time, the window begins before that: what it knew then is what it could tell.

use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// A stretch of time; without an end it goes on.
type Span = (Duration, Option<Duration>);

/// When something was so.
#[derive(Debug, Clone, Default, PartialEq)]
struct Spans {
    sure: Vec<Span>,
    /// The engine was away, and afterwards it was otherwise.
    unsure: Vec<Span>,
}

fn meets(span: &Span, from: Duration, to: Duration) -> bool {
    span.0 <= to && span.1.is_none_or(|end| end >= from)
}

impl Spans {
    /// Whether it may have been so at some moment from `from` to `to`.
    fn at_times(&self, from: Duration, to: Duration) -> bool {
        self.sure.iter().chain(&self.unsure).any(|span| meets(span, from, to))
    }

    /// Whether it was so at every moment from `from` to `to`.
    fn throughout(&self, from: Duration, to: Duration) -> bool {
        let mut spans: Vec<&Span> = self.sure.iter().filter(|span| meets(span, from, to)).collect();
        spans.sort();
        let mut covered = from;
        for (begin, end) in spans {
            if *begin > covered {
                return false;
            }
            match end {
                None => return true,
                Some(end) => covered = covered.max(*end),
            }
        }
        covered > to
    }
}

/// What the engine told of one app.
#[derive(Debug, Clone, Default)]
pub struct Timeline {
    /// A container of it runs.
    runs: BTreeMap<String, Spans>,
    /// A container of it is there.
    exists: BTreeMap<String, Spans>,
    /// When one of its images was given a name.
    named: Vec<Duration>,
}

/// Something that an engine has told, or that was found when it was back.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    Created,
    Started,
    Ended,
    Destroyed,
    /// An image of the app has got a name.
    Named,
    /// It was away from this moment on; now it is found running, or not, or gone.
    Found {
        since: Duration,
        runs: bool,
        exists: bool,
    },
}

fn begin(spans: &mut Spans, at: Duration) {
    if spans.sure.last().is_none_or(|(_, end)| end.is_some()) {
        spans.sure.push((at, None));
    }
}

fn end(spans: &mut Spans, at: Duration) {
    if let Some((_, open @ None)) = spans.sure.last_mut() {
        *open = Some(at);
    }
}

/// What was so before an outage may have ended at any moment of it, and what is so after it may have begun then.
fn find(spans: &mut Spans, since: Duration, at: Duration, is_so: bool) {
    let was_so = spans.sure.last().is_some_and(|(_, end)| end.is_none());
    match (was_so, is_so) {
        (true, false) => end(spans, since),
        (false, true) => begin(spans, at),
        _ => return,
    }
    spans.unsure.push((since, Some(at)));
}

impl Timeline {
    /// The engine told this of a container (or image) of the app.
    pub fn tell(&mut self, at: Duration, id: &str, told: &Told) {
        let runs = self.runs.entry(id.to_owned()).or_default();
        let exists = self.exists.entry(id.to_owned()).or_default();
        match told {
            Told::Created => begin(exists, at),
            Told::Started => {
                begin(exists, at);
                begin(runs, at);
            }
            Told::Ended => end(runs, at),
            Told::Destroyed => {
                end(runs, at);
                end(exists, at);
            }
            Told::Named => self.named.push(at),
            Told::Found { since, runs: is_running, exists: is_there } => {
                find(runs, *since, at, *is_running);
                find(exists, *since, at, *is_there);
            }
        }
    }

    /// Containers that are there as far as was told, for [`Told::Found`] of those that are not any more.
    pub fn known(&self) -> impl Iterator<Item = &str> {
        let is_open = |spans: &Spans| spans.sure.last().is_some_and(|(_, end)| end.is_none());
        self.exists.iter().filter(move |(_, spans)| is_open(spans)).map(|(id, _)| id.as_str())
    }

    fn may_run(&self, from: Duration, to: Duration) -> bool {
        self.runs.values().any(|spans| spans.at_times(from, to))
    }

    /// Whether there was a moment in which nothing of it ran.
    fn may_rest(&self, from: Duration, to: Duration) -> bool {
        rests(&self.runs, from, to)
    }
}

/// Whether there was a moment in which none of these was so.
fn rests(all: &BTreeMap<String, Spans>, from: Duration, to: Duration) -> bool {
    let sure = all.values().flat_map(|spans| spans.sure.iter().copied()).collect();
    !Spans { sure, unsure: Vec::new() }.throughout(from, to)
}

/// A state report as it arrived.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    pub at: Duration,
    pub state: String,
    pub update_status: String,
}

impl Report {
    /// `None` for a port report.
    pub fn of(at: Duration, argument: &Value) -> Option<Report> {
        let text = |key: &str| argument[key].as_str().map(str::to_owned);
        Some(Report { at, state: text("state")?, update_status: text("updateStatus").unwrap_or_default() })
    }
}

/// How many reports were judged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Judged {
    /// All reports.
    pub reports: usize,
    /// Those of states that the engine can confirm or deny.
    pub settled: usize,
    /// Those of them whose window was longer than the slack.
    pub wide: usize,
}

/// Judges the reports of one app, in order. `outages`: when the agent was off line, dead, or without an answering engine;
/// `slack`: how old a report may be when it arrives.
///
/// # Errors
/// What was not true.
pub fn judge(reports: &[Report], timeline: &Timeline, outages: &[Span], slack: Duration) -> Result<Judged, String> {
    let mut judged = Judged { reports: reports.len(), ..Judged::default() };
    let mut building = None;
    for (number, report) in reports.iter().enumerate() {
        let to = report.at;
        let shortest = to.saturating_sub(slack);
        let of_outage = outages.iter().filter(|span| meets(span, shortest, to)).map(|span| span.0);
        let from = of_outage.map(|begin| begin.saturating_sub(slack)).min().unwrap_or(shortest).min(shortest);
        // Decision 30: an update is confirmed, or called off (the release before may have to be fetched), while a release
        // runs. What is found in the middle of an update counts as present, whatever runs (table of 5.4). And one whose
        // download has failed has failed, though the release before runs on (3.0).
        let before = number.checked_sub(1).map_or("", |before| reports[before].state.as_str());
        let of_update = report.update_status == "pending_remote_confirmation"
            || before == "UPDATING"
            || (report.update_status == "canceled" && before == "STARTING");
        let is_true = match report.state.as_str() {
            "RUNNING" => timeline.may_run(from, to),
            "PRESENT" | "FAILED" if of_update => continue,
            "PRESENT" | "FAILED" | "REMOVED" => timeline.may_rest(from, to),
            "UNINSTALLED" => rests(&timeline.exists, from, to),
            "BUILT" => {
                let since = building.unwrap_or(from);
                timeline.named.iter().any(|at| (since..=to).contains(at))
            }
            "BUILDING" => {
                building = Some(from);
                continue;
            }
            _ => continue,
        };
        judged.settled += 1;
        judged.wide += usize::from(from < shortest);
        if !is_true {
            let before: Vec<String> = reports[number.saturating_sub(4)..=number].iter().map(shown).collect();
            return Err(format!(
                "{} at {:.3} was not true from {:.3} on: reports {before:?}, runs {:?}",
                report.state,
                to.as_secs_f64(),
                from.as_secs_f64(),
                timeline.runs
            ));
        }
    }
    Ok(judged)
}

fn shown(report: &Report) -> String {
    format!("{} {} at {:.3}", report.state, report.update_status, report.at.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLACK: Duration = Duration::from_secs(1);

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn report(millis: u64, state: &str) -> Report {
        Report { at: at(millis), state: state.to_owned(), update_status: String::new() }
    }

    fn verdict(report: Report, timeline: &Timeline, outages: &[Span]) -> bool {
        judge(&[report], timeline, outages, SLACK).is_ok()
    }

    /// Runs from 10 s to 20 s, is there from 9 s to 30 s.
    fn life() -> Timeline {
        let mut timeline = Timeline::default();
        let story = [(9_000, Told::Created), (10_000, Told::Started), (20_000, Told::Ended), (30_000, Told::Destroyed)];
        story.iter().for_each(|(millis, told)| timeline.tell(at(*millis), "a", told));
        timeline
    }

    #[test]
    fn a_running_app_was_running_a_moment_ago_at_the_earliest() {
        let life = life();
        for (millis, is_true) in [(9_999, false), (10_000, true), (20_500, true), (21_000, true), (21_001, false)] {
            assert_eq!(verdict(report(millis, "RUNNING"), &life, &[]), is_true, "{millis}");
        }
    }

    #[test]
    fn an_app_at_rest_had_a_moment_in_which_nothing_of_it_ran() {
        let life = life();
        for state in ["PRESENT", "FAILED", "REMOVED"] {
            for (millis, is_true) in [(9_000, true), (10_999, true), (11_500, false), (19_999, false), (20_001, true)] {
                assert_eq!(verdict(report(millis, state), &life, &[]), is_true, "{state} {millis}");
            }
        }
        // One service after the other: something ran all the time.
        let mut project = life.clone();
        project.tell(at(19_000), "b", &Told::Started);
        assert!(!verdict(report(20_500, "FAILED"), &project, &[]));
        assert!(verdict(report(20_500, "RUNNING"), &project, &[]));
    }

    #[test]
    fn an_uninstalled_app_has_no_container_at_all() {
        let life = life();
        for (millis, is_true) in [(9_500, true), (10_500, false), (29_999, false), (30_001, true)] {
            assert_eq!(verdict(report(millis, "UNINSTALLED"), &life, &[]), is_true, "{millis}");
        }
    }

    #[test]
    fn an_outage_widens_the_window_to_what_was_known_before_it() {
        let life = life();
        let outage = [(at(20_500), Some(at(40_000)))];
        assert!(verdict(report(40_100, "RUNNING"), &life, &outage), "it was so when the session was lost");
        assert!(!verdict(report(41_100, "RUNNING"), &life, &outage), "that was long ago");
        assert!(!verdict(report(40_100, "RUNNING"), &life, &[(at(22_000), Some(at(40_000)))]));
        assert!(verdict(report(40_100, "RUNNING"), &life, &[(at(20_500), None)]), "it has not ended yet");
    }

    #[test]
    fn what_changed_while_the_engine_was_away_may_have_changed_at_any_moment() {
        let mut timeline = Timeline::default();
        timeline.tell(at(1_000), "a", &Told::Started);
        let gone = Told::Found { since: at(10_000), runs: false, exists: true };
        timeline.tell(at(20_000), "a", &gone);
        assert!(
            verdict(report(15_000, "RUNNING"), &timeline, &[]) && verdict(report(15_000, "FAILED"), &timeline, &[])
        );
        assert!(!verdict(report(22_000, "RUNNING"), &timeline, &[]));
        assert_eq!(timeline.known().collect::<Vec<_>>(), ["a"]);
        timeline.tell(at(30_000), "a", &Told::Found { since: at(25_000), runs: true, exists: true });
        assert!(verdict(report(27_000, "RUNNING"), &timeline, &[]));
        assert!(!verdict(report(33_000, "PRESENT"), &timeline, &[]));
        // What was running before and after is taken to have run all the time.
        timeline.tell(at(50_000), "a", &Told::Found { since: at(40_000), runs: true, exists: true });
        assert!(!verdict(report(45_000, "FAILED"), &timeline, &[]));
    }

    #[test]
    fn the_confirmation_of_an_update_is_excepted_and_nothing_else_that_says_present() {
        let life = life();
        let confirmed = Report { update_status: "pending_remote_confirmation".to_owned(), ..report(15_000, "PRESENT") };
        assert!(verdict(confirmed.clone(), &life, &[]));
        assert!(!verdict(Report { update_status: "completed".to_owned(), ..confirmed }, &life, &[]));
    }

    #[test]
    fn a_build_has_made_an_image_since_it_was_begun() {
        let reports = [report(5_000, "BUILDING"), report(8_000, "BUILT")];
        let mut timeline = Timeline::default();
        timeline.tell(at(3_000), "image", &Told::Named);
        assert!(judge(&reports, &timeline, &[], SLACK).is_err());
        timeline.tell(at(7_000), "image", &Told::Named);
        assert_eq!(judge(&reports, &timeline, &[], SLACK), Ok(Judged { reports: 2, settled: 1, wide: 0 }));
    }
}
