//! Work that blocks: what the core asks of the job workers, and what they answer. Plain data in both directions.
//!
//! **Invariant:** every job that is started ends exactly once, with a deadline of its own (transfers: one without progress),
//! also if its worker panics or the pool has no worker left. The core has no watchdog of its own: it could not know whether
//! a job is slow or lost, and would set two to work on one app (S2).

use super::app::{AppKey, Stage};
use super::credential::Credential;
use super::ports::{Binding, Published};
use crate::secret::Secret;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;

/// Names a job; also orders jobs in time.
pub type JobId = u64;

/// Where the work of a job waits: a long transfer never delays a stop, and questions that an engine leaves unanswered
/// delay neither an app nor the status of the device (D1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Pulls, builds, pushes.
    Transfer,
    /// What is done with apps, all of it short.
    Control,
    /// Questions of callers that the engine or a server answers.
    Query,
    /// What this machine alone answers, at once.
    Local,
}

/// A directory of an app: the name comes from outside and is checked by [`super::names::is_path_part`] before use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// Stage of the app.
    pub stage: Stage,
    /// Its name, case kept.
    pub name: String,
}

/// What a container is made of (apps chapter 3.4). `Debug` shows no value of the environment: there are secrets in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Launch {
    /// Name of the container.
    pub container: String,
    /// Image reference with tag.
    pub image: String,
    /// Directory of the app.
    pub folder: Folder,
    /// Environment, without `DEVICE_LAN_IP`, which the worker adds where it is not set.
    pub environment: BTreeMap<String, String>,
    /// Published ports.
    pub bindings: Vec<Binding>,
    /// If it ends at once, why names the last line that it wrote: it is removed before anybody can read its log.
    pub on_trial: bool,
}

impl fmt::Debug for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Launch")
            .field("container", &self.container)
            .field("image", &self.image)
            .field("environment", &self.environment.keys())
            .field("bindings", &self.bindings)
            .finish_non_exhaustive()
    }
}

/// A registry and who asks there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// Host of the registry, as in an image name; with whatever slash the backend put behind it.
    pub registry: String,
    /// User: for the platform's registry the token.
    pub username: Secret,
    /// Password: for the platform's registry the device's secret.
    pub password: Secret,
}

/// A compose project, ready for its commands (4.9). `Debug` shows no value of the environment.
#[derive(Clone, PartialEq)]
pub struct Project {
    /// Normalised name: the label of its containers.
    pub name: String,
    /// Whose log shows the output.
    pub container: String,
    /// Directory of the app; its name, case kept, is that of the directory of the definition too.
    pub folder: Folder,
    /// The definition with name and host ports; the worker adds the directory of the variables, whose path it knows.
    pub definition: Value,
    /// Environment, without `DEVICE_LAN_IP`, which the worker adds where it is not set.
    pub environment: BTreeMap<String, String>,
}

impl fmt::Debug for Project {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Project")
            .field("name", &self.name)
            .field("environment", &self.environment.keys())
            .finish_non_exhaustive()
    }
}

/// What is done with a compose project. Whoever finds no compose on the device ends as [`Outcome::ComposeMissing`], but for
/// what only takes away: that is done by label then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ComposeCommand {
    /// `pull`, of these services, of all if there are none.
    Pull {
        /// Names of services.
        services: Vec<String>,
    },
    /// `build`
    Build,
    /// `pull` of what is not built: `--ignore-buildable`.
    PullRest,
    /// `push`
    Push,
    /// `up --remove-orphans -d`, PROD with `--no-build`, then waits until the project runs, at most 30 s. When it does not,
    /// the end of its containers' logs is shown and the project is taken down.
    Up {
        /// Host ports of the definition: fresh ones are probed before.
        bindings: Vec<Binding>,
    },
    /// `stop`, then its containers go: volumes stay.
    TakeDown,
    /// `down --remove-orphans`: also services that the definition does not have; volumes stay.
    Down,
    /// `down -v`; what is left of it goes by label, all of it if the definition is unusable.
    Remove,
}

