//! Files that a test makes and then runs, and what they say.
//!
//! They are written by a child. Written by the test itself, the file could be open for writing in a process that another test
//! has just forked, and what is open for writing cannot be started.

use crossbeam_channel::{Receiver, unbounded};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// A shell script at `path`, in place of what was there.
#[track_caller]
pub fn program(path: &Path, script: &str) {
    let beside = path.with_extension("new");
    let mut writer = Command::new("sh")
        .args(["-c", "cat >\"$0\""])
        .arg(&beside)
        .stdin(Stdio::piped())
        .spawn()
        .expect("there is a shell");
    let mut input = writer.stdin.take().expect("stdin is piped");
    write!(input, "#!/bin/sh\n{script}\n").expect("the shell reads");
    drop(input);
    assert!(writer.wait().expect("a child can be waited for").success(), "cannot write {}", beside.display());
    fs::set_permissions(&beside, fs::Permissions::from_mode(0o755)).expect("the file is ours");
    fs::rename(&beside, path).expect("the folder is ours");
}

/// A copy of the agent at `path`.
#[track_caller]
pub fn copy_of_the_agent(path: &Path) {
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_reagent")).arg(path).status().expect("there is cp");
    assert!(copied.success(), "cannot copy the agent to {}", path.display());
}

/// What is written to a pipe, line by line, so that a test waits for it with a limit.
pub fn lines_of(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (tell, lines) = unbounded();
    let read = move || BufReader::new(stream).lines().map_while(Result::ok).for_each(|line| drop(tell.send(line)));
    reagent::thread::spawn("lines", |_| {}, read).expect("a thread starts");
    lines
}
