//! A network path of the test's own: the device in a namespace, the network in a second one, the router on this machine.
//!
//! ```text
//!   device namespace            network namespace              this machine
//!   eth0 ------------------ lan              wan ----------------- <name>h
//!   the agent                   all faults                     Crossbar, backend, test
//! ```
//!
//! The ends know nothing of what goes wrong in the middle: packets vanish, are refused or wait there. Needs root.
//! Whatever was made is removed by a [`Guard`], which also sees the death of the test process.

use super::run;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Runs a shell text when it is dropped, or when this process dies, whichever comes first.
pub struct Guard(Child);

impl Guard {
    /// The text sees the arguments as `$1`, `$2`, and so on.
    pub fn new(cleanup: &str, args: &[&str]) -> Guard {
        // The end of standard input is the sign: the only writer is this process.
        let text = format!("trap '' INT TERM HUP; cat >/dev/null; {cleanup}");
        let mut command = Command::new("sh");
        command.args(["-c", &text, "guard"]).args(args).stdin(Stdio::piped());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).spawn();
        Guard(child.expect("a shell starts"))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// The path between one device and the router.
pub struct Link {
    name: String,
    /// First address of its block of eight: 1 is this machine, 2 and 5 the network, 6 the device.
    block: [u8; 4],
    _guard: Guard,
}

impl Link {
    #[track_caller]
    pub fn new() -> Link {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        static TOOLS: OnceLock<()> = OnceLock::new();
        TOOLS.get_or_init(|| {
            let env = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/env");
            let need = r#"here=$1; . "$here/lib.sh"; need iproute2 iptables
                [ "$(id -u)" = 0 ] || die "network namespaces need root: run the tests as root""#;
            run("sh", &["-c", need, "sh", &env.to_string_lossy()]);
        });
        let (pid, count) = (std::process::id() as usize, COUNT.fetch_add(1, Ordering::SeqCst));
        // 198.18.0.0/15 is for tests of networks (RFC 2544): 16384 blocks.
        let index = (pid * 16 + count) % 16384;
        let block = [198, 18 + (index >> 13) as u8, (index >> 5) as u8, (index << 3) as u8];
        let name = format!("ra{pid}-{count}");
        let cleanup = r#"ip netns pids "$1-d" | xargs -r kill -9
            ip netns del "$1-d"; ip netns del "$1-m"; ip link del "$1h""#;
        let link = Link { _guard: Guard::new(cleanup, &[&name]), name, block };
        link.script(
            r#"ip netns add "$1-m"; ip netns add "$1-d"
            ip link add "$1h" type veth peer name wan netns "$1-m"
            ip -n "$1-m" link add lan type veth peer name eth0 netns "$1-d"
            ip addr add "$2/30" dev "$1h"; ip link set "$1h" up
            ip -n "$1-m" addr add "$3/30" dev wan; ip -n "$1-m" link set wan up
            ip -n "$1-m" addr add "$4/30" dev lan; ip -n "$1-m" link set lan up
            ip -n "$1-d" link set lo up; ip -n "$1-d" link set eth0 up
            ip netns exec "$1-m" sysctl -qw net.ipv4.ip_forward=1
            ip route add "$5/30" via "$3" dev "$1h""#,
        );
        link.restore_address();
        link
    }

    fn address(&self, last: u8) -> String {
        let [a, b, c, d] = self.block;
        format!("{a}.{b}.{c}.{}", d + last)
    }

    #[track_caller]
    fn script(&self, text: &str) {
        let addresses = [1, 2, 5, 4, 6].map(|last| self.address(last));
        let mut args = vec!["-ec", text, "link", &self.name];
        args.extend(addresses.iter().map(String::as_str));
        run("sh", &args);
    }

    /// What the device calls the router.
    pub fn router(&self) -> String {
        self.address(1)
    }

    /// The words that put a command into the device's namespace. The process stays the same.
    pub fn launcher(&self) -> Vec<String> {
        // The agent's search path has no programs.
        let ip = ["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip"].into_iter().find(|path| Path::new(path).exists());
        let namespace = format!("{}-d", self.name);
        [ip.expect("iproute2 is installed"), "netns", "exec", &namespace].map(str::to_owned).to_vec()
    }

    /// The cable is pulled: the device sees no carrier.
    pub fn unplug(&self) {
        self.script(r#"ip -n "$1-m" link set lan down"#);
    }

    pub fn plug(&self) {
        self.script(r#"ip -n "$1-m" link set lan up"#);
    }

    /// The device loses its address, and its route with it.
    pub fn remove_address(&self) {
        self.script(r#"ip -n "$1-d" addr flush dev eth0"#);
    }

    pub fn restore_address(&self) {
        self.script(r#"ip -n "$1-d" addr add "$6/30" dev eth0; ip -n "$1-d" route add default via "$4""#);
    }

    /// Packets vanish in both directions.
    pub fn black_hole(&self) {
        self.rule("-j DROP");
    }

    /// Packets of the device vanish.
    pub fn swallow_outbound(&self) {
        self.rule("-i lan -j DROP");
    }

    /// Packets of the router vanish.
    pub fn swallow_inbound(&self) {
        self.rule("-i wan -j DROP");
    }

    /// One packet in so many vanishes, in both directions.
    pub fn lose_one_in(&self, packets: u32) {
        let part = 1.0 / f64::from(packets);
        self.rule(&format!("-m statistic --mode random --probability {part:.4} -j DROP"));
    }

    /// Every packet of TCP is answered with RST.
    pub fn reset(&self) {
        self.rule("-p tcp -j REJECT --reject-with tcp-reset");
    }

    /// The router's end of all connections of the device is aborted: RST in both directions, from its machine.
    pub fn abort_connections(&self) {
        self.script(r#"ss -HKt dst "$6""#);
    }

    fn rule(&self, rule: &str) {
        self.script(&format!(r#"ip netns exec "$1-m" iptables -w -A FORWARD {rule}"#));
    }

    /// Both directions carry so much, and let nothing wait longer than four seconds.
    pub fn limit(&self, kbit: u32) {
        let shaper = format!("root tbf rate {kbit}kbit burst 1600 latency 4s");
        self.script(&format!(
            r#"ip netns exec "$1-m" tc qdisc add dev wan {shaper}; ip netns exec "$1-m" tc qdisc add dev lan {shaper}"#
        ));
    }

    /// Ends what [`Link::black_hole`] and the others began.
    pub fn clear(&self) {
        self.script(
            r#"ip netns exec "$1-m" iptables -w -F FORWARD
            for side in wan lan; do ip netns exec "$1-m" tc qdisc del dev $side root 2>/dev/null || true; done"#,
        );
    }
}

#[test]
fn a_guard_cleans_up_when_its_owner_goes() {
    let folder = crate::util::TempDir::new("guard");
    let file = folder.join("file");
    std::fs::File::create(&file).and_then(|mut file| file.write_all(b"x")).unwrap();
    let guard = Guard::new(r#"rm "$1""#, &[&file.to_string_lossy()]);
    assert!(file.exists());
    drop(guard);
    assert!(!file.exists());
}
