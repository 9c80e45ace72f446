//! What our agent says otherwise than the recorded one, and why.

use super::form::Lanes;

/// A difference in some scenes.
pub struct Difference {
    /// The scenes, by number.
    pub scenes: &'static [&'static str],
    pub lane: &'static str,
    pub change: Change,
    /// Where it is asked for.
    pub why: &'static str,
}

/// How the recorded lane becomes ours. Lines are named by a part of them.
pub enum Change {
    /// Lines with any of these go.
    Drop(&'static [&'static str]),
    /// The n-th such line (from 0) goes.
    DropNth(&'static str, usize),
    /// Only the first of these lines stay.
    Only(&'static str, usize),
    /// In each such line this text becomes that.
    Replace(&'static str, &'static str, &'static str),
    /// The same in the last such line.
    ReplaceLast(&'static str, &'static str, &'static str),
    /// A line comes at the end.
    Add(&'static str),
    /// A line comes after the n-th such line (from 0).
    After(&'static str, usize, &'static str),
    /// The first such line goes to the place after the next line with that text.
    Later(&'static str, &'static str),
    /// The first such line comes again after the first line with that text.
    Repeat(&'static str, &'static str),
}

impl Difference {
    /// Changes the recorded lanes; whether there was something to change.
    pub fn apply(&self, lanes: &mut Lanes) -> bool {
        let lane = lanes.entry(self.lane).or_default();
        let before = lane.clone();
        self.change.apply(lane);
        let changed = *lane != before;
        lanes.retain(|_, lane| !lane.is_empty());
        changed
    }
}

impl Change {
    fn apply(&self, lane: &mut Vec<String>) {
        let nth = |lane: &[String], part: &str, n: usize| {
            lane.iter().enumerate().filter(|(_, line)| line.contains(part)).map(|(at, _)| at).nth(n)
        };
        match *self {
            Change::Drop(parts) => lane.retain(|line| !parts.iter().any(|part| line.contains(part))),
            Change::DropNth(part, n) => drop(nth(lane, part, n).map(|at| lane.remove(at))),
            Change::Only(part, count) => {
                let mut seen = 0;
                lane.retain(|line| {
                    seen += usize::from(line.contains(part));
                    !line.contains(part) || seen <= count
                });
            }
            Change::Replace(part, from, to) => {
                lane.iter_mut().filter(|line| line.contains(part)).for_each(|line| *line = line.replace(from, to));
            }
            Change::ReplaceLast(part, from, to) => {
                if let Some(line) = lane.iter_mut().rfind(|line| line.contains(part)) {
                    *line = line.replace(from, to);
                }
            }
            Change::Add(line) => lane.push(line.to_owned()),
            Change::After(part, n, line) => {
                if let Some(at) = nth(lane, part, n) {
                    lane.insert(at + 1, line.to_owned());
                }
            }
            Change::Later(part, behind) => {
                if let Some(at) = nth(lane, part, 0) {
                    let line = lane.remove(at);
                    let behind = lane[at..].iter().position(|line| line.contains(behind));
                    lane.insert(behind.map_or(lane.len(), |offset| at + offset + 1), line);
                }
            }
            Change::Repeat(part, behind) => {
                if let (Some(at), Some(behind)) = (nth(lane, part, 0), nth(lane, behind, 0)) {
                    lane.insert(behind + 1, lane[at].clone());
                }
            }
        }
    }
}

const CALLS: &str = "calls";
const LISTENERS: &str = "listeners";
const LOG: &str = "log";
const REGISTRATIONS: &str = "registrations";
const SESSION: &str = "session";
const TOPICS: &str = "topics";

const TOKEN: &str = "get_registry_token";
const PORTS: &str = r#""ports":"#;
const TEXT: &str = r#"PUBLISH log {} [{"chunk":"<text>","type":"build"}]"#;
const PROGRESS: &str = "PUBLISH log <progress>";
const PUSH: &str = "PUBLISH {} re.mgmt.c6aa09d3-3dbd-4830-a230-bf75cdd7f149.tunnel_state_update/onreload";

const FOR_EVER: &str = "apps chapter 3.9 (Improve): a removal that finds an image gone already ends well";

/// Procedures that come with later issues.
const LATER: &[&str] = &[
    "add_wifi_configuration",
    "download_os_update",
    "execute_cmd",
    "get_os_release",
    "get_tunnel_state",
    "init_device_terminal",
    "install_os_update",
    "list_ethernet_devices",
    "list_wifi_networks",
    "query_app_logs",
    "query_device_logs",
    "remove_wifi_configuration",
    "request_terminal_session",
    "restart_wifi",
    "scan_wifi_networks",
    "select_wifi_network",
    "start_terminal_session",
    "stop_terminal_session",
    "update_agent",
    "update_ipv4_config",
];

/// The table. Its entries are applied from the first to the last.
pub const DIFFERENCES: &[Difference] = &[
    // Connecting.
    Difference {
        scenes: &["01", "31"],
        lane: SESSION,
        change: Change::Replace("HTTP", "wamp.2.json, wamp.2.cbor, wamp.2.msgpack", "wamp.2.json"),
        why: "decision 11: one serializer is offered",
    },
    Difference {
        scenes: &["01", "31"],
        lane: SESSION,
        change: Change::Replace(
            "HELLO",
            concat!(
                r#""callee":{"features":{"call_canceling":true,"call_timeout":true,"caller_identification":true,"#,
                r#""pattern_based_registration":true,"payload_passthru_mode":true,"progressive_call_invocations":true,"#,
                r#""progressive_call_results":true,"shared_registration":true}},"#,
                r#""caller":{"features":{"call_canceling":true,"call_timeout":true,"caller_identification":true,"#,
                r#""payload_passthru_mode":true,"progressive_call_invocations":true,"progressive_call_results":true}},"#,
                r#""publisher":{"features":{"payload_passthru_mode":true,"publisher_exclusion":true,"#,
                r#""publisher_identification":true,"subscriber_blackwhite_listing":true}},"#,
                r#""subscriber":{"features":{"pattern_based_subscription":true,"payload_passthru_mode":true,"#,
                r#""publisher_identification":true}}"#,
            ),
            concat!(
                r#""callee":{"features":{"call_canceling":true,"call_timeout":true,"caller_identification":true}},"#,
                r#""caller":{"features":{"call_canceling":true,"caller_identification":true}},"#,
                r#""publisher":{},"subscriber":{}"#,
            ),
        ),
        why: "wire chapter 1.3: only what is supported is announced",
    },
    Difference {
        scenes: &["01", "31"],
        lane: REGISTRATIONS,
        change: Change::Drop(&["ondestroy"]),
        why: "decision 2: no destroy topic",
    },
    Difference {
        scenes: &["01"],
        lane: REGISTRATIONS,
        change: Change::Drop(&["wamp.registration.on_unregister"]),
        why: "wire chapter 6: it serves terminals, which come with a later issue",
    },
    Difference {
        scenes: &["01", "31"],
        lane: REGISTRATIONS,
        change: Change::Drop(LATER),
        why: "procedures of later issues are not registered",
    },
    Difference {
        scenes: &["01"],
        lane: CALLS,
        change: Change::Replace("update_device_status", r#""tunnel_capable":true"#, r#""tunnel_capable":false"#),
        why: "wire chapter 1.11: tunnels come with a later issue and are definitely unavailable",
    },
    // Who listens to the logs.
    Difference {
        scenes: &["31"],
        lane: LISTENERS,
        change: Change::Drop(&["501", "710", "713", "701"]),
        why: "the recorded device had four more apps",
    },
    Difference {
        scenes: &["31"],
        lane: LISTENERS,
        change: Change::Add(r#"MATCH ["reswarm.logs.c6aa09d3-3dbd-4830-a230-bf75cdd7f149.prod_801_demo"]"#),
        why: "log chapter 3.4 (Improve): every container is looked at again after a reconnect, running ones too",
    },
    Difference {
        scenes: &["04", "16"],
        lane: LISTENERS,
        change: Change::Add(r#"MATCH ["reswarm.logs.c6aa09d3-3dbd-4830-a230-bf75cdd7f149.prod_501_demo"]"#),
        why: "log chapter 3.4 (Improve): the set of subscriptions, prefixes included, is known only by asking",
    },
    Difference {
        scenes: &["19"],
        lane: LISTENERS,
        change: Change::Add(r#"MATCH ["reswarm.logs.c6aa09d3-3dbd-4830-a230-bf75cdd7f149.dev_710_devapp"]"#),
        why: "log chapter 3.4 (Improve): the set of subscriptions, prefixes included, is known only by asking",
    },
    Difference {
        scenes: &["22"],
        lane: LISTENERS,
        change: Change::Add(r#"MATCH ["reswarm.logs.c6aa09d3-3dbd-4830-a230-bf75cdd7f149.dev_713_badbuild"]"#),
        why: "log chapter 3.4 (Improve): the set of subscriptions, prefixes included, is known only by asking",
    },
    Difference {
        scenes: &["23"],
        lane: LISTENERS,
        change: Change::Only("MATCH", 1),
        why: "log chapter 3.4 (Improve): who listens is asked once, not at each stream of the app's log",
    },
    Difference {
        scenes: &["17"],
        lane: LISTENERS,
        change: Change::Add(r#"MATCH ["reswarm.logs.c6aa09d3-3dbd-4830-a230-bf75cdd7f149.prod_506_demo"]"#),
        why: "log chapter 3.4 (Improve): the set of subscriptions, prefixes included, is known only by asking",
    },
    Difference {
        scenes: &["18"],
        lane: LISTENERS,
        change: Change::Add(r#"MATCH ["reswarm.logs.c6aa09d3-3dbd-4830-a230-bf75cdd7f149.prod_505_demo"]"#),
        why: "log chapter 3.4 (Improve): the set of subscriptions, prefixes included, is known only by asking",
    },
    // Registry tokens.
    Difference {
        scenes: &["07", "08", "10", "15", "20", "25", "26", "31"],
        lane: CALLS,
        change: Change::Drop(&[TOKEN]),
        why: "apps chapter 4.6 (Improve): a token is fetched for what talks to a registry only",
    },
    Difference {
        scenes: &["09", "16", "17", "18"],
        lane: CALLS,
        change: Change::Only(TOKEN, 1),
        why: "apps chapter 4.6 (Improve): only the download needs a token, the start and the removal do not",
    },
    Difference {
        scenes: &["04", "16", "17", "18"],
        lane: CALLS,
        change: Change::Later(TOKEN, r#""STARTING""#),
        why: "apps chapter 4.6 (Improve): lazily, so the state is reported first",
    },
    Difference {
        scenes: &["19", "21", "22"],
        lane: CALLS,
        change: Change::Later(TOKEN, r#""REMOVED""#),
        why: "apps chapter 4.6 (Improve): lazily, so the state is reported first",
    },
    Difference {
        scenes: &["23"],
        lane: CALLS,
        change: Change::Later(TOKEN, r#""DOWNLOADING""#),
        why: "apps chapter 4.6 (Improve): lazily, so the state is reported first",
    },
    Difference {
        scenes: &["09"],
        lane: CALLS,
        change: Change::Later(TOKEN, r#""UPDATING""#),
        why: "apps chapter 4.6 (Improve): lazily, so the state is reported first",
    },
    // Port reports.
    Difference {
        scenes: &["04", "23", "31"],
        lane: CALLS,
        change: Change::DropNth(PORTS, 0),
        why: "apps chapter 4.4 (Improve): no report of what the backend has said itself",
    },
    Difference {
        scenes: &["07", "08", "09", "25", "26"],
        lane: CALLS,
        change: Change::Only(PORTS, 1),
        why: "apps chapter 4.4 (Improve): no report of what was reported before",
    },
    Difference {
        scenes: &["16"],
        lane: CALLS,
        change: Change::DropNth(PORTS, 1),
        why: "apps chapter 4.4 (Improve): no report of what was reported before",
    },
    // States.
    Difference {
        scenes: &["04", "16", "18"],
        lane: CALLS,
        change: Change::Repeat(r#""STARTING""#, r#""PRESENT""#),
        why: "apps chapter 3.0 (Improve): STARTING is repeated after PRESENT",
    },
    Difference {
        scenes: &["16"],
        lane: CALLS,
        change: Change::Replace("serial_number", r#""updateStatus":"completed""#, r#""updateStatus":"""#),
        why: "apps chapter 1.1 (Improve): a removed app is forgotten, its update with it",
    },
    Difference {
        scenes: &["16"],
        lane: CALLS,
        change: Change::Replace("serial_number", r#""release_key":101"#, r#""release_key":100"#),
        why: "apps chapter 1.1 (Improve): a removed app is forgotten; the new request names release 100",
    },
    Difference {
        scenes: &["09"],
        lane: CALLS,
        change: Change::Drop(&[r#""STARTING""#]),
        why: "decision 30: the new release was started on trial, while the app was still UPDATING",
    },
    Difference { scenes: &["26"], lane: CALLS, change: Change::Only(r#""DELETING""#, 1), why: FOR_EVER },
    Difference { scenes: &["26"], lane: CALLS, change: Change::Only(r#""FAILED""#, 1), why: FOR_EVER },
    Difference { scenes: &["26"], lane: CALLS, change: Change::Replace("FAILED", "FAILED", "REMOVED"), why: FOR_EVER },
    Difference { scenes: &["26"], lane: CALLS, change: Change::Repeat("REMOVED", "REMOVED"), why: FOR_EVER },
    Difference {
        scenes: &["26"],
        lane: CALLS,
        change: Change::ReplaceLast("REMOVED", "REMOVED", "UNINSTALLED"),
        why: FOR_EVER,
    },
    // Lists.
    Difference {
        scenes: &["05", "24"],
        lane: CALLS,
        change: Change::Replace("YIELD", r#""GwPriority":"<number>","#, ""),
        why: "apps chapter 6.3: the engine's list as it is; version 20.10 has no such key, the older agent added it",
    },
    Difference {
        scenes: &["05", "24"],
        lane: CALLS,
        change: Change::Replace("YIELD", r#""DNSNames":null,"#, ""),
        why: "apps chapter 6.3: the engine's list as it is; version 20.10 has no such key, the older agent added it",
    },
    // The user's log.
    Difference {
        scenes: &["09"],
        lane: LOG,
        change: Change::After(TEXT, 0, PROGRESS),
        why: "log chapter 3.6 (Improve): the progress of a pull is heard although the container's log was followed before",
    },
    Difference {
        scenes: &["16"],
        lane: LOG,
        change: Change::After(TEXT, 1, PROGRESS),
        why: "log chapter 3.6 (Improve): the progress of a pull is heard although the container's log was followed before",
    },
    Difference {
        scenes: &["17"],
        lane: LOG,
        change: Change::After(TEXT, 2, TEXT),
        why: "apps chapter 5.8 (Improve): the next attempt after a failed action is announced, too",
    },
    Difference {
        scenes: &["26"],
        lane: LOG,
        change: Change::Only(TEXT, 2),
        why: "apps chapter 3.9 (Improve): one attempt is enough; its end is told",
    },
    // Tunnels.
    Difference {
        scenes: &["04", "07", "08", "09", "10"],
        lane: TOPICS,
        change: Change::Only(PUSH, 1),
        why: "apps chapter 4.4: without tunnels step 9 is left out, what 5.3 says at the end of a request stays",
    },
    Difference {
        scenes: &["15", "16", "17", "18", "26"],
        lane: TOPICS,
        change: Change::Add(PUSH),
        why: "apps chapter 3.10 (Improve): a row that is gone is a normal end, and the tunnels are told",
    },
];
