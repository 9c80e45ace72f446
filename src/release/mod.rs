//! What this build is: version and architecture, fixed when it was built.

/// The agent's version, as `-version` prints it (no `v`, no white space). Cargo.toml says the same.
pub const VERSION: &str = include_str!("version.txt").trim_ascii();

/// The build architecture, as `-arch` prints it: `amd64`, `arm64`, `armv7`, `armv6` or `armv5`.
pub const ARCH: &str = env!("REAGENT_ARCH");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_file_and_cargo_agree() {
        assert_eq!(VERSION, env!("CARGO_PKG_VERSION"));
        assert!(!VERSION.is_empty());
    }

    #[test]
    fn the_architecture_is_never_empty() {
        assert!(!ARCH.is_empty());
    }
}
