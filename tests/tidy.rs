//! The project's rules as tests: layout, purity, ceilings, and that documents and tables agree with the code.
//!
//! Sources are read as text, line by line. What a compiler or clippy can check is not here.

#![expect(clippy::unwrap_used, reason = "the helpers belong to tests, too")]

use reagent::args::FLAGS;
use reagent::rpc::PROCEDURES;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Most lines of a source file.
const CEILING: usize = 600;
/// Most crates in the agent for this machine, itself not counted.
const CRATES: usize = 77;

/// Every id of the field lessons.
const LESSONS: &str = "c1 c2 c3 c4 c5 c6 c7 c8 c9 s1 s2 s3 s4 s5 s6 s7 s8 s9 s10 s11 s12 s13 d1 d2 d3 d4 d5 d6 d7 \
                       t1 t2 t3 n1 u1 u2 p1 p2 x1 x2 x3 x4";
/// Those that have a test so far. Only ever grows.
const COVERED: &str =
    "c1 c2 c3 c4 c5 c6 c7 c8 c9 s1 s2 s3 s4 s5 s6 s7 s8 s9 s10 s11 s12 s13 d1 d2 d3 d4 d5 d6 d7 u2 p1 p2 x1 x2 x3 x4";

/// What a line of `targets` is built as (decision 15).
const TARGETS: [(&str, &str); 8] = [
    ("linux/amd64", "x86_64-unknown-linux-musl"),
    ("linux/arm64", "aarch64-unknown-linux-musl"),
    ("linux/arm/7", "armv7-unknown-linux-musleabihf"),
    ("linux/arm/6", "arm-unknown-linux-musleabi"),
    ("linux/arm/5", "armv5te-unknown-linux-musleabi"),
    ("windows/amd64", "x86_64-pc-windows-gnu"),
    ("darwin/amd64", "x86_64-apple-darwin"),
    ("darwin/arm64", "aarch64-apple-darwin"),
];

/// The functional core and the protocols: no IO, no clock, no thread, no channel, no log call.
const PURE: [&str; 17] = [
    "src/domain/",
    "src/wamp/message",
    "src/wamp/auth",
    "src/wamp/session",
    "src/net/proxy",
    "src/net/connect",
    "src/net/socks5",
    "src/docker/http1",
    "src/docker/stream",
    "src/logs/ring",
    "src/logs/batch",
    "src/logs/gate",
    "src/logs/follow.rs",
    "src/logs/hub",
    "src/logs/streams",
    "src/logs/position",
    "src/logs/project",
];

/// What an installation puts on a device (`network-system-update.md` E.6, E.7), with its mode.
const INSTALLED: [(&str, &str); 9] = [
    ("/opt/reagent/reagent-latest", "0755"),
    ("/opt/reagent/Reagent-active", "link"),
    ("/opt/reagent/launch", "0755"),
    ("/opt/reagent/device-config.flock", "0600"),
    ("/opt/reagent/reswarm-mode", "0644"),
    ("/usr/bin/reagent", "link"),
    ("/etc/systemd/system/reagent.service", "0644"),
    ("/etc/init.d/reagent", "0755"),
    ("/etc/init.d/S90reagent", "0755"),
];
/// What every init system gives the launcher.
const LAUNCHED: &str = "/opt/reagent -config /opt/reagent/device-config.flock -appsDir /apps -debug";

struct Source {
    /// From the project's folder, with `/`.
    path: String,
    text: String,
}

