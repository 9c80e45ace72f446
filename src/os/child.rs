//! Commands that are run to their end: in a process group of their own, watched, drained, and gone when they must be.
//!
//! [`run`] blocks its thread, which must outlive the command: the kernel's parent-death signal is tied to the thread.
//! Field lessons S4 and S5: output is read as bytes whatever the consumer does with it, and every run can be ended by
//! its token, its limits, or the end of the agent.

#[cfg(test)]
mod tests;

use crate::cancel::Cancel;
use crate::clock;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

/// How often cancellation and the end of the process are looked for while nothing is printed.
const TICK: Duration = Duration::from_millis(50);

/// From TERM to KILL.
const GRACE: Duration = Duration::from_secs(3);

/// How long output is waited for after the process has ended: somebody in the background may hold the pipe for ever.
const LINGER: Duration = Duration::from_secs(1);

/// How long output is read after the process has ended while there is some.
const LINGER_TALKING: Duration = Duration::from_secs(10);

/// How long a killed process is waited for: one that hangs in a system call cannot even be killed.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// Which pipe a piece of output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// When a run is ended from outside. Both count on the monotonic clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// From the start.
    pub total: Option<Duration>,
    /// Since the last output.
    pub quiet: Option<Duration>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By itself.
    Exited(ExitStatus),
    /// By its token.
    Cancelled,
    /// By [`Limits::total`].
    TimedOut,
    /// By [`Limits::quiet`].
    Quiet,
}

/// Runs `command` with `input` on its standard input and hands every piece of output to `on_output`. When it is ended
/// from outside its whole group gets TERM, and KILL 3 s later.
///
/// # Errors
/// The command cannot be started, or the system refuses to wait for it.
pub fn run(
    mut command: Command,
    input: &[u8],
    limits: Limits,
    cancel: &Cancel,
    on_output: impl FnMut(Stream, &[u8]),
) -> io::Result<End> {
    let stdin = if input.is_empty() { Stdio::null() } else { Stdio::piped() };
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = spawn(&mut command)?;
    let mut group = Group::new(child)?;
    let mut pipes = Pipes::of(&mut group.child, input)?;
    group.attend(&mut pipes, limits, cancel, on_output)
}

/// Starts `command` in a process group of its own; the kernel kills it when the starting thread ends.
///
/// # Errors
/// The system's.
#[expect(unsafe_code, reason = "the parent-death signal is set between fork and exec")]
pub fn spawn(command: &mut Command) -> io::Result<Child> {
    let parent = rustix::process::getpid();
    // SAFETY: the closure only makes two system calls, allocates nothing and touches no lock.
    unsafe {
        command.process_group(0).pre_exec(move || {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            // The parent may have died before the call above.
            if rustix::process::getppid() == Some(parent) {
                Ok(())
            } else {
                Err(io::Error::from_raw_os_error(libc::ESRCH))
            }
        });
    }
    command.spawn()
}

/// A child that leads its group and is not left behind as a zombie or a stray, however its run ends.
struct Group {
    child: Child,
    id: Pid,
    reaped: bool,
}

impl Group {
    fn new(child: Child) -> io::Result<Group> {
        let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        Ok(Group { child, id: id.ok_or_else(|| io::Error::other("no process id"))?, reaped: false })
    }

    fn attend(
        &mut self,
        pipes: &mut Pipes<'_>,
        limits: Limits,
        cancel: &Cancel,
        mut on_output: impl FnMut(Stream, &[u8]),
    ) -> io::Result<End> {
        let started = clock::mono();
        let mut last_output = started;
        let mut ended: Option<Duration> = None;
        loop {
            let moved = pipes.pump(TICK, &mut on_output)?;
            let now = clock::mono();
            if moved {
                last_output = now;
            }
            if ended.is_none() && self.has_ended()? {
                ended = Some(now);
            }
            if let Some(at) = ended {
                let lingered = now.saturating_sub(at);
                if pipes.are_closed()
                    || (lingered >= LINGER && !moved)
                    || lingered >= LINGER_TALKING
                    || cancel.is_cancelled()
                {
                    self.reaped = true;
                    return self.child.wait().map(End::Exited);
                }
            } else if cancel.is_cancelled() {
                return self.terminate(pipes, on_output).map(|()| End::Cancelled);
            } else if limits.total.is_some_and(|limit| now.saturating_sub(started) >= limit) {
                return self.terminate(pipes, on_output).map(|()| End::TimedOut);
            } else if limits.quiet.is_some_and(|limit| now.saturating_sub(last_output) >= limit) {
                return self.terminate(pipes, on_output).map(|()| End::Quiet);
            }
        }
    }

    /// Ends the group. The leader stays a zombie until the last signal is sent: its number is nobody else's so long.
    fn terminate(&mut self, pipes: &mut Pipes<'_>, mut on_output: impl FnMut(Stream, &[u8])) -> io::Result<()> {
        let asked = clock::mono();
        self.signal(Signal::TERM);
        while clock::mono().saturating_sub(asked) < GRACE && !(self.has_ended()? && pipes.are_closed()) {
            pipes.pump(TICK, &mut on_output)?;
        }
        self.kill();
        Ok(())
    }

