//! The codec against recorded frames, in both directions, and against hostile ones.

use super::*;
use serde_json::json;

const GOLDEN: &str = include_str!("../../../tests/golden/wamp/session.jsonl");

fn frames() -> Vec<Value> {
    GOLDEN.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_recorded_frame_survives_decoding_and_encoding_unchanged() {
    let frames = frames();
    assert!(frames.len() > 20, "only {} golden frames", frames.len());
    let mut kinds = std::collections::BTreeSet::new();
    for frame in frames {
        let message = decode(&frame.to_string()).unwrap_or_else(|error| panic!("{frame}: {error}"));
        let again: Value = serde_json::from_str(&encode(message.clone())).unwrap();
        assert_eq!(again, frame);
        assert_eq!(decode(&encode(message.clone())), Ok(message));
        kinds.insert(frame[0].as_u64().unwrap());
    }
    // What the recordings lack (ABORT, GOODBYE, CANCEL, INTERRUPT) is in the table below.
    for kind in [1, 2, 4, 5, 8, 16, 32, 33, 34, 35, 36, 48, 50, 64, 65, 66, 67, 68, 70] {
        assert!(kinds.contains(&kind), "no golden frame of type {kind}");
    }
}

#[test]
fn message_types_that_were_not_recorded_go_both_ways_too() {
    for frame in [
        json!([3, {"message": "no"}, "wamp.error.no_such_realm"]),
        json!([6, {}, "wamp.close.close_realm"]),
        json!([17, 5, 6]),
        json!([49, 5, {"mode": "killnowait"}]),
        json!([69, 5, {"mode": "kill"}]),
    ] {
        let message = decode(&frame.to_string()).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&encode(message)).unwrap(), frame);
    }
}

#[test]
fn trailing_empty_arguments_are_left_out_and_an_empty_list_stands_before_keywords() {
    let yielded = |args: Vec<Value>, kwargs: Value| {
        let Value::Object(kwargs) = kwargs else { panic!() };
        encode(Message::Yield { request: 7, options: Map::new(), payload: Payload::new(args, kwargs) })
    };
    assert_eq!(yielded(vec![], json!({})), "[70,7,{}]");
    assert_eq!(yielded(vec![1.into()], json!({})), "[70,7,{},[1]]");
    assert_eq!(yielded(vec![], json!({"a": 1})), r#"[70,7,{},[],{"a":1}]"#);
    assert_eq!(encode(Message::Yield { request: 7, options: Map::new(), payload: Payload::none() }), "[70,7,{}]");
}

#[test]
fn absent_null_and_empty_arguments_are_told_apart_as_far_as_they_differ() {
    let args = |frame: Value| match decode(&frame.to_string()).unwrap() {
        Message::Invocation { payload, .. } => (payload.args, payload.kwargs),
        other => panic!("{other:?}"),
    };
    assert_eq!(args(json!([68, 1, 2, {}])), (None, None));
    assert_eq!(args(json!([68, 1, 2])), (None, None));
    assert_eq!(args(json!([68, 1, 2, null, null, null])), (None, None));
    assert_eq!(args(json!([68, 1, 2, {}, []])), (Some(vec![]), None));
    assert_eq!(args(json!([68, 1, 2, {}, [null], {}])), (Some(vec![Value::Null]), Some(Map::new())));
}

#[test]
fn ids_may_be_floats_without_a_fraction() {
    assert_eq!(
        decode("[65,5.0,9007199254740992.0]"),
        Ok(Message::Registered { request: 5, registration: 9_007_199_254_740_992 })
    );
    for id in ["5.5", "-1", "1e300", "\"5\"", "null", "true"] {
        assert_eq!(decode(&format!("[65,{id},7]")), Err(DecodeError::Slot(65, "request")), "{id}");
    }
}

#[test]
fn unknown_details_are_kept_and_surplus_slots_ignored() {
    let message = decode(r#"[67,0,{"registration":5,"reason":"revoked"},1,2]"#).unwrap();
    assert_eq!(message, Message::Unregistered { request: 0 });
    let Message::Welcome { details, .. } = decode(r#"[2,1,{"x_new":{"deep":[1]}}]"#).unwrap() else { panic!() };
    assert_eq!(details["x_new"]["deep"][0], 1);
}

#[test]
fn what_is_no_message_is_named() {
    for text in ["{}", "[]", "null", "[\"1\"]", "[-1]", "[null,1]"] {
        assert_eq!(decode(text), Err(DecodeError::NotAMessage), "{text}");
    }
    assert_eq!(decode("[9999,1]"), Err(DecodeError::UnknownType(9999)));
    assert!(matches!(decode(""), Err(DecodeError::NotJson(_))));
    assert!(matches!(decode(&"[".repeat(100_000)), Err(DecodeError::NotJson(_))));
    assert_eq!(decode("[36,1,2,{},{}]"), Err(DecodeError::Slot(36, "argument list")));
    assert_eq!(decode("[36,1,2,{},[],[]]"), Err(DecodeError::Slot(36, "keyword arguments")));
    assert_eq!(decode("[36,1,2,7]"), Err(DecodeError::Slot(36, "details")));
}

#[test]
fn no_prefix_of_a_recorded_frame_panics_or_passes_for_a_message() {
    for frame in frames() {
        let text = frame.to_string();
        for end in (0..text.len()).filter(|&end| text.is_char_boundary(end)) {
            assert!(decode(&text[..end]).is_err(), "{}", &text[..end]);
        }
        // Every shorter array and every array with one slot of a wrong kind is decoded or refused, never a panic.
        let Value::Array(slots) = frame else { panic!() };
        for slot in 0..slots.len() {
            let _ = decode(&Value::Array(slots[..slot].to_vec()).to_string());
            for wrong in [json!(null), json!(-1), json!("x"), json!([[]]), json!({"a": {}}), json!(1.5)] {
                let mut changed = slots.clone();
                changed[slot] = wrong;
                let _ = decode(&Value::Array(changed).to_string());
            }
        }
    }
}
