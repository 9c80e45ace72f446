//! Bulk and control on a link of 64 kbit/s.

use super::*;
use crossbeam_channel::RecvTimeoutError;
use std::io;
use tungstenite::protocol::Role;

/// Reads 8 KB/s.
struct Slow(TcpStream);

impl Read for Slow {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        std::thread::sleep(MS(50)); // the pace of the link
        let most = buffer.len().min(400);
        self.0.read(&mut buffer[..most])
    }
}

impl Write for Slow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[test]
fn c2_on_a_slow_link_a_call_goes_out_within_about_two_seconds_of_a_flood_of_bulk() {
    let router = Router::new();
    set_socket_recv_buffer_size(&router.listener, 2 * 1024).unwrap();
    let client = Client::new(router.settings());
    let peer = router.join(1);
    client.joined(1, 1);
    let mut slow = WebSocket::from_raw_socket(Slow(peer.web.get_ref().try_clone().unwrap()), Role::Server, None);
    let mut next = || match slow.read().unwrap() {
        Message::Text(text) => (text.len(), serde_json::from_str::<Value>(&text).unwrap()),
        other => panic!("{other:?}"),
    };
    let bulk = client.handle.bulk();
    let producer = bulk.clone();
    let (over, ends) = bounded::<()>(0);
    // As often as the log hub looks, and three times what there is room for.
    let flood = thread::spawn(
        "flood",
        |_| {},
        move || {
            let line = Value::from("x".repeat(1000));
            while ends.recv_timeout(MS(200)) == Err(RecvTimeoutError::Timeout) {
                for _ in 0..(3 * producer.room()).div_ceil(1000).min(50) {
                    producer.publish("a.log".to_owned(), vec![line.clone()], true);
                }
            }
        },
    )
    .unwrap();
    let mut bytes = 0;
    while bytes < 72_000 {
        bytes += next().0;
    }
    for id in 0..3 {
        let (uri, began) = (format!("a.call.{id}"), clock::mono());
        client.handle.send(Command::Call { id, uri: uri.clone(), args: vec![], kwargs: Map::new(), timeout: LIMIT });
        let mut ahead = 0;
        let time = loop {
            let (length, message) = next();
            if message[0] == 48 {
                assert_eq!(message[3], uri);
                break clock::mono() - began;
            }
            assert_eq!(message[3], "a.log");
            ahead += length;
        };
        eprintln!("call {id} came after {time:?}, behind {ahead} bytes of bulk");
        assert!(ahead < 20_000, "{ahead} bytes, {time:?}");
        assert!(time < MS(5000), "{time:?}");
    }
    drop(over);
    flood.join().unwrap();
    assert_eq!(bulk.dropped(), 0);
    drop((peer, slow));
    client.stopped();
}