    fn signal(&self, signal: Signal) {
        // Refused only when the whole group is gone already.
        let _ = kill_process_group(self.id, signal);
    }

    /// Kills the group and reaps its leader, unless that hangs in the kernel: then it is left to itself.
    fn kill(&mut self) {
        self.signal(Signal::KILL);
        let asked = clock::mono();
        while self.has_ended().is_ok_and(|ended| !ended) && clock::mono().saturating_sub(asked) < LAST_WAIT {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.try_wait();
        self.reaped = true;
    }

    fn has_ended(&self) -> io::Result<bool> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match waitid(WaitId::Pid(self.id), options) {
            Ok(status) => Ok(status.is_some()),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.reaped {
            self.kill();
        }
    }
}

/// Our ends of the pipes, all of them non-blocking.
struct Pipes<'a> {
    stdin: Option<ChildStdin>,
    input: &'a [u8],
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
}

impl Pipes<'_> {
    fn of<'a>(child: &mut Child, input: &'a [u8]) -> io::Result<Pipes<'a>> {
        let pipes =
            Pipes { stdin: child.stdin.take(), input, stdout: child.stdout.take(), stderr: child.stderr.take() };
        pipes.stdin.as_ref().map(unblock).transpose()?;
        pipes.stdout.as_ref().map(unblock).transpose()?;
        pipes.stderr.as_ref().map(unblock).transpose()?;
        Ok(pipes)
    }

    fn are_closed(&self) -> bool {
        self.stdout.is_none() && self.stderr.is_none()
    }

    /// Waits up to `wait` for something to move, then moves what there is; says whether there was output.
    fn pump(&mut self, wait: Duration, on_output: &mut impl FnMut(Stream, &[u8])) -> io::Result<bool> {
        let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(3);
        fds.extend(self.stdin.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::OUT)));
        fds.extend(self.stdout.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        fds.extend(self.stderr.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        let wait = Timespec { tv_sec: 0, tv_nsec: wait.subsec_nanos().into() };
        match poll(&mut fds, Some(&wait)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        drop(fds);
        feed(&mut self.stdin, &mut self.input);
        let out = drain(&mut self.stdout, |bytes| on_output(Stream::Out, bytes));
        let err = drain(&mut self.stderr, |bytes| on_output(Stream::Err, bytes));
        Ok(out || err)
    }
}

fn unblock(pipe: &impl AsFd) -> io::Result<()> {
    fcntl_setfl(pipe, fcntl_getfl(pipe)? | OFlags::NONBLOCK)?;
    Ok(())
}

/// Writes what the pipe takes; closes it at the end of the input or when nobody reads.
fn feed(pipe: &mut Option<ChildStdin>, input: &mut &[u8]) {
    while let Some(stdin) = pipe {
        match stdin.write(input) {
            Ok(written) => *input = &input[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => *input = &[],
        }
        if input.is_empty() {
            *pipe = None;
        }
    }
}

/// Reads once; closes the pipe at its end. Says whether there was output.
fn drain(pipe: &mut Option<impl io::Read>, on_output: impl FnOnce(&[u8])) -> bool {
    let mut buffer = [0; 16 * 1024];
    match pipe.as_mut().map(|pipe| pipe.read(&mut buffer)) {
        Some(Ok(count @ 1..)) => {
            on_output(&buffer[..count]);
            true
        }
        Some(Err(error)) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => false,
        Some(Ok(_) | Err(_)) => {
            *pipe = None;
            false
        }
        None => false,
    }
}

/// Output within a budget: the first bytes of standard output, which are a result, and the last ones of standard
/// error, which say why there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    cap: usize,
    /// The first bytes of standard output.
    pub stdout: Vec<u8>,
    /// The last bytes of standard error.
    pub stderr: VecDeque<u8>,
    /// Whether bytes of standard output are missing at the end.
    pub stdout_cut: bool,
}

impl Collected {
    /// Keeps up to `cap` bytes of each stream.
    pub fn new(cap: usize) -> Collected {
        Collected { cap, ..Collected::default() }
    }

    /// Takes a piece of output: the `on_output` of [`run`].
    pub fn take(&mut self, stream: Stream, bytes: &[u8]) {
        match stream {
            Stream::Out => {
                let kept = bytes.len().min(self.cap - self.stdout.len());
                self.stdout.extend_from_slice(&bytes[..kept]);
                self.stdout_cut |= kept < bytes.len();
            }
            Stream::Err => {
                let bytes = &bytes[bytes.len().saturating_sub(self.cap)..];
                let surplus = (self.stderr.len() + bytes.len()).saturating_sub(self.cap);
                self.stderr.drain(..surplus);
                self.stderr.extend(bytes);
            }
        }
    }

    /// The end of standard error as text, without white space around it.
    pub fn stderr_text(&self) -> String {
        let (front, back) = self.stderr.as_slices();
        String::from_utf8_lossy(&[front, back].concat()).trim().to_owned()
    }
}
