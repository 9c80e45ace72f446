//! What system this is: the `os` text and the architecture of `wamp-and-rpc.md` 4.1. Pure rules over the texts of
//! `/etc`, and a thin reader.

use std::fs;
use std::path::Path;

/// What the rules look at; `None` for a file that is not there or cannot be read.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// `/etc/debian_version`.
    pub debian_version: Option<String>,
    /// `/etc/lsb-release`.
    pub lsb_release: Option<String>,
    /// Whether `/usr/bin/raspi-config` exists.
    pub raspi_config: bool,
    /// `/etc/alpine-release`.
    pub alpine_release: Option<String>,
    /// `/etc/os-release`.
    pub os_release: Option<String>,
    /// Release of the kernel.
    pub kernel: String,
}

impl Sources {
    /// Reads them all.
    pub fn read() -> Sources {
        let text = |path: &str| fs::read(path).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Sources {
            debian_version: text("/etc/debian_version"),
            lsb_release: text("/etc/lsb-release"),
            raspi_config: Path::new("/usr/bin/raspi-config").exists(),
            alpine_release: text("/etc/alpine-release"),
            os_release: text("/etc/os-release"),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        }
    }

    /// `linux`, the distribution if it is known, its version and the kernel, e.g. `linux debian 13.3 6.1.0-28-amd64`.
    pub fn describe(&self) -> String {
        let (distribution, version) = self.distribution();
        let distribution = if distribution == "linux" { String::new() } else { distribution };
        let parts = ["linux", &distribution, &version, &self.kernel];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
    }

    fn distribution(&self) -> (String, String) {
        let first_line = |text: &str| text.lines().next().unwrap_or_default().trim().to_owned();
        if let Some(debian) = &self.debian_version {
            let lsb = Fields::parse(self.lsb_release.as_deref().unwrap_or_default());
            match lsb.get("DISTRIB_ID") {
                "Ubuntu" => ("ubuntu".to_owned(), lsb.get("DISTRIB_RELEASE").to_owned()),
                "LinuxMint" => ("linuxmint".to_owned(), lsb.get("DISTRIB_RELEASE").to_owned()),
                _ if self.raspi_config => ("raspbian".to_owned(), first_line(debian)),
                _ => ("debian".to_owned(), first_line(debian)),
            }
        } else if let Some(alpine) = &self.alpine_release {
            ("alpine".to_owned(), first_line(alpine))
        } else {
            let os = Fields::parse(self.os_release.as_deref().unwrap_or_default());
            (os.get("ID").to_owned(), os.get("VERSION_ID").to_owned())
        }
    }
}

/// The assignments of a file like `/etc/os-release`, as os-release(5) has them: quotes of both kinds, backslashes.
#[derive(Debug, Clone, Default)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// Reads the text; lines that are no assignments are skipped.
    pub fn parse(text: &str) -> Fields {
        let assignments = text.lines().filter_map(|line| {
            let (key, value) = line.trim().split_once('=')?;
            let is_name = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            is_name.then(|| (key.to_owned(), unquote(value)))
        });
        Fields(assignments.collect())
    }

    /// The last value given to `key`; empty if there is none.
    pub fn get(&self, key: &str) -> &str {
        self.0.iter().rev().find(|(name, _)| name == key).map_or("", |(_, value)| value)
    }
}

fn unquote(value: &str) -> String {
    let inner = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
    if let Some(literal) = inner('\'') {
        return literal.to_owned();
    }
    let mut out = String::new();
    let mut chars = inner('"').unwrap_or(value).chars();
    while let Some(c) = chars.next() {
        out.push(if c == '\\' { chars.next().unwrap_or(c) } else { c });
    }
    out
}

/// Splits a build architecture into the `arch` and `variant` of the protocol: `armv7` is `arm` and `v7`.
pub fn arch_and_variant(build: &str) -> (&str, &str) {
    match build.strip_prefix("arm") {
        Some(variant) if variant.starts_with('v') => ("arm", variant),
        _ => (build, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system(change: impl FnOnce(&mut Sources)) -> String {
        let mut sources = Sources { kernel: "6.1.0".to_owned(), ..Sources::default() };
        change(&mut sources);
        sources.describe()
    }

    #[test]
    fn each_distribution_is_told_by_its_own_files() {
        let debian = Some("12.11\n".to_owned());
        let ubuntu =
            Some("DISTRIB_ID=Ubuntu\nDISTRIB_RELEASE=24.04\nDISTRIB_DESCRIPTION=\"Ubuntu 24.04 LTS\"\n".to_owned());
        let mint = Some("DISTRIB_ID=LinuxMint\nDISTRIB_RELEASE=22\n".to_owned());
        let other = Some("DISTRIB_ID=Kali\nDISTRIB_RELEASE=2024\n".to_owned());
        let os_release = Some("NAME=\"Debian GNU/Linux\"\nID=debian\nVERSION_ID=\"12\"\n".to_owned());
        assert_eq!(
            system(|s| (s.debian_version, s.os_release) = (debian.clone(), os_release.clone())),
            "linux debian 12.11 6.1.0",
            "not the 12 of os-release"
        );
        let with_lsb =
            |lsb: &Option<String>| system(|s| (s.debian_version, s.lsb_release) = (debian.clone(), lsb.clone()));
        assert_eq!(with_lsb(&ubuntu), "linux ubuntu 24.04 6.1.0");
        assert_eq!(with_lsb(&mint), "linux linuxmint 22 6.1.0");
        assert_eq!(with_lsb(&other), "linux debian 12.11 6.1.0");
        assert_eq!(
            system(|s| (s.debian_version, s.raspi_config) = (debian.clone(), true)),
            "linux raspbian 12.11 6.1.0"
        );
        assert_eq!(system(|s| s.alpine_release = Some("3.20.1\n".to_owned())), "linux alpine 3.20.1 6.1.0");
        assert_eq!(system(|s| s.os_release = Some("ID=yocto\nVERSION_ID='4.0'\n".to_owned())), "linux yocto 4.0 6.1.0");
        assert_eq!(
            system(|s| s.os_release = Some("ID=linux\n".to_owned())),
            "linux 6.1.0",
            "the default of os-release(5)"
        );
        assert_eq!(system(|s| s.debian_version = Some(String::new())), "linux debian 6.1.0");
        assert_eq!(system(|_| {}), "linux 6.1.0");
    }

    #[test]
    fn assignments_are_read_with_quotes_escapes_and_equal_signs() {
        let fields =
            Fields::parse("# c\nA=1\nB=\"a=b \\\"c\\\" \\$d\"\nC='x\\y'\n D=\"\"\nnot this\nA=2\nE-F=3\n=4\nG=\"");
        let found = ["A", "B", "C", "D", "E-F", "G", "Z"].map(|key| fields.get(key).to_owned());
        assert_eq!(found, ["2", "a=b \"c\" $d", "x\\y", "", "", "\"", ""]);
    }

    #[test]
    fn the_variant_of_an_arm_is_apart() {
        assert_eq!(
            ["amd64", "arm64", "armv7", "armv6", "armv5"].map(arch_and_variant),
            [("amd64", ""), ("arm64", ""), ("arm", "v7"), ("arm", "v6"), ("arm", "v5")]
        );
    }

    #[test]
    fn this_machine_has_a_description() {
        assert!(Sources::read().describe().starts_with("linux "));
    }
}
