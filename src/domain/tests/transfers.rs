//! Archives that arrive in pieces: order, ids, lengths, cancel, expiry, and what the log shows (storage chapter 7.3, apps
//! chapter 5.10, 6.4, 9).

use super::super::app::{AppKey, AppState, Stage};
use super::super::job::{JobSpec, Outcome};
use super::super::message::Event;
use super::super::slot::App;
use super::super::testing::*;
use super::super::{Call, lines};
use serde_json::{Map, Value, json};

const FILE: &str = "demo.tgz";
const CONTAINER: &str = "dev_7_demo";

fn args(word: &str, total: u64, id: &str) -> Vec<Value> {
    vec![json!(word), json!(FILE), json!(CONTAINER), json!(total), json!(id)]
}

/// A message of the backend, delivered; the number of the call.
fn start(world: &mut World, word: &str, total: u64, id: &str) -> u64 {
    let number = world.invoke("write_data", Some("system"), args(word, total, id), Map::new());
    let event = world.inbox.pop_back().unwrap();
    world.step(event);
    number
}

/// The same, with its answer.
fn send(world: &mut World, word: &str, total: u64, id: &str) -> Answer {
    let number = start(world, word, total, id);
    world.settle();
    world.answer_to(number).cloned().expect("an answer")
}

/// The same, when all is well.
#[track_caller]
fn goes(world: &mut World, word: &str, total: u64, id: &str) {
    assert_eq!(send(world, word, total, id), empty(), "{word}");
}

fn empty() -> Answer {
    Ok((Vec::new(), Map::new()))
}

#[track_caller]
fn fails(answer: Answer, part: &str) {
    assert!(answer.as_ref().is_err_and(|text| text.contains(part)), "{answer:?} lacks {part:?}");
}

fn files(world: &World) -> Vec<&str> {
    world.engine.archives.0.keys().map(String::as_str).collect()
}

fn content(world: &World) -> Option<&[u8]> {
    world.engine.archives.0.get(FILE).map(Vec::as_slice)
}

/// With an app whose sources are awaited.
fn awaiting() -> World {
    let mut world = World::connected();
    let id = AppKey { key: 7, stage: Stage::Dev };
    world.state.apps.insert(id, App::new(id, "Demo", AppState::Transfering));
    world
}

fn holds_uploads(world: &mut World) {
    world.holds = |spec| matches!(spec, JobSpec::Upload(_));
}

/// Ends the upload job that runs.
fn end_one(world: &mut World) {
    let job = world.job(|spec| matches!(spec, JobSpec::Upload(_)));
    world.end(job);
    world.settle();
}

/// The same for a piece that takes the model disk too long.
fn end_large(world: &mut World) {
    let job = world.job(|spec| matches!(spec, JobSpec::Upload(_)));
    world.ended(job, Outcome::Done);
    world.settle();
}

#[test]
fn pieces_between_begin_and_end_are_the_archive_and_the_log_shows_them() {
    let mut world = World::connected();
    assert_eq!(send(&mut world, "BEGIN", 4, "a"), empty());
    assert_eq!(world.take(&["clear", "say"]), ["clear history".to_owned(), format!("say {}", lines::UPLOAD_BEGUN)]);
    assert_eq!(send(&mut world, "0001", 4, "a"), empty());
    world.pass(secs(1));
    assert_eq!(send(&mut world, "02ff", 4, "a"), empty());
    assert_eq!(world.take(&["progress"]), ["progress demo.tgz 50.000%", "progress demo.tgz 100.000%"]);
    assert_eq!(content(&world), None);
    assert_eq!(send(&mut world, "END", 4, "a"), empty());
    assert_eq!(content(&world), Some(&[0, 1, 2, 255][..]));
    assert_eq!(files(&world), [FILE]);
    assert_eq!(world.take(&["say", "progress"]), [format!("say {}", lines::UPLOAD_FINISHED)]);
    fails(send(&mut world, "00", 4, "a"), "no upload is under way");
    fails(send(&mut world, "END", 4, "a"), "no upload is under way");
}

#[test]
fn an_archive_of_unknown_size_is_always_complete() {
    let mut world = World::connected();
    for word in ["BEGIN", "00", "", "END"] {
        assert_eq!(send(&mut world, word, 0, "a"), empty(), "{word}");
    }
    assert_eq!(world.take(&["progress"]), ["progress demo.tgz 100.000%"; 2]);
    assert_eq!(content(&world), Some(&[0][..]));
}

