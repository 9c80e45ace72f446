//! The command line (`wamp-and-rpc.md` 7): what is printed where, exit codes, and what is not touched.

use super::LIMIT;
use crate::util::{Agent, Options, TempDir, wait_until};
use reagent::release;
use std::process::{Command, Output, Stdio};

/// Runs the binary to its end in an empty folder that must stay so.
#[track_caller]
fn run(args: &[&str]) -> Output {
    let folder = TempDir::new("command-line");
    let mut command = Command::new(env!("CARGO_BIN_EXE_reagent"));
    command.args(args).current_dir(folder.path()).env("REAGENT_LOCK_FILE", folder.join("lock"));
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // What is printed fits into a pipe, so it can end before it is read.
    wait_until(LIMIT, "the process ends", || child.try_wait().unwrap());
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert!(left.is_empty(), "{args:?} left {left:?}");
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn version_and_architecture_are_printed_alone_and_nothing_is_touched() {
    let config = ["-config", "absent.flock", "-logFile", "agent.log", "-agentDir", "agent", "-appsDir", "apps"];
    let version = format!("{}\n", release::VERSION);
    let arch = format!("{}\n", release::ARCH);
    for (flags, expected) in [
        (vec!["-version"], &version),
        (vec!["--version"], &version),
        (vec!["-arch"], &arch),
        (vec!["-arch", "-version"], &version),
        ([&["-version"], &config[..]].concat(), &version),
        ([&config[..], &["-arch"]].concat(), &arch),
    ] {
        let output = run(&flags);
        assert_eq!((text(&output.stdout), text(&output.stderr)), (expected.clone(), String::new()), "{flags:?}");
        assert_eq!(output.status.code(), Some(0), "{flags:?}");
    }
}

#[test]
fn help_goes_to_stderr_and_a_missing_config_to_stdout_both_with_code_0() {
    for flag in ["-h", "-help", "--help"] {
        let output = run(&[flag]);
        assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(0), ""));
        let usage = text(&output.stderr);
        assert!(usage.starts_with("Usage of "), "{usage}");
        assert!(usage.contains("\n  -config string\n") && usage.contains("(default 1250)"), "{usage}");
    }
    for args in [&[][..], &["-config="], &["-debug", "false", "-config", "x"]] {
        let output = run(args);
        assert_eq!(text(&output.stdout).trim_end(), "'-config' argument is required. -help for usage", "{args:?}");
        assert_eq!(output.status.code(), Some(0), "{args:?}");
    }
}

#[test]
fn syntax_errors_name_the_flag_and_exit_with_2() {
    for (args, line) in [
        (vec!["-foo"], "flag provided but not defined: -foo"),
        (vec!["-config"], "flag needs an argument: -config"),
        (vec!["-connTimeout=abc"], "invalid value \"abc\" for flag -connTimeout: parse error"),
        (vec!["-connTimeout=-1"], "invalid value \"-1\" for flag -connTimeout: parse error"),
        (vec!["-connTimeout="], "invalid value \"\" for flag -connTimeout: parse error"),
        (
            vec!["-connTimeout=99999999999999999999"],
            "invalid value \"99999999999999999999\" for flag -connTimeout: value out of range",
        ),
        (vec!["-debug=maybe"], "invalid boolean value \"maybe\" for -debug: parse error"),
        (vec!["---x"], "bad flag syntax: ---x"),
        (vec!["-=x"], "bad flag syntax: -=x"),
        (vec!["-config", "x", "-version", "-nope"], "flag provided but not defined: -nope"),
    ] {
        let output = run(&args);
        let stderr = text(&output.stderr);
        assert_eq!(stderr.lines().next(), Some(line), "{args:?}");
        assert!(stderr.lines().nth(1).is_some_and(|second| second.starts_with("Usage of ")), "{stderr}");
        assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(2), ""), "{args:?}");
    }
}

#[test]
fn the_service_subcommand_is_refused_on_stderr() {
    let output = run(&["service", "install"]);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(1), ""));
    assert!(text(&output.stderr).contains("Windows"), "{}", text(&output.stderr));
}

#[test]
fn ignored_arguments_are_named_on_stderr() {
    let mut agent = Agent::prepare(Options::default());
    agent.options.flags = vec!["-debug".to_owned(), "false".to_owned(), "-offline".to_owned()];
    agent.restart();
    assert_eq!(agent.wait_exit(LIMIT).code(), Some(1), "its config is empty");
    let output = agent.output();
    assert!(output.iter().any(|line| line.starts_with("err: ") && line.contains("false -offline")), "{output:?}");
}