impl Source {
    /// Numbered lines without comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(n, line)| (n + 1, line.split("//").next().unwrap_or_default()))
    }

    /// [`Source::code`] up to the tests at the end of the file.
    fn shipped(&self) -> impl Iterator<Item = (usize, &str)> {
        let tests = self.text.find("#[cfg(test)]\nmod tests {").unwrap_or(self.text.len());
        let end = self.text[..tests].lines().count();
        self.code().take_while(move |(n, _)| *n <= end)
    }

    fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path.starts_with(place))
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All Rust files below a folder.
fn sources(folder: &str) -> Vec<Source> {
    fn walk(folder: &Path, found: &mut Vec<Source>) {
        let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
                found.push(Source { path, text });
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(folder), &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// The sources of the agent, without the modules that are declared `#[cfg(test)] mod name;`.
fn shipped_sources() -> Vec<Source> {
    let all = sources("src");
    let mut tests = Vec::new();
    for source in &all {
        let folder = match source.path.strip_suffix("/mod.rs") {
            Some(folder) => folder.to_owned(),
            None if source.path == "src/lib.rs" || source.path == "src/main.rs" => "src".to_owned(),
            None => source.path.trim_end_matches(".rs").to_owned(),
        };
        let declared = source
            .text
            .split("#[cfg(test)]\n")
            .skip(1)
            .filter_map(|rest| rest.lines().find(|line| !line.trim().starts_with("#[")));
        for line in declared {
            // `mod`, also behind a visibility.
            if let Some((_, module)) = line.split_once("mod ")
                && let Some(name) = module.strip_suffix(';')
            {
                tests.push(format!("{folder}/{name}.rs"));
                tests.push(format!("{folder}/{name}/"));
            }
        }
    }
    all.into_iter().filter(|source| !tests.iter().any(|test| source.path.starts_with(test))).collect()
}

/// Whether `word` stands in `code`, not as the tail of a longer name.
fn has_word(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        !code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_' || before == ':')
            && !code[at + word.len()..].starts_with(|after: char| {
                word.ends_with(|last: char| last.is_alphanumeric()) && (after.is_alphanumeric() || after == '_')
            })
    })
}

/// Fails with the places where `bad` holds for a line of code.
#[track_caller]
fn forbid<'a>(rule: &str, lines: impl Iterator<Item = (&'a Source, usize, &'a str)>, bad: impl Fn(&str) -> bool) {
    let found: Vec<String> = lines
        .filter(|(_, _, code)| bad(code))
        .map(|(source, n, code)| format!("{}:{n}: {}", source.path, code.trim()))
        .collect();
    assert!(found.is_empty(), "{rule}:\n{}", found.join("\n"));
}

fn all_lines(sources: &[Source]) -> impl Iterator<Item = (&Source, usize, &str)> {
    sources.iter().flat_map(|source| source.code().map(move |(n, code)| (source, n, code)))
}

#[test]
fn every_file_says_first_what_it_is() {
    let without: Vec<String> = [sources("src"), sources("tests")]
        .into_iter()
        .flatten()
        .filter(|source| !source.text.starts_with("//! "))
        .map(|source| source.path)
        .collect();
    assert!(without.is_empty(), "no `//!` in the first line: {without:?}");
}

#[test]
fn no_source_is_longer_than_the_ceiling_and_most_are_short() {
    let mut lengths: Vec<(usize, String)> =
        sources("src").into_iter().map(|source| (source.text.lines().count(), source.path)).collect();
    lengths.sort();
    let long: Vec<_> = lengths.iter().filter(|(lines, _)| *lines > CEILING).collect();
    assert!(long.is_empty(), "more than {CEILING} lines: {long:?}");
    let median = lengths[lengths.len() / 2].0;
    assert!(median < 250, "the median is {median} lines");
}

#[test]
fn the_platform_is_in_os_alone() {
    let shipped = shipped_sources();
    let lines = shipped
        .iter()
        .filter(|source| !source.is_in(&["src/os/"]))
        .flat_map(|source| source.shipped().map(move |(n, code)| (source, n, code)));
    forbid("platform calls belong to src/os", lines, |code| {
        ["rustix::", "libc::", "std::os::", "cfg(target_os", "cfg(unix"].iter().any(|word| code.contains(word))
    });
}

#[test]
fn unsafe_code_is_in_os_alone() {
    let mut sources = sources("src");
    sources.retain(|source| !source.is_in(&["src/os/"]));
    forbid("unsafe outside src/os", all_lines(&sources), |code| has_word(code, "unsafe"));
}

