//! Calls and publications.

use super::*;

#[test]
fn a_call_is_answered_once_with_its_result_or_its_error() {
    let mut bench = Bench::joined(&[]);
    assert_eq!(bench.command(call(41, "a.b")), [r#"[48,3,{},"a.b",[41]]"#]);
    assert_eq!(bench.command(call(42, "a.c")), [r#"[48,4,{},"a.c",[42]]"#]);
    let seen = bench.router(json!([8, 48, 4, {}, "wamp.error.runtime", ["Duplicate value"], {"x": 1}]));
    assert!(seen[0].starts_with("Emit(Answer { id: 42, result: Err(Error { procedure: \"a.c\""), "{seen:?}");
    let seen = bench.router(json!([50, 3, {}, null, {"k": 1}]));
    assert_eq!(seen, [r#"Emit(Answer { id: 41, result: Ok(CallResult { args: [], kwargs: {"k": Number(1)} }) })"#]);
    assert!(bench.router(json!([50, 3, {}])).is_empty(), "a second reply is ignored");
    assert!(bench.after(S(60)).is_empty());
}

#[test]
fn c7_a_call_past_its_deadline_is_answered_and_canceled_and_its_late_reply_ignored() {
    let mut bench = Bench::joined(&[]);
    bench.command(call(41, "a.b"));
    assert!(bench.after(MS(9999)).is_empty());
    assert_eq!(
        bench.after(MS(1)),
        ["Emit(Answer { id: 41, result: Err(Timeout) })", r#"[49,3,{"mode":"killnowait"}]"#]
    );
    assert!(bench.router(json!([8, 48, 3, {}, "wamp.error.canceled"])).is_empty());
    bench.command(call(42, "a.b"));
    bench.after(S(10));
    assert!(bench.after(S(60)).is_empty(), "the ERROR never comes: forgotten");
}

#[test]
fn a_call_that_is_given_up_is_answered_by_the_router_or_by_a_timeout() {
    let mut bench = Bench::joined(&[]);
    bench.command(call(41, "a.b"));
    assert_eq!(bench.command(Command::CancelCall { id: 41 }), [r#"[49,3,{"mode":"killnowait"}]"#]);
    assert!(bench.command(Command::CancelCall { id: 41 }).is_empty());
    let seen = bench.router(json!([8, 48, 3, {}, "wamp.error.canceled"]));
    assert!(
        seen[0].contains(r#"id: 41, result: Err(Error { procedure: "a.b", uri: "wamp.error.canceled""#),
        "{seen:?}"
    );
    bench.command(call(42, "a.b"));
    bench.command(Command::CancelCall { id: 42 });
    assert_eq!(bench.after(S(5)), ["Emit(Answer { id: 42, result: Err(Timeout) })"]);
    assert!(bench.command(Command::CancelCall { id: 7 }).is_empty(), "unknown");
}

#[test]
fn publications_are_fire_and_forget_unless_acknowledged() {
    let mut bench = Bench::joined(&[]);
    let publish = |acknowledge| Command::Publish {
        topic: "a.t".to_owned(),
        args: vec![1.into()],
        kwargs: Map::new(),
        acknowledge,
    };
    assert_eq!(bench.command(publish(None)), [r#"[16,3,{},"a.t",[1]]"#]);
    assert_eq!(bench.command(publish(Some(7))), [r#"[16,4,{"acknowledge":true},"a.t",[1]]"#]);
    assert_eq!(bench.router(json!([17, 4, 99])), ["Emit(Published { id: 7, result: Ok(()) })"]);
    bench.command(publish(Some(8)));
    let seen = bench.router(json!([8, 16, 5, {}, "wamp.error.not_authorized"]));
    assert!(seen[0].contains("id: 8, result: Err(Error { procedure: \"a.t\""), "{seen:?}");
    bench.command(publish(Some(9)));
    assert_eq!(bench.after(S(5)), ["Emit(Published { id: 9, result: Err(Timeout) })"]);
    assert_eq!(
        bench.session.bulk_frame("a.l".to_owned(), vec!["x".into()]).as_deref(),
        Some(r#"[16,7,{},"a.l",["x"]]"#)
    );
}
