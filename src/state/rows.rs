//! Between the core's records and the rows of the store: one function in each direction and kind.

use super::store::{AppStateRow, Loaded, OutboxRow, RequestedRow, Write};
use crate::clock::Wall;
use crate::domain::app::{AppKey, AppState};
use crate::domain::message::Record;
use crate::domain::request::Request;
use crate::domain::{Recorded, RecordedApp};
use serde_json::{Map, Value};

/// The entry of `Meta` that says when a list of the backend was taken first.
const SYNCED: &str = "synced_at";

/// Begin of the entries of `Meta` that name the version of an app that did not prove itself; its key and stage follow.
const REFUSED: &str = "refused/";

/// The same for the versions that were replaced or refused, whose images are not removed yet: a list in JSON.
const SUPERSEDED: &str = "superseded/";

/// A record as a write; `None` for what is not a write of a turn.
pub fn write(record: Record, now: Wall) -> Option<Write> {
    Some(match record {
        Record::Requested { request, current } => {
            Write::Requested { row: Box::new(row_of(*request, current)), at: now }
        }
        Record::AppState { app, name, version, release_key, state, requested, at } => Write::AppState {
            app_key: app.key,
            stage: app.stage.text().to_owned(),
            app_name: name,
            version,
            release_key: release_key.cast_signed(),
            state: stored(state).to_owned(),
            update_status: String::new(),
            requested_state: stored(requested).to_owned(),
            at,
        },
        Record::Refused { app, version } => Write::Meta { key: of_app(REFUSED, app), value: version },
        Record::Superseded { app, versions } => {
            let value = (!versions.is_empty()).then(|| Value::from(versions).to_string());
            Write::Meta { key: of_app(SUPERSEDED, app), value }
        }
        Record::Delete { app } => Write::DeleteApp { app_key: app.key, stage: app.stage.text().to_owned() },
        Record::OutboxPut { id, app, payload, at } => {
            Write::OutboxPut { id, app_key: app.key, stage: app.stage.text().to_owned(), payload, at }
        }
        Record::OutboxDelete { id } => Write::OutboxDelete { id },
        Record::LogHistory { app, name, lines } => {
            Write::LogHistory { app_name: name, app_key: app.key, stage: app.stage.text().to_owned(), lines }
        }
        Record::Meta { key, value } => Write::Meta { key, value: Some(value) },
        Record::Trim => return None,
    })
}

/// STOPPED is not in the schema's list; it means PRESENT.
fn stored(state: AppState) -> &'static str {
    if state == AppState::Stopped { AppState::Present.text() } else { state.text() }
}

fn row_of(request: Request, current: AppState) -> RequestedRow {
    RequestedRow {
        app_name: request.app_name,
        app_key: request.app_key,
        stage: request.stage.text().to_owned(),
        version: request.version,
        present_version: request.present_version,
        newest_version: request.newest_version,
        environment_variables: Some(Value::Object(request.environment)),
        environment_template: Some(Value::Object(request.environment_template)),
        ports: Some(Value::Array(request.ports)),
        docker_compose: request.docker_compose,
        new_docker_compose: request.new_docker_compose,
        release_key: request.release_key.cast_signed(),
        new_release_key: request.new_release_key.cast_signed(),
        request_update: request.request_update,
        current_state: stored(current).to_owned(),
        manually_requested_state: stored(request.requested_state).to_owned(),
        requestor_account_key: request.requestor_account_key,
        device_owner_account_key: request.device_owner_account_key,
        app_cred_epoch: request.app_cred_epoch,
        instance_key: request.instance_key,
    }
}

/// What was loaded as the core takes it; rows that make no sense are left out and named in the second value.
pub fn recorded(loaded: Loaded) -> (Recorded, Vec<String>) {
    let mut odd = loaded.skipped;
    let mut recorded = Recorded { synced: loaded.meta.contains_key(SYNCED), ..Recorded::default() };
    let meta = || loaded.meta.iter();
    recorded.refused = meta().filter_map(|(key, version)| Some((app_in(REFUSED, key)?, version.clone()))).collect();
    let versions = |text: &str| serde_json::from_str(text).ok();
    recorded.superseded = meta().filter_map(|(key, text)| Some((app_in(SUPERSEDED, key)?, versions(text)?))).collect();
    for row in loaded.states {
        match app_of(row) {
            Ok(app) => recorded.apps.push(app),
            Err(error) => odd.push(error),
        }
    }
    for row in loaded.requested {
        match request_of(row) {
            Ok(request) => recorded.requests.push(request),
            Err(error) => odd.push(error),
        }
    }
    for OutboxRow { id, app_key, stage, payload, .. } in loaded.outbox {
        match stage.parse() {
            Ok(stage) => recorded.outbox.push((id, AppKey { key: app_key, stage }, payload)),
            Err(()) => odd.push(format!("queued report {id}: stage {stage:?}")),
        }
    }
    (recorded, odd)
}

