//! What operations bring: long lines, floods, and that nothing is changed on the way.

use super::*;

#[test]
fn s5_a_flood_from_an_operation_is_held_back_by_the_hub_and_never_by_the_network() {
    const LINES: usize = 100_000;
    let (inbox, events) = bounded::<Event>(64);
    let (exits, exit) = bounded(1);
    let publish = |_| Outflow { room: 0 };
    let on_exit = move |exit| exits.send(exit).unwrap_or_default();
    let handle = spawn("serial", endless(Vec::new()), publish, inbox, |event| event, on_exit).unwrap();
    handle.send(LogCommand::Session { up: true });
    let args = vec![json!(1), json!({"id": 1, "uri": "reswarm.logs.serial.dev_1_a"})];
    handle.send(LogCommand::SubscriptionCreated { args });
    let (feed, (done, is_done)) = (handle.feed(), bounded(1));
    let work = move || (0..LINES).for_each(|n| feed.line("dev_1_a", format!(" web {n} Pulling ")));
    thread::spawn("job-test", move |exit| done.send(exit).unwrap(), work).unwrap();
    let (until, mut most) = (clock::mono() + LIMIT, 0);
    while is_done.is_empty() {
        assert!(clock::mono() < until, "it waits for a network that takes nothing");
        most = most.max(handle.inbox.len());
        std::thread::yield_now();
    }
    assert_eq!(is_done.recv().unwrap(), Exit::Done);
    // A message that was counted may be under way in the hub while its credit is free again.
    assert!(most <= 16 + 2, "{most} messages under way");
    handle.send(LogCommand::History { container: "dev_1_a".to_owned(), token: 1 });
    let lines = loop {
        if let Event::History { lines, .. } = events.recv_timeout(LIMIT).unwrap() {
            break lines;
        }
    };
    let expected: Vec<String> = (LINES - 100..LINES).map(|n| format!(" web {n} Pulling ")).collect();
    assert_eq!(lines, expected);
    drop(handle);
    assert_eq!(exit.recv_timeout(LIMIT).unwrap(), Exit::Done);
}

#[test]
fn lines_of_an_operation_are_forwarded_as_they_are_also_long_ones() {
    let bench = bench(64, endless(Vec::new()));
    bench.watch("dev_1_a");
    let feed = bench.handle.feed();
    let long = "ü".repeat(100 * 1024);
    let lines = [
        r#"{"stream":"Step 1/3 : FROM busybox:local"}"#,
        r#"{"stream":" ---\u003e e679db401abc\n"}"#,
        r#"{"errorDetail":{"message":"no"},"error":"no"}"#,
        " side Skipped - Image is already being pulled by web ",
        "",
        "\u{1b}[2K\u{1b}[31m 50%\rdone\u{7}",
        &long,
    ];
    lines.iter().for_each(|line| feed.line("dev_1_a", (*line).to_owned()));
    assert_eq!(bench.text(|text| text.ends_with("üü\n")), lines.join("\n") + "\n");
    // What is too long for a flush is counted for viewers, and the history has its beginning.
    let mebibyte = "x".repeat(1024 * 1024);
    feed.line("dev_1_a", mebibyte.clone());
    assert_eq!(bench.text(|text| text.contains('\n')), "… 1 log line(s) dropped (rate limit)\n");
    feed.line("dev_1_a", "next".to_owned());
    assert_eq!(bench.text(|text| text.contains('\n')), "next\n");
    let history = bench.history("dev_1_a");
    let [.., cut, next] = &history[..] else { panic!("{history:?}") };
    assert!(
        cut.len() <= ring::LINE && cut.ends_with("x … (cut)") && mebibyte.starts_with(&cut[..8000]),
        "{}",
        cut.len()
    );
    assert_eq!(next, "next");
    assert_eq!(bench.stop(), Exit::Done);
}