#[test]
fn sql_is_in_the_store_alone() {
    let mut sources = sources("src");
    sources.retain(|source| !source.is_in(&["src/state/store"]));
    let sql = ["SELECT ", "INSERT INTO", "INSERT OR", "DELETE FROM", "CREATE TABLE", "ALTER TABLE", "PRAGMA "];
    forbid("SQL outside src/state/store", all_lines(&sources), |code| sql.iter().any(|word| code.contains(word)));
}

#[test]
fn locks_are_in_os_and_cancel_alone_and_no_static_changes() {
    let mut sources = sources("src");
    sources.retain(|source| !source.is_in(&["src/os/", "src/cancel.rs"]));
    forbid("a lock, a mutable static or a 64-bit atomic", all_lines(&sources), |code| {
        ["Mutex", "RwLock", "static mut", "AtomicU64", "AtomicI64"].iter().any(|word| code.contains(word))
    });
}

#[test]
fn the_core_and_the_protocols_do_no_io() {
    let mut sources = shipped_sources();
    sources.retain(|source| source.is_in(&PURE));
    assert!(PURE.iter().all(|place| sources.iter().any(|source| source.is_in(&[place]))), "a pure file has moved");
    let shipped = sources.iter().flat_map(|source| source.shipped().map(move |(n, code)| (source, n, code)));
    let io = ["std::fs", "std::net", "std::thread", "std::process", "Instant", "crossbeam", "crossbeam_channel"];
    forbid("IO in a pure file", shipped, |code| {
        // An address is a value like any other.
        let code = code.replace("std::net::IpAddr", "");
        io.iter().any(|word| has_word(&code, word))
            || ["log::debug!", "log::info!", "log::warn!", "log::error!", "log::trace!", "println!", "eprintln!"]
                .iter()
                .any(|call| has_word(&code, call))
    });
}

#[test]
fn shipped_code_does_not_unwrap() {
    let sources = shipped_sources();
    let shipped = sources.iter().flat_map(|source| source.shipped().map(move |(n, code)| (source, n, code)));
    forbid("unwrap in shipped code", shipped, |code| code.contains(".unwrap()"));
}

#[test]
fn nothing_is_left_for_later_in_the_code() {
    // Put together here, so that this file does not find itself.
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("to", "do!"), concat!("unimple", "mented!")];
    for source in sources("src").iter().chain(&sources("tests")) {
        for (n, line) in source.text.lines().enumerate() {
            let marked = marks.iter().any(|mark| line.contains(mark)) || line.contains(concat!("#[", "ignore"));
            assert!(!marked, "{}:{}: {line}", source.path, n + 1);
        }
    }
}

#[test]
fn the_version_is_one_and_the_version_list_has_every_environment() {
    let version = read("src/release/version.txt");
    assert_eq!(version.trim_ascii(), version, "the baked-in version has no white space around it");
    assert!(read("Cargo.toml").contains(&format!("\nversion = \"{version}\"\n")), "Cargo.toml has another version");
    let list: serde_json::Value = serde_json::from_str(&read("availableVersions.json")).unwrap();
    let keys: Vec<&str> = list.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = BTreeSet::from(["production", "test", "local", "all"]);
    assert_eq!(keys.iter().copied().collect::<BTreeSet<_>>(), expected);
    assert!(list.as_object().unwrap().values().all(serde_json::Value::is_string));
}

