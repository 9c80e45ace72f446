//! The fake daemon's answers, in the form of Engine 20.10.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use reagent::clock::Wall;
use serde_json::{Value, json};

use super::model::{Container, Model, Pull, Thing, nanos, with_tag};
use super::{Inner, Mode, Request, Shared, cli, write};

/// How often a stream looks whether its client is still there.
pub const LOOK: Duration = Duration::from_millis(20);

/// What is answered.
pub enum Reply {
    /// Status and JSON; `Null` is no body.
    Json(u16, Value),
    /// Plain text.
    Text(String),
    /// A stream: each call of the function gives what is new since the last one.
    Stream(Box<dyn FnMut(&Inner) -> Piece>),
}

/// A piece of a stream.
pub enum Piece {
    /// These bytes (none: nothing is new), and there may be more.
    More(Vec<u8>),
    /// These bytes, and that was all.
    Last(Vec<u8>),
}

pub fn refusal(status: u16, message: &str) -> Reply {
    Reply::Json(status, json!({ "message": message }))
}

/// A connection's other end.
pub struct Client<'a> {
    pub shared: &'a Shared,
    pub stream: &'a UnixStream,
}

impl Client<'_> {
    /// Whether it has not closed the connection, and the daemon runs.
    pub fn is_there(&self) -> bool {
        let _ = self.stream.set_read_timeout(Some(Duration::from_millis(1)));
        let mut stream = self.stream;
        let ended = matches!(stream.read(&mut [0]), Ok(0));
        !ended && self.shared.lock().mode == Mode::Listening
    }

    /// Answers; with `half` the connection ends in the middle of the body.
    pub fn send(&self, reply: Reply, request: &Request, half: bool) {
        let (status, kind, body) = match reply {
            Reply::Stream(next) => return self.send_stream(next, half),
            Reply::Text(text) => (200, "text/plain; charset=utf-8", text.into_bytes()),
            Reply::Json(status, Value::Null) => (status, "application/json", Vec::new()),
            Reply::Json(status, value) => (status, "application/json", format!("{value}\n").into_bytes()),
        };
        let length =
            if matches!(status, 204 | 304) { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let head = format!("{}Content-Type: {kind}\r\n{length}\r\n", head(status));
        let sent = if request.method == "HEAD" { 0 } else { body.len() / if half { 2 } else { 1 } };
        write(self.stream, &[head.as_bytes(), &body[..sent]].concat());
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    fn send_stream(&self, mut next: Box<dyn FnMut(&Inner) -> Piece>, half: bool) {
        let mut going = write(self.stream, format!("{}Transfer-Encoding: chunked\r\n\r\n", head(200)).as_bytes());
        while going && self.is_there() {
            let mut piece = Piece::More(Vec::new());
            self.shared.wait(LOOK, |inner| {
                piece = next(inner);
                (!matches!(&piece, Piece::More(bytes) if bytes.is_empty())).then_some(())
            });
            let (bytes, last) = match piece {
                Piece::More(bytes) => (bytes, false),
                Piece::Last(bytes) => (bytes, true),
            };
            if half && (last || !bytes.is_empty()) {
                let cut = &bytes[..bytes.len() / 2];
                write(self.stream, &[format!("{:x}\r\n", bytes.len()).as_bytes(), cut].concat());
                break;
            }
            if !bytes.is_empty() {
                going = write(self.stream, &[format!("{:x}\r\n", bytes.len()).as_bytes(), &bytes, b"\r\n"].concat());
            }
            if last {
                write(self.stream, b"0\r\n\r\n");
                break;
            }
        }
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

fn head(status: u16) -> String {
    format!(
        "HTTP/1.1 {status} Said\r\nApi-Version: 1.41\r\nOstype: linux\r\nServer: Docker/20.10.24 (linux)\r\nConnection: close\r\n"
    )
}

/// Answers a request from the model, and changes it.
pub fn reply(model: &mut Model, request: &Request) -> Reply {
    let path: Vec<&str> = request.path.trim_matches('/').split('/').collect();
    if path.iter().any(|part| matches!(*part, "" | "." | "..")) {
        // As the real one does, whatever the path is about.
        return Reply::Json(301, Value::Null);
    }
    match (request.method.as_str(), path.as_slice()) {
        ("HEAD" | "GET", ["_ping"]) => Reply::Text("OK".to_owned()),
        ("GET", ["version"]) => Reply::Json(200, json!({"Version": "20.10.24", "ApiVersion": "1.41", "Os": "linux"})),
        ("GET", ["info"]) => info(model),
        ("GET", ["events"]) => events(model, request),
        ("GET", ["networks"]) => Reply::Json(200, things(&model.networks, request)),
        ("GET", ["volumes"]) => Reply::Json(200, json!({"Volumes": things(&model.volumes, request), "Warnings": null})),
        ("DELETE", ["networks", name]) => remove_thing(&mut model.networks, name, 403, "network has active endpoints"),
        ("DELETE", ["volumes", name]) => remove_thing(&mut model.volumes, name, 409, "volume is in use - [1]"),
        ("POST", ["cli"]) => {
            let words = String::from_utf8_lossy(&request.body);
            let words: Vec<&str> = words.split('\0').collect();
            let step = request.query("step").parse().unwrap_or_default();
            Reply::Text(cli::run(model, &words, step).answer())
        }
        ("GET", ["images", "json"]) => images(model, request),
        ("POST", ["images", "create"]) => pull(model, request),
        ("GET", ["images", name @ .., "json"]) => image(model, &name.join("/")),
        ("POST", ["images", name @ .., "tag"]) => tag(model, &name.join("/"), request),
        ("POST", ["images", name @ .., "push"]) => push(model, &name.join("/"), request),
        ("POST", ["build"]) => build(model, request),
        ("DELETE", ["images", name @ ..]) => remove_image(model, &name.join("/")),
        ("GET", ["containers", "json"]) => list(model, request),
        ("POST", ["containers", "create"]) => create(model, request),
        ("POST", [kind @ ("containers" | "images" | "networks" | "volumes" | "build"), "prune"]) => {
            prune(model, kind, request)
        }
        (_, ["containers", key, ..]) if model.find(key).is_none() => refusal(404, &format!("No such container: {key}")),
        ("GET", ["containers", key, "json"]) => Reply::Json(200, inspect(found(model, key))),
        ("POST", ["containers", key, "start"]) => start(model, key),
        ("POST", ["containers", key, "stop"]) if !found(model, key).running() => Reply::Json(304, Value::Null),
        ("POST", ["containers", key, "stop"]) => {
            model.stop(key);
            Reply::Json(204, Value::Null)
        }
        ("POST", ["containers", key, "rename"]) => rename(model, key, request.query("name")),
        ("POST", ["containers", key, "wait"]) => wait(found(model, key), request),
        ("GET", ["containers", key, "logs"]) => logs(found(model, key), request),
        ("DELETE", ["containers", key]) if found(model, key).running() && !is_on(request, "force") => {
            let id = &found(model, key).id;
            refusal(409, &format!("You cannot remove a running container {id}. Stop the container first"))
        }
        ("DELETE", ["containers", key]) => {
            model.remove(key);
            Reply::Json(204, Value::Null)
        }
        _ => refusal(404, "page not found"),
    }
}

fn found<'a>(model: &'a Model, key: &str) -> &'a Container {
    model.find(key).expect("looked up before")
}

fn is_on(request: &Request, name: &str) -> bool {
    matches!(request.query(name), "1" | "true")
}

fn info(model: &Model) -> Reply {
    let running = model.containers.iter().filter(|container| container.running()).count();
    Reply::Json(
        200,
        json!({
            "ID": "FAKE", "Containers": model.containers.len(), "ContainersRunning": running, "Images": model.images.len(),
            "Driver": "overlay2", "DockerRootDir": "/", "ServerVersion": "20.10.24", "OSType": "linux",
            "OperatingSystem": "Fake", "Architecture": "x86_64", "Runtimes": {"nvidia": {"path": "nvidia-container-runtime"}, "runc": {"path": "runc"}},
        }),
    )
}

/// The values of each filter: a list, or a map to `true`.
fn filters(request: &Request) -> BTreeMap<String, Vec<String>> {
    let map: BTreeMap<String, Value> = serde_json::from_str(request.query("filters")).unwrap_or_default();
    let values = |value: Value| match value {
        Value::Object(set) => set.into_iter().map(|(key, _)| key).collect(),
        list => serde_json::from_value(list).unwrap_or_default(),
    };
    map.into_iter().map(|(key, value)| (key, values(value))).collect()
}

fn has_label(labels: &BTreeMap<String, String>, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|is| is == value),
        None => labels.contains_key(wanted),
    }
}

