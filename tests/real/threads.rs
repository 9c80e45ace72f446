//! Each thread of a running agent that others depend on, stopped by a debugger: the signs of life end, the log says whose
//! answer is missing, and they come back with it. Needs root, and perl-base, which is on every Debian.

use crate::cloud::Cloud;
use crate::util::docker_daemon::DockerDaemon;
use crate::util::{Agent, Options, ServiceManager, lines_of};
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);

/// Attaches to one thread and stops it; lets go of it when its input ends. The numbers are those of ptrace(2).
const DEBUGGER: &str = r#"
    my %number = (x86_64 => 101, aarch64 => 117, armv7l => 26);
    chomp(my $machine = `uname -m`);
    my $ptrace = $number{$machine} or die "no number of ptrace for $machine\n";
    my $thread = shift() + 0;
    syscall($ptrace, 0x4206, $thread, 0, 0) == 0 or die "PTRACE_SEIZE: $! (this needs root)\n";
    syscall($ptrace, 0x4207, $thread, 0, 0) == 0 or die "PTRACE_INTERRUPT: $!\n";
    waitpid($thread, 0x40000000) == $thread or die "waitpid: $!\n";
    $| = 1;
    print "stopped\n";
    <STDIN>;
"#;

/// A thread that stands still. It goes on when this is dropped.
struct Stopped(Child);

impl Stopped {
    #[track_caller]
    fn thread(agent: &Agent, name: &str) -> Stopped {
        let tasks = fs::read_dir(format!("/proc/{}/task", agent.pid())).unwrap().flatten();
        let is_it =
            |task: &fs::DirEntry| fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name);
        let task = tasks.into_iter().find(is_it).unwrap_or_else(|| panic!("there is no thread {name}"));
        let mut debugger = Command::new("perl")
            .args(["-e", DEBUGGER])
            .arg(task.file_name())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("perl is there");
        let told = lines_of(debugger.stdout.take().unwrap());
        let stopped = Stopped(debugger);
        assert_eq!(told.recv_timeout(LIMIT).as_deref(), Ok("stopped"), "{name}: what the debugger said is above");
        stopped
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // The kernel lets a thread go on whose debugger is gone.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn each_thread_that_stands_still_ends_the_signs_of_life_and_brings_them_back() {
    let period = Duration::from_millis(400);
    let cloud = Cloud::start(0, "127.0.0.1:5000").expect("a free loopback port");
    let engine = DockerDaemon::start();
    let env = vec![("DOCKER_HOST".to_owned(), engine.host())];
    let mut agent = Agent::prepare(Options { flock: cloud.flock(), env, ..Options::default() });
    let manager = ServiceManager::of(&mut agent.options, Some(period));
    agent.restart();
    cloud.backend.wait_for_status(LIMIT, 0, "CONNECTED");
    // The fourth worker is the one of the lane that waits for nobody.
    for (thread, named) in [("state", "state"), ("wamp", "wamp"), ("logs", "logs"), ("job-3", "jobs")] {
        manager.heard.try_iter().for_each(drop);
        manager.until("WATCHDOG=1");
        let stopped = Stopped::thread(&agent, thread);
        // A sign may have been on its way. What comes after it would come within half a period.
        manager.heard.try_iter().for_each(drop);
        std::thread::sleep(period / 4);
        manager.heard.try_iter().for_each(drop);
        let late = manager.heard.recv_timeout(period * 4);
        assert!(late.is_err(), "{thread} stands still, and the manager is told {late:?}");
        drop(stopped);
        manager.until("WATCHDOG=1");
        let log = agent.log();
        let complaint = format!("no answer within 200 ms from: {named}.");
        assert!(log.contains(&complaint), "{thread}: no {complaint:?} in\n{log}");
    }
    // One that only reads for another is not asked, nor is one that waits for the engine.
    for thread in ["wamp-pump", "docker-events", "signals"] {
        let _stopped = Stopped::thread(&agent, thread);
        manager.heard.try_iter().for_each(drop);
        (0..3).for_each(|_| drop(manager.until("WATCHDOG=1")));
    }
}
