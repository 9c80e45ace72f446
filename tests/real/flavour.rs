//! Compose on the machine of an agent, in the version that a test is about.

use super::script;
use super::stage::Stage;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

/// Which compose a machine has (decision 18).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// Version 2, as a plugin of the docker command.
    Plugin,
    /// Version 1.29, a program of its own.
    Standalone,
    /// None at all.
    None,
}

impl Stage {
    /// The agent's machine has this compose and no other; before the agent is started.
    #[track_caller]
    pub fn has_compose(&mut self, flavour: Flavour) {
        let (bin, config) = (self.agent.folder.join("bin"), self.agent.folder.join("docker-config"));
        for folder in [&bin, &config] {
            std::fs::create_dir_all(folder).expect("a fresh folder takes a folder");
        }
        if flavour == Flavour::Plugin {
            let plugin = script("compose.sh", &["v2"], &[]);
            let plugins = Path::new(&plugin).parent().expect("it is in a folder");
            symlink(plugins, config.join("cli-plugins")).expect("linked");
        } else {
            // What the machine itself has is not there for this agent.
            let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
            program(&bin.join("docker"), &format!("[ \"$1\" != compose ] || exit 1\nPATH={path} exec docker \"$@\"\n"));
        }
        match flavour {
            Flavour::Standalone => {
                symlink(script("compose.sh", &["v1"], &[]), bin.join("docker-compose")).expect("linked");
            }
            Flavour::Plugin | Flavour::None => program(&bin.join("docker-compose"), "exit 1\n"),
        }
        self.agent.options.env.push(("DOCKER_CONFIG".to_owned(), config.to_string_lossy().into_owned()));
    }
}

fn program(path: &Path, text: &str) {
    std::fs::write(path, format!("#!/bin/sh\n{text}")).expect("written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
}