/// The entry of `Meta` that says something of an app.
fn of_app(what: &str, app: AppKey) -> String {
    format!("{what}{}/{}", app.key, app.stage.text())
}

fn app_in(what: &str, text: &str) -> Option<AppKey> {
    let (key, stage) = text.strip_prefix(what)?.split_once('/')?;
    Some(AppKey { key: key.parse().ok()?, stage: stage.parse().ok()? })
}

fn app_of(row: AppStateRow) -> Result<RecordedApp, String> {
    let odd = |what: &str| format!("app {}: {what}", row.app_key);
    Ok(RecordedApp {
        id: AppKey { key: row.app_key, stage: row.stage.parse().map_err(|()| odd("unknown stage"))? },
        state: row.state.parse().map_err(|()| odd("unknown state"))?,
        release_key: row.release_key.cast_unsigned(),
        name: row.app_name,
        version: row.version,
    })
}

fn request_of(row: RequestedRow) -> Result<Request, String> {
    let odd = |what: &str| format!("requested state of app {}: {what}", row.app_key);
    let map = |value: Option<Value>| match value {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    };
    Ok(Request {
        stage: row.stage.parse().map_err(|()| odd("unknown stage"))?,
        requested_state: row.manually_requested_state.parse().map_err(|()| odd("unknown state"))?,
        current_state: row.current_state.parse().ok(),
        app_key: row.app_key,
        app_name: row.app_name,
        requestor_account_key: row.requestor_account_key,
        device_owner_account_key: row.device_owner_account_key,
        instance_key: row.instance_key,
        app_cred_epoch: row.app_cred_epoch,
        environment: map(row.environment_variables),
        environment_template: map(row.environment_template),
        docker_compose: row.docker_compose,
        new_docker_compose: row.new_docker_compose,
        ports: match row.ports {
            Some(Value::Array(ports)) => ports,
            _ => Vec::new(),
        },
        version: row.version,
        present_version: row.present_version,
        newest_version: row.newest_version,
        release_key: row.release_key.cast_unsigned(),
        new_release_key: row.new_release_key.cast_unsigned(),
        request_update: row.request_update,
        ..Request::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::app::Stage;
    use serde_json::json;

    #[test]
    fn a_request_survives_the_store_but_for_what_is_never_stored() {
        let request = Request {
            app_key: 7,
            app_name: "Demo".to_owned(),
            requested_state: AppState::Running,
            current_state: Some(AppState::Present),
            environment: json!({"A": {"value": 1}}).as_object().cloned().unwrap(),
            ports: vec![json!({"port": 80})],
            app_cred_epoch: 3,
            instance_key: 4,
            release_key: u64::MAX,
            request_update: true,
            cancel_transition: false,
            ..Request::default()
        };
        assert_eq!(request_of(row_of(request.clone(), AppState::Present)).unwrap(), request);
    }

    #[test]
    fn rows_that_make_no_sense_are_named_and_the_others_taken() {
        let row = |stage: &str, state: &str| AppStateRow {
            app_name: "a".to_owned(),
            app_key: 1,
            stage: stage.to_owned(),
            state: state.to_owned(),
            ..AppStateRow::default()
        };
        let loaded = Loaded {
            states: vec![row("PROD", "RUNNING"), row("TEST", "RUNNING"), row("DEV", "FLYING")],
            meta: [
                ("synced_at", "x"),
                ("refused/1/PROD", "2.0.0"),
                ("superseded/1/PROD", r#"["1.0.0","a\nb"]"#),
                ("superseded/2/PROD", "no list"),
                ("superseded/1/TEST", "[]"),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
            ..Loaded::default()
        };
        let (recorded, odd) = recorded(loaded);
        assert_eq!(recorded.apps.len(), 1);
        assert_eq!(recorded.apps[0].id, AppKey { key: 1, stage: Stage::Prod });
        assert!(recorded.synced);
        let id = recorded.apps[0].id;
        assert_eq!(recorded.refused, [(id, "2.0.0".to_owned())]);
        let versions = vec!["1.0.0".to_owned(), "a\nb".to_owned()];
        assert_eq!(recorded.superseded, [(id, versions.clone())]);
        let wrote = |versions| write(Record::Superseded { app: id, versions }, Wall::default());
        let entry = |value| Some(Write::Meta { key: "superseded/1/PROD".to_owned(), value });
        assert_eq!(wrote(versions), entry(Some(r#"["1.0.0","a\nb"]"#.to_owned())));
        assert_eq!(wrote(Vec::new()), entry(None));
        assert_eq!(odd.len(), 2);
    }

    #[test]
    fn stopped_is_stored_as_present() {
        assert_eq!(
            row_of(Request { requested_state: AppState::Stopped, ..Request::default() }, AppState::Stopped)
                .current_state,
            "PRESENT"
        );
    }
}