impl ComposeCommand {
    /// Whether it moves images, which takes its time.
    fn is_transfer(&self) -> bool {
        matches!(
            self,
            ComposeCommand::Pull { .. } | ComposeCommand::Build | ComposeCommand::PullRest | ComposeCommand::Push
        )
    }
}

/// An image to be built from the archive `<build>/<name>.<ext>` (3.8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// Name of the app, case kept.
    pub app_name: String,
    /// Tag of the image.
    pub image: String,
    /// Stream id, `build_<key>_<name>`.
    pub id: String,
    /// Architecture tag: a `Dockerfile.<arch>` at the root of the archive goes before `Dockerfile`.
    pub arch: String,
    /// For base images.
    pub logins: Vec<Login>,
    /// Whose log shows the progress.
    pub container: String,
}

/// An image that is copied from one registry to another (3.13).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rehost {
    /// Where it is, with tag.
    pub source: String,
    /// Where it is to be, with tag.
    pub target: String,
    /// Who pulls; `None`: nobody in particular.
    pub from: Option<Login>,
    /// Who pushes.
    pub to: Login,
    /// Whose log shows the progress.
    pub container: String,
}

/// One message of an arriving archive (storage chapter 7.3). The core has checked names and order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// `<AppName>.<ext>`, a plain file name.
    pub file: String,
    /// Number of the transfer: names the part file.
    pub transfer: u64,
    /// What to do.
    pub piece: Piece,
}

/// What an upload message does to its part file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Create it; older part files of this name go.
    Begin {
        /// Announced bytes; 0 if unknown.
        total: u64,
    },
    /// Append these bytes.
    Data {
        /// In hexadecimal digits.
        hex: String,
        /// Where they belong: the file's length before.
        offset: u64,
    },
    /// Sync it and give it its name.
    End {
        /// Bytes that it must have.
        length: u64,
    },
    /// Delete it.
    Discard,
}

/// The files of an app that change while it runs (4.8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveFiles {
    /// Directory of the app.
    pub folder: Folder,
    /// `APP_AUTH_ID.txt` and `APP_AUTH_SECRET.txt`; `None` leaves what is there.
    pub credential: Option<Credential>,
    /// Only where no credential file is there yet: the epoch is not known for certain (storage chapter 1.5).
    pub only_if_absent: bool,
    /// Remote-port files: content, or `None` for one that is to go.
    pub remote: Vec<(String, Option<String>)>,
}

/// Previous reading of the processors (wire chapter 1.11): jiffies since boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CpuSample {
    /// All time.
    pub total: u64,
    /// Time that was not idle.
    pub busy: u64,
}

/// A question that an RPC asks of the machine.
#[derive(Debug, Clone, PartialEq)]
pub enum Query {
    /// `list_containers`
    Containers,
    /// `get_images`
    Images,
    /// `prune_images`
    Prune {
        /// The whole system instead of dangling images.
        all: bool,
    },
    /// `get_network_metadata`
    NetworkMetadata,
    /// `get_ipv4_addresses`
    Ipv4Addresses,
    /// `get_agent_metadata`
    AgentMetadata,
    /// The last 50 lines of a container or of a compose project, appended to what the history holds.
    Tail {
        /// The container.
        container: String,
        /// Of a compose app the project, normalised.
        project: Option<String>,
        /// What the history holds.
        history: Vec<String>,
    },
}