/// Networks and volumes, by label.
fn things(all: &[Thing], request: &Request) -> Value {
    let labels = filters(request).remove("label").unwrap_or_default();
    let listed = all.iter().filter(|thing| labels.iter().all(|label| has_label(&thing.labels, label)));
    listed.map(|thing| json!({"Id": thing.name, "Name": thing.name, "Labels": thing.labels})).collect()
}

fn remove_thing(all: &mut Vec<Thing>, name: &str, refused: u16, message: &str) -> Reply {
    match all.iter().position(|thing| thing.name == name) {
        None => refusal(404, &format!("{name} not found")),
        Some(at) if all[at].in_use => refusal(refused, message),
        Some(at) => {
            all.remove(at);
            Reply::Json(204, Value::Null)
        }
    }
}

fn passes(container: &Container, filters: &BTreeMap<String, Vec<String>>) -> bool {
    let labels = container.labels();
    let label = |wanted: &String| has_label(&labels, wanted);
    // The Engine takes a pattern; here the anchors that we use are known.
    let name = |wanted: &String| match wanted.strip_prefix("^/").and_then(|rest| rest.strip_suffix('$')) {
        Some(exact) => container.name == exact.replace('\\', ""),
        None => container.name.contains(wanted.as_str()),
    };
    filters.iter().all(|(key, wanted)| match key.as_str() {
        "label" => wanted.iter().all(label),
        "name" => wanted.iter().any(name),
        "status" => wanted.iter().any(|wanted| container.status == wanted),
        "id" => wanted.iter().any(|wanted| container.id.starts_with(wanted)),
        _ => true,
    })
}