#[test]
fn a_second_begin_starts_anew_and_what_belongs_to_the_first_is_ignored() {
    let mut world = World::connected();
    goes(&mut world, "BEGIN", 3, "a");
    goes(&mut world, "0102", 3, "a");
    goes(&mut world, "BEGIN", 2, "b");
    for word in ["03", "END", &"00".repeat(9 << 20)] {
        assert_eq!(send(&mut world, word, 3, "a"), empty());
    }
    goes(&mut world, "0405", 2, "b");
    assert_eq!(files(&world).len(), 1, "the first part file is gone");
    assert_eq!(send(&mut world, "END", 2, "b"), empty());
    assert_eq!((files(&world), content(&world)), (vec![FILE], Some(&[4, 5][..])));
}

#[test]
fn a_begin_of_another_file_takes_the_old_part_file_away() {
    let mut world = World::connected();
    let mut other = args("BEGIN", 1, "a");
    other[1] = json!("Other.zip");
    world.invoke("write_data", Some("system"), other, Map::new());
    world.settle();
    assert!(world.noted("should be named demo.tgz"));
    world.notes.clear();
    goes(&mut world, "BEGIN", 1, "b");
    assert!(files(&world)[0].starts_with(FILE) && files(&world).len() == 1);
    assert!(!world.noted("should be named"));
}

#[test]
fn what_does_not_fit_ends_the_transfer_and_leaves_nothing() {
    let cases: [(&[&str], &str); 6] = [
        (&["0001", "0203"], "more than the announced 3"),
        (&["0001", "END"], "1 of 3 bytes are missing"),
        (&["0"], "hexadecimal"),
        (&["zz"], "hexadecimal"),
        (&["0001", "ö"], "hexadecimal"),
        (&["END"], "3 of 3 bytes are missing"),
    ];
    for (words, text) in cases {
        let mut world = awaiting();
        goes(&mut world, "BEGIN", 3, "a");
        let (last, before) = words.split_last().unwrap();
        for word in before {
            assert_eq!(send(&mut world, word, 3, "a"), empty());
        }
        assert_eq!(world.reports(), [] as [&str; 0]);
        fails(send(&mut world, last, 3, "a"), text);
        assert_eq!(files(&world), [] as [&str; 0], "{words:?}");
        assert_eq!(world.reports(), ["7 REMOVED"], "{words:?}");
        fails(send(&mut world, "02", 3, "a"), "no upload is under way");
    }
}

#[test]
fn a_piece_has_at_most_eight_mebibytes() {
    let mut world = World::connected();
    goes(&mut world, "BEGIN", 0, "a");
    holds_uploads(&mut world);
    let number = start(&mut world, &"00".repeat(8 << 20), 0, "a");
    end_large(&mut world);
    assert_eq!(world.answer_to(number), Some(&empty()));
    world.holds = |_| false;
    fails(send(&mut world, &"00".repeat((8 << 20) + 1), 0, "a"), "send smaller ones");
    assert_eq!(files(&world), [] as [&str; 0]);
}

#[test]
fn a_worker_that_fails_ends_the_transfer_and_its_words_reach_the_caller() {
    for failing in 0..3 {
        let mut world = awaiting();
        for (at, word) in ["BEGIN", "0001", "END"].into_iter().enumerate() {
            if at < failing {
                assert_eq!(send(&mut world, word, 2, "a"), empty());
                continue;
            }
            world.engine.fails.insert("upload", (1, "the disk is full"));
            fails(send(&mut world, word, 2, "a"), "the disk is full");
            break;
        }
        assert_eq!(files(&world), [] as [&str; 0]);
        assert_eq!(world.reports(), ["7 REMOVED"]);
        assert!(!world.trace.contains(&format!("say {}", lines::UPLOAD_FINISHED)));
    }
}

#[test]
fn an_app_that_awaits_no_sources_is_left_alone_by_a_failed_transfer() {
    let mut world = awaiting();
    let id = AppKey { key: 7, stage: Stage::Dev };
    world.state.apps.get_mut(&id).unwrap().state = AppState::Present;
    fails(send(&mut world, "00", 3, "a"), "no upload is under way");
    assert_eq!(world.reports(), [] as [&str; 0]);
    world.state.apps.get_mut(&id).unwrap().state = AppState::Transfering;
    fails(send(&mut world, "00", 3, "a"), "no upload is under way");
    assert_eq!(world.reports(), ["7 REMOVED"]);
}

