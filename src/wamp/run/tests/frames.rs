//! Frames of unusual size, shape and content, in both directions.

use super::*;
use tungstenite::protocol::frame::Frame as WebFrame;
use tungstenite::protocol::frame::coding::{Data, OpCode};

/// That the session still lives and works.
fn answers_presence(peer: &mut Peer, request: u64) {
    peer.send(json!([68, request, 100, {}]));
    assert_eq!(peer.next(), json!([70, request, {}, ["Hello :-)"]]));
}

#[test]
fn p2_frames_that_cannot_be_used_are_skipped_and_the_session_goes_on() {
    let router = Router::new();
    let client = Client::new(router.settings());
    let mut peer = router.join(1);
    client.joined(1, 1);
    let text = |bytes: &[u8], last| Message::Frame(WebFrame::message(bytes.to_vec(), OpCode::Data(Data::Text), last));
    let rest = |bytes: &[u8]| Message::Frame(WebFrame::message(bytes.to_vec(), OpCode::Data(Data::Continue), true));
    let deep = |depth| format!("[36,1,1,{{}},{}{}]", "[".repeat(depth), "]".repeat(depth));
    for (number, frames) in [
        vec![Message::text("{")],
        vec![Message::text("")],
        vec![Message::text("[999]")],
        vec![Message::binary(vec![0xff; 10])],
        vec![text(b"[36,1,\xff]", true)],
        vec![text(b"[36,1,", false), rest(b"\xc3")], // ends in the middle of a character
        vec![
            Message::text(deep(100)),
            Message::text(deep(126)),
            Message::text(deep(500)),
            Message::text(deep(1 << 20)),
        ],
        vec![Message::text("[36,99999999999999999999999999,1]"), Message::text("[36,1e400,1]")],
        vec![Message::text(format!("[36,{},1]", "9".repeat(100_000)))],
        vec![Message::text("[65,18446744073709551615,18446744073709551615]"), Message::text("[65,-0.0,1e15]")],
        vec![Message::text("[18446744073709551616]")],
        vec![Message::text(format!("[36,1,1,{{}},[{:?}]]", "x".repeat(16 << 20)))],
    ]
    .into_iter()
    .enumerate()
    {
        for frame in frames {
            peer.web.send(frame).unwrap();
        }
        answers_presence(&mut peer, number as u64 + 1);
    }
    // An invocation of nothing, with an id that no float holds and a timeout beyond all time.
    let frame = "[68,9007199254740993,18446744073709551615,{\"timeout\":18446744073709551615}]";
    peer.web.send(Message::text(frame)).unwrap();
    let refusal = peer.next();
    assert_eq!((&refusal[2], &refusal[4]), (&json!(9_007_199_254_740_993_u64), &json!("wamp.error.invalid_argument")));
    answers_presence(&mut peer, 99);
    let peer = goodbye(peer);
    client.stopped();
    peer.join().unwrap();
}

#[test]
fn a_frame_beyond_all_limits_and_a_broken_protocol_end_the_session_and_the_next_one_joins() {
    let router = Router::new();
    let client = Client::new(router.settings());
    let broken: [&[u8]; 6] = [
        &[0x01, 1, 0xc3, 0x80, 1, b'x', 0x81, 1, b'x'], // no UTF-8 over two pieces: the text never ends
        &[0x81, 127, 0, 0, 1, 0, 0, 0, 0, 0],           // promises a terabyte
        &[0xf1, 1, b'x'],                               // reserved bits
        &[0x80, 1, b'x'],                               // goes on with nothing
        &[0x83, 0],                                     // no such kind
        &[&[0x89, 126, 0, 200][..], &[0; 200]].concat(), // a ping too long
    ];
    for (generation, bytes) in (1..).zip(broken) {
        let mut peer = router.join(generation);
        client.joined(generation, generation);
        peer.web.get_mut().write_all(bytes).unwrap();
        match client.beyond_failures() {
            Event::Left { generation: of, reason } => assert!(of == generation && !reason.is_empty(), "{reason}"),
            other => panic!("{other:?}"),
        }
        client.handle.send(Command::Redial { reason: "no need to wait".to_owned() });
    }
    client.stopped();
}

