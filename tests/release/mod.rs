//! `make publish` and `make release`: what lies where afterwards, and that nothing is half-published whatever fails.
//!
//! The scripts run in a copy of their part of the project, with small files for agents and tunnel clients.

mod desk;
mod store;

use desk::{Desk, LINES, ROLE};
use std::collections::BTreeSet;
use std::fs;
use store::Store;

const VERSION: &str = reagent::release::VERSION;
const LIST: &str = "re-agent/availableVersions.json";

fn digest_line(bytes: &[u8]) -> String {
    use sha2::Digest;
    let digest = sha2::Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).chain(["\n".to_owned()]).collect()
}

/// Where the files of the linux lines are, as `network-system-update.md` E.1 has them.
fn agents() -> BTreeSet<String> {
    LINES.iter().map(|(_, arch)| format!("re-agent/linux/{arch}/{VERSION}/reagent")).collect()
}

fn clients() -> BTreeSet<String> {
    LINES.iter().map(|(_, arch)| format!("re-agent/frpc/linux/{arch}/{}/frpc", desk::frpc_pin())).collect()
}

fn with_digests(files: impl IntoIterator<Item = String>) -> BTreeSet<String> {
    files.into_iter().flat_map(|file| [format!("{file}.sha256"), file]).collect()
}

#[test]
fn what_is_published_lies_where_devices_and_installers_look_for_it() {
    let desk = Desk::new();
    desk.make("publish").ok();
    let all = with_digests(agents().into_iter().chain(clients()));
    assert_eq!(desk.published(), all, "no device is pointed to it yet");
    for (line, arch) in LINES {
        let agent = format!("re-agent/linux/{arch}/{VERSION}/reagent");
        let bytes = fs::read(desk.path(&format!("build/reagent-linux-{arch}"))).unwrap();
        assert_eq!(desk.read(&agent), bytes, "{line}");
        assert_eq!(desk.read(&format!("{agent}.sha256")), digest_line(&bytes).into_bytes(), "one token");
    }
    desk.make("release").ok();
    let latest = LINES.iter().map(|(_, arch)| format!("re-agent/linux/{arch}/latest/reagent"));
    let pointers = with_digests(latest).into_iter().chain([LIST.to_owned(), "re-agent/version.txt".to_owned()]);
    assert_eq!(desk.published(), all.into_iter().chain(pointers).collect());
    assert_eq!(desk.read("re-agent/version.txt"), VERSION.as_bytes(), "without a line end");
    assert_eq!(desk.read(LIST), fs::read(desk.path("availableVersions.json")).unwrap());
    let (latest, agent) = ("re-agent/linux/armv7/latest/reagent", format!("re-agent/linux/armv7/{VERSION}/reagent"));
    assert_eq!(desk.read(latest), desk.read(&agent));
    assert_eq!(desk.read(&format!("{latest}.sha256")), desk.read(&format!("{agent}.sha256")));
}

#[test]
fn a_second_run_sends_nothing_again() {
    let (desk, store) = (Desk::new(), Store::start());
    let desk = desk.at(&store);
    desk.make("publish").ok();
    let sent = store.puts();
    assert_eq!(sent.iter().cloned().collect::<BTreeSet<_>>(), with_digests(agents().into_iter().chain(clients())));
    desk.make("publish").ok();
    assert_eq!(store.puts(), sent);
}

#[test]
fn wherever_an_upload_fails_no_device_is_pointed_to_anything_and_the_next_run_goes_on() {
    // A file and a digest, for agent and tunnel client each. Then the alias with its own, version and list.
    for lost in 0..8 {
        let store = Store::start();
        let desk = Desk::new().at(&store).with("TARGETS", "linux/arm/7");
        store.refuse_put(lost);
        let target = if lost < 4 { "publish" } else { "release" };
        if target == "release" {
            desk.make("publish").ok();
        }
        let error = desk.make(target).error();
        assert!(error.contains("could not be sent") && error.contains("run the same command again"), "{lost}: {error}");
        let there = store.files();
        assert!(!there.contains_key(LIST), "put {lost} was lost, and the list is there");
        for (digest, text) in there.iter().filter(|(name, _)| name.ends_with(".sha256")) {
            let file = &there[digest.strip_suffix(".sha256").unwrap()];
            assert_eq!(*text, digest_line(file).into_bytes(), "put {lost} was lost, and {digest} is of another file");
        }
        let before = store.puts();
        desk.make(target).ok();
        let again = &store.puts()[before.len()..];
        let complete = |file: &&String| before.contains(&format!("{file}.sha256"));
        let twice: Vec<_> = again.iter().filter(|file| !file.ends_with(".sha256")).filter(complete).collect();
        assert!(twice.is_empty(), "put {lost} was lost, and these were sent again: {twice:?}");
        desk.make("release").ok();
        let puts = store.puts();
        assert_eq!(puts.last().unwrap(), LIST, "the list is the last of all: {puts:?}");
        assert_eq!(store.files().len(), 8, "{:?}", store.files().keys());
    }
}