#[test]
fn every_target_is_known_to_the_cross_builds() {
    let targets = read("targets");
    assert!(!targets.ends_with('\n'), "the last line of `targets` has no line end: scripts read it as it is");
    assert_eq!(targets.lines().collect::<Vec<_>>(), TARGETS.map(|(line, _)| line));
    let (cross, readme, table) = (read("Cross.toml"), read("cross/README.md"), read("cross/targets.txt"));
    let of_cross: Vec<&str> =
        cross.lines().filter_map(|line| line.strip_prefix("[target.")?.strip_suffix(']')).collect();
    // There is no image of cross for macOS.
    let expected = TARGETS.iter().filter(|(line, _)| !line.starts_with("darwin")).map(|(_, triple)| *triple);
    assert_eq!(of_cross, expected.collect::<Vec<_>>(), "the sections of Cross.toml");
    for (line, triple) in TARGETS {
        let row = |row: &str| row.contains(&format!("`{line}`")) && row.contains(&format!("`{triple}`"));
        assert!(readme.lines().any(row), "cross/README.md lacks {line}");
    }
    let rows: Vec<Vec<&str>> =
        table.lines().filter(|row| !row.starts_with('#')).map(|row| row.split_whitespace().collect()).collect();
    assert_eq!(rows.iter().map(|row| (row[0], row[1])).collect::<Vec<_>>(), TARGETS, "the rows of cross/targets.txt");
    let front = read("README.md");
    for row in rows {
        let [line, _, arch, file, budget, cpus, frp, zig, ..] = row[..] else { panic!("a short row: {row:?}") };
        let (system, cpu) = line.split_once('/').unwrap();
        // `linux/arm/7` is the agent for armv7 and takes upstream's hard-float build of the tunnel client (F.2).
        let variant = cpu.strip_prefix("arm/");
        assert_eq!(arch, variant.map_or(cpu.to_owned(), |n| format!("armv{n}")), "{line}");
        assert_eq!(file, format!("{}-{system}-{arch}", "reagent"), "{line}");
        let frp_cpu = if variant == Some("7") { "arm_hf" } else { variant.map_or(cpu, |_| "arm") };
        assert_eq!(frp, format!("{system}_{frp_cpu}"), "{line}");
        // All of it or nothing: what has a budget is built, checked and published.
        let there = system == "linux";
        assert!([budget, cpus, zig].iter().all(|word| (*word != "-") == there), "{line}: {row:?}");
        let said = if there { format!("-{arch}`") } else { "not yet".to_owned() };
        assert!(front.contains(&said) || readme.contains(&said), "README.md and cross/README.md lack {said} of {line}");
    }
}

#[test]
fn the_agent_stays_below_its_number_of_crates() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "-e", "normal", "--prefix", "none", "--format", "{p}"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    let crates: BTreeSet<&str> = listed.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(crates.contains("rusqlite"), "cargo tree lists no crates: {listed}");
    let count = crates.len() - 1;
    assert!(count <= CRATES, "{count} crates: {crates:?}");
}

#[test]
fn the_readme_names_the_commands_the_flags_and_the_procedures() {
    let readme = read("README.md");
    for command in ["make run", "make test"] {
        assert!(readme.contains(&format!("`{command}`")), "the README lacks {command}");
    }
    for flag in FLAGS {
        let default = if flag.default.is_empty() { "none".to_owned() } else { format!("`{}`", flag.default) };
        let row = format!("| `-{}` | {default} | {} |", flag.name, flag.help);
        assert!(readme.lines().any(|line| line == row), "the README lacks this row:\n{row}");
    }
    for procedure in PROCEDURES {
        let privilege = procedure.privilege.map_or("none", |privilege| privilege.text());
        let row = format!("| `{}` | {privilege} | {} |", procedure.name, procedure.about);
        assert!(readme.lines().any(|line| line == row), "the README lacks this row:\n{row}");
    }
    let rows = readme.lines().filter(|line| line.starts_with("| `")).count();
    let flags = readme.lines().filter(|line| line.starts_with("| `-")).count();
    assert_eq!(flags, FLAGS.len(), "the README has a flag too many");
    assert!(rows >= FLAGS.len() + PROCEDURES.len());
}