/// What a job is to do.
#[derive(Debug, Clone, PartialEq)]
pub enum JobSpec {
    /// Lists containers and images; inspects the agent's own containers, but for those that are as in `known`.
    Observe {
        /// Name of a container, or of a project that has no trouble, to (id, status) as last seen.
        known: BTreeMap<String, (String, String)>,
    },
    /// Inspects one container.
    Look {
        /// Its name.
        container: String,
    },
    /// The same for a release on trial: if it does not run, [`Container::last_line`] tells what it said, for it is removed
    /// before anybody can read its log.
    Prove {
        /// Its name.
        container: String,
    },
    /// Pulls an image; progress goes to the log of `container`.
    Pull {
        /// Reference with tag.
        image: String,
        /// Registry user: the token.
        username: Secret,
        /// Registry password: the device's secret.
        password: Secret,
        /// Whose log shows the progress.
        container: String,
    },
    /// Creates and starts a container and waits until it runs, at most 30 s.
    Start(Box<Launch>),
    /// Stops a container with 1 s grace, removes it, waits until it is gone.
    Stop {
        /// Its name.
        container: String,
    },
    /// Removes a container by force and waits until it is gone.
    RemoveContainer {
        /// Its name or id.
        container: String,
    },
    /// Removes every tag of a repository.
    RemoveImages {
        /// Image name without tag.
        repository: String,
    },
    /// Removes images, each once; what is not there or in use is success.
    RemoveImageList {
        /// References.
        images: Vec<String>,
    },
    /// Runs a command of a compose project.
    Compose {
        /// The project.
        project: Box<Project>,
        /// Logins before the command, the platform's registry first; none if nothing is asked of a registry.
        logins: Vec<Login>,
        /// The command.
        command: ComposeCommand,
    },
    /// Looks for a compose on the device: [`Outcome::Done`] or [`Outcome::ComposeMissing`].
    FindCompose,
    /// Looks at the containers of a compose project as one.
    LookProject {
        /// Its normalised name.
        project: String,
    },
    /// Removes containers and networks of a compose project by label; volumes stay.
    RemoveProject {
        /// Its normalised name.
        project: String,
    },
    /// Which services lack their image.
    MissingImages {
        /// Service to image.
        images: BTreeMap<String, String>,
    },
    /// Builds an image.
    Build(Box<Build>),
    /// Unpacks the archive of a DEV compose app into its build directory.
    Unpack {
        /// Name of the app, case kept.
        app_name: String,
    },
    /// Gives an image a second name.
    Tag {
        /// The image.
        source: String,
        /// Its further name, with tag.
        target: String,
    },
    /// Pushes an image; progress goes to the log of `container`.
    Push {
        /// Reference with tag.
        image: String,
        /// Who pushes.
        login: Login,
        /// Whose log shows the progress.
        container: String,
    },
    /// Copies an image from registry to registry.
    Rehost(Box<Rehost>),
    /// Stops a container and gives it another name, under which it is kept (decision 30); a kept one of before goes. To find
    /// no container is success.
    Keep {
        /// Its name.
        container: String,
        /// The other name.
        kept: String,
    },
    /// Puts a kept container back and starts it: whatever has its name goes.
    PutBack {
        /// Its name.
        container: String,
        /// Under which it is kept.
        kept: String,
    },
    /// Takes a message of an arriving archive.
    Upload(Box<Upload>),
    /// Whether there is an image.
    HasImage {
        /// Its name with tag.
        image: String,
    },
    /// Deletes an app's directory.
    DeleteFiles(Folder),
    /// Writes the files of an app that change while it runs.
    WriteLiveFiles(LiveFiles),
    /// Reads the machine's statistics.
    Statistics {
        /// The reading before.
        previous: Option<CpuSample>,
    },
    /// Reads the long text of the operating system, architecture and variant.
    Platform,
    /// Answers an RPC.
    Query(Query),
}

impl JobSpec {
    /// The lane that it waits in.
    pub fn lane(&self) -> Lane {
        match self {
            JobSpec::Pull { .. }
            | JobSpec::Build(_)
            | JobSpec::Unpack { .. }
            | JobSpec::Push { .. }
            | JobSpec::Rehost(_) => Lane::Transfer,
            JobSpec::Compose { command, .. } if command.is_transfer() => Lane::Transfer,
            // Archives arrive in many small pieces, and the local lane has no other work that lasts.
            JobSpec::Upload(_) => Lane::Query,
            JobSpec::Statistics { .. }
            | JobSpec::Platform
            | JobSpec::Query(Query::NetworkMetadata | Query::Ipv4Addresses) => Lane::Local,
            JobSpec::Query(_) => Lane::Query,
            _ => Lane::Control,
        }
    }