#[test]
fn a_file_that_arrives_cut_short_is_noticed() {
    let (desk, store) = (Desk::new(), Store::start());
    store.cut_short(&format!("re-agent/linux/armv5/{VERSION}/reagent"));
    let error = desk.at(&store).with("TARGETS", "linux/arm/5").make("publish").error();
    assert!(error.contains("does not come back"), "{error}");
    assert!(!store.files().contains_key(&format!("re-agent/linux/armv5/{VERSION}/reagent.sha256")));
}

#[test]
fn a_release_names_no_version_that_a_device_could_not_get() {
    let desk = Desk::new();
    fs::remove_file(desk.path("build/reagent-linux-armv6")).unwrap();
    assert!(desk.make("publish").ok().contains("build/reagent-linux-armv6 is not built"));
    for target in ["publish-latest-alias", "publish-version", "publish-latestVersions", "release"] {
        let error = desk.make(target).error();
        assert!(error.contains(&format!("re-agent/linux/armv6/{VERSION}/reagent")), "{target}: {error}");
    }
    assert!(desk.published().iter().all(|file| !file.contains("latest") && !file.contains("ersion")), "nothing else");
    // A release without that line is possible, and has to be asked for.
    desk.with("TARGETS", "linux/amd64 linux/arm64 linux/arm/7 linux/arm/5").make("release").ok();

    let desk = Desk::new();
    desk.make("publish").ok();
    let list = |test: &str| {
        format!(
            "{{ \"production\": {test}, \"test\": \"{VERSION}\", \"local\": \"{VERSION}\", \"all\": \"{VERSION}\" }}\n"
        )
    };
    for (entry, complaint) in [
        ("\"99.0.0\"", "re-agent/linux/amd64/99.0.0/reagent"),
        ("\"v1\"", "does not name a version for production"),
        ("\"\"", "does not name a version for production"),
    ] {
        fs::write(desk.path("availableVersions.json"), list(entry)).unwrap();
        let error = desk.make("release").error();
        assert!(error.contains(complaint), "{entry}: {error}");
    }
    assert!(!desk.published().contains(LIST));
}

#[test]
fn nothing_is_sent_while_build_holds_what_is_no_agent_of_this_version() {
    for (file, text, complaint) in [
        ("build/reagent-linux-armv7", "reagent 0.1.0 (armv7)", "perhaps an older one"),
        ("build/reagent-linux-armv7", &format!("reagent {VERSION} (armv6)"), "is no agent"),
        ("build/reagent-plan9-amd64", &format!("reagent {VERSION} (amd64)"), "is not what a line of"),
        ("build/notes", "", "is not what a line of"),
    ] {
        let desk = Desk::new();
        fs::write(desk.path(file), text).unwrap();
        let error = desk.make("publish").error();
        assert!(error.contains(complaint) && error.contains(file), "{error}");
        assert_eq!(desk.published(), BTreeSet::new());
    }
    let desk = Desk::new();
    fs::remove_dir_all(desk.path("build")).unwrap();
    assert!(desk.make("publish").error().contains("make build-all"));
}

#[test]
fn other_bytes_for_a_published_version_are_refused_unless_they_are_to_replace_it() {
    let desk = Desk::new();
    desk.make("publish").ok();
    let file = desk.path("build/reagent-linux-arm64");
    let new = [fs::read(&file).unwrap(), b"later".to_vec()].concat();
    fs::write(file, &new).unwrap();
    let error = desk.make("publish").error();
    assert!(error.contains("other bytes") && error.contains("Raise the version"), "{error}");
    let object = format!("re-agent/linux/arm64/{VERSION}/reagent");
    assert_ne!(desk.read(&object), new);
    let desk = desk.with("REPLACE", "1");
    desk.make("publish").ok();
    assert_eq!(desk.read(&object), new);
    assert_eq!(desk.read(&format!("{object}.sha256")), digest_line(&new).into_bytes());
}

