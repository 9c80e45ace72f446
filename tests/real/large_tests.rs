//! Large texts to a real Crossbar, which has to put our fragments together.

use super::crossbar;
use crate::cloud::flock::Identity;
use crate::cloud::peer::{Login, Peer};
use reagent::clock::Wall;
use reagent::secret::Secret;
use reagent::thread::Exit;
use reagent::wamp::{Command, Event, Settings, spawn};
use serde_json::{Map, Value};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

#[test]
fn crossbar_takes_a_large_text_in_fragments_and_the_session_goes_on() {
    let identity = Identity::generated();
    let url = crossbar().url();
    let login = Login::new(&url, &identity.authid(), &identity.secret);
    let listener = Peer::join(&login).unwrap();
    let (_, received) = listener.subscribe("a.large.text", "exact").unwrap();
    let settings = Settings {
        url,
        realm: "realm1".to_owned(),
        authid: identity.authid(),
        secret: Secret::new(identity.secret.clone()),
        client_certificate: None,
        claim: identity.uri("large_test"),
        testament: None,
        connect_timeout: SOON,
        response_timeout: SOON,
        ping_interval: Duration::from_secs(1),
        time_floor: Wall::default(),
    };
    let (events, event) = crossbeam_channel::unbounded();
    let (exits, exit) = crossbeam_channel::bounded(1);
    let on_exit = move |how| exits.send(how).expect("the test waits for it");
    let handle = spawn(settings, events, |event| event, on_exit).unwrap();
    match event.recv_timeout(SOON).unwrap() {
        Event::Joined { .. } => assert_eq!(event.recv_timeout(SOON).unwrap(), Event::Testament { generation: 1 }),
        other => panic!("{other:?}"),
    }
    let large = Value::from("ä€😀x".repeat(600_000)); // 6 MB
    for number in 0..3 {
        let (args, kwargs) = (vec![number.into(), large.clone()], Map::new());
        let topic = "a.large.text".to_owned();
        handle.send(Command::Publish { topic, args, kwargs, acknowledge: Some(number) });
    }
    for number in 0..3 {
        let args = received.recv_timeout(SOON).unwrap().args;
        assert_eq!(args[0], number);
        assert!(args[1] == large, "text {number} arrived changed");
        assert_eq!(event.recv_timeout(SOON).unwrap(), Event::Published { id: number, result: Ok(()) });
    }
    assert!(handle.stop());
    assert_eq!(exit.recv_timeout(SOON), Ok(Exit::Done));
}