#[test]
fn c1_a_pong_overtakes_a_large_result_on_a_slow_link() {
    const SIZE: usize = 4 << 20;
    let router = Router::new();
    set_socket_recv_buffer_size(&router.listener, 16 * 1024).unwrap();
    let client = Client::new(router.settings());
    let mut peer = router.join(1);
    client.joined(1, 1);
    let args = vec![Value::from("ä".repeat(SIZE / 2))];
    let publish = |topic: &str, args| {
        let (topic, kwargs) = (topic.to_owned(), Map::new());
        client.handle.send(Command::Publish { topic, args, kwargs, acknowledge: None });
    };
    publish("a.large", args);
    publish("a.small", vec![]);
    // The link is slow: frames are taken one by one, by hand, and the ping comes after the first.
    let mut frames = Vec::new();
    let mut size = 0;
    loop {
        let (first, payload) = raw_frame(peer.web.get_mut());
        match first & 0x0f {
            0xa => frames.push((first, payload)),
            _ => {
                assert!(payload.len() <= 16 * 1024 && std::str::from_utf8(&payload).is_ok(), "each piece is text");
                size += payload.len();
                frames.push((first, Vec::new()));
            }
        }
        if frames.len() == 1 {
            assert_eq!(first, 0x01, "a text that goes on");
            peer.web.send(Message::Ping("are you there".into())).unwrap();
        }
        if first == 0x80 {
            break;
        }
    }
    let pong = frames.iter().position(|(first, _)| *first == 0x8a).expect("the pong did not overtake the result");
    assert_eq!(frames[pong].1, b"are you there");
    // What was on its way when the ping came stands before it: a few hundred KiB at most.
    assert!(pong < 64, "{pong} of {} frames went first", frames.len());
    assert!(size > SIZE && frames.len() > SIZE / (16 * 1024));
    assert_eq!(peer.next()[3], "a.small", "order is kept");
    drop(peer);
    client.stopped();
}

/// The first byte and the unmasked payload of a frame.
fn raw_frame(tcp: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut head = [0; 2];
    tcp.read_exact(&mut head).unwrap();
    let length = match head[1] & 0x7f {
        126 => {
            let mut length = [0; 2];
            tcp.read_exact(&mut length).unwrap();
            usize::from(u16::from_be_bytes(length))
        }
        length => usize::from(length),
    };
    assert!(head[1] & 0x80 != 0, "clients mask");
    let mut mask = [0; 4];
    tcp.read_exact(&mut mask).unwrap();
    let mut payload = vec![0; length];
    tcp.read_exact(&mut payload).unwrap();
    for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    (head[0], payload)
}

#[test]
fn a_large_text_arrives_whole_and_in_order_at_an_ordinary_peer() {
    let router = Router::new();
    let client = Client::new(router.settings());
    let mut peer = router.join(1);
    client.joined(1, 1);
    let large = Value::from("ä€😀x".repeat(1 << 20));
    for number in 0..3 {
        for (topic, args) in [("a.small", vec![]), ("a.large", vec![number.into(), large.clone()])] {
            let (topic, kwargs) = (topic.to_owned(), Map::new());
            client.handle.send(Command::Publish { topic, args, kwargs, acknowledge: None });
        }
    }
    for number in 0..3 {
        assert_eq!(peer.next()[3], "a.small");
        let arrived = peer.next();
        assert_eq!((&arrived[3], &arrived[4][0]), (&json!("a.large"), &json!(number)));
        assert!(arrived[4][1] == large);
    }
    drop(peer);
    client.stopped();
}

#[test]
fn c4_a_router_that_stops_reading_is_left_before_more_than_a_bound_waits_for_it() {
    let router = Router::new();
    set_socket_recv_buffer_size(&router.listener, 16 * 1024).unwrap();
    let client = Client::new(router.settings());
    let peer = router.join(1);
    client.joined(1, 1);
    for _ in 0..4 {
        let (topic, args) = ("a.large".to_owned(), vec![Value::from("x".repeat(12 << 20))]);
        client.handle.send(Command::Publish { topic, args, kwargs: Map::new(), acknowledge: None });
    }
    let Event::Left { generation: 1, reason } = client.event() else { panic!() };
    assert_eq!(reason, "the peer does not take what is sent: too much waits for it");
    drop(peer);
    client.stopped();
}
