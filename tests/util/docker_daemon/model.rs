//! What the fake daemon knows: containers, images, and the events of every change. Each change is a method here.

use std::cell::Cell;
use std::collections::BTreeMap;

use reagent::clock::{self, Wall};
use serde_json::{Value, json};

/// What happens when a container is started.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Behaviour {
    /// It writes these lines to standard output.
    pub log: Vec<String>,
    /// It ends at once with this code; else it runs.
    pub exits: Option<i64>,
    /// The kernel ends it at once for lack of memory.
    pub starves: bool,
    /// The start is refused (500) with this message.
    pub start_error: Option<String>,
    /// It has a HEALTHCHECK, which says this at first.
    pub health: Option<String>,
}

/// What a pull does; or a push, or a build.
#[derive(Clone, Debug, PartialEq)]
pub enum Pull {
    /// It brings the image where it is to be.
    Works,
    /// Its stream carries this error.
    Fails(String),
    /// It says that it began, and goes no further until the client ends it.
    Stalls,
}

#[derive(Default)]
pub struct Model {
    pub containers: Vec<Container>,
    pub images: Vec<Image>,
    pub offers: BTreeMap<String, Pull>,
    pub pushes: BTreeMap<String, Pull>,
    pub builds: BTreeMap<String, Pull>,
    pub behaviours: BTreeMap<String, Behaviour>,
    pub taken_ports: Vec<u16>,
    /// What every registry answers.
    pub registry_error: Option<String>,
    pub events: Vec<Event>,
    pub networks: Vec<Thing>,
    pub volumes: Vec<Thing>,
    made: u64,
}

/// A network or a volume.
pub struct Thing {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    /// Somebody else uses it: it cannot be removed.
    pub in_use: bool,
}

pub struct Image {
    pub id: String,
    pub tags: Vec<String>,
    pub created: Wall,
}

pub struct Event {
    /// `container` or `image`.
    pub kind: &'static str,
    pub action: String,
    pub nanos: i64,
    pub record: Value,
}

pub struct Container {
    pub id: String,
    pub name: String,
    /// The body of the create call.
    pub spec: Value,
    pub image_id: String,
    pub status: &'static str,
    pub exit_code: i64,
    /// The kernel has ended it for lack of memory.
    pub out_of_memory: bool,
    pub error: String,
    pub health: Option<String>,
    pub created: Wall,
    pub started: Option<Wall>,
    pub finished: Option<Wall>,
    /// Source, line, time.
    pub log: Vec<(u8, String, Wall)>,
    /// Lines of it that a client who asked for them has been sent, at least nearly.
    pub told: Cell<usize>,
}

impl Container {
    pub fn write(&mut self, source: u8, line: &str) {
        self.log.push((source, line.to_owned(), clock::wall()));
    }

    pub fn image(&self) -> &str {
        self.spec["Image"].as_str().unwrap_or_default()
    }

    pub fn tty(&self) -> bool {
        self.spec["Tty"] == true
    }

    pub fn labels(&self) -> BTreeMap<String, String> {
        serde_json::from_value(self.spec["Labels"].clone()).unwrap_or_default()
    }

    pub fn running(&self) -> bool {
        self.status == "running"
    }

    /// Container port with protocol, and host port.
    pub fn ports(&self) -> Vec<(String, u16)> {
        let bindings = self.spec["HostConfig"]["PortBindings"].as_object().cloned().unwrap_or_default();
        let of_port = |(port, hosts): (String, Value)| {
            let hosts = hosts.as_array().cloned().unwrap_or_default();
            hosts.into_iter().filter_map(move |host| Some((port.clone(), host["HostPort"].as_str()?.parse().ok()?)))
        };
        bindings.into_iter().flat_map(of_port).collect()
    }
}

/// Nanoseconds since 1970.
pub fn nanos(time: Wall) -> i64 {
    time.seconds * 1_000_000_000 + i64::from(time.nanos)
}

/// `nginx` is `nginx:latest`.
pub fn with_tag(reference: &str) -> String {
    let base = reference.rfind('/').map_or(0, |slash| slash + 1);
    if reference[base..].contains([':', '@']) { reference.to_owned() } else { format!("{reference}:latest") }
}

impl Model {
    fn new_id(&mut self) -> String {
        self.made += 1;
        // Ids differ from their first characters on, like real ones.
        format!("{:016x}{:048x}", self.made.wrapping_mul(0x9E37_79B9_7F4A_7C15), self.made)
    }

    /// By id, name, or the start of an id, in this order, as the Engine looks.
    fn index(&self, key: &str) -> Option<usize> {
        let key = key.strip_prefix('/').unwrap_or(key);
        let place = |is: &dyn Fn(&Container) -> bool| self.containers.iter().position(is);
        let exact = place(&|c| c.id == key).or_else(|| place(&|c| c.name == key));
        exact.or_else(|| place(&|c| !key.is_empty() && c.id.starts_with(key)))
    }

    pub fn find(&self, key: &str) -> Option<&Container> {
        self.index(key).map(|at| &self.containers[at])
    }

    pub fn find_mut(&mut self, key: &str) -> Option<&mut Container> {
        self.index(key).map(|at| &mut self.containers[at])
    }

    pub fn find_image(&self, key: &str) -> Option<usize> {
        let tag = with_tag(key);
        self.images.iter().position(|image| image.id == key || image.tags.contains(&tag))
    }

    pub fn add_image(&mut self, reference: &str) {
        let tag = with_tag(reference);
        if self.find_image(&tag).is_none() {
            let id = format!("sha256:{}", self.new_id());
            self.images.push(Image { id, tags: vec![tag.clone()], created: clock::wall() });
        }
        self.tell_of_image("tag", &tag);
    }

