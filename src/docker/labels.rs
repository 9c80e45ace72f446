//! Labels that compose puts on what it makes (Compose specification; docker/compose `pkg/api/labels.go`).

/// The project.
pub const PROJECT: &str = "com.docker.compose.project";
/// The service of a container.
pub const SERVICE: &str = "com.docker.compose.service";
/// Which of the containers of its service it is, from 1 on.
pub const NUMBER: &str = "com.docker.compose.container-number";
/// `True`: the container of a single command.
pub const ONE_OFF: &str = "com.docker.compose.oneoff";