fn list(model: &Model, request: &Request) -> Reply {
    let filters = filters(request);
    let all = is_on(request, "all") || filters.contains_key("status");
    let shown = model.containers.iter().rev().filter(|c| (all || c.running()) && passes(c, &filters));
    Reply::Json(200, shown.map(summary).collect())
}

fn summary(container: &Container) -> Value {
    let status = match container.status {
        "running" => "Up 1 second".to_owned(),
        "exited" => format!("Exited ({}) 1 second ago", container.exit_code),
        _ => "Created".to_owned(),
    };
    let port = |(port, public): (String, u16)| {
        let (private, kind) = port.split_once('/')?;
        let private: u16 = private.parse().ok()?;
        Some(json!({"IP": "0.0.0.0", "PrivatePort": private, "PublicPort": public, "Type": kind}))
    };
    let ports: Vec<Value> = container.ports().into_iter().filter(|_| container.running()).filter_map(port).collect();
    json!({
        "Id": container.id, "Names": [format!("/{}", container.name)], "Image": container.image(),
        "ImageID": container.image_id, "Command": "app", "Created": container.created.seconds, "Ports": ports,
        "Labels": container.labels(), "State": container.status, "Status": status,
        "HostConfig": {"NetworkMode": network_mode(container)}, "NetworkSettings": {"Networks": {}}, "Mounts": [],
    })
}

fn network_mode(container: &Container) -> &str {
    container.spec["HostConfig"]["NetworkMode"].as_str().filter(|mode| !mode.is_empty()).unwrap_or("default")
}

/// A time as the Engine writes it, to the nanosecond.
fn precise(time: Wall) -> String {
    format!("{}.{:09}Z", time.to_string().trim_end_matches('Z'), time.nanos)
}

