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
}

impl Stage {
    /// The agent's machine has this compose and no other; before the agent is started.
    #[track_caller]
    pub fn has_compose(&mut self, flavour: Flavour) {
        let (bin, config) = (self.agent.folder.join("bin"), self.agent.folder.join("docker-config"));
        for folder in [&bin, &config] {
            std::fs::create_dir_all(folder).expect("a fresh folder takes a folder");
        }
        match flavour {
            Flavour::Plugin => {
                let plugin = script("compose.sh", &["v2"], &[]);
                let plugins = Path::new(&plugin).parent().expect("it is in a folder");
                symlink(plugins, config.join("cli-plugins")).expect("linked");
            }
            Flavour::Standalone => {
                let program = script("compose.sh", &["v1"], &[]);
                symlink(program, bin.join("docker-compose")).expect("linked");
                // A plugin of the machine's own is not there for this agent.
                let docker = bin.join("docker");
                let text = "#!/bin/sh\n[ \"$1\" != compose ] || exit 1\n\
                    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin exec docker \"$@\"\n";
                std::fs::write(&docker, text).expect("written");
                std::fs::set_permissions(&docker, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
            }
        }
        self.agent.options.env.push(("DOCKER_CONFIG".to_owned(), config.to_string_lossy().into_owned()));
    }
}
