//! Seeded fuzzing of everything that reads what comes from outside: the same cases in every run, a few seconds together.
//!
//! `FUZZ_CASES=100000` runs so many cases of each test instead, `FUZZ_SEED=<n>` the one case that a failure has named.

mod archives;
mod domain;
pub(crate) mod generator;
mod http;
mod proxy;
mod session;
mod wamp;

use generator::Random;
use std::env;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// The longest part of a case that a failure prints.
const SHOWN: usize = 4000;

/// Runs `body` with `count` seeds. It makes its case from the numbers it is given and [`Case::note`]s it.
fn cases(count: u32, body: impl Fn(&mut Random, &mut Case)) {
    let number = |name: &str| env::var(name).ok().map(|text| text.parse().expect("the variable is a number"));
    let seeds = match number("FUZZ_SEED") {
        Some(seed) => seed..=seed,
        None => 1..=number("FUZZ_CASES").unwrap_or(count),
    };
    for seed in seeds {
        let mut case = Case::default();
        let outcome = catch_unwind(AssertUnwindSafe(|| body(&mut Random::new(seed), &mut case)));
        if let Err(panic) = outcome {
            eprintln!("FUZZ_SEED={seed} fails; the case is:");
            for line in case.0 {
                eprintln!("  {line}");
            }
            resume_unwind(panic);
        }
    }
}

/// What a failure prints of its case.
#[derive(Default)]
struct Case(Vec<String>);

impl Case {
    /// Remembers a part of the case. Text is shown as Rust would write it.
    fn note(&mut self, part: impl Debug) {
        let mut text = format!("{part:?}");
        if let Some((cut, _)) = text.char_indices().nth(SHOWN) {
            text.truncate(cut);
            text.push('…');
        }
        self.0.push(text);
    }

    /// The same for bytes.
    fn note_bytes(&mut self, bytes: &[u8]) {
        self.note(bytes[..bytes.len().min(SHOWN)].escape_ascii().to_string());
    }
}

#[test]
fn the_same_seed_gives_the_same_case_and_a_failure_is_passed_on() {
    let draw = |seed| (0..20).map(|_| Random::new(seed).below(1000)).collect::<Vec<_>>();
    assert_eq!(draw(7), draw(7));
    assert_ne!(Random::new(7).bytes(32), Random::new(8).bytes(32));
    let failed = catch_unwind(|| {
        cases(50, |random, case| {
            let number = random.below(10);
            case.note(number);
            assert!(number != 3);
        });
    });
    assert!(failed.is_err(), "no seed of fifty draws a three");
}