fn inspect(container: &Container) -> Value {
    let stamp = |time: Option<Wall>| time.map_or("0001-01-01T00:00:00Z".to_owned(), precise);
    let mut config = container.spec.clone();
    let mut host = config["HostConfig"].take();
    if !host.is_object() {
        host = json!({});
    }
    host["NetworkMode"] = json!(network_mode(container));
    config["Tty"] = json!(container.tty());
    let mut state = json!({
        "Status": container.status, "Running": container.running(), "Paused": false, "Restarting": false,
        "OOMKilled": container.out_of_memory, "Dead": false, "Pid": if container.running() { 4242 } else { 0 },
        "ExitCode": container.exit_code, "Error": container.error,
        "StartedAt": stamp(container.started), "FinishedAt": stamp(container.finished),
    });
    if let Some(status) = &container.health {
        state["Health"] = json!({"Status": status, "FailingStreak": 0, "Log": []});
    }
    json!({
        "Id": container.id, "Name": format!("/{}", container.name), "Image": container.image_id,
        "Created": container.created.to_string(), "RestartCount": 0, "Config": config, "HostConfig": host, "State": state,
    })
}

fn create(model: &mut Model, request: &Request) -> Reply {
    let Ok(spec) = serde_json::from_slice::<Value>(&request.body) else { return refusal(400, "invalid JSON") };
    let (name, image) = (request.query("name"), spec["Image"].as_str().unwrap_or_default());
    let Some(at) = model.find_image(image) else { return refusal(404, &format!("No such image: {}", with_tag(image))) };
    if let Some(conflict) = conflict(model, name) {
        return refusal(409, &conflict);
    }
    let image_id = model.images[at].id.clone();
    let id = model.create(name, spec, image_id);
    Reply::Json(201, json!({"Id": id, "Warnings": []}))
}

/// What is said if another container has this name.
fn conflict(model: &Model, name: &str) -> Option<String> {
    let other = model.containers.iter().find(|other| other.name == name)?;
    Some(format!(
        "Conflict. The container name \"/{name}\" is already in use by container \"{}\". You have to remove (or \
         rename) that container to be able to reuse that name.",
        other.id
    ))
}

fn rename(model: &mut Model, key: &str, name: &str) -> Reply {
    match conflict(model, name) {
        Some(conflict) => refusal(409, &format!("Error when allocating new name: {conflict}")),
        None => {
            model.rename(key, name);
            Reply::Json(204, Value::Null)
        }
    }
}

fn start(model: &mut Model, key: &str) -> Reply {
    if found(model, key).running() {
        return Reply::Json(304, Value::Null);
    }
    match model.start(key) {
        Ok(()) => Reply::Json(204, Value::Null),
        Err(message) => refusal(500, &message),
    }
}

fn wait(container: &Container, request: &Request) -> Reply {
    let (id, removed) = (container.id.clone(), request.query("condition") == "removed");
    let mut code = container.exit_code;
    Reply::Stream(Box::new(move |inner| {
        let container = inner.model.find(&id);
        code = container.map_or(code, |container| container.exit_code);
        match container {
            Some(container) if removed || container.running() => Piece::More(Vec::new()),
            _ => Piece::Last(format!("{}\n", json!({"Error": null, "StatusCode": code})).into_bytes()),
        }
    }))
}

/// `since` or `until` in nanoseconds.
fn time_of(request: &Request, name: &str) -> Option<i64> {
    let (seconds, rest) = request.query(name).split_once('.').unwrap_or((request.query(name), "0"));
    Some(seconds.parse::<i64>().ok()? * 1_000_000_000 + format!("{rest:0<9.9}").parse::<i64>().ok()?)
}

fn logs(container: &Container, request: &Request) -> Reply {
    let (id, tty) = (container.id.clone(), container.tty());
    let (follow, timestamps) = (is_on(request, "follow"), is_on(request, "timestamps"));
    let since = time_of(request, "since").unwrap_or(i64::MIN);
    let until = time_of(request, "until").unwrap_or(i64::MAX);
    let mut next = request.query("tail").parse().map_or(0, |tail| container.log.len().saturating_sub(tail));
    Reply::Stream(Box::new(move |inner| {
        let Some(container) = inner.model.find(&id) else { return Piece::Last(Vec::new()) };
        let mut bytes = Vec::new();
        // What was given out before has been written by now.
        container.told.set(next);
        for (source, line, time) in container.log.iter().skip(next) {
            next += 1;
            if !(since..=until).contains(&nanos(*time)) {
                continue;
            }
            let stamp = if timestamps { format!("{} ", precise(*time)) } else { String::new() };
            let text = format!("{stamp}{line}{}", if tty { "\r\n" } else { "\n" });
            if !tty {
                bytes.extend([*source, 0, 0, 0]);
                bytes.extend(u32::try_from(text.len()).expect("a line of a test is short").to_be_bytes());
            }
            bytes.extend(text.into_bytes());
        }
        if follow && container.running() { Piece::More(bytes) } else { Piece::Last(bytes) }
    }))
}

