//! The WAMP codec: no text panics it, and every message survives both ways.

use super::cases;
use super::generator::{Random, golden};
use reagent::wamp::message::{Map, Message, Payload, decode, encode};
use serde_json::Value;

/// Lines of recorded sessions.
pub(super) fn recorded() -> Vec<Vec<u8>> {
    golden("wamp").iter().flat_map(|file| file.split(|byte| *byte == b'\n').map(<[u8]>::to_vec)).collect()
}

/// A message of any type. Floats of JSON lose their last bit, so its numbers are whole.
pub(super) fn message(random: &mut Random) -> Message {
    let mut r = || random.below(10_000) as u64;
    let (request, id, session) = (r(), r(), r() << 40);
    let text = random.text(10);
    let mut map = || whole(random.map(2));
    let (details, options) = (map(), map());
    // Empty arguments are not sent and come back as none; an empty list stands before keywords.
    let payload = match random.below(3) {
        0 => Payload::none(),
        1 => Payload { args: Some(vec![Value::from(1), random.text(5).into()]), kwargs: None },
        _ => {
            let mut kwargs = whole(random.map(2));
            kwargs.insert("k".to_owned(), Value::Null);
            Payload::new(vec![Value::Null; random.below(2)], kwargs)
        }
    };
    match random.below(24) {
        0 => Message::Hello { realm: text, details },
        1 => Message::Welcome { session, details },
        2 => Message::Abort { details, reason: text },
        3 => Message::Challenge { method: text, extra: details },
        4 => Message::Authenticate { signature: text, extra: details },
        5 => Message::Goodbye { details, reason: text },
        6 => Message::Error { kind: id, request, details, uri: text, payload },
        7 => Message::Publish { request, options, topic: text, payload },
        8 => Message::Published { request, publication: session },
        9 => Message::Subscribe { request, options, topic: text },
        10 => Message::Subscribed { request, subscription: id },
        11 => Message::Unsubscribe { request, subscription: id },
        12 => Message::Unsubscribed { request },
        13 => Message::Event { subscription: id, publication: session, details, payload },
        14 => Message::Call { request, options, procedure: text, payload },
        15 => Message::Cancel { request, options },
        16 => Message::Result { request, details, payload },
        17 => Message::Register { request, options, procedure: text },
        18 => Message::Registered { request, registration: id },
        19 => Message::Unregister { request, registration: id },
        20 => Message::Unregistered { request },
        21 => Message::Invocation { request, registration: id, details, payload },
        22 => Message::Interrupt { request, options },
        _ => Message::Yield { request, options, payload },
    }
}

fn whole(mut map: Map) -> Map {
    fn clean(value: &mut Value) {
        match value {
            Value::Number(number) if number.is_f64() => *value = 5.into(),
            Value::Array(values) => values.iter_mut().for_each(clean),
            Value::Object(map) => map.values_mut().for_each(clean),
            _ => {}
        }
    }
    map.values_mut().for_each(clean);
    map
}

#[test]
fn every_message_survives_encoding_and_decoding() {
    cases(4000, |random, case| {
        let message = message(random);
        case.note(&message);
        let text = encode(message.clone());
        assert_eq!(decode(&text), Ok(message), "{text}");
    });
}

#[test]
fn p2_no_text_panics_the_decoder_and_what_it_takes_it_can_write() {
    let recorded = recorded();
    cases(6000, |random, case| {
        let line = &recorded[random.below(recorded.len())];
        let text = match random.below(3) {
            0 => Value::Array((0..random.below(8)).map(|_| random.json(3)).collect()).to_string(),
            1 => {
                // A real frame with another value in one of its places.
                let mut frame: Vec<Value> = serde_json::from_slice(line).unwrap_or_default();
                let at = random.below(frame.len() + 1);
                frame.insert(at, random.json(2));
                if random.once_in(2) && at + 1 < frame.len() {
                    frame.remove(at + 1);
                }
                Value::Array(frame).to_string()
            }
            _ => String::from_utf8_lossy(&random.mutate(line, &recorded)).into_owned(),
        };
        case.note(&text);
        if let Ok(message) = decode(&text) {
            let again = encode(message);
            let written = encode(decode(&again).unwrap_or_else(|error| panic!("{again}: {error}")));
            assert_eq!(decode(&written).is_ok(), decode(&again).is_ok());
        }
    });
}
