//! Archives of sources that arrive by `write_data` (`storage-and-logs.md` 7.3, `apps.md` 6.4), from the call to the disk.

use super::{Device, LIMIT, refusal};
use crate::cloud::peer::{Failure, Payload, Peer, Pending};
use crate::cloud::router::Traffic;
use crate::network::clock::Clock;
use crate::util::wait_until;
use serde_json::{Map, Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

const CONTAINER: &str = "dev_710_devapp";
const FILE: &str = "DevApp.tgz";

/// Bytes that differ everywhere.
fn archive(seed: u64, length: usize) -> Vec<u8> {
    let mut number = seed | 1;
    let next = || {
        number ^= number << 13;
        number ^= number >> 7;
        number ^= number << 17;
        number as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a sender says: the beginning, so many pieces, the end.
fn words(archive: &[u8], pieces: usize) -> Vec<String> {
    let pieces = archive.chunks(archive.len().div_ceil(pieces)).map(hex);
    std::iter::once("BEGIN".to_owned()).chain(pieces).chain(std::iter::once("END".to_owned())).collect()
}

fn args(word: &str, total: usize, id: &str) -> Vec<Value> {
    vec![json!(word), json!(FILE), json!(CONTAINER), json!(total), json!(id)]
}

fn start(device: &Device, sender: &Peer, args: Vec<Value>) -> Pending {
    sender.start_call(&device.cloud.backend.identity.uri("write_data"), json!({}), args, Map::new())
}

fn send(device: &Device, sender: &Peer, word: &str, total: usize, id: &str) -> Result<Payload, Failure> {
    start(device, sender, args(word, total, id)).wait(LIMIT)
}

#[track_caller]
fn goes(answer: Result<Payload, Failure>) {
    let answer = answer.expect("it is taken");
    assert_eq!((answer.args, answer.kwargs), (vec![], Map::new()), "the result is empty");
}

/// The names in the build directory.
fn built(device: &Device) -> Vec<String> {
    let entries = fs::read_dir(device.agent.apps_dir().join("build")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn content(device: &Device) -> Vec<u8> {
    fs::read(device.agent.apps_dir().join("build").join(FILE)).unwrap()
}

#[test]
fn an_archive_in_fifty_pieces_arrives_whole_and_its_log_topic_shows_it() {
    let device = Device::online();
    let developer = device.cloud.user("42").unwrap();
    let traffic = device.cloud.router.tap();
    let archive = archive(1, 300_001);
    for word in words(&archive, 50) {
        assert!(!built(&device).contains(&FILE.to_owned()), "it has its name when it is whole");
        goes(send(&device, &developer, &word, archive.len(), "a"));
    }
    assert!(content(&device) == archive, "the same bytes");
    assert_eq!(built(&device), [FILE]);
    let mode = fs::metadata(device.agent.apps_dir().join("build").join(FILE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o644);

    let topic = device.cloud.backend.identity.log_topic(CONTAINER);
    let (mut shown, mut said) = (Vec::new(), Vec::new());
    // The second line of the agent is the last word.
    while said.len() < 2 {
        let Traffic::FromPeer(_, message) = traffic.recv_timeout(LIMIT).expect("two lines of the agent") else {
            continue;
        };
        if message[0] != 16 || message[3] != topic.as_str() {
            continue;
        }
        let payload = &message[4][0];
        assert_eq!(message[2], json!({}), "no options");
        if payload["type"] == "build" {
            said.push(payload["chunk"].as_str().unwrap().to_owned());
        } else {
            assert_eq!((&payload["id"], &payload["status"]), (&json!(FILE), &json!("Transfer Progress:")), "{payload}");
            assert_eq!(said.len(), 1, "progress is between the two");
            shown.push(payload["progress"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(shown.last().map(String::as_str), Some("100.000%"));
    assert!(shown.iter().all(|text| text.ends_with('%') && text.len() >= 6), "{shown:?}");
    assert!(shown.len() < 50, "{} messages for 50 pieces", shown.len());
}

#[test]
fn pieces_that_are_sent_without_waiting_for_an_answer_keep_their_order() {
    let device = Device::online();
    let developer = device.cloud.user("42").unwrap();
    let archive = archive(2, 300_000);
    let calls: Vec<Pending> =
        words(&archive, 50).iter().map(|word| start(&device, &developer, args(word, archive.len(), "a"))).collect();
    calls.iter().for_each(|call| goes(call.wait(LIMIT)));
    assert!(content(&device) == archive, "the same bytes");
}

#[test]
fn a_second_sender_takes_over_and_the_first_is_ignored() {
    let device = Device::online();
    let (first, second) = (device.cloud.user("42").unwrap(), device.cloud.user("43").unwrap());
    let archives = [archive(3, 50_000), archive(4, 40_000)];
    let (of_first, of_second) = (words(&archives[0], 20), words(&archives[1], 20));
    for word in &of_first[..10] {
        goes(send(&device, &first, word, archives[0].len(), "a"));
    }
    // Both at once from here.
    let rest: Vec<Pending> = of_first[10..]
        .iter()
        .zip(&of_second)
        .flat_map(|(old, new)| {
            let new = start(&device, &second, args(new, archives[1].len(), "b"));
            [new, start(&device, &first, args(old, archives[0].len(), "a"))]
        })
        .collect();
    rest.iter().for_each(|call| goes(call.wait(LIMIT)));
    for word in &of_second[of_first.len() - 10..] {
        goes(send(&device, &second, word, archives[1].len(), "b"));
    }
    assert!(content(&device) == archives[1], "the bytes of the second");
    assert_eq!(built(&device), [FILE]);
}

#[test]
fn a_sender_who_vanishes_leaves_nothing_after_ten_minutes() {
    let mut device = Device::prepare();
    let mut clock = Clock::new();
    device.agent.options.env.extend(clock.env());
    device.connect();
    let developer = device.cloud.user("42").unwrap();
    goes(send(&device, &developer, "BEGIN", 10, "a"));
    goes(send(&device, &developer, "0011", 10, "a"));
    developer.cut();
    assert!(built(&device)[0].starts_with("DevApp.tgz.part-") && built(&device).len() == 1);
    // The clock wakes nobody; what is heard does.
    let heard = || device.call("device_handshake", vec![]).ok().map(drop);
    clock.skip(Duration::from_secs(500));
    wait_until(LIMIT, "an answer", heard);
    assert_eq!(built(&device).len(), 1);
    clock.skip(Duration::from_secs(101));
    wait_until(LIMIT, "an answer", heard);
    wait_until(LIMIT, "an empty build directory", || built(&device).is_empty().then_some(()));
    assert!(device.agent.log().contains("the upload has stopped"));
}

#[test]
fn s7_a_kill_in_the_middle_leaves_nothing_after_the_next_start() {
    let mut device = Device::online();
    let developer = device.cloud.user("42").unwrap();
    let archive = archive(5, 10_000);
    let words = words(&archive, 4);
    for word in &words[..3] {
        goes(send(&device, &developer, word, archive.len(), "a"));
    }
    device.agent.kill9();
    assert_eq!(built(&device).len(), 1, "the part file is there");
    device.connect();
    assert_eq!(built(&device), [] as [&str; 0]);
    let told = refusal(send(&device, &developer, &words[3], archive.len(), "a"));
    assert!(told.contains("send BEGIN first"), "{told}");
    for word in &words {
        goes(send(&device, &developer, word, archive.len(), "b"));
    }
    assert!(content(&device) == archive);
}

#[test]
fn c6_a_transfer_goes_on_after_the_agents_session_was_lost() {
    let device = Device::online();
    let archive = archive(6, 10_000);
    let words = words(&archive, 4);
    let developer = device.cloud.user("42").unwrap();
    let (before, after) = words.split_at(3);
    for word in before {
        goes(send(&device, &developer, word, archive.len(), "a"));
    }
    let mark = device.cloud.backend.mark();
    assert_eq!(device.cloud.router.cut(&device.authid()), 1);
    device.cloud.backend.wait_for_status(LIMIT, mark, "CONNECTED");
    for word in after {
        goes(send(&device, &developer, word, archive.len(), "a"));
    }
    assert!(content(&device) == archive);
}

#[test]
fn d2_an_archive_that_cannot_fit_is_refused_at_its_beginning() {
    let device = Device::online();
    let developer = device.cloud.user("42").unwrap();
    let told = refusal(send(&device, &developer, "BEGIN", 1 << 53, "a"));
    assert!(told.contains("no room for"), "{told}");
    assert_eq!(built(&device), [] as [&str; 0]);
    goes(send(&device, &developer, "BEGIN", 1, "a"));
}

#[test]
fn what_is_wrong_with_a_piece_is_told_and_its_part_file_goes() {
    let device = Device::online();
    let developer = device.cloud.user("42").unwrap();
    for (word, part) in [("xx", "hexadecimal"), ("0", "hexadecimal"), ("000102", "announced"), ("END", "missing")] {
        goes(send(&device, &developer, "BEGIN", 2, "a"));
        let told = refusal(send(&device, &developer, word, 2, "a"));
        assert!(told.contains(part), "{word}: {told}");
        wait_until(LIMIT, "an empty build directory", || built(&device).is_empty().then_some(()));
    }
}

#[test]
fn who_may_not_develop_brings_nothing() {
    let device = Device::online();
    let developer = device.cloud.user("42").unwrap();
    device.cloud.backend.deny("DEVELOP");
    let told = refusal(send(&device, &developer, "BEGIN", 2, "a"));
    assert!(told.starts_with("insufficient privileges"), "{told}");
    device.cloud.backend.allow("DEVELOP");
    let told = refusal(send(&device, &developer, "00", 2, "a"));
    assert!(told.contains("send BEGIN first"), "{told}");
    assert_eq!(built(&device), [] as [&str; 0]);
}
