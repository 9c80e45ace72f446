//! Numbers and requests as callers of all kinds send them.

use super::cases;
use super::generator::Random;
use reagent::domain::compose::{self, Dialect};
use reagent::domain::number::{digits, lenient, uint};
use reagent::domain::request::Request;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// What counts as a number, by its decimal digits instead of by arithmetic.
fn reference(value: &Value) -> Option<u64> {
    let Value::Number(number) = value else { return None };
    if number.is_u64() {
        return number.to_string().parse().ok();
    }
    // `Display` of a float has all its digits and no exponent.
    let text = number.as_f64().map(|float| format!("{float}")).unwrap_or_default();
    let text = if text == "-0" { "0" } else { text.as_str() };
    let whole = !text.is_empty() && text.len() <= 16 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|&number| whole && number <= 1 << 53)
}

#[test]
fn d6_numbers_are_those_of_a_slow_reference() {
    cases(20_000, |random, case| {
        let value = match random.below(4) {
            0 => random.json(1),
            1 => serde_json::from_str(&number_text(random)).unwrap_or(Value::Null),
            2 => json!(number_text(random)),
            _ => random.number(),
        };
        case.note(&value);
        let expected = reference(&value);
        assert_eq!(uint(&value), expected);
        let of_text = value.as_str().and_then(|text| {
            let is_decimal = !text.is_empty() && text.chars().all(|char| "0123456789".contains(char));
            text.parse::<u128>().ok().filter(|number| is_decimal && *number <= u128::from(u64::MAX))
        });
        assert_eq!(lenient(&value).map(u128::from), expected.map(u128::from).or(of_text));
        assert_eq!(value.as_str().and_then(digits).map(u128::from), of_text);
    });
}

/// Digits with what may stand between them.
fn number_text(random: &mut Random) -> String {
    let mut text = String::new();
    for _ in 0..1 + random.below(6) {
        text.push_str(random.pick(&[
            "0",
            "1",
            "9",
            "25",
            "18446744073709551615",
            ".",
            "e",
            "-",
            "+",
            " ",
            "00",
            "٣",
            "_",
        ]));
    }
    text
}

const KEYS: &[&str] = &[
    "app_key",
    "app_name",
    "stage",
    "target_state",
    "manually_requested_state",
    "current_state",
    "state",
    "requestor_account_key",
    "account_id",
    "device_owner_account_key",
    "instance_key",
    "app_cred_epoch",
    "release_key",
    "new_release_key",
    "version",
    "newest_version",
    "present_version",
    "request_update",
    "cancel_transition",
    "environment",
    "environment_template",
    "ports",
    "docker_compose",
    "new_docker_compose",
    "docker_credentials",
];

/// A good request of which some members are replaced or removed.
fn request(random: &mut Random) -> Map<String, Value> {
    let mut good = json!({
        "app_key": 7, "app_name": "demo", "stage": "DEV", "target_state": "RUNNING", "current_state": "PRESENT",
        "requestor_account_key": "5", "environment": {"A": {"value": 1}}, "ports": [{"port": 80}],
        "docker_credentials": {"r": {"username": "u", "password": "hunter2"}}, "docker_compose": {"services": {"a": {}}},
    });
    let mut map = good.as_object_mut().map(std::mem::take).unwrap_or_default();
    for _ in 0..random.below(4) {
        let key = random.pick(KEYS);
        if random.once_in(4) {
            map.remove(key);
        } else {
            let value = if random.once_in(4) { json!(random.pick(KEYS)) } else { random.json(3) };
            map.insert((*key).to_owned(), value);
        }
    }
    map
}

