//! What the demonstration and the measurement start, and how all of it goes again: engine, registry, agent.
//!
//! The scripts of `tests/env` install and start; their messages go to standard error as they come. Each part ends with its
//! handle; the registry also ends when this process dies.

use crate::temp_dir::TempDir;
use crossbeam_channel::{Receiver, unbounded};
use reagent::clock;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// Runs a script of `tests/env`; its standard output.
pub fn script(name: &str, args: &[&str]) -> Result<String, String> {
    script_in(&std::env::temp_dir(), None, name, args)
}

/// [`script`] with its temporary files in `folder`, so that they go with that if it is interrupted; for the engine with this
/// `DOCKER_HOST`, if one is given.
fn script_in(folder: &Path, host: Option<&str>, name: &str, args: &[&str]) -> Result<String, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/env").join(name);
    let output = Command::new(&path)
        .args(args)
        .env("OWNER_PID", std::process::id().to_string())
        .env("TMPDIR", folder)
        .envs(host.map(|host| ("DOCKER_HOST", host)))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot run {}: {error}", path.display()))?;
    if !output.status.success() {
        return Err(format!("tests/env/{name} {} failed, see above", args.join(" ")));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The Docker Engine. On drop the apps named in [`Engine::own`] are gone from it, and it ends if it was started here.
pub struct Engine {
    started: bool,
    containers: Vec<String>,
    /// Prefix of the images: the registry's address.
    images: String,
}

impl Engine {
    /// One that answers, started if there is none.
    pub fn ready() -> Result<Engine, String> {
        let started = !script("docker.sh", &[])?.is_empty();
        Ok(Engine { started, containers: Vec::new(), images: String::new() })
    }

    /// Whether it was started here, and ends with this handle.
    pub fn is_ours(&self) -> bool {
        self.started
    }

    /// Takes the names for this run. An agent removes the containers of every other agent on its engine (they have one
    /// label in common), so none may be there; what is left of a run that was killed is removed.
    pub fn own(&mut self, containers: &[String], images: &str) -> Result<(), String> {
        let left = ["ps", "-a", "--filter", "label=reagent-test", "--format", "{{.Names}} {{.Image}}"];
        for line in self.docker(&left)?.lines() {
            if let Some((name, image)) = line.split_once(' ')
                && containers.iter().any(|own| own == name)
                // The registry ends with the process whose app it is.
                && image.split('/').next().is_some_and(|registry| TcpStream::connect(registry).is_err())
            {
                self.docker(&["rm", "-f", "-v", name])?;
                // Gone already, or used by something else: both are none of our business.
                let _ = self.docker(&["image", "rm", image]);
            }
        }
        let apps = self.docker(&["ps", "-a", "--filter", "label=real=True", "--format", "{{.Names}}"])?;
        if !apps.is_empty() {
            return Err(format!(
                "the Docker Engine has apps of another agent ({}), which a second agent would remove. Use another engine \
                 (DOCKER_HOST), or remove them",
                apps.replace('\n', " ")
            ));
        }
        self.containers = containers.to_vec();
        images.clone_into(&mut self.images);
        Ok(())
    }

    /// Runs the CLI; its standard output.
    pub fn docker(&self, args: &[&str]) -> Result<String, String> {
        let output = Command::new("docker").args(args).output().map_err(|error| format!("docker: {error}"))?;
        if !output.status.success() {
            return Err(format!("docker {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim()));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// The containers and images of this run that are there.
    pub fn leftovers(&self) -> (Vec<String>, Vec<String>) {
        let lines = |args: &[&str]| self.docker(args).unwrap_or_default();
        let containers = lines(&["ps", "-a", "--format", "{{.Names}}"]);
        let images = lines(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
        let own_container = |name: &&str| self.containers.iter().any(|own| own == name);
        let own_image = |image: &&str| !self.images.is_empty() && image.starts_with(&self.images);
        (
            containers.lines().filter(own_container).map(str::to_owned).collect(),
            images.lines().filter(own_image).map(str::to_owned).collect(),
        )
    }

    /// Removes the containers and images of this run that the agent has left.
    pub fn clear(&self) {
        let (containers, _) = self.leftovers();
        for name in containers {
            let _ = self.docker(&["rm", "-f", "-v", &name]);
        }
        let (_, images) = self.leftovers();
        for image in images {
            let _ = self.docker(&["image", "rm", "-f", &image]);
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.clear();
        if self.started
            && let Err(error) = script("docker.sh", &["stop"])
        {
            eprintln!("{error}");
        }
    }
}

/// A registry on a loopback port; its storage goes with the folder.
pub struct Registry {
    folder: PathBuf,
    dir: String,
    port: u16,
}

impl Registry {
    /// `folder` must outlive it.
    pub fn start(folder: &TempDir) -> Result<Registry, String> {
        let dir = folder.join("registry").to_string_lossy().into_owned();
        script("registry.sh", &["start", &dir])?;
        let port = std::fs::read_to_string(folder.join("registry/port")).map_err(|error| error.to_string())?;
        let port = port.trim().parse().map_err(|_| format!("the registry's port is {port:?}"))?;
        Ok(Registry { folder: folder.path().to_owned(), dir, port })
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Makes an image of a kind of `images.sh` and pushes it; none stays on the engine.
    pub fn push(&self, image: &str, version: &str, kind: &str) -> Result<(), String> {
        self.push_from(None, image, version, kind)
    }

    /// [`Registry::push`] by the engine with this `DOCKER_HOST`.
    pub fn push_from(&self, host: Option<&str>, image: &str, version: &str, kind: &str) -> Result<(), String> {
        let reference = format!("{}/apps/{image}:{version}", self.address());
        script_in(&self.folder, host, "images.sh", &["push", &reference, kind, version]).map(drop)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        if let Err(error) = script("registry.sh", &["stop", &self.dir]) {
            eprintln!("{error}");
        }
    }
}

/// The agent's process, in a process group of its own: Ctrl-C in the terminal reaches whoever started it alone.
pub struct Agent {
    child: Child,
    /// When it was started, on the monotonic clock.
    pub started: Duration,
    /// What it writes to standard output and error, line by line.
    pub lines: Receiver<String>,
}

impl Agent {
    /// Starts `binary` with all its files in `folder`, where `device.flock` is.
    pub fn start(binary: &Path, folder: &Path) -> Result<Agent, String> {
        Agent::start_by(Command::new(binary), folder)
    }

    /// [`Agent::start`] by a command that becomes the agent, such as an emulator with its binary.
    pub fn start_by(mut command: Command, folder: &Path) -> Result<Agent, String> {
        command
            .args(["-update=false", "-nmw=false", "-env=local", "-config"])
            .arg(folder.join("device.flock"))
            .arg("-agentDir")
            .arg(folder.join("agent"))
            .arg("-appsDir")
            .arg(folder.join("apps"))
            .arg(format!("-dbFileName={}", folder.join("agent/reagent.db").display()))
            .arg(format!("-logFile={}", log(folder).display()))
            .env("REAGENT_LOCK_FILE", folder.join("lock"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        std::fs::create_dir_all(folder.join("agent")).map_err(|error| error.to_string())?;
        let started = clock::mono();
        let mut child = command.spawn().map_err(|error| format!("cannot run {command:?}: {error}"))?;
        let (written, lines) = unbounded();
        let pipes = [
            child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>),
            child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>),
        ];
        let agent = Agent { child, started, lines };
        for pipe in pipes.into_iter().flatten() {
            let written = written.clone();
            let read = move || {
                for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                    let _ = written.send(line);
                }
            };
            reagent::thread::spawn("agent-output", |_| {}, read).map_err(|error| error.to_string())?;
        }
        Ok(agent)
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// SIGTERM, and SIGKILL if that does not end it within `limit`: `None`.
    pub fn stop(&mut self, limit: Duration) -> Option<ExitStatus> {
        if let Some(status) = self.ended() {
            return Some(status);
        }
        if let Some(pid) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = clock::mono() + limit;
        while clock::mono() < deadline {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if self.stop(Duration::from_secs(12)).is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The agent's log file in a folder given to [`Agent::start`].
pub fn log(folder: &Path) -> PathBuf {
    folder.join("reagent.log")
}

/// The agent that was built together with this program, in the profile of this folder name or the program's own.
pub fn built_agent(profile: Option<&str>) -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    // target/<profile>/examples/<program>
    let mut folder = own.ancestors().nth(2).ok_or("this program is in no target folder")?.to_owned();
    if let Some(profile) = profile {
        folder = folder.with_file_name(profile);
    }
    let agent = folder.join("reagent");
    if agent.is_file() { Ok(agent) } else { Err(format!("{} is not built: cargo build", agent.display())) }
}

/// Writes a file that only its owner can read: it holds the secret of the device.
pub fn write_flock(folder: &Path, text: &str) -> Result<(), String> {
    use std::io::Write as _;
    let path = folder.join("device.flock");
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(&path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| format!("{}: {error}", path.display()))
}