fn events(model: &Model, request: &Request) -> Reply {
    let mut filters = filters(request);
    let wanted = filters.remove("event");
    let types = filters.remove("type");
    let since = time_of(request, "since");
    // Without `since` it begins now.
    let mut next = if since.is_some() { 0 } else { model.events.len() };
    Reply::Stream(Box::new(move |inner| {
        let mut bytes = Vec::new();
        for event in inner.model.events.iter().skip(next) {
            next += 1;
            let of_type = types.as_ref().is_none_or(|types| types.iter().any(|kind| kind == event.kind));
            let of_action = wanted.as_ref().is_none_or(|all| all.contains(&event.action));
            if of_type && of_action && since.is_none_or(|since| event.nanos >= since) {
                bytes.extend(format!("{}\n", event.record).into_bytes());
            }
        }
        Piece::More(bytes)
    }))
}

fn images(model: &Model, request: &Request) -> Reply {
    let references = filters(request).remove("reference");
    let listed = |tags: &[String]| {
        let names =
            |tag: &String, wanted: &String| tag == wanted || tag.rsplit_once(':').is_some_and(|(n, _)| n == wanted);
        references.as_ref().is_none_or(|all| all.iter().any(|wanted| tags.iter().any(|tag| names(tag, wanted))))
    };
    let shown = model.images.iter().filter(|image| listed(&image.tags));
    let record = |image: &super::model::Image| {
        json!({
            "Id": image.id, "ParentId": "", "RepoTags": image.tags, "RepoDigests": null, "Created": image.created.seconds,
            "Size": 1000, "VirtualSize": 1000, "SharedSize": -1, "Labels": null, "Containers": -1,
        })
    };
    Reply::Json(200, shown.map(record).collect())
}

/// What is not used goes: ended containers, images without a container (all have a tag here). There is nothing else.
fn prune(model: &mut Model, kind: &str, request: &Request) -> Reply {
    let mut removed = Vec::new();
    let dangling = filters(request).remove("dangling").is_some_and(|values| values == ["true"]);
    if kind == "containers" {
        let ended = model.containers.iter().filter(|container| !container.running());
        removed = ended.map(|container| container.id.clone()).collect();
        removed.iter().for_each(|id| model.remove(id));
    } else if kind == "images" && !dangling {
        let used: Vec<String> = model.containers.iter().map(|container| container.image_id.clone()).collect();
        let unused = model.images.extract_if(.., |image| !used.contains(&image.id));
        removed = unused.map(|image| image.id).collect();
    }
    let images: Vec<Value> = removed.iter().map(|id| json!({"Deleted": id})).collect();
    Reply::Json(
        200,
        match kind {
            "containers" => json!({"ContainersDeleted": removed, "SpaceReclaimed": 0}),
            "images" => json!({"ImagesDeleted": images, "SpaceReclaimed": 0}),
            "networks" => json!({"NetworksDeleted": null}),
            "volumes" => json!({"VolumesDeleted": [], "SpaceReclaimed": 0}),
            _ => json!({"CachesDeleted": null, "SpaceReclaimed": 0}),
        },
    )
}

fn image(model: &Model, name: &str) -> Reply {
    match model.find_image(name) {
        None => refusal(404, &format!("No such image: {}", with_tag(name))),
        Some(at) => {
            let image = &model.images[at];
            let created = image.created.to_string();
            Reply::Json(200, json!({"Id": image.id, "RepoTags": image.tags, "Created": created, "Size": 1000}))
        }
    }
}

