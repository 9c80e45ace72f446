//! The process is killed in the middle of its commits, again and again.

use super::*;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

const PATH: &str = "REAGENT_TEST_CRASH_DB";
const ROUNDS: u64 = 12;

/// The writer; killed also if the test fails.
struct Writer(Child);

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One turn: a request, the state that follows, its report, and a count, all of them with the same number.
fn turn(number: u64) -> [Write; 5] {
    let version = number.to_string();
    let state = if number.is_multiple_of(2) { "RUNNING" } else { "STARTING" };
    let Write::AppState { app_key, stage, app_name, release_key, update_status, requested_state, at, .. } =
        reach(1, state)
    else {
        unreachable!()
    };
    let row = RequestedRow { newest_version: version.clone(), current_state: String::new(), ..request(1) };
    [
        put_request(&row),
        Write::AppState {
            app_key,
            stage,
            app_name,
            version: version.clone(),
            release_key,
            state: state.to_owned(),
            update_status,
            requested_state,
            at,
        },
        Write::OutboxDelete { id: number - 1 },
        Write::OutboxPut {
            id: number,
            app_key: 1,
            stage: "PROD".to_owned(),
            payload: json!({"state": state, "turn": number}),
            at,
        },
        Write::Meta { key: "turn".to_owned(), value: Some(version) },
    ]
}

fn turn_of(loaded: &Loaded) -> u64 {
    loaded.meta.get("turn").map_or(0, |text| text.parse().unwrap())
}

/// Runs itself again as the writer, which commits turns and says so until it is killed.
#[test]
fn s7_after_kill_9_the_file_opens_and_state_and_request_and_report_are_of_one_turn() {
    if let Some(path) = std::env::var_os(PATH) {
        let mut store = open(Path::new(&path));
        let first = turn_of(&store.load().unwrap()) + 1;
        for number in first.. {
            commit(&mut store, &turn(number));
            println!("turn {number}");
        }
    }
    let folder = Folder::new();
    let mut last = 0;
    for round in 0..ROUNDS {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "--nocapture", "--test-threads=1"]);
        command.arg("state::store::tests::crash::s7_after_kill_9_the_file_opens_and_state_and_request_and_report_are_of_one_turn");
        let mut writer = Writer(command.env(PATH, folder.db()).stdout(Stdio::piped()).spawn().unwrap());
        // The kill falls into another place of another turn each time: as soon as a number of turns is acknowledged.
        let lines = BufReader::new(writer.0.stdout.take().unwrap()).lines();
        let acknowledged = lines
            .map_while(Result::ok)
            .filter_map(|line| line.rsplit_once("turn ")?.1.parse::<u64>().ok())
            .take(usize::try_from(1 + round * 3).unwrap())
            .last();
        drop(writer);

        let mut store = open(&folder.db());
        let check: String = store.conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(check, "ok");
        let loaded = store.load().unwrap();
        let number = turn_of(&loaded);
        assert!(Some(number) >= acknowledged && acknowledged > Some(last), "{last}, {acknowledged:?}, {number}");
        let (state, request, report) = (&loaded.states[0], &loaded.requested[0], &loaded.outbox[0]);
        assert_eq!(state.version, number.to_string());
        assert_eq!((&state.state, &state.version), (&request.current_state, &request.present_version));
        assert_eq!(request.newest_version, state.version);
        assert_eq!((&report.payload["turn"], &report.payload["state"]), (&json!(number), &json!(state.state)));
        assert_eq!((loaded.requested.len(), loaded.states.len(), loaded.outbox.len()), (1, 1, 1));
        last = number;
    }
}
