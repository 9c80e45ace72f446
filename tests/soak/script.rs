//! What happens in a run, made of its seed: twenty requests and the faults between them, each at its time. Pure.

use crate::fuzz::generator::Random;
use std::time::Duration;

/// Requests of a run.
pub const REQUESTS: usize = 20;
/// Apps of a run; [`Kind`] says what they are.
pub const APPS: usize = 4;

/// What an app is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Plain,
    Compose,
    /// In development: its sources are uploaded, and built.
    Development,
}

/// The apps of a run.
pub const KINDS: [Kind; APPS] = [Kind::Plain, Kind::Plain, Kind::Compose, Kind::Development];

/// A request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    Run,
    Stop,
    Remove,
    Uninstall,
    /// The other good version.
    Update,
    /// A version that ends at once.
    UpdateToBad,
    /// With `cancel_transition`, to be present, or removed.
    Cancel {
        removed: bool,
    },
    /// Upload the sources and build them.
    Build,
    Publish,
}

/// Something that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// The backend asks this of an app.
    Ask(usize, Wish),
    /// A running container of the apps ends by itself; which one, and its exit code.
    Exit(usize, i64),
    /// kill -9 of the agent, and its start after a while.
    Kill(Duration),
    /// The agent's session is lost.
    Cut,
    /// The engine answers nothing any more.
    Freeze,
    Thaw,
    /// The engine is restarted, and ends the containers before it goes.
    Restart,
    /// The registries refuse everything.
    RegistryFails,
    RegistryWorks,
    /// Something else has the host port of an app.
    TakePort(usize),
    FreePorts,
}

/// What goes how fast on an engine.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Most milliseconds between two requests that do not follow at once.
    pub gap: usize,
    /// Of so many faults one is a restart of the engine.
    pub restarts: usize,
}

/// The acts of a run, in order of time.
pub fn script(seed: u32, pace: Pace) -> Vec<(Duration, Act)> {
    let mut random = Random::new(seed);
    let millis = |count: usize| Duration::from_millis(count as u64);
    let mut acts = Vec::new();
    let mut now = Duration::ZERO;
    for _ in 0..REQUESTS {
        // Some come in the middle of what the last one began, some when it is over.
        now += millis(if random.once_in(2) { random.below(pace.gap / 8) } else { random.below(pace.gap) });
        let app = random.below(APPS);
        acts.push((now, Act::Ask(app, wish(&mut random, KINDS[app]))));
    }
    let end = usize::try_from(now.as_millis()).unwrap_or(usize::MAX) + 200;
    for _ in 0..4 + random.below(7) {
        let at = millis(random.below(end));
        let lasting = |acts: &mut Vec<_>, long: usize, begin, end| {
            acts.push((at, begin));
            acts.push((at + millis(50 + long), end));
        };
        // In every third run session and engine are well all the time: there reports have to be true at the moment.
        match random.below(10) {
            3..=6 if seed.is_multiple_of(3) => acts.push((at, Act::Exit(random.below(8), 1))),
            0..=2 => acts.push((at, Act::Exit(random.below(8), [0, 1, 137][random.below(3)]))),
            3 => acts.push((at, Act::Kill(millis(random.below(300))))),
            4 => acts.push((at, Act::Cut)),
            5 if random.once_in(pace.restarts) => acts.push((at, Act::Restart)),
            5 | 6 => lasting(&mut acts, random.below(1_500), Act::Freeze, Act::Thaw),
            7 | 8 => lasting(&mut acts, random.below(1_500), Act::RegistryFails, Act::RegistryWorks),
            _ => {
                let app = random.below(APPS);
                lasting(&mut acts, random.below(2_000), Act::TakePort(app), Act::FreePorts);
            }
        }
    }
    if seed.is_multiple_of(50) {
        // Longer than any call may take.
        acts.push((now, Act::Freeze));
        acts.push((now + Duration::from_secs(35), Act::Thaw));
    }
    acts.sort_by_key(|(at, _)| *at);
    acts
}

fn wish(random: &mut Random, kind: Kind) -> Wish {
    let cancel = Wish::Cancel { removed: random.once_in(2) };
    let of: &[(usize, Wish)] = match kind {
        Kind::Plain => &[
            (9, Wish::Run),
            (5, Wish::Stop),
            (2, Wish::Remove),
            (2, Wish::Uninstall),
            (4, Wish::Update),
            (1, Wish::UpdateToBad),
            (2, cancel),
        ],
        Kind::Compose => {
            &[(9, Wish::Run), (5, Wish::Stop), (2, Wish::Remove), (2, Wish::Uninstall), (3, Wish::Update), (2, cancel)]
        }
        Kind::Development => &[
            (5, Wish::Build),
            (6, Wish::Run),
            (4, Wish::Stop),
            (3, Wish::Publish),
            (1, Wish::Remove),
            (1, Wish::Uninstall),
            (1, cancel),
        ],
    };
    let mut at = random.below(of.iter().map(|(weight, _)| weight).sum());
    for (weight, wish) in of {
        if at < *weight {
            return *wish;
        }
        at -= weight;
    }
    unreachable!("the number is below the sum")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_gives_the_same_twenty_requests_and_what_was_begun_is_ended() {
        let pace = Pace { gap: 400, restarts: 2 };
        let mut seen = Vec::new();
        for seed in 1..=100 {
            let acts = script(seed, pace);
            assert_eq!(acts, script(seed, pace));
            let count = |is: fn(&Act) -> bool| acts.iter().filter(|(_, act)| is(act)).count();
            assert_eq!(count(|act| matches!(act, Act::Ask(..))), REQUESTS);
            assert_eq!(count(|act| *act == Act::Freeze), count(|act| *act == Act::Thaw));
            assert_eq!(count(|act| *act == Act::RegistryFails), count(|act| *act == Act::RegistryWorks));
            assert!(acts.is_sorted_by_key(|(at, _)| *at));
            seen.extend(acts.into_iter().map(|(_, act)| act));
        }
        for act in [Act::Cut, Act::Restart, Act::Thaw, Act::RegistryWorks, Act::FreePorts] {
            assert!(seen.contains(&act), "{act:?} never happens");
        }
        for wish in [Wish::Uninstall, Wish::UpdateToBad, Wish::Publish, Wish::Cancel { removed: true }] {
            assert!(seen.iter().any(|act| matches!(act, Act::Ask(_, other) if *other == wish)), "{wish:?}");
        }
    }
}