fn remove_image(model: &mut Model, name: &str) -> Reply {
    let Some(at) = model.find_image(name) else { return refusal(404, &format!("No such image: {}", with_tag(name))) };
    if let Some(user) = model.containers.iter().find(|c| c.image_id == model.images[at].id && c.running()) {
        let message = format!("conflict: unable to remove \"{name}\" (cannot be forced) - used by {}", user.id);
        return refusal(409, &message);
    }
    let tag = with_tag(name);
    let image = &mut model.images[at];
    image.tags.retain(|other| *other != tag && image.id != name);
    if !image.tags.is_empty() {
        return Reply::Json(200, json!([{"Untagged": tag}]));
    }
    let image = model.images.remove(at);
    Reply::Json(200, json!([{"Untagged": tag}, {"Deleted": image.id}]))
}

fn tag(model: &mut Model, name: &str, request: &Request) -> Reply {
    let Some(at) = model.find_image(name) else { return refusal(404, &format!("No such image: {}", with_tag(name))) };
    let tag = format!("{}:{}", request.query("repo"), request.query("tag"));
    model.images.iter_mut().for_each(|image| image.tags.retain(|other| *other != tag));
    model.images[at].tags.push(tag.clone());
    model.tell_of_image("tag", &tag);
    Reply::Json(201, Value::Null)
}

/// What was pushed can be pulled.
fn push(model: &mut Model, name: &str, request: &Request) -> Reply {
    let reference = format!("{name}:{}", request.query("tag"));
    if let Some(error) = &model.registry_error {
        return progress(Vec::new(), Vec::new(), Pull::Fails(error.clone()));
    }
    let mut push = model.pushes.get(&reference).cloned().unwrap_or(Pull::Works);
    if model.find_image(&reference).is_none() {
        push = Pull::Fails(format!("An image does not exist locally with the tag: {name}"));
    } else if push == Pull::Works {
        model.offers.insert(reference, Pull::Works);
    }
    let first = json!({"status": format!("The push refers to repository [{name}]")});
    let last = json!({"status": format!("{}: digest: sha256:12 size: 528", request.query("tag"))});
    progress(vec![first], vec![last], push)
}

fn build(model: &mut Model, request: &Request) -> Reply {
    let tag = with_tag(request.query("t"));
    let build = model.builds.get(&tag).cloned().unwrap_or(Pull::Works);
    if build == Pull::Works {
        model.build(&tag);
    }
    let stream = |text: String| json!({ "stream": text });
    let first = stream("Step 1/1 : FROM scratch".to_owned());
    progress(vec![first], vec![stream(format!("Successfully tagged {tag}\n"))], build)
}

fn pull(model: &mut Model, request: &Request) -> Reply {
    let (name, tag) = (request.query("fromImage"), request.query("tag"));
    let reference = format!("{name}{}{tag}", if tag.contains(':') { "@" } else { ":" });
    if let Some(error) = &model.registry_error {
        return refusal(500, error);
    }
    let Some(pull) = model.offers.get(&reference).cloned() else {
        return refusal(404, &format!("manifest for {reference} not found: manifest unknown: manifest unknown"));
    };
    if pull == Pull::Works {
        model.add_image(&reference);
    }
    let first = vec![
        json!({"status": format!("Pulling from {name}"), "id": tag}),
        json!({"status": "Pulling fs layer", "progressDetail": {}, "id": "a3ed95caeb02"}),
    ];
    let detail = json!({"current": 1000, "total": 1000});
    let last = vec![
        json!({"status": "Downloading", "progressDetail": detail, "id": "a3ed95caeb02"}),
        json!({"status": format!("Status: Downloaded newer image for {reference}")}),
    ];
    progress(first, last, pull)
}

/// The records of a transfer: how it begins, and how it ends if it works.
fn progress(first: Vec<Value>, last: Vec<Value>, how: Pull) -> Reply {
    let mut records = first;
    match &how {
        Pull::Works => records.extend(last),
        Pull::Fails(text) => records.push(json!({"errorDetail": {"message": text}, "error": text})),
        Pull::Stalls => {}
    }
    let mut text = Some(records.iter().map(|record| format!("{record}\r\n")).collect::<String>());
    Reply::Stream(Box::new(move |_| match (text.take(), &how) {
        (text, Pull::Stalls) => Piece::More(text.unwrap_or_default().into_bytes()),
        (text, _) => Piece::Last(text.unwrap_or_default().into_bytes()),
    }))
}