#[test]
fn gsutil_sends_to_the_bucket_of_the_platform() {
    let desk = Desk::new();
    // A stand-in that keeps the objects in a folder and the calls in a file.
    desk.program(
        "gsutil",
        &format!(
            "echo \"$*\" >>{0}/calls\nshift $(($# - 2))\nfrom=$1 to=$2\n\
        case $from in gs://*) from={0}/${{from#gs://}} ;; esac\ncase $to in gs://*) to={0}/${{to#gs://}} ;; esac\n\
        [ -f \"$from\" ] || {{ echo \"CommandException: No URLs matched: $1\" >&2; exit 1; }}\n\
        mkdir -p \"$(dirname \"$to\")\"\ncp \"$from\" \"$to\"",
            desk.path("bucket").display()
        ),
    );
    fs::create_dir(desk.path("bucket")).unwrap();
    let desk = desk.with("PUBLISH_TO", "gs://").with("TARGETS", "linux/arm/7");
    desk.make("publish").ok();
    desk.make("release").ok();
    let calls = fs::read_to_string(desk.path("bucket/calls")).unwrap();
    let sent: Vec<_> = calls
        .lines()
        .filter_map(|call| call.strip_prefix("-q -h Cache-Control:public, max-age=0 cp "))
        .map(|call| call.split_once(' ').unwrap().1)
        .collect();
    let frpc = format!("gs://re-agent/frpc/linux/armv7/{}/frpc", desk::frpc_pin());
    let agent = format!("gs://re-agent/linux/armv7/{VERSION}/reagent");
    let latest = "gs://re-agent/linux/armv7/latest/reagent";
    let digest = |file: &str| format!("{file}.sha256");
    let expected = [
        frpc.clone(),
        digest(&frpc),
        agent.clone(),
        digest(&agent),
        latest.to_owned(),
        digest(latest),
        "gs://re-agent/version.txt".to_owned(),
        "gs://re-agent/availableVersions.json".to_owned(),
    ];
    assert_eq!(sent, expected);
    // A refusal is no missing object.
    desk.program("gsutil", "echo 'AccessDeniedException: 403' >&2; exit 1");
    let error = desk.make("publish").error();
    assert!(error.contains("403") && error.contains("cannot be read"), "{error}");
}

#[test]
fn credentials_come_from_a_file_and_are_in_no_argument() {
    let (desk, store) = (Desk::new(), Store::start());
    store.want_authorization("Bearer of-a-secret");
    let desk = desk.at(&store).with("TARGETS", "linux/amd64");
    assert!(desk.make("publish").error().contains("answers 401"));
    fs::write(desk.path("curl.conf"), "header = \"Authorization: Bearer of-a-secret\"\n").unwrap();
    let conf = desk.path("curl.conf").display().to_string();
    let desk = desk.with("PUBLISH_CURL", &conf);
    desk.make("publish").ok();
    assert_eq!(store.puts().len(), 4);
    let error = desk.with("PUBLISH_TO", "https://user:password@example.invalid/").make("publish").error();
    assert!(error.contains("~/.netrc") && !error.contains("password@"), "{error}");
}

#[test]
fn a_key_signs_each_file_for_its_place_and_built_in_keys_ask_for_one() {
    let desk = Desk::new().with("TARGETS", "linux/arm/7");
    desk.openssl(&["genpkey", "-algorithm", "ed25519", "-out", "key.pem"]);
    desk.openssl(&["pkey", "-in", "key.pem", "-pubout", "-out", "public.pem"]);
    fs::write(desk.path("src/release/update-keys.txt"), "# none yet\n").unwrap();
    desk.make("publish").ok();
    fs::write(desk.path("src/release/update-keys.txt"), "# keys\n0badc0de AAAA\n").unwrap();
    let error = desk.make("publish").error();
    assert!(error.contains("REAGENT_SIGN_KEY"), "{error}");
    let error = desk.make("release").error();
    assert!(error.contains("not released"), "an unsigned file is none: {error}");
    let key = desk.path("key.pem").display().to_string();
    let desk = desk.with("REAGENT_SIGN_KEY", &key);
    desk.make("publish").ok();
    desk.make("release").ok();
    for object in [
        format!("re-agent/linux/armv7/{VERSION}/reagent"),
        format!("re-agent/frpc/linux/armv7/{}/frpc", desk::frpc_pin()),
    ] {
        let text = String::from_utf8(desk.read(&format!("{object}.sig"))).unwrap();
        let words: Vec<_> = text.trim_end().split(' ').collect();
        let [ROLE, id, signature] = words[..] else { panic!("{text:?}") };
        let public = desk.openssl(&["pkey", "-in", "public.pem", "-pubin", "-outform", "DER"]);
        assert_eq!(*id, digest_line(&public[public.len() - 32..])[..8]);
        use base64::Engine;
        let bytes = base64::engine::general_purpose::STANDARD.decode(signature).unwrap();
        fs::write(desk.path("bytes"), bytes).unwrap();
        let signed = format!("reagent-release 1\n{object}\n{}", digest_line(&desk.read(&object)));
        fs::write(desk.path("signed"), signed).unwrap();
        desk.openssl(&[
            "pkeyutl",
            "-verify",
            "-pubin",
            "-inkey",
            "public.pem",
            "-rawin",
            "-in",
            "signed",
            "-sigfile",
            "bytes",
        ]);
    }
}

