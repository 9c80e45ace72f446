//! What the `docker` command of the fake Engine does (`docker.pl` only carries it): `login`, and compose 2.26 as far as the
//! agent uses it. Each call is one step of a command: what is done is done one container at a time.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::model::{Container, Model, Pull};

/// What a step comes to.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// This is shown, and another step follows.
    More(String),
    /// This is shown, and the command ends with this status.
    Done(i32, String),
}

impl Step {
    /// As `docker.pl` reads it.
    pub fn answer(&self) -> String {
        match self {
            Step::More(text) => format!("more\n{text}"),
            Step::Done(status, text) => format!("{status}\n{text}"),
        }
    }
}

fn failed(text: &str) -> Step {
    Step::Done(1, format!("Error response from daemon: {text}\n"))
}

fn shown(done: impl std::fmt::Display) -> Step {
    Step::More(format!(" {done}\n"))
}

/// The step `number`, from 0, of the command with these words.
pub fn run(model: &mut Model, words: &[&str], number: usize) -> Step {
    match words {
        ["login", ..] => match &model.registry_error {
            None => Step::Done(0, "Login Succeeded\n".to_owned()),
            Some(error) => failed(error),
        },
        ["compose", "version"] => Step::Done(0, "Docker Compose version v2.26.1\n".to_owned()),
        ["compose", "-f", file, verb, options @ ..] => match Project::read(file) {
            Some(project) => project.run(model, verb, options, number),
            None => Step::Done(14, format!("open {file}: no such file or directory\n")),
        },
        _ => Step::Done(125, format!("docker: unknown command: {}\n", words.join(" "))),
    }
}

struct Project {
    name: String,
    services: BTreeMap<String, Value>,
}

impl Project {
    fn read(file: &str) -> Option<Project> {
        let definition: Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
        let services: Map<String, Value> = definition["services"].as_object()?.clone();
        Some(Project { name: definition["name"].as_str()?.to_owned(), services: services.into_iter().collect() })
    }

    fn run(&self, model: &mut Model, verb: &str, options: &[&str], number: usize) -> Step {
        match verb {
            "up" if number == 0 => self.create(model),
            "up" => self.start(model, number - 1),
            "stop" => self.stop_one(model).unwrap_or(Step::Done(0, String::new())),
            "rm" => self.remove_one(model, |container| !container.running()).unwrap_or(Step::Done(0, String::new())),
            "down" => self
                .stop_one(model)
                .or_else(|| self.remove_one(model, |_| true))
                .unwrap_or_else(|| Step::Done(0, format!(" Network {}_default  Removed\n", self.name))),
            "pull" => self.each_image(model, options, number, pull),
            "build" => self.each_image(model, options, number, |model, image| {
                model.build(image);
                Ok(format!("Successfully tagged {image}"))
            }),
            "push" => self.each_image(model, options, number, push),
            _ => Step::Done(16, format!("unknown docker command: \"compose {verb}\"\n")),
        }
    }

    fn image(&self, service: &str) -> String {
        let named = self.services[service]["image"].as_str().filter(|image| !image.is_empty());
        named.map_or_else(|| format!("{}-{service}", self.name), str::to_owned)
    }

    /// The first of its containers that is like this.
    fn find(&self, model: &Model, is_it: impl Fn(&Container) -> bool) -> Option<String> {
        let is_ours = |container: &&Container| {
            container.labels().get("com.docker.compose.project").is_some_and(|project| *project == self.name)
        };
        model.containers.iter().filter(is_ours).find(|container| is_it(container)).map(|found| found.id.clone())
    }

    fn stop_one(&self, model: &mut Model) -> Option<Step> {
        let id = self.find(model, Container::running)?;
        model.stop(&id);
        Some(shown(format_args!("Container {}  Stopped", model.find(&id)?.name)))
    }

    fn remove_one(&self, model: &mut Model, is_it: impl Fn(&Container) -> bool) -> Option<Step> {
        let id = self.find(model, is_it)?;
        let name = model.find(&id)?.name.clone();
        model.remove(&id);
        Some(shown(format_args!("Container {name}  Removed")))
    }

