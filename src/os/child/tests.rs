//! Runs of real commands: every way to end, and output without end.

use super::*;
use crate::os::scratch::Scratch;

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

fn run_shell(script: &str, input: &[u8], limits: Limits) -> (End, Collected) {
    let mut collected = Collected::new(1 << 20);
    let end = run(shell(script), input, limits, &Cancel::new(), |stream, bytes| collected.take(stream, bytes)).unwrap();
    (end, collected)
}

fn exit_code(end: End) -> Option<i32> {
    match end {
        End::Exited(status) => status.code(),
        _ => None,
    }
}

/// Waits until no process of that id is left, not even a zombie.
fn is_gone(pid: &str) -> bool {
    let limit = clock::mono() + Duration::from_secs(10);
    while std::path::Path::new("/proc").join(pid).exists() {
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // Orphans are reaped by whoever is their parent in this container, which is not ours to wait for.
        if state.contains(") Z ") {
            return true;
        }
        if clock::mono() > limit {
            return false;
        }
        std::thread::yield_now();
    }
    true
}

#[test]
fn output_and_exit_code_are_those_of_the_command() {
    let (end, collected) = run_shell("echo out; echo err >&2; exit 3", b"", Limits::default());
    assert_eq!(exit_code(end), Some(3));
    assert_eq!((collected.stdout.as_slice(), collected.stderr_text().as_str()), (&b"out\n"[..], "err"));
}

#[test]
fn a_command_that_is_not_there_is_an_error() {
    let error = run(Command::new("/none"), b"", Limits::default(), &Cancel::new(), |_, _| {}).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

#[test]
fn input_larger_than_a_pipe_goes_through() {
    let input = vec![b'x'; 300_000];
    let (end, collected) = run_shell("cat", &input, Limits::default());
    assert_eq!(exit_code(end), Some(0));
    assert!(collected.stdout == input);
    assert_eq!(exit_code(run_shell("exec <&-; exit 5", &input, Limits::default()).0), Some(5), "input nobody reads");
}

#[test]
fn s5_output_without_line_ends_and_beyond_the_budget_is_drained() {
    let mut collected = Collected::new(1000);
    let command = shell("head -c 3000000 /dev/zero; head -c 300000 /dev/zero >&2; printf END >&2");
    let end =
        run(command, b"", Limits::default(), &Cancel::new(), |stream, bytes| collected.take(stream, bytes)).unwrap();
    assert_eq!(exit_code(end), Some(0));
    assert_eq!((collected.stdout.len(), collected.stderr.len(), collected.stdout_cut), (1000, 1000, true));
    assert!(collected.stderr_text().ends_with("END"));
}

#[test]
fn s4_a_cancelled_command_goes_with_its_whole_group_even_if_it_ignores_term() {
    let cancel = Cancel::new();
    let canceller = cancel.clone();
    let mut pids = String::new();
    let command = shell("trap '' TERM; sleep 100 & echo $$ $!; wait; sleep 100");
    let end = run(command, b"", Limits::default(), &cancel, |_, bytes| {
        pids.push_str(&String::from_utf8_lossy(bytes));
        canceller.cancel();
    })
    .unwrap();
    assert_eq!(end, End::Cancelled);
    assert_eq!(pids.split_whitespace().count(), 2, "{pids:?}");
    for pid in pids.split_whitespace() {
        assert!(is_gone(pid), "process {pid} is still there");
    }
}

#[test]
fn a_command_that_ends_on_term_may_say_goodbye() {
    let cancel = Cancel::new();
    let mut collected = Collected::new(1000);
    let command = shell("trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.01; done");
    let end = run(command, b"", Limits::default(), &cancel, |stream, bytes| {
        collected.take(stream, bytes);
        cancel.cancel();
    })
    .unwrap();
    assert_eq!(end, End::Cancelled);
    assert_eq!(String::from_utf8_lossy(&collected.stdout), "ready\nbye\n");
}

#[test]
fn a_silent_command_ends_at_its_limit_and_a_talking_one_does_not() {
    let quiet = Limits { quiet: Some(Duration::from_millis(500)), total: None };
    assert_eq!(run_shell("sleep 100", b"", quiet).0, End::Quiet);
    let talk = "for i in 1 2 3 4 5 6 7 8 9 10; do echo; sleep 0.1; done";
    assert_eq!(exit_code(run_shell(talk, b"", quiet).0), Some(0));
    let total = Limits { quiet: None, total: Some(Duration::from_millis(300)) };
    assert_eq!(run_shell("while :; do echo; sleep 0.05; done", b"", total).0, End::TimedOut);
}

#[test]
fn somebody_in_the_background_who_holds_the_pipe_does_not_hold_the_run() {
    let (end, collected) = run_shell("sleep 20 & echo $!", b"", Limits::default());
    assert_eq!(exit_code(end), Some(0));
    let pid = String::from_utf8_lossy(&collected.stdout).trim().to_owned();
    assert!(!pid.is_empty());
    let kill = Command::new("kill").arg(&pid).status().unwrap();
    assert!(kill.success(), "what a command leaves in the background after its own end is its business");
}

#[test]
fn s4_a_command_dies_with_the_agent() {
    const CHILD: &str = "REAGENT_TEST_CHILD_DIES";
    if let Some(path) = std::env::var_os(CHILD) {
        let mut command = shell("echo $$ > \"$0.new\"; mv \"$0.new\" \"$0\"; exec sleep 100");
        command.arg(&path);
        drop(run(command, b"", Limits::default(), &Cancel::new(), |_, _| {}));
        return;
    }
    let dir = Scratch::new();
    let path = dir.join("pid");
    let mut agent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "os::child::tests::s4_a_command_dies_with_the_agent", "--nocapture"])
        .env(CHILD, &path)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let limit = clock::mono() + Duration::from_secs(10);
    while !path.exists() && clock::mono() < limit {
        std::thread::yield_now();
    }
    agent.kill().unwrap();
    agent.wait().unwrap();
    let pid = std::fs::read_to_string(&path).expect("the command has started");
    assert!(is_gone(pid.trim()), "process {pid} outlives the agent");
}

#[test]
fn the_budget_keeps_the_head_of_output_and_the_tail_of_errors() {
    let mut collected = Collected::new(5);
    for piece in ["abc", "def", "", "ghijklmno"] {
        collected.take(Stream::Out, piece.as_bytes());
        collected.take(Stream::Err, piece.as_bytes());
    }
    assert_eq!((collected.stdout.as_slice(), collected.stderr_text().as_str()), (&b"abcde"[..], "klmno"));
}