    /// A new image under this name; an older one loses it.
    pub fn build(&mut self, reference: &str) {
        let tag = with_tag(reference);
        self.images.iter_mut().for_each(|image| image.tags.retain(|other| *other != tag));
        self.add_image(&tag);
    }

    pub fn rename(&mut self, key: &str, name: &str) {
        let at = self.index(key).expect("looked up before");
        let old = std::mem::replace(&mut self.containers[at].name, name.to_owned());
        self.tell(at, "rename", &[("oldName", &format!("/{old}"))]);
    }

    /// `false` if there is no such container.
    pub fn set_health(&mut self, key: &str, status: &str) -> bool {
        let Some(at) = self.index(key) else { return false };
        self.containers[at].health = Some(status.to_owned());
        self.tell(at, &format!("health_status: {status}"), &[]);
        true
    }

    pub fn create(&mut self, name: &str, spec: Value, image_id: String) -> String {
        let id = self.new_id();
        self.containers.push(Container {
            id: id.clone(),
            name: if name.is_empty() { format!("made_{}", self.made) } else { name.to_owned() },
            spec,
            image_id,
            status: "created",
            exit_code: 0,
            out_of_memory: false,
            error: String::new(),
            health: None,
            created: clock::wall(),
            started: None,
            finished: None,
            log: Vec::new(),
            told: Cell::new(0),
        });
        self.tell(self.containers.len() - 1, "create", &[]);
        id
    }

    /// Starts what does not run.
    ///
    /// # Errors
    /// The text of the refusal.
    pub fn start(&mut self, key: &str) -> Result<(), String> {
        let at = self.index(key).expect("looked up before");
        let behaviour = self.behaviours.get(self.containers[at].image()).cloned().unwrap_or_default();
        let taken = self.containers[at].ports().into_iter().find(|(_, port)| self.is_taken(*port));
        let refusal = taken.map(|(_, port)| {
            format!(
                "driver failed programming external connectivity on endpoint {}: \
                 Bind for 0.0.0.0:{port} failed: port is already allocated",
                self.containers[at].name
            )
        });
        if let Some(error) = behaviour.start_error.or(refusal) {
            self.containers[at].error.clone_from(&error);
            return Err(error);
        }
        let container = &mut self.containers[at];
        container.status = "running";
        container.exit_code = 0;
        container.out_of_memory = false;
        container.error.clear();
        container.started = Some(clock::wall());
        container.health.clone_from(&behaviour.health);
        behaviour.log.iter().for_each(|line| container.write(1, line));
        let id = container.id.clone();
        self.tell(at, "start", &[]);
        if behaviour.starves {
            self.starve(&id);
        }
        if let Some(code) = behaviour.exits {
            self.exit(&id, code);
        }
        Ok(())
    }

    fn is_taken(&self, port: u16) -> bool {
        let published = |c: &Container| c.running() && c.ports().iter().any(|(_, taken)| *taken == port);
        self.taken_ports.contains(&port) || self.containers.iter().any(published)
    }

    /// The process ends; `false` if there is none.
    pub fn exit(&mut self, key: &str, code: i64) -> bool {
        let Some(at) = self.index(key).filter(|at| self.containers[*at].running()) else { return false };
        let container = &mut self.containers[at];
        container.status = "exited";
        container.exit_code = code;
        container.finished = Some(clock::wall());
        self.tell(at, "die", &[("exitCode", &code.to_string())]);
        true
    }

    /// The kernel ends the process for lack of memory; `false` if there is none.
    pub fn starve(&mut self, key: &str) -> bool {
        let Some(at) = self.index(key).filter(|at| self.containers[*at].running()) else { return false };
        self.containers[at].out_of_memory = true;
        self.tell(at, "oom", &[]);
        self.exit(key, 137)
    }

    /// TERM and KILL, as `stop` does it.
    pub fn stop(&mut self, key: &str) {
        let at = self.index(key).expect("looked up before");
        self.tell(at, "kill", &[("signal", "15")]);
        self.exit(key, 137);
        self.tell(at, "stop", &[]);
    }

    pub fn remove(&mut self, key: &str) {
        let at = self.index(key).expect("looked up before");
        if self.containers[at].running() {
            self.tell(at, "kill", &[("signal", "9")]);
            self.exit(key, 137);
        }
        self.tell(at, "destroy", &[]);
        self.containers.remove(at);
    }

    fn tell(&mut self, at: usize, action: &str, more: &[(&str, &str)]) {
        let container = &self.containers[at];
        let mut attributes = container.labels();
        attributes.insert("image".into(), container.image().into());
        attributes.insert("name".into(), container.name.clone());
        attributes.extend(more.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        let time = clock::wall();
        let record = json!({
            "status": action, "id": container.id, "from": container.image(), "Type": "container", "Action": action,
            "Actor": {"ID": container.id, "Attributes": attributes}, "scope": "local",
            "time": time.seconds, "timeNano": nanos(time),
        });
        self.events.push(Event { kind: "container", action: action.to_owned(), nanos: nanos(time), record });
    }

    /// An image has got a name.
    pub fn tell_of_image(&mut self, action: &str, reference: &str) {
        let time = clock::wall();
        let record = json!({
            "Type": "image", "Action": action, "Actor": {"ID": reference, "Attributes": {"name": reference}},
            "scope": "local", "time": time.seconds, "timeNano": nanos(time),
        });
        self.events.push(Event { kind: "image", action: action.to_owned(), nanos: nanos(time), record });
    }
}