    /// Makes all containers anew, in the place of whatever there is of the project.
    fn create(&self, model: &mut Model) -> Step {
        for service in self.services.keys() {
            let image = self.image(service);
            if model.find_image(&image).is_none()
                && let Err(error) = pull(model, &image)
            {
                return failed(&error);
            }
        }
        while let Some(id) = self.find(model, |_| true) {
            model.remove(&id);
        }
        for (service, definition) in &self.services {
            let image = self.image(service);
            let Some(at) = model.find_image(&image) else { return failed(&format!("No such image: {image}")) };
            let image_id = model.images[at].id.clone();
            let labels = json!({
                "com.docker.compose.project": self.name, "com.docker.compose.service": service,
                "com.docker.compose.container-number": "1", "com.docker.compose.oneoff": "False",
            });
            let network = format!("{}_default", self.name);
            let host = json!({"NetworkMode": network, "PortBindings": bindings(definition)});
            let spec = json!({"Image": image, "Labels": labels, "Tty": false, "HostConfig": host});
            model.create(&self.container(service), spec, image_id);
        }
        Step::More(format!(" Network {}_default  Created\n", self.name))
    }

    fn start(&self, model: &mut Model, number: usize) -> Step {
        let Some(service) = self.services.keys().nth(number) else { return Step::Done(0, String::new()) };
        let name = self.container(service);
        if model.find(&name).is_none() {
            return failed(&format!("No such container: {name}"));
        }
        match model.start(&name) {
            Ok(()) => shown(format_args!("Container {name}  Started")),
            Err(error) => failed(&error),
        }
    }

    fn container(&self, service: &str) -> String {
        format!("{}-{service}-1", self.name)
    }

    /// Does something with the image of one service after the other: of those that are named, or all.
    fn each_image(
        &self,
        model: &mut Model,
        options: &[&str],
        number: usize,
        does: impl Fn(&mut Model, &str) -> Result<String, String>,
    ) -> Step {
        let named: Vec<&&str> = options.iter().filter(|word| !word.starts_with('-')).collect();
        let skips_built = options.contains(&"--ignore-buildable");
        let mut wanted = self.services.iter().filter(|(service, definition)| {
            (named.is_empty() || named.iter().any(|name| **name == service.as_str()))
                && !(skips_built && definition.get("build").is_some())
        });
        let Some((service, _)) = wanted.nth(number) else { return Step::Done(0, String::new()) };
        match does(model, &self.image(service)) {
            Ok(text) => shown(format_args!("{service} {text}")),
            Err(error) => failed(&error),
        }
    }
}

fn pull(model: &mut Model, image: &str) -> Result<String, String> {
    if let Some(error) = &model.registry_error {
        return Err(error.clone());
    }
    match model.offers.get(image).cloned() {
        Some(Pull::Works) => model.add_image(image),
        Some(Pull::Fails(error)) => return Err(error),
        Some(Pull::Stalls) => return Err("unexpected EOF".to_owned()),
        None => return Err(format!("manifest for {image} not found: manifest unknown: manifest unknown")),
    }
    Ok("Pulled".to_owned())
}

fn push(model: &mut Model, image: &str) -> Result<String, String> {
    if let Some(error) = &model.registry_error {
        return Err(error.clone());
    }
    if model.find_image(image).is_none() {
        return Err(format!("An image does not exist locally with the tag: {image}"));
    }
    model.offers.insert(image.to_owned(), Pull::Works);
    Ok("Pushed".to_owned())
}

/// `ports` in the forms that the agent writes: `0.0.0.0:40000:80`, also with `/udp`, and the long one.
fn bindings(service: &Value) -> Value {
    let mut bindings = Map::new();
    for entry in service["ports"].as_array().into_iter().flatten() {
        let (port, host) = match entry {
            Value::String(text) => {
                let Some((rest, port)) = text.rsplit_once(':') else { continue };
                let host = rest.rsplit(':').next().unwrap_or_default();
                (port.to_owned(), host.to_owned())
            }
            long => (long["target"].to_string(), long["published"].as_str().unwrap_or_default().to_owned()),
        };
        let port = if port.contains('/') { port } else { format!("{port}/tcp") };
        bindings.insert(port, json!([{"HostIp": "0.0.0.0", "HostPort": host}]));
    }
    Value::Object(bindings)
}
