//! `make bench`, its second part: what the agent adds to the round trip of a call. `device_handshake` of the release build
//! and a procedure of a plain test peer, called in turn on one router of this process.
//!
//! `bench-rpc [--calls N] [--agent FILE]`. The last line is one JSON object. Exit status 1 if the agent adds more than
//! 1 ms in the median or 5 ms in the 99th percentile.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

#[path = "../cloud/mod.rs"]
mod cloud;
#[path = "../cloud/demo/parts.rs"]
#[allow(dead_code, reason = "the demonstration uses another half")]
mod parts;
#[path = "../util/temp_dir.rs"]
mod temp_dir;

use cloud::Cloud;
use cloud::peer::Peer;
use reagent::clock;
use serde_json::{Map, json};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;
use temp_dir::TempDir;

const USAGE: &str = "usage: bench-rpc [--calls N] [--agent FILE]";
const PLAIN: &str = "test.plain";
const SOON: Duration = Duration::from_secs(30);
/// Calls that warm everything up and do not count.
const FIRST: usize = 100;

/// Ends with its handle.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn flags(mut words: impl Iterator<Item = String>) -> Option<(usize, Option<PathBuf>)> {
    let (mut calls, mut agent) = (2000, None);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--calls" => calls = words.next()?.parse().ok().filter(|&calls| calls > 0)?,
            "--agent" => agent = Some(words.next()?.into()),
            _ => return None,
        }
    }
    Some((calls, agent))
}

fn main() -> ExitCode {
    let Some((calls, agent)) = flags(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(calls, agent) {
        Ok(within) if within => ExitCode::SUCCESS,
        Ok(_) => {
            eprintln!("bench-rpc: the agent adds more than it should");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("bench-rpc: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(calls: usize, agent: Option<PathBuf>) -> Result<bool, String> {
    let failed = |failure: cloud::peer::Failure| format!("{failure:?}");
    let binary = agent.map_or_else(|| parts::built_agent(Some("release")), Ok)?;
    let folder = TempDir::new("bench-rpc");
    let cloud = Cloud::start(0, "127.0.0.1:5000").map_err(failed)?;
    parts::write_flock(folder.path(), &cloud.flock())?;
    let _agent = start(&binary, &folder)?;
    let uri = cloud.backend.identity.uri("device_handshake");
    let plain = cloud.user("43").map_err(failed)?;
    plain.register(PLAIN, json!({}), |call| call.answer(vec![json!("2026-11-25T18:00:00Z")])).map_err(failed)?;
    let user = cloud.user("42").map_err(failed)?;
    let deadline = clock::mono() + SOON;
    while user.call(&uri, vec![], Map::new(), SOON).is_err() {
        if clock::mono() > deadline {
            return Err(format!("the agent does not answer within {SOON:?}"));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let (mut of_agent, mut of_plain) = (Vec::new(), Vec::new());
    for n in 0..FIRST + calls {
        // In turn, so that whatever the machine does meets both.
        for (uri, times) in [(uri.as_str(), &mut of_agent), (PLAIN, &mut of_plain)] {
            let took = timed(&user, uri)?;
            if n >= FIRST {
                times.push(took);
            }
        }
    }
    let (agent, plain) = (Percentiles::of(of_agent), Percentiles::of(of_plain));
    let added = Percentiles { median: agent.median - plain.median, p99: agent.p99 - plain.p99 };
    println!("round trip of {calls} calls through one router, in microseconds: median, 99th percentile");
    for (what, times) in [("device_handshake", &agent), ("a plain peer", &plain), ("added by the agent", &added)] {
        println!("{what}: {:.0}, {:.0}", times.median, times.p99);
    }
    let json = |times: &Percentiles| json!({"median_us": times.median.round(), "p99_us": times.p99.round()});
    println!(
        "{}",
        json!({"calls": calls, "device_handshake": json(&agent), "plain": json(&plain), "added": json(&added)})
    );
    Ok(added.median < 1000.0 && added.p99 < 5000.0)
}

fn timed(user: &Peer, uri: &str) -> Result<Duration, String> {
    let began = clock::mono();
    user.call(uri, vec![], Map::new(), SOON).map_err(|failure| format!("{uri}: {failure:?}"))?;
    Ok(clock::mono() - began)
}

/// Without an engine: nothing on this machine is touched.
fn start(binary: &PathBuf, folder: &TempDir) -> Result<Agent, String> {
    std::fs::create_dir(folder.join("agent")).map_err(|error| error.to_string())?;
    let child = Command::new(binary)
        .args(["-update=false", "-nmw=false", "-env=local", "-config"])
        .arg(folder.join("device.flock"))
        .arg("-agentDir")
        .arg(folder.join("agent"))
        .arg("-appsDir")
        .arg(folder.join("apps"))
        .arg("-logFile")
        .arg(folder.join("reagent.log"))
        .env("REAGENT_LOCK_FILE", folder.join("lock"))
        .env("DOCKER_HOST", format!("unix://{}", folder.join("no-engine.sock").display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    child.map(Agent).map_err(|error| format!("cannot run {}: {error}", binary.display()))
}

/// In microseconds.
struct Percentiles {
    median: f64,
    p99: f64,
}

impl Percentiles {
    fn of(mut times: Vec<Duration>) -> Percentiles {
        times.sort();
        let at = |part: usize| times[(times.len() * part / 100).min(times.len() - 1)].as_secs_f64() * 1e6;
        Percentiles { median: at(50), p99: at(99) }
    }
}
