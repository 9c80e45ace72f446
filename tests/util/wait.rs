//! Waiting for something that announces itself by no event.

use reagent::clock;
use std::time::Duration;

/// Asks `look` until it gives a value; after `limit` the test fails with `what`. For state that can only be looked at (a
/// process, a file, the Engine); where there is an event, wait for the event.
#[track_caller]
pub fn wait_until<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = clock::mono() + limit;
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(clock::mono() < deadline, "not within {limit:?}: {what}");
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

#[test]
fn a_wait_gives_what_was_found() {
    let mut looks = 0;
    let found = wait_until(Duration::from_secs(5), "the third look", || {
        looks += 1;
        (looks == 3).then_some("found")
    });
    assert_eq!(found, "found");
}

#[test]
#[should_panic(expected = "not within 20ms: a thing that never comes")]
fn a_wait_fails_with_what_was_missing() {
    wait_until(Duration::from_millis(20), "a thing that never comes", || None::<()>);
}
