//! Tests of the definition's reading and making; those of ports, environment file and containers are beside their code.

use super::super::ports::Protocol;
use super::*;

fn binding(service: &str, declared: u16, port: u16, host_port: u16) -> Binding {
    Binding { service: service.to_owned(), declared, port, protocol: Protocol::Tcp, host_port, fresh: false }
}

/// The one service of a generated definition.
fn made(service: Value, bindings: &[Binding]) -> Value {
    generate(&json!({"services": {"web": service}}), "p", bindings).unwrap().definition["services"]["web"].clone()
}

#[test]
fn services_are_an_object_of_objects() {
    for (definition, part) in [
        (json!({}), "no services"),
        (json!({"services": null}), "no services"),
        (json!({"services": []}), "no services"),
        (json!("text"), "no services"),
        (json!({"services": {"web": "x"}}), "service web"),
        (json!({"services": {"web": null}}), "service web"),
    ] {
        let texts = [
            ports(&definition).map(drop),
            images(&definition).map(drop),
            built(&definition).map(drop),
            sources(&definition).map(drop),
            generate(&definition, "p", &[]).map(drop),
        ];
        assert!(
            texts.iter().all(|text| text.as_ref().is_err_and(|text| text.contains(part))),
            "{definition}: {texts:?}"
        );
    }
    assert_eq!(ports(&json!({"services": {"web": {"ports": "80"}, "db": {}}})), Ok(Vec::new()));
}

#[test]
fn images_are_missing_by_repository_and_tag() {
    let local: Vec<String> =
        ["registry.example.com/apps/prod_amd64_12_myapp:1.0.0", "eclipse-mosquitto:2"].map(str::to_owned).into();
    let missing_of =
        |services: Value, local: &[String]| missing(&images(&json!({ "services": services })).unwrap(), local);
    let two = json!({"a": {"image": "eclipse-mosquitto:2"}, "b": {"image": "dperson/samba:latest"}});
    assert_eq!(missing_of(two.clone(), &local), ["b"]);
    assert_eq!(missing_of(two, &[]), ["a", "b"]);
    assert_eq!(missing_of(json!({"a": {"image": "eclipse-mosquitto"}}), &local), [""; 0]);
    assert_eq!(missing_of(json!({"a": {"build": "."}, "b": {"image": 5}, "c": {"image": ""}}), &local), [""; 0]);
    for (image, is_missing) in [
        ("registry.example.com/apps/prod_amd64_12_myapp:1.0.0", false),
        ("docker.io/library/eclipse-mosquitto:2", false),
        ("registry.example.com/apps/prod_amd64_12_myapp:1.0", true),
        ("apps/prod_amd64_12_myapp:1.0.0", true),
        ("mosquitto", true),
        ("eclipse-mosquitto:2@sha256:ab", true),
        ("${IMAGE}", true),
    ] {
        assert_eq!(!missing_of(json!({"a": {"image": image}}), &local).is_empty(), is_missing, "{image}");
    }
}

#[test]
fn what_is_built_and_what_is_copied_is_told() {
    let definition = json!({"services": {
        "web": {"build": ".", "image": "r/web:1"}, "db": {"image": "r/db:1", "x-source-image": "postgres:16"},
        "old": {"build": null, "x-source-image": ""},
    }});
    assert_eq!(built(&definition).unwrap(), ["web"]);
    let source = Source { service: "db".to_owned(), source: "postgres:16".to_owned(), target: "r/db:1".to_owned() };
    assert_eq!(sources(&definition).unwrap(), [source]);
    let text = sources(&json!({"services": {"db": {"x-source-image": "postgres:16"}}})).unwrap_err();
    assert!(text.contains("service db"), "{text}");
}

#[test]
fn a_definition_is_made_as_recorded() {
    let authored = json!({
        "services": {
            "web": {"image": "127.0.0.1:5000/apps/prod_amd64_700_composebase:1.0.0", "ports": ["8090:80"], "volumes": ["mydata:/keep"]},
            "side": {"image": "127.0.0.1:5000/apps/prod_amd64_700_composebase:1.0.0", "command": ["/bin/sleep", "100000"], "env_file": "own"},
        },
        "volumes": {"mydata": {}},
    });
    let before = authored.clone();
    let made = generate(&authored, "prod_701_comp_compose", &[binding("web", 8090, 80, 40_000)]).unwrap();
    let mut definition = made.definition;
    mount_environment(&mut definition, "/apps/prod/comp/env");
    let hosts = json!(["host.docker.internal:host-gateway"]);
    assert_eq!(
        definition,
        json!({
            "name": "prod_701_comp_compose",
            "services": {
                "web": {
                    "image": "127.0.0.1:5000/apps/prod_amd64_700_composebase:1.0.0", "env_file": ".env-compose", "extra_hosts": hosts,
                    "ports": ["0.0.0.0:40000:80"], "volumes": ["mydata:/keep", "/apps/prod/comp/env:/data/env:ro"],
                },
                "side": {
                    "image": "127.0.0.1:5000/apps/prod_amd64_700_composebase:1.0.0", "env_file": ".env-compose", "extra_hosts": hosts,
                    "command": ["/bin/sleep", "100000"], "volumes": ["/apps/prod/comp/env:/data/env:ro"],
                },
            },
            "volumes": {"mydata": {}},
        })
    );
    assert_eq!((authored, made.warnings), (before, Vec::new()));
}

