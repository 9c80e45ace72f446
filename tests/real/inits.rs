//! An installed agent under the real init systems, each in a container of its own on the host's network (E.7): it is started
//! at boot, kept alive, started anew when its backend asks, stopped in good order, and goes down with the machine.
//!
//! The container has no Docker socket: an agent in it would take the machine's containers for its own.

use super::{Docker, script};
use crate::cloud::Cloud;
use crate::cloud::peer::Payload;
use crate::cloud::router::Traffic;
use crate::util::{TempDir, wait_until};
use crossbeam_channel::Receiver;
use serde_json::{Map, Value, json};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Longer than a start of the agent after a failure, on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// An init system, and the words with which it controls the service.
struct Init {
    kind: &'static str,
    start: &'static str,
    stop: &'static str,
    status: &'static str,
    /// A file of settings, and what is in it.
    settings: (&'static str, &'static str),
}

const BUSYBOX: Init = Init {
    kind: "busybox",
    start: "/etc/init.d/S90reagent start",
    stop: "/etc/init.d/S90reagent stop",
    status: "/etc/init.d/S90reagent status",
    settings: ("etc/default/reagent", "LAUNCH_PAUSE=1"),
};
const OPENRC: Init = Init {
    kind: "openrc",
    start: "rc-service reagent start",
    stop: "rc-service reagent stop",
    status: "rc-service reagent status",
    settings: ("etc/conf.d/reagent", "respawn_delay=1"),
};
const SYSV: Init = Init {
    kind: "sysv",
    start: "/etc/init.d/reagent start",
    stop: "/etc/init.d/reagent stop",
    status: "/etc/init.d/reagent status",
    settings: ("etc/default/reagent", "LAUNCH_PAUSE=1"),
};
const SYSTEMD: Init = Init {
    kind: "systemd",
    start: "systemctl start reagent",
    stop: "systemctl stop reagent",
    status: "systemctl is-active reagent",
    settings: (
        "etc/systemd/system/reagent.service.d/test.conf",
        "[Service]\nRestartSec=1\nWatchdogSec=2\nTimeoutAbortSec=1\n",
    ),
};

/// A device that has booted. Its container goes with it.
struct Booted {
    cloud: Cloud,
    traffic: Receiver<Traffic>,
    docker: Docker,
    folder: TempDir,
    name: String,
}

impl Booted {
    /// Installs the agent as on a device and boots. The settings of the device shorten what only makes a test wait.
    #[track_caller]
    fn with(init: &Init) -> Booted {
        let docker = Docker::shared();
        let cloud = Cloud::start(0, "127.0.0.1:5000").expect("a free loopback port");
        let traffic = cloud.router.tap();
        let folder = TempDir::new(init.kind);
        let dir = folder.path().display().to_string();
        script("inits.sh", &["root", &dir, init.kind], &[]);
        let mut flock: Value = serde_json::from_str(&cloud.flock()).unwrap();
        flock["update_url"] = json!("http://127.0.0.1:1");
        std::fs::write(folder.join("device.flock"), flock.to_string()).unwrap();
        let installed = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("cross/rootfs/install"))
            .args([init.kind, env!("CARGO_BIN_EXE_reagent")])
            .arg(folder.join("device.flock"))
            .env("ROOT", folder.join("root"))
            .output()
            .expect("the installer starts");
        assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
        let settings = folder.join("root").join(init.settings.0);
        std::fs::create_dir_all(settings.parent().unwrap()).unwrap();
        std::fs::write(settings, init.settings.1).unwrap();
        script("inits.sh", &["start", &dir, init.kind], &[]);
        let name = std::fs::read_to_string(folder.join("name")).unwrap().trim().to_owned();
        Booted { cloud, traffic, docker, folder, name }
    }

    /// Runs a line of shell in the container: its exit code and what it printed.
    fn sh(&self, line: &str) -> (Option<i32>, String) {
        let output = self.docker.try_run(&["exec", &self.name, "/bin/sh", "-c", line]);
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim().to_owned())
    }

    #[track_caller]
    fn done(&self, line: &str) -> String {
        let (code, printed) = self.sh(line);
        assert_eq!(code, Some(0), "{line}: {printed}\n{}", self.log());
        printed
    }

    /// The agent's process, found as the manager script finds it: by its path.
    fn agent(&self) -> Option<u32> {
        let (_, found) = self.sh("grep -ls ^/opt/reagent/Reagent-active /proc/[0-9]*/cmdline");
        found.lines().next()?.split('/').nth(2)?.parse().ok()
    }

    /// A running agent with another id than `before`, in session.
    #[track_caller]
    fn joined(&self, before: Option<u32>) -> u32 {
        let found = wait_until(LIMIT, &format!("a joined agent other than {before:?}"), || {
            self.agent().filter(|pid| Some(*pid) != before)
        });
        wait_until(LIMIT, "it answers", || {
            let answer: Result<Payload, _> = self.cloud.backend.call_agent("device_handshake", vec![], Map::new());
            answer.is_ok().then_some(())
        });
        found
    }

    /// What the agent itself has said so far to end a session.
    fn goodbyes(&self) -> usize {
        let left = |passed: &Traffic| matches!(passed, Traffic::FromPeer(_, said) if *said == json!([6, {}, "wamp.close.close_realm"]));
        self.traffic.try_iter().filter(left).count()
    }

    fn is_up(&self) -> bool {
        self.docker.inspect(&self.name).is_some_and(|found| found["State"]["Running"] == true)
    }

    /// The end of what the init system and the agent have written.
    fn log(&self) -> String {
        let console = self.docker.try_run(&["logs", "--tail", "20", &self.name]);
        let (_, own) = self.sh("tail -n 20 /var/log/reagent.log");
        format!("{}\n{own}", String::from_utf8_lossy(&[console.stdout, console.stderr].concat()))
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.name, self.log());
        }
        script("inits.sh", &["stop", &self.folder.path().display().to_string()], &[]);
    }
}

