//! What a machine can do, seen through fake roots and fake `PATH` folders.

use super::*;
use crate::os::scratch::Scratch;
use std::os::unix::fs::symlink;

/// A machine: a fake `/` with a folder of programs.
struct Machine {
    root: Scratch,
    path: OsString,
}

impl Machine {
    fn new() -> Machine {
        let root = Scratch::new();
        let path = env::join_paths(["relative".into(), root.join("none"), root.join("bin")]).unwrap();
        fs::create_dir(root.join("bin")).unwrap();
        Machine { root, path }
    }

    fn program(&self, name: &str, script: &str) -> PathBuf {
        let path = self.root.file(&format!("bin/{name}"), format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn file(&self, path: &str, content: &str) {
        fs::create_dir_all(self.root.join(path).parent().unwrap()).unwrap();
        self.root.file(path, content);
    }

    fn start(&self) -> Start<'_> {
        Start {
            root: self.root.path(),
            path: &self.path,
            launcher: false,
            name: OsStr::new("/usr/bin/reagent"),
            parent_is_init: false,
        }
    }

    fn with_systemd() -> Machine {
        let machine = Machine::new();
        fs::create_dir_all(machine.root.join("run/systemd/system")).unwrap();
        machine.program("systemctl", "");
        machine
    }
}

#[test]
fn a_program_is_an_executable_file_in_a_folder_of_the_path() {
    let machine = Machine::new();
    let found = |name: &str| find_in(&machine.path, name);
    assert_eq!(found("reboot"), None);
    fs::create_dir(machine.root.join("bin/poweroff")).unwrap();
    machine.file("bin/halt", "");
    assert_eq!((found("poweroff"), found("halt")), (None, None), "a folder, and a file that nobody may run");
    let path = machine.program("reboot", "");
    assert_eq!(found("reboot"), Some(path.clone()));
    symlink(path, machine.root.join("bin/telinit")).unwrap();
    assert!(found("telinit").is_some(), "systemd's programs are links");
    symlink(machine.root.join("gone"), machine.root.join("bin/dangling")).unwrap();
    assert_eq!(found("dangling"), None);
    assert_eq!(find_in(OsStr::new(""), "reboot"), None);
}

#[test]
fn without_anybody_who_starts_it_again_there_is_no_supervisor() {
    assert_eq!(Machine::new().start().supervisor(), None);
    let systemd_without_the_unit = Machine::with_systemd();
    assert_eq!(systemd_without_the_unit.start().supervisor(), None);
}

#[test]
fn the_unit_of_systemd_counts_wherever_it_lies_unless_it_is_masked() {
    for folder in UNIT_FOLDERS {
        let machine = Machine::with_systemd();
        machine.file(&format!("{folder}/{UNIT}"), "[Service]\n");
        assert_eq!(machine.start().supervisor(), Some(Supervisor::Systemd), "{folder}");
    }
    let masked = Machine::with_systemd();
    symlink("/dev/null", masked.root.join("run/systemd/system").join(UNIT)).unwrap();
    assert_eq!(masked.start().supervisor(), None);
    let another_init = Machine::new();
    another_init.program("systemctl", "");
    another_init.file("lib/systemd/system/reagent.service", "");
    assert_eq!(another_init.start().supervisor(), None, "systemd is installed and does not run");
    let without_program = Machine::with_systemd();
    without_program.file("lib/systemd/system/reagent.service", "");
    fs::remove_file(without_program.root.join("bin/systemctl")).unwrap();
    assert_eq!(without_program.start().supervisor(), None);
}

#[test]
fn the_launcher_goes_before_systemd_and_systemd_before_the_managers_link() {
    let machine = Machine::with_systemd();
    machine.file("etc/systemd/system/reagent.service", "");
    let launched = Start { launcher: true, ..machine.start() };
    assert_eq!(launched.supervisor(), Some(Supervisor::Parent));
    let managed = Start { name: OsStr::new("/opt/reagent/Reagent-active"), ..machine.start() };
    assert_eq!(managed.supervisor(), Some(Supervisor::Systemd));
    let bare = Machine::new();
    let managed = Start { name: OsStr::new("/opt/reagent/Reagent-active"), ..bare.start() };
    assert_eq!(managed.supervisor(), Some(Supervisor::Parent));
    for name in ["Reagent-active", "/opt/reagent/Reagent-active.tmp", "/opt/reagent/Not-Reagent-active", ""] {
        assert_eq!(Start { name: OsStr::new(name), ..bare.start() }.supervisor(), None, "{name}");
    }
}

#[test]
fn process_1_as_a_parent_starts_it_again_but_not_in_a_container() {
    let respawned = |machine: &Machine| Start { parent_is_init: true, ..machine.start() }.supervisor();
    let machine = Machine::new();
    assert_eq!(respawned(&machine), Some(Supervisor::Parent));
    machine.file("proc/1/cgroup", "1:name=systemd:/init.scope\n0::/init.scope\n");
    assert_eq!(respawned(&machine), Some(Supervisor::Parent));
    for (mark, content) in [
        (".dockerenv", ""),
        ("run/.containerenv", ""),
        ("run/systemd/container", "podman\n"),
        ("proc/1/cgroup", "4:memory:/docker/0123456789abcdef\n"),
        ("proc/1/cgroup", "1:cpu:/kubepods/besteffort/pod1\n"),
    ] {
        let container = Machine::new();
        container.file(mark, content);
        assert_eq!(respawned(&container), None, "{mark} {content}");
    }
}

#[test]
fn a_command_that_fails_hangs_or_is_missing_says_so_with_its_own_words() {
    // In a process of its own: `PATH` belongs to the process.
    const CHILD: &str = "REAGENT_TEST_POWER";
    if env::var_os(CHILD).is_some() {
        let limit = Duration::from_secs(60);
        assert_eq!(run("works", &["--now", "a b"], limit), Ok("done --now a b, nobody minds".to_owned()));
        let failed = run("fails", &[], limit).unwrap_err();
        assert!(failed.contains("exit status: 3") && failed.contains("Access denied"), "{failed}");
        let missing = run("absent", &[], limit).unwrap_err();
        assert!(missing.contains("no such program"), "{missing}");
        let hung = run("hangs", &[], Duration::from_millis(50)).unwrap_err();
        assert!(hung.contains("not done"), "{hung}");
        let broken = run("broken", &[], limit).unwrap_err();
        assert!(broken.starts_with("broken: "), "{broken}");
        return;
    }
    let machine = Machine::new();
    machine.program("works", "echo \"done $*,\"; echo nobody minds >&2");
    machine.program("fails", "echo Access denied >&2; exit 3");
    machine.program("hangs", "exec /bin/sleep 600");
    let broken = machine.root.file("bin/broken", "#!/none/such\n");
    fs::set_permissions(broken, fs::Permissions::from_mode(0o755)).unwrap();
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg("os::power::tests::a_command_that_fails_hangs_or_is_missing_says_so_with_its_own_words")
        .env(CHILD, "1")
        .env("PATH", &machine.path)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.contains("1 passed"), "{told}");
}

#[test]
fn a_new_start_keeps_process_arguments_and_name_and_closes_what_was_open() {
    const CHILD: &str = "REAGENT_TEST_START_AGAIN";
    let counter =
        |path: &Path| fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>();
    if let Some(path) = env::var_os(CHILD) {
        let path = PathBuf::from(path);
        let open = fs::read_dir("/proc/self/fd").unwrap().count();
        let mut lines = counter(&path);
        lines.push(format!("{} {:?} {open}", std::process::id(), env::args_os().collect::<Vec<_>>()));
        fs::write(&path, lines.join("\n")).unwrap();
        if lines.len() < 3 {
            let _held: Vec<fs::File> = (0..20).map(|_| fs::File::open(&path).unwrap()).collect();
            panic!("{}", start_again(&[]));
        }
        return;
    }
    let scratch = Scratch::new();
    let path = scratch.join("starts");
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "--test-threads=1"])
        .arg("os::power::tests::a_new_start_keeps_process_arguments_and_name_and_closes_what_was_open")
        .env(CHILD, &path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = counter(&path);
    assert!(lines.len() == 3 && lines[1] == lines[0] && lines[2] == lines[0], "{lines:#?}");
}