#[test]
fn a_service_has_the_name_of_the_host_once() {
    let hosts = |given: Value| made(json!({"extra_hosts": given}), &[])["extra_hosts"].clone();
    assert_eq!(hosts(json!(["host.docker.internal:172.17.0.1"])), json!(["host.docker.internal:172.17.0.1"]));
    assert_eq!(hosts(json!(["db:10.0.0.1"])), json!(["db:10.0.0.1", "host.docker.internal:host-gateway"]));
    assert_eq!(hosts(json!({"db": "10.0.0.1"})), json!({"db": "10.0.0.1", "host.docker.internal": "host-gateway"}));
    assert_eq!(hosts(json!({"host.docker.internal": "1.2.3.4"})), json!({"host.docker.internal": "1.2.3.4"}));
    assert_eq!(hosts(json!(null)), json!(["host.docker.internal:host-gateway"]));
    for mode in ["service:db", "container:x"] {
        assert_eq!(made(json!({"network_mode": mode}), &[]).get("extra_hosts"), None, "the Engine refuses it");
    }
}

#[test]
fn the_variables_are_mounted_once() {
    let volumes = |given: Value, folder: &str| {
        let mut definition = json!({"services": {"web": {"volumes": given}}});
        mount_environment(&mut definition, folder);
        definition["services"]["web"]["volumes"].clone()
    };
    assert_eq!(volumes(json!(["mydata:/data"]), "/e"), json!(["mydata:/data", "/e:/data/env:ro"]));
    assert_eq!(volumes(json!(null), "/e"), json!(["/e:/data/env:ro"]));
    for own in [json!(["own:/data/env"]), json!([{"type": "volume", "target": "/data/env"}]), json!("odd")] {
        assert_eq!(volumes(own.clone(), "/e"), own);
    }
    assert_eq!(volumes(json!([]), "/a$b"), json!(["/a$$b:/data/env:ro"]));
    let long = json!([{"type": "bind", "source": "/a:b", "target": "/data/env", "read_only": true}]);
    assert_eq!(volumes(json!([]), "/a:b"), long);
}

#[test]
fn ports_are_rewritten_where_there_is_a_binding() {
    let given =
        json!({"ports": ["8080:80", "81", {"target": 82, "published": 8082}, "9000-9001:90-91", "8080:80/udp"]});
    let bindings = [binding("web", 8080, 80, 41_234), binding("web", 8082, 82, 41_237), binding("db", 81, 81, 41_000)];
    assert_eq!(
        made(given.clone(), &bindings)["ports"],
        json!([
            "0.0.0.0:41234:80", "81", {"target": 82, "published": "41237", "host_ip": "0.0.0.0"}, "9000-9001:90-91", "8080:80/udp",
        ])
    );
    let warnings = generate(&json!({"services": {"web": given}}), "p", &bindings).unwrap().warnings;
    assert!(
        matches!(&warnings[..], [one] if one.contains("service web") && one.contains("9000-9001:90-91")),
        "{warnings:?}"
    );
}

#[test]
fn services_in_the_network_of_the_machine_keep_their_ports() {
    let definition = json!({"services": {"web": {"network_mode": "host", "ports": ["8080:80", "1-2:1-2"]}, "db": {"ports": ["80"]}}});
    let entries = ports(&definition).unwrap();
    assert_eq!(entries.iter().map(|entry| entry.host_networking).collect::<Vec<_>>(), [false, true, true]);
    let made = generate(&definition, "p", &[binding("web", 8080, 80, 41_234)]).unwrap();
    assert_eq!(made.definition["services"]["web"]["ports"], json!(["8080:80", "1-2:1-2"]));
    assert_eq!(made.warnings, [""; 0]);
    assert!(has_host_networking(&definition) && !has_host_networking(&json!({"services": {"web": {}}})));
}

#[test]
fn of_two_entries_for_one_declared_port_the_first_is_managed() {
    let definition = json!({"services": {
        "web": {"ports": ["127.0.0.1:8080:80", "10.0.0.1:8080:80", "8080:80/udp"]}, "api": {"ports": ["8080:80"]},
    }});
    let managed: Vec<bool> = ports(&definition).unwrap().iter().map(|entry| entry.rewritable).collect();
    assert_eq!(managed, [true, true, false, true]);
}

#[test]
fn compose_1_is_given_what_it_knows() {
    let mut definition = json!({"name": "p", "services": {
        "web": {"ports": [
            "8080:80", {"target": 82, "published": "41237", "host_ip": "0.0.0.0"}, {"target": 53, "published": 53, "protocol": "udp"},
            {"target": 84, "host_ip": "127.0.0.1"}, {"target": 85}, {"target": 86, "published": "1-2"},
        ]},
        "host": {"network_mode": "host", "ports": ["80:80"]}, "none": {},
    }});
    for_version_1(&mut definition);
    assert_eq!(
        definition,
        json!({"services": {
            "web": {"ports": [
                "8080:80", "0.0.0.0:41237:82", "53:53/udp", "127.0.0.1::84", "85", {"target": 86, "published": "1-2"},
            ]},
            "host": {"network_mode": "host", "ports": []}, "none": {},
        }})
    );
}

#[test]
fn x1_a_service_cannot_hide_the_credential() {
    let authored = json!({"services": {
        "web": {"environment": {"APP_AUTH_ID": "impostor", "MINE": "1"}},
        "db": {"environment": ["APP_AUTH_SECRET=x", "APP_AUTH_ID", "APP_AUTH_IDS=1"]},
    }});
    let made = generate(&authored, "p", &[]).unwrap();
    assert_eq!(made.definition["services"]["web"]["environment"], json!({"MINE": "1"}));
    assert_eq!(made.definition["services"]["db"]["environment"], json!(["APP_AUTH_IDS=1"]));
    assert_eq!(made.warnings.len(), 3, "{:?}", made.warnings);
    assert!(!made.warnings.join(" ").contains("impostor"), "values are not told");
}