    /// Whether it needs the container engine.
    pub fn needs_engine(&self) -> bool {
        !matches!(
            self,
            JobSpec::DeleteFiles(_)
                | JobSpec::WriteLiveFiles(_)
                | JobSpec::Unpack { .. }
                | JobSpec::Upload(_)
                | JobSpec::Statistics { .. }
                | JobSpec::Platform
                | JobSpec::Query(_)
        )
    }
}

/// A container as it was seen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Container {
    /// Engine id.
    pub id: String,
    /// Name without the leading slash.
    pub name: String,
    /// Reference of the image that it was made of; of a project those of its services, sorted and joined by commas. The
    /// id, if a listing alone tells and the tag has moved on.
    pub image: String,
    /// `created running paused restarting removing exited dead`.
    pub status: String,
    /// Exit code of the last run.
    pub exit_code: i64,
    /// Ended for lack of memory.
    pub out_of_memory: bool,
    /// Error of a start that failed.
    pub error: String,
    /// The last line that it wrote, cut; empty unless it was asked for.
    pub last_line: String,
    /// When it was started last, as the engine says.
    pub started_at: String,
    /// The ports that it was made with.
    pub bindings: Vec<Published>,
    /// It has the network of the machine, where its ports are: so old agents made their containers.
    pub host_network: bool,
    /// It carries the agent's label `real=True`.
    pub ours: bool,
    /// A build of the agent's has left it.
    pub of_build: bool,
    /// Compose project that it belongs to.
    pub project: Option<String>,
    /// Its service in that project.
    pub service: Option<String>,
    /// What its HEALTHCHECK says, if it has one.
    pub health: Option<Health>,
}

/// What a HEALTHCHECK says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Not decided yet.
    Starting,
    /// It is well.
    Healthy,
    /// It is not.
    Unhealthy,
}

/// Everything that one listing showed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observation {
    /// All containers of the machine, foreign ones with less detail.
    pub containers: Vec<Container>,
    /// Repository tags of all images.
    pub images: Vec<String>,
    /// Directories of compose definitions, by stage and app name as on disk.
    pub definitions: Vec<Folder>,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Done, nothing to say.
    Done,
    /// [`JobSpec::Observe`]
    Observed(Observation),
    /// [`JobSpec::Look`]: `None` if there is no such container.
    Looked(Option<Box<Container>>),
    /// [`JobSpec::HasImage`]
    HasImage(bool),
    /// [`JobSpec::MissingImages`]: services whose image is not there, sorted.
    Missing(Vec<String>),
    /// [`JobSpec::Compose`], [`JobSpec::FindCompose`]: there is no compose on the device.
    ComposeMissing,
    /// [`JobSpec::Start`]: the image is not on the device.
    ImageMissing,
    /// [`JobSpec::Start`]: these new ports are bound by somebody else; nothing was created.
    PortsTaken(Vec<Binding>),
    /// [`JobSpec::Start`]: the engine could not bind a port that its text names.
    PortConflict(String),
    /// [`JobSpec::Statistics`]: the dict of the status report, and the reading for next time.
    Statistics {
        /// The 12 values.
        stats: Value,
        /// Reading for the next call.
        sample: Option<CpuSample>,
    },
    /// [`JobSpec::Platform`]
    Platform {
        /// Long text of the operating system.
        os: String,
    },
    /// [`JobSpec::Query`]: positional results.
    Answer(Vec<Value>),
    /// It was cancelled.
    Cancelled,
    /// The engine is away, or does not answer: nothing is known of the effect.
    EngineGone(String),
    /// It failed.
    Failed(String),
}

/// What a container event of the engine says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerEvent {
    /// `start`, `die`, `destroy`, ...
    pub action: String,
    /// Name of the container.
    pub name: String,
    /// Compose project that it belongs to.
    pub project: Option<String>,
}

/// The app that a job works for, if any: what a log line names.
pub type Subject = Option<AppKey>;