#[test]
fn what_starts_the_agent_on_a_device_and_the_readme_agree() {
    let (readme, install) = (read("README.md"), read("cross/rootfs/install"));
    for (path, mode) in INSTALLED {
        let row = format!("| `{path}` | {mode} | ");
        assert!(readme.lines().any(|line| line.starts_with(&row)), "the README lacks a row {row}");
        let puts = |line: &str| line.contains(&format!(" {path}")) || line.contains(&format!("$root{path}\""));
        let line = install.lines().map(str::trim).find(|line| puts(line) && !line.starts_with("rm "));
        let line = line.unwrap_or_else(|| panic!("cross/rootfs/install lacks {path}"));
        assert!(!line.contains("put ") || line.contains(&format!("put {mode} ")), "{path}: {line}");
    }
    let scripts =
        ["launch", "reagent.init", "reagent.openrc", "reagent.service"].map(|name| format!("cross/rootfs/{name}"));
    for path in &scripts {
        let text = read(path);
        if path != "cross/rootfs/launch" {
            for words in [LAUNCHED, "/opt/reagent/launch", "/opt/reagent/reswarm-mode"] {
                assert!(text.contains(words), "{path} lacks {words}");
            }
        }
        // Its own first lines say where it lies on a device.
        let own = INSTALLED.iter().any(|(installed, _)| text.lines().take(3).any(|line| line.contains(installed)));
        assert!(own, "{path} does not say where it belongs");
        let syntax = Command::new("sh").arg("-n").arg(root().join(path)).output().unwrap();
        assert!(path.ends_with(".service") || syntax.status.success(), "{}", String::from_utf8_lossy(&syntax.stderr));
    }
    assert!(readme.contains(&format!("`/opt/reagent/launch {LAUNCHED}`")));
    // What the agent itself knows of it.
    let power = read("src/os/power.rs");
    assert!(power.contains("\"IRONFLOCK_LAUNCHER\"") && read(&scripts[0]).contains("export IRONFLOCK_LAUNCHER=1"));
    assert!(power.contains("\"reagent.service\""));
    assert!(FLAGS.iter().any(|flag| flag.name == "agentDir" && flag.default == "/opt/reagent"));
}

#[test]
fn the_makefile_has_every_public_name() {
    let makefile = read("Makefile");
    let works: Vec<&str> = makefile.lines().filter_map(|line| line.split_once(": ")).map(|(name, _)| name).collect();
    let names = "help check test run build build-all build-all-docker check-boards size reproduce bench download_frpc \
                 publish publish-latest-alias publish-version publish-latestVersions release rollout clean";
    for name in names.split_whitespace() {
        let declared = works.contains(&name) && makefile.contains(&format!("\n{name}: "));
        assert!(declared, "the Makefile lacks {name}");
        let row = makefile.lines().find(|line| line.starts_with(&format!("{name}: "))).unwrap();
        assert!(row.contains("## "), "{name} is not in the list of `make help`");
    }
    let later = makefile.lines().find_map(|line| line.strip_prefix("LATER = ")).unwrap();
    assert!(works.contains(&"run_mac") || later == "run_mac", "the Makefile lacks run_mac");
}

#[test]
fn the_top_level_is_the_one_that_was_asked_for() {
    let expected = "Cargo.lock Cargo.toml Cross.toml LICENSE Makefile README.md availableVersions.json build build.rs \
                    clippy.toml cross rustfmt.toml src target targets tests";
    let expected: BTreeSet<&str> = expected.split_whitespace().collect();
    let names = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    let other: Vec<String> = names.filter(|name| !name.starts_with('.') && !expected.contains(name.as_str())).collect();
    assert!(other.is_empty(), "not part of the layout: {other:?}");
}

/// The ids that a test's name begins with: `c7_d1_a_daemon_...`.
fn lessons_of(name: &str) -> impl Iterator<Item = &str> {
    let known: BTreeSet<&str> = LESSONS.split_whitespace().collect();
    name.split('_').take_while(move |part| known.contains(part))
}

#[test]
fn every_covered_field_lesson_has_a_test_with_its_id() {
    let mut tested = BTreeSet::new();
    let all = [sources("src"), sources("tests")];
    for source in all.iter().flatten() {
        let mut is_test = false;
        for line in source.text.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix("fn ").and_then(|rest| rest.split('(').next())
                && is_test
            {
                tested.extend(lessons_of(name));
            }
            is_test = line == "#[test]" || (is_test && line.starts_with("#["));
        }
    }
    let covered: BTreeSet<&str> = COVERED.split_whitespace().collect();
    let lost: Vec<_> = covered.difference(&tested).collect();
    assert!(lost.is_empty(), "covered, and now without a test: {lost:?}");
    let new: Vec<_> = tested.difference(&covered).collect();
    assert!(new.is_empty(), "these have a test now, add them to COVERED: {new:?}");
}
