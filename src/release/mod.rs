//! What this build is: version and architecture, fixed when it was built.

use crate::clock::Wall;

/// The agent's version, as `-version` prints it (no `v`, no white space). Cargo.toml says the same.
pub const VERSION: &str = include_str!("version.txt").trim_ascii();

/// The build architecture, as `-arch` prints it: `amd64`, `arm64`, `armv7`, `armv6` or `armv5`.
pub const ARCH: &str = env!("REAGENT_ARCH");

/// Name, version and architecture in one piece, as the first line of the start says them. `cross/publish` looks for it in a
/// file before that is published as this version for this architecture.
pub const NAME: &str = concat!("reagent ", env!("CARGO_PKG_VERSION"), " (", env!("REAGENT_ARCH"), ")");

/// When this version was released: no certificate is checked against an earlier time (`wamp-and-rpc.md` 1.2).
pub fn date() -> Wall {
    Wall::parse(include_str!("date.txt").trim_ascii()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_of_the_release_is_a_time() {
        assert!(date() > Wall::from_unix(1_700_000_000));
    }

    #[test]
    fn the_version_file_and_cargo_agree() {
        assert_eq!(VERSION, env!("CARGO_PKG_VERSION"));
        assert!(!VERSION.is_empty());
    }

    #[test]
    fn the_name_says_version_and_architecture() {
        assert_eq!(NAME, format!("reagent {VERSION} ({ARCH})"));
    }

    #[test]
    fn the_architecture_is_never_empty() {
        assert!(!ARCH.is_empty());
    }
}