#[test]
fn a_cancelled_transfer_is_gone_and_its_next_piece_says_so() {
    for (word, id, told) in [
        ("00", "a", Some("canceled")),
        ("00", "b", Some("canceled")),
        ("END", "a", Some("canceled")),
        ("END", "b", None),
    ] {
        let mut world = World::connected();
        goes(&mut world, "BEGIN", 3, "a");
        goes(&mut world, "0001", 3, "a");
        world.state.cancel_transfer(CONTAINER);
        world.state.cancel_transfer(CONTAINER);
        world.state.cancel_transfer("dev_8_other");
        world.step(Event::Tick);
        world.settle();
        assert_eq!(files(&world), [] as [&str; 0]);
        let said = world.take(&["say"]);
        assert_eq!(said.last(), Some(&format!("say {}", lines::UPLOAD_CANCELLED)), "once: {said:?}");
        assert_eq!(said.len(), 2);
        let answer = send(&mut world, word, 3, id);
        match told {
            Some(text) => {
                assert_eq!(answer, Err(text.to_owned()), "{word} {id}");
                fails(send(&mut world, "00", 3, "a"), "no upload is under way");
            }
            None => {
                assert_eq!(answer, empty(), "{word} {id}");
                fails(send(&mut world, "00", 3, "a"), "canceled");
            }
        }
        for word in ["BEGIN", "07", "END"] {
            assert_eq!(send(&mut world, word, 1, "c"), empty());
        }
        assert_eq!(content(&world), Some(&[7][..]));
    }
}

#[test]
fn a_cancel_while_a_piece_is_written_waits_for_it_and_then_nothing_is_left() {
    let mut world = World::connected();
    goes(&mut world, "BEGIN", 3, "a");
    holds_uploads(&mut world);
    let first = start(&mut world, "0001", 3, "a");
    let second = start(&mut world, "02", 3, "a");
    world.state.cancel_transfer(CONTAINER);
    end_one(&mut world);
    world.holds = |_| false;
    world.settle();
    assert_eq!(world.answer_to(first), Some(&empty()));
    assert_eq!(world.answer_to(second), Some(&Err("canceled".to_owned())));
    assert_eq!(files(&world), [] as [&str; 0]);
    assert_eq!(world.take(&["progress"]), [] as [&str; 0]);
}

#[test]
fn a_cancel_in_the_last_moment_comes_too_late() {
    let mut world = World::connected();
    goes(&mut world, "BEGIN", 1, "a");
    goes(&mut world, "07", 1, "a");
    holds_uploads(&mut world);
    let end = start(&mut world, "END", 1, "a");
    world.state.cancel_transfer(CONTAINER);
    end_one(&mut world);
    assert_eq!(world.answer_to(end), Some(&empty()));
    assert_eq!(files(&world), [FILE]);
    assert_eq!(world.take(&["say"]).last(), Some(&format!("say {}", lines::UPLOAD_FINISHED)));
    assert!(!world.trace.iter().any(|line| line.contains(lines::UPLOAD_CANCELLED)));
}

#[test]
fn pieces_are_written_one_at_a_time_and_answered_when_they_are_on_the_disk() {
    let mut world = World::connected();
    holds_uploads(&mut world);
    let words = ["BEGIN", "00", "01", "02", "END"];
    let numbers = words.map(|word| start(&mut world, word, 3, "a"));
    for (at, number) in numbers.into_iter().enumerate() {
        assert_eq!(world.jobs.len(), 1, "{}", words[at]);
        assert_eq!(world.answer_to(number), None);
        end_one(&mut world);
        assert_eq!(world.answer_to(number), Some(&empty()), "{}", words[at]);
    }
    assert_eq!(content(&world), Some(&[0, 1, 2][..]));
}

#[test]
fn the_order_is_that_of_arrival_whenever_a_caller_turns_out_to_be_allowed() {
    // Whether its caller may is known last; he may, or may not, or gives up.
    for (verdict, expected) in [(Some(true), [0, 1]), (Some(false), [1, 2]), (None, [1, 2])] {
        let mut world = World::connected();
        goes(&mut world, "BEGIN", 0, "a");
        world.backend.answers.insert("privilege", None);
        let first = world.invoke("write_data", Some("42"), args("00", 0, "a"), Map::new());
        world.settle();
        let check =
            world.state.calls.iter().find(|(_, call)| matches!(call, Call::Privilege(_))).map(|(call, _)| *call);
        let second = start(&mut world, "01", 0, "a");
        world.settle();
        assert_eq!(world.answer_to(second), None, "it waits for the one before");
        let generation = world.generation.unwrap();
        world.step(match verdict {
            Some(may) => Event::Answered { call: check.unwrap(), result: Ok(vec![json!(may)]) },
            None => Event::Interrupted { generation, request: first },
        });
        world.settle();
        assert_eq!(world.answer_to(second), Some(&empty()));
        if verdict != Some(true) {
            goes(&mut world, "02", 0, "a");
        }
        goes(&mut world, "END", 0, "a");
        assert_eq!(content(&world), Some(&expected[..]), "{verdict:?}");
    }
}