/// What holds under each of them. Returns the agent's process, started once more.
#[track_caller]
fn keeps_the_agent(device: &Booted, init: &Init) -> u32 {
    let first = device.joined(None);
    assert_eq!(device.sh(init.status).0, Some(0));
    device.done(init.start);
    assert_eq!(device.agent(), Some(first), "a second start is none");
    let words = device.done(&format!("tr '\\0' ' ' </proc/{first}/cmdline"));
    assert_eq!(words, "/opt/reagent/Reagent-active -config /opt/reagent/device-config.flock -appsDir /apps -debug");

    device.done(&format!("kill -KILL {first}"));
    let second = device.joined(Some(first));
    device.goodbyes();
    device.cloud.backend.call_agent("system_restart_agent", vec![], Map::new()).expect("somebody starts it again");
    let third = device.joined(Some(second));
    assert_eq!(device.goodbyes(), 1);

    device.done(init.stop);
    assert_eq!((device.agent(), device.goodbyes()), (None, 1), "it has taken leave");
    assert_ne!(device.sh(init.status).0, Some(0));
    device.done("rm /opt/reagent/reswarm-mode");
    device.sh(init.start);
    assert_eq!(device.agent(), None, "what is not set up is not started");
    device.done("touch /opt/reagent/reswarm-mode");
    // A link that leads nowhere, as a power cut or the manager script may leave it.
    device.done("rm /opt/reagent/Reagent-active; ln -s gone /opt/reagent/Reagent-active");
    device.done(init.start);
    device.joined(Some(third))
}

/// The machine goes down by `line`: the agent takes leave first.
#[track_caller]
fn goes_down_in_good_order(device: &Booted, how: impl FnOnce(&Booted)) {
    device.goodbyes();
    how(device);
    wait_until(LIMIT, "the machine is down", || (!device.is_up()).then_some(()));
    assert_eq!(device.goodbyes(), 1);
}

fn reboot(device: &Booted) {
    device.cloud.backend.call_agent("system_reboot", vec![], Map::new()).expect("there is a program `reboot`");
}

#[test]
fn busybox_init_starts_the_agent_at_boot_and_the_launcher_keeps_it() {
    let device = Booted::with(&BUSYBOX);
    keeps_the_agent(&device, &BUSYBOX);
    goes_down_in_good_order(&device, |device| drop(device.docker.run(&["stop", "-t", "30", &device.name])));
}

#[test]
fn openrc_starts_the_agent_at_boot_and_supervises_it() {
    let device = Booted::with(&OPENRC);
    keeps_the_agent(&device, &OPENRC);
    goes_down_in_good_order(&device, |device| drop(device.sh("openrc-shutdown -p now")));
}

#[test]
fn sysv_init_starts_the_agent_at_boot_and_the_launcher_keeps_it() {
    let device = Booted::with(&SYSV);
    keeps_the_agent(&device, &SYSV);
    goes_down_in_good_order(&device, reboot);
}

#[test]
fn systemd_starts_the_agent_at_boot_knows_how_it_is_and_aborts_it_when_it_stands_still() {
    let device = Booted::with(&SYSTEMD);
    let show = |property: &str| device.done(&format!("systemctl show -p {property} --value reagent"));
    device.joined(None);
    assert_eq!(device.done("systemd-analyze verify reagent.service"), "", "no word of the unit is unknown");
    assert_eq!(show("StatusText"), format!("connected to {}", device.cloud.router.url()));
    let pid = keeps_the_agent(&device, &SYSTEMD);
    assert_eq!(
        (show("NRestarts"), show("Type"), show("MainPID")),
        ("0".to_owned(), "notify".to_owned(), pid.to_string())
    );
    assert_eq!(device.done(&format!("cut -d' ' -f19 /proc/{pid}/stat")), "-16", "the priority");
    // Its signs of life have come for several periods by now. It stands still.
    device.done(&format!("kill -STOP {pid}"));
    let next = device.joined(Some(pid));
    assert_eq!(show("NRestarts"), "1");
    assert!(device.done("journalctl --no-pager -u reagent").contains("Watchdog timeout"));
    assert_eq!(show("MainPID"), next.to_string());
    goes_down_in_good_order(&device, reboot);
}
