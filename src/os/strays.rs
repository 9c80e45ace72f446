//! Processes that an agent has left which was killed. The parent-death signal reaches what it had started itself, not what
//! that had started in turn: a plugin of the docker command would go on, beside the new agent's own.

use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::io::Read as _;

/// No environment is read further than this.
const LIMIT: u64 = 1024 * 1024;

/// Kills every process with a variable that begins like this (`NAME=value`), but for this one; their ids.
pub fn kill_by_variable(beginning: &str) -> Vec<i32> {
    let own = rustix::process::getpid();
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let marked = ids.filter(|id| has_variable(*id, beginning.as_bytes()));
    let others = marked.filter_map(Pid::from_raw).filter(|id| *id != own);
    // Refused: it has just ended.
    others.filter(|id| kill_process(*id, Signal::KILL).is_ok()).map(Pid::as_raw_pid).collect()
}

fn has_variable(id: i32, beginning: &[u8]) -> bool {
    let mut environment = Vec::new();
    let read =
        File::open(format!("/proc/{id}/environ")).and_then(|file| file.take(LIMIT).read_to_end(&mut environment));
    // Of somebody else, or gone.
    read.is_ok() && environment.split(|byte| *byte == 0).any(|variable| variable.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::scratch::Scratch;
    use std::io::{BufRead as _, BufReader};
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Command, Stdio};

    #[test]
    fn s4_what_a_killed_agent_has_left_is_found_by_its_environment_with_its_children() {
        let dir = Scratch::new();
        let marked = format!("{}/logins/", dir.path().display());
        let start = |config: &str| {
            let mut shell = Command::new("sh");
            shell.args(["-c", "sleep 60 & echo $!; wait"]).env("DOCKER_CONFIG", config).stdout(Stdio::piped());
            let mut shell = shell.spawn().unwrap();
            let mut child = String::new();
            BufReader::new(shell.stdout.take().unwrap()).read_line(&mut child).unwrap();
            (shell, child.trim().parse::<i32>().unwrap())
        };
        let (mut left, child) = start(&format!("{marked}1"));
        let (mut other, other_child) = start("/elsewhere");
        let mut killed = kill_by_variable(&format!("DOCKER_CONFIG={marked}"));
        killed.sort_unstable();
        let mut expected = [i32::try_from(left.id()).unwrap(), child];
        expected.sort_unstable();
        assert_eq!(killed, expected);
        assert_eq!(left.wait().unwrap().signal(), Some(9));
        assert!(other.try_wait().unwrap().is_none(), "nobody else");
        kill_process(Pid::from_raw(other_child).unwrap(), Signal::KILL).unwrap();
        other.wait().unwrap();
    }
}