#[test]
fn a_caller_who_may_not_delays_nobody_else_for_good_and_touches_nothing() {
    let mut world = awaiting();
    world.backend.answers.insert("privilege", Some(Ok(vec![json!(false)])));
    for word in ["BEGIN", "00", "END", "zz"] {
        let number = world.invoke("write_data", Some("42"), args(word, 1, "a"), Map::new());
        world.settle();
        assert!(
            world
                .answer_to(number)
                .is_some_and(|answer| answer.as_ref().is_err_and(|text| text.starts_with("insufficient")))
        );
    }
    for caller in [None, Some("someone")] {
        let number = world.invoke("write_data", caller, args("BEGIN", 1, "a"), Map::new());
        world.settle();
        assert!(world.answer_to(number).is_some_and(Result::is_err));
    }
    assert!(world.take(&["upload", "say", "clear", "7 "]).is_empty());
    assert!(format!("{:?}", world.state.transfers).contains("lines: {}"));
}

#[test]
fn one_container_does_not_wait_for_another() {
    let mut world = World::connected();
    holds_uploads(&mut world);
    start(&mut world, "BEGIN", 0, "a");
    let mut other = args("BEGIN", 0, "b");
    (other[1], other[2]) = (json!("other.tgz"), json!("DEV_8_Other"));
    world.invoke("write_data", Some("system"), other, Map::new());
    world.settle();
    assert_eq!(world.jobs.len(), 2);
}

#[test]
fn what_waits_is_bounded_in_number_and_the_newest_breaks_its_transfer_in_its_turn() {
    let mut world = awaiting();
    goes(&mut world, "BEGIN", 0, "a");
    holds_uploads(&mut world);
    let numbers: Vec<u64> = (0..70).map(|_| start(&mut world, "00", 0, "a")).collect();
    assert_eq!(world.jobs.len(), 1);
    world.holds = |_| false;
    world.settle();
    let answers: Vec<bool> = numbers.iter().map(|number| world.answer_to(*number).unwrap().is_ok()).collect();
    assert_eq!(answers.iter().filter(|ok| **ok).count(), 65, "one is written, 64 wait");
    assert!(answers[..65].iter().all(|ok| *ok));
    fails(world.answer_to(numbers[65]).cloned().unwrap(), "are waiting already");
    fails(world.answer_to(numbers[66]).cloned().unwrap(), "no upload is under way");
    assert_eq!(files(&world), [] as [&str; 0], "an archive with a hole is none");
    assert_eq!(world.reports(), ["7 REMOVED"]);
}

#[test]
fn what_waits_is_bounded_in_bytes_and_one_piece_may_always_wait() {
    let mut world = World::connected();
    goes(&mut world, "BEGIN", 0, "a");
    holds_uploads(&mut world);
    let large = "00".repeat(7 << 20);
    let numbers = [&large[..], &large, "00", &large, "00"].map(|word| start(&mut world, word, 0, "a"));
    let kept = format!("{:?}", world.state.transfers).len();
    assert!(kept < 15 << 20, "{kept} bytes wait");
    for _ in 0..3 {
        end_large(&mut world);
    }
    world.holds = |_| false;
    world.settle();
    let answers = numbers.map(|number| world.answer_to(number).unwrap().is_ok());
    assert_eq!(answers, [true, true, true, false, false]);
    // Of all containers and callers together.
    let most = json!("x".repeat(15 << 20));
    world.backend.answers.insert("privilege", None);
    for _ in 0..5 {
        world.invoke("get_images", Some("42"), vec![most.clone()], Map::new());
    }
    world.settle();
    let refused = world
        .answers
        .iter()
        .filter(|(_, answer)| answer.as_ref().is_err_and(|text| text.contains("bytes are waiting already")));
    assert_eq!(refused.count(), 2, "the piece, and the fifth call");
}

#[test]
fn no_more_than_so_many_archives_arrive_at_once() {
    let mut world = World::connected();
    let begin = |world: &mut World, key: u32| {
        let mut args = args("BEGIN", 0, "a");
        (args[1], args[2]) = (json!(format!("demo{key}.tgz")), json!(format!("dev_{key}_demo{key}")));
        let number = world.invoke("write_data", Some("system"), args, Map::new());
        world.settle();
        world.answer_to(number).cloned().unwrap()
    };
    for key in 0..32 {
        assert_eq!(begin(&mut world, key), empty());
    }
    fails(begin(&mut world, 32), "32 uploads are under way");
    assert_eq!(begin(&mut world, 31), empty(), "a new beginning is no further one");
    world.pass(secs(601));
    assert_eq!(begin(&mut world, 32), empty());
}