#[test]
fn p2_no_request_panics_and_an_accepted_one_has_an_identity() {
    let accepted = std::cell::Cell::new((0, 0));
    cases(6000, |random, case| {
        let map = if random.once_in(10) { random.map(3) } else { request(random) };
        case.note(&map);
        let called = Request::from_kwargs(&map);
        let synced = Request::from_sync(&Value::Object(map));
        for request in [&called, &synced].into_iter().flatten() {
            assert!(request.app_key != 0 && !request.app_name.is_empty());
            let _ = (request.id(), request.is_compose(), request.wants_update_from("1"), request.token_account());
            assert!(!format!("{request:?}").contains("hunter2"), "a password is shown");
        }
        for error in [&called, &synced].into_iter().filter_map(|result| result.as_ref().err()) {
            assert!(!error.is_empty());
        }
        let (from_call, from_sync) = accepted.get();
        accepted.set((from_call + u32::from(called.is_ok()), from_sync + u32::from(synced.is_ok())));
        let any = random.json(3);
        case.note(&any);
        let _ = Request::from_sync(&any);
    });
    assert!(accepted.get().0 > 0 && accepted.get().1 > 0, "nothing was ever accepted");
}

/// What stands in a service, and forms that each of it has.
fn service(random: &mut Random) -> Value {
    let mut service = Map::new();
    for key in [
        "ports",
        "volumes",
        "extra_hosts",
        "environment",
        "network_mode",
        "image",
        "build",
        "x-source-image",
        "env_file",
    ] {
        let value = match random.below(6) {
            0 => continue,
            1 => random.json(3),
            2 => {
                json!([80, "8080:80", "1-2:1-2", {"target": 80, "published": 8080}, {"target": "$X"}, null, "53:53/udp", "[::1]:1:1"])
            }
            3 => json!({"APP_AUTH_ID": 1, "host.docker.internal": "x"}),
            4 => json!(["host", "service:a", "r/web:1", "", "80"][random.below(5)]),
            _ => {
                json!([random.text(12), random.number(), format!("{}:{}", random.below(70_000), random.below(70_000))])
            }
        };
        service.insert(key.to_owned(), value);
    }
    Value::Object(service)
}

#[test]
fn p2_no_definition_panics_and_what_is_not_managed_stays() {
    let managed = std::cell::Cell::new(0);
    cases(3000, |random, case| {
        let mut definition = json!({"services": {"a": service(random), "b": service(random)}});
        if random.once_in(8) {
            definition = random.json(3);
        }
        case.note(&definition);
        let Ok(entries) = compose::ports(&definition) else {
            assert!(compose::generate(&definition, "p", &[]).is_err() && compose::images(&definition).is_err());
            return;
        };
        let _ = (compose::built(&definition), compose::sources(&definition), compose::has_host_networking(&definition));
        let _ = compose::missing(&compose::images(&definition).unwrap_or_default(), &[random.text(9)]);
        let chosen = entries.iter().filter(|entry| entry.is_managed());
        let bindings: Vec<_> = chosen.zip(40_000..).map(|(entry, port)| entry.binding(port, false)).collect();
        managed.set(managed.get() + bindings.len());
        let mut made =
            compose::generate(&definition, "p", &bindings).unwrap_or_else(|error| panic!("{error}")).definition;
        for entry in &entries {
            let place = format!("/services/{}/ports/{}", entry.service, entry.index);
            let (before, after) = (definition.pointer(&place), made.pointer(&place));
            assert_eq!(before == after, !entry.is_managed(), "{place}");
        }
        assert_eq!(made["name"], "p");
        compose::mount_environment(&mut made, &random.text(9));
        compose::for_version_1(&mut made);
        assert_eq!(made.get("name"), None);
    });
    assert!(managed.get() > 0, "nothing was ever managed");
}

#[test]
fn x2_an_environment_file_has_one_line_per_variable() {
    cases(3000, |random, case| {
        let variables: BTreeMap<String, String> = (0..5).map(|n| (format!("K{n}"), random.text(12))).collect();
        case.note(&variables);
        for dialect in [Dialect::V1, Dialect::V2] {
            let (text, skipped) = compose::dotenv(&variables, dialect);
            assert_eq!((text.lines().count(), skipped.len()), (5, 0));
            assert!(text.lines().zip(variables.keys()).all(|(line, name)| line.starts_with(&format!("{name}="))));
        }
    });
}