#[test]
fn a_tunnel_client_of_a_release_is_taken_if_its_digest_is_the_one_of_that_release() {
    let desk = Desk::new();
    fs::remove_dir_all(desk.path(".cache")).unwrap();
    let name = format!("frp_{}_linux_arm_hf", desk::frpc_pin());
    fs::create_dir_all(desk.path(&format!("from/{name}"))).unwrap();
    fs::write(desk.path(&format!("from/{name}/frpc")), "a tunnel client").unwrap();
    desk.run("tar", &["-C", "from", "-czf", &format!("from/{name}.tar.gz"), &name]);
    let from = desk.path("from").display().to_string();
    let desk = desk.with("TARGETS", "linux/arm/7").with("FRPC_FROM", &from);
    assert!(desk.make("download_frpc").error().contains("there is no frp_sha256_checksums.txt"));
    let sums = desk.path("from/frp_sha256_checksums.txt");
    fs::write(&sums, format!("{}  {name}.tar.gz\n", "0".repeat(64))).unwrap();
    assert!(desk.make("download_frpc").error().contains("is not the file"));
    let client = desk.path(&format!(".cache/frp/{}/linux/arm/7/frpc", desk::frpc_pin()));
    assert!(!client.exists());
    let archive = fs::read(desk.path(&format!("from/{name}.tar.gz"))).unwrap();
    fs::write(&sums, format!("{}  {name}.tar.gz\n", digest_line(&archive).trim_end())).unwrap();
    desk.make("download_frpc").ok();
    assert_eq!(fs::read_to_string(client).unwrap(), "a tunnel client");
}

#[test]
fn a_rollout_builds_in_a_container_and_releases_what_that_has_built() {
    let desk = Desk::new();
    // An engine whose containers copy the agents of another folder; build/ begins empty.
    fs::rename(desk.path("build"), desk.path("of-the-container")).unwrap();
    fs::create_dir(desk.path("build")).unwrap();
    fs::write(desk.path("build/reagent-linux-amd64"), "of an earlier build").unwrap();
    desk.program("docker", "echo \"$*\" >>calls; case $1 in run) cp of-the-container/* build ;; esac");
    desk.make("rollout").ok();
    let calls = fs::read_to_string(desk.path("calls")).unwrap();
    let calls: Vec<&str> = calls.lines().filter(|call| !call.starts_with("version")).collect();
    let [base, remove, build, run] = calls[..] else { panic!("{calls:?}") };
    assert!(base.starts_with("image inspect "), "whether it can begin, before build/ is emptied: {base}");
    assert_eq!(remove, "rm -f agent_builder");
    assert!(build.starts_with("build --platform linux/amd64 ") && build.contains(" -t agent-builder "), "{build}");
    let mount = format!("-v {}:/reagent/build", desk.path("build").canonicalize().unwrap().display());
    assert!(run.contains(" --name agent_builder ") && run.contains(&mount), "{run}");
    assert_eq!(desk.read(LIST), fs::read(desk.path("availableVersions.json")).unwrap());

    let desk = Desk::new();
    desk.program("docker", "case $1 in run) exit 1 ;; esac");
    desk.make("rollout").error();
    assert_eq!(desk.published(), BTreeSet::new(), "a build that fails ends it");
}

#[test]
fn a_system_that_is_not_there_yet_is_named_and_passed_over_unless_it_is_asked_for() {
    let desk = Desk::new();
    fs::write(desk.path("targets"), "windows/amd64\ndarwin/amd64\ndarwin/arm64").unwrap();
    let text = desk.make("build-all").ok();
    for line in ["windows/amd64", "darwin/amd64", "darwin/arm64"] {
        assert!(text.contains(&format!("not yet: {line} ")), "{text}");
        let error = desk.run_for_error("cross/build", &[line]);
        assert!(error.contains(&format!("not yet: {line} ")), "{error}");
    }
    let error = desk.run_for_error("cross/build", &["linux/riscv64"]);
    assert!(error.contains("there is no Rust target for the line 'linux/riscv64'"), "{error}");
}