#[test]
fn logs_of_apps_that_nobody_asks_for_are_forgotten() {
    let mut world = awaiting();
    for key in (0..40).chain(0..70) {
        let mut args = args("BEGIN", 0, "a");
        args[2] = json!(format!("dev_{key}_demo"));
        for word in ["BEGIN", "END"] {
            args[0] = json!(word);
            world.invoke("write_data", Some("system"), args.clone(), Map::new());
            world.settle();
        }
    }
    // The app with the key 7 is known, 69 others are not.
    assert_eq!(world.take(&["forget"]), ["forget"; 5]);
}

#[test]
fn a_transfer_that_has_stopped_expires_after_ten_minutes_without_a_piece() {
    let mut world = awaiting();
    goes(&mut world, "BEGIN", 0, "a");
    world.pass(secs(599));
    goes(&mut world, "00", 0, "a");
    world.leave();
    world.pass(secs(599));
    assert_eq!(files(&world).len(), 1);
    world.join();
    world.pass(secs(2));
    assert_eq!(files(&world), [] as [&str; 0]);
    assert!(world.trace.contains(&format!("say {}", lines::UPLOAD_EXPIRED)) && world.noted("the upload has stopped"));
    assert_eq!(world.tables.apps[&AppKey { key: 7, stage: Stage::Dev }].state, AppState::Removed);
    assert!(format!("{:?}", world.state.transfers).contains("lines: {}"));
    fails(send(&mut world, "00", 0, "a"), "no upload is under way");
}

#[test]
fn a_transfer_does_not_expire_while_the_disk_is_slow_and_a_cancelled_one_expires_silently() {
    let mut world = World::connected();
    goes(&mut world, "BEGIN", 0, "a");
    holds_uploads(&mut world);
    start(&mut world, "00", 0, "a");
    world.pass(secs(650));
    assert_eq!(files(&world).len(), 1);
    end_one(&mut world);
    world.state.cancel_transfer(CONTAINER);
    world.holds = |_| false;
    world.step(Event::Tick);
    world.trace.clear();
    world.pass(secs(1300));
    assert!(format!("{:?}", world.state.transfers).contains("lines: {}"));
    assert_eq!(world.take(&["say"]), [] as [&str; 0]);
}

#[test]
fn progress_is_shown_five_times_a_second_and_its_last_always() {
    let mut world = World::connected();
    goes(&mut world, "BEGIN", 1000, "a");
    for _ in 0..900 {
        goes(&mut world, "00", 1000, "a");
        world.pass(std::time::Duration::from_millis(1));
    }
    let shown = world.take(&["progress"]);
    assert!((5..=6).contains(&shown.len()), "{shown:?}");
    world.pass(secs(1));
    assert_eq!(world.take(&["progress"]), ["progress demo.tgz 90.000%"], "it comes without a further piece");
    for _ in 0..100 {
        goes(&mut world, "00", 1000, "a");
    }
    assert_eq!(world.take(&["progress"]), ["progress demo.tgz 90.100%"]);
    goes(&mut world, "END", 1000, "a");
    let expected = ["progress demo.tgz 100.000%".to_owned(), format!("say {}", lines::UPLOAD_FINISHED)];
    assert_eq!(world.take(&["progress", "say"]), expected);
    world.pass(secs(1));
    assert_eq!(world.take(&["progress"]), [] as [&str; 0]);
}

#[test]
fn c6_a_lost_session_takes_its_answers_with_it_and_not_the_transfer() {
    let mut world = World::connected();
    goes(&mut world, "BEGIN", 0, "a");
    holds_uploads(&mut world);
    let numbers = ["00", "01"].map(|word| start(&mut world, word, 0, "a"));
    world.join();
    world.holds = |_| false;
    world.settle();
    assert!(numbers.iter().all(|number| world.answer_to(*number).is_none()));
    for word in ["02", "END"] {
        assert_eq!(send(&mut world, word, 0, "a"), empty());
    }
    assert_eq!(content(&world), Some(&[0, 1, 2][..]), "what had arrived was taken");
}

#[test]
fn the_end_of_the_agent_ends_the_piece_that_is_being_written() {
    let mut world = World::connected();
    goes(&mut world, "BEGIN", 0, "a");
    holds_uploads(&mut world);
    start(&mut world, "00", 0, "a");
    world.step(Event::Shutdown);
    world.settle();
    assert_eq!((world.exit, world.jobs.len()), (Some(0), 0));
}
