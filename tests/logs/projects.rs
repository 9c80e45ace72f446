//! Compose projects: who is followed, what viewers get, and what is left when it ends.

use super::*;
use crate::util::docker_daemon::Fault;
use reagent::domain::names;

const APP: &str = "prod_900101_shop";
const PROJECT: &str = "prod_900101_shop_compose";

/// A container of a service, as compose makes it; it does not run yet.
fn add(daemon: &DockerDaemon, project: &str, service: &str, more: &Value) -> String {
    let name = format!("{project}-{service}-1");
    let labels = json!({
        "com.docker.compose.project": project, "com.docker.compose.service": service,
        "com.docker.compose.container-number": "1", "com.docker.compose.oneoff": "False",
    });
    let mut spec = json!({"Image": service, "Labels": labels});
    for (key, value) in more.as_object().into_iter().flatten() {
        match value.as_object() {
            Some(labels) => spec[key].as_object_mut().expect("labels").extend(labels.clone()),
            None => spec[key] = value.clone(),
        }
    }
    daemon.add_container(&name, &spec);
    name
}

/// A project whose services run, and a hub.
struct Shop {
    hub: Hub,
    daemon: DockerDaemon,
    docker: Docker,
}

impl Shop {
    fn with(services: &[&str]) -> Shop {
        let daemon = DockerDaemon::start();
        let docker = Docker::at(Address::from_setting(&daemon.host(), "").expect("the daemon has an address"));
        let shop = Shop { hub: Hub::with(&daemon), daemon, docker };
        services.iter().for_each(|service| shop.run(service));
        shop
    }

    fn run(&self, service: &str) {
        let name = add(&self.daemon, PROJECT, service, &json!({}));
        self.docker.start_container(&name).expect("it starts");
    }

    fn write(&self, service: &str, source: u8, line: &str) {
        self.daemon.write_log(&name(service), source, line);
    }

    fn follow(&self) {
        self.hub.follow(APP, PROJECT);
    }
}

fn name(service: &str) -> String {
    format!("{PROJECT}-{service}-1")
}

#[test]
fn viewers_get_what_compose_would_print_and_the_end_of_each_container() {
    let shop = Shop::with(&["web", "side"]);
    let tty = add(&shop.daemon, PROJECT, "tty", &json!({"Tty": true}));
    shop.docker.start_container(&tty).expect("it starts");
    shop.follow();
    wait_for_connections(&shop.daemon, 3);
    for (source, line) in [(1, "out"), (2, "err"), (1, ""), (1, "\u{1b}[31mred\u{1b}[0m\tü")] {
        shop.write("web", source, line);
    }
    let lines = shop.hub.lines_until("web-1   | \u{1b}[31mred\u{1b}[0m\tü");
    assert_eq!(lines, ["web-1   | out", "web-1   | err", "web-1   | ", "web-1   | \u{1b}[31mred\u{1b}[0m\tü"]);
    shop.write("tty", 1, "without its carriage return");
    assert_eq!(shop.hub.lines_until("tty-1   | without its carriage return").len(), 1);
    shop.write("web", 1, "last words");
    shop.daemon.exit_container(&name("web"), 137);
    let lines = shop.hub.lines_until("web-1 exited with code 137");
    assert_eq!(lines, ["web-1   | last words", "web-1 exited with code 137"]);
    shop.daemon.exit_container(&name("side"), 0);
    assert_eq!(shop.hub.lines_until("side-1 exited with code 0"), ["side-1 exited with code 0"]);
    assert_eq!(shop.hub.history(APP).last().map(String::as_str), Some("side-1 exited with code 0"));
}

#[test]
fn a_container_that_is_started_later_joins_and_the_others_go_on_undisturbed() {
    let shop = Shop::with(&["web"]);
    shop.follow();
    shop.write("web", 1, "one");
    assert_eq!(shop.hub.lines_until("web-1  | one"), ["web-1  | one"]);
    shop.run("worker");
    shop.write("worker", 1, "first words");
    for _ in 0..5 {
        // One for each start, and one with each resync.
        shop.follow();
    }
    assert_eq!(shop.hub.lines_until("worker-1  | first words"), ["worker-1  | first words"]);
    shop.write("web", 1, "two");
    assert_eq!(shop.hub.lines_until("web-1     | two"), ["web-1     | two"]);
    shop.daemon.exit_container(&name("worker"), 3);
    shop.hub.lines_until("worker-1 exited with code 3");
    shop.docker.start_container(&name("worker")).expect("it starts again");
    shop.write("worker", 1, "again");
    shop.follow();
    assert_eq!(shop.hub.lines_until("worker-1  | again"), ["worker-1  | again"]);
    let opened = |service: &str| {
        let of_log = |asked: &&crate::util::docker_daemon::Request| {
            asked.path == format!("/containers/{}/logs", name(service)) && asked.query("follow") == "1"
        };
        shop.daemon.requests().iter().filter(of_log).count()
    };
    assert_eq!(opened("web"), 1, "one stream for all of it");
}

#[test]
fn the_first_look_shows_the_last_hundred_lines_of_the_project_in_the_order_of_time() {
    let shop = Shop::with(&["web", "side", "early"]);
    shop.write("early", 1, "long ago");
    let mut expected = Vec::new();
    for n in 0..70 {
        shop.write("web", 1, &format!("web {n}"));
        shop.write("side", 2, &format!("side {n}"));
        expected.extend([format!("web-1    | web {n}"), format!("side-1   | side {n}")]);
    }
    shop.write("early", 1, "and for the last time");
    expected.push("early-1  | and for the last time".to_owned());
    shop.daemon.exit_container(&name("early"), 0);
    let lines = vec!["of an earlier run".to_owned()];
    shop.hub.handle.send(LogCommand::Restore { container: APP.to_owned(), lines });
    shop.follow();
    let lines = shop.hub.lines_until("early-1  | and for the last time");
    assert_eq!(lines, expected[expected.len() - 100..]);
    assert_eq!(shop.hub.history(APP), lines, "what was restored gives way");
    wait_for_connections(&shop.daemon, 2);
    shop.write("web", 1, "live");
    assert_eq!(shop.hub.lines_until("web-1    | live"), ["web-1    | live"], "nothing comes twice");
}

#[test]
fn d4_after_an_outage_of_the_engine_lines_go_on_without_doubles() {
    let shop = Shop::with(&["web", "side"]);
    shop.follow();
    wait_for_connections(&shop.daemon, 2);
    shop.write("web", 1, "before");
    shop.hub.lines_until("web-1   | before");
    shop.daemon.restart();
    shop.write("web", 1, "after");
    shop.write("side", 1, "too");
    // As the core does when the engine is back.
    shop.follow();
    let mut lines = shop.hub.lines_until("web-1   | after");
    if lines.len() == 1 {
        lines.extend(shop.hub.lines_until("side-1  | too"));
    }
    lines.sort();
    assert_eq!(lines, ["side-1  | too", "web-1   | after"]);
}

#[test]
fn containers_of_other_projects_and_of_single_commands_are_left_alone() {
    let shop = Shop::with(&["web"]);
    let one_off = json!({"Labels": {"com.docker.compose.oneoff": "True"}});
    for (project, service, more) in [("prod_900102_shop_compose", "web", json!({})), (PROJECT, "command", one_off)] {
        let name = add(&shop.daemon, project, service, &more);
        shop.docker.start_container(&name).expect("it starts");
        shop.daemon.write_log(&name, 1, "of somebody else");
    }
    shop.follow();
    shop.write("web", 1, "mine");
    assert_eq!(shop.hub.lines_until("web-1  | mine"), ["web-1  | mine"]);
    assert_eq!(shop.daemon.connections(), 1);
}

#[test]
fn of_forty_containers_thirty_two_are_followed_those_that_run_first() {
    let shop = Shop::with(&[]);
    for n in 0..40 {
        let service = format!("s{n:02}");
        if n % 8 == 0 {
            add(&shop.daemon, PROJECT, &service, &json!({}));
        } else {
            shop.run(&service);
        }
    }
    shop.follow();
    let told = "… 8 more container(s) of the project are not followed (at most 32 are)";
    assert_eq!(shop.hub.lines_until(told), [told]);
    wait_for_connections(&shop.daemon, 32);
    shop.follow();
    shop.write("s01", 1, "still");
    assert_eq!(shop.hub.lines_until("s01-1  | still"), ["s01-1  | still"], "told once");
    shop.hub.unfollow(APP);
    wait_for_connections(&shop.daemon, 0);
}

#[test]
fn s1_a_thousand_starts_and_stops_of_a_service_leave_no_thread_and_no_connection() {
    let shop = Shop::with(&["steady"]);
    shop.follow();
    wait_for_connections(&shop.daemon, 1);
    // In the history at once, while viewers get their lines five times a second.
    let heard = |line: &str| wait_until(LIMIT, line, || shop.hub.history(APP).pop().filter(|last| last == line));
    for n in 0..1000 {
        shop.run("brief");
        shop.follow();
        shop.write("brief", 1, &n.to_string());
        heard(&format!("brief-1   | {n}"));
        if n % 2 == 0 {
            shop.daemon.exit_container(&name("brief"), 1);
            heard("brief-1 exited with code 1");
            shop.daemon.remove_container(&name("brief"));
        } else {
            shop.daemon.remove_container(&name("brief"));
            // Nobody can ask for its code any more.
            heard("brief-1 exited");
        }
    }
    wait_for_connections(&shop.daemon, 1);
    // The kernel shows 15 bytes of a name; those of the service that is left begin alike.
    wait_until(LIMIT, "one follower", || (threads("log-prod_900101") == 1).then_some(()));
    shop.hub.handle.send(LogCommand::Forget { container: APP.to_owned() });
    wait_for_connections(&shop.daemon, 0);
    wait_until(LIMIT, "no follower", || (threads("log-prod_900101") == 0).then_some(()));
    assert_eq!(shop.hub.history(APP), Vec::<String>::new());
}

#[test]
fn s8_an_engine_that_hangs_at_any_call_holds_neither_unfollow_nor_the_end_of_the_hub() {
    for route in ["GET /containers/json", "GET /containers/*/json", "GET /containers/*/logs"] {
        let shop = Shop::with(&["web"]);
        shop.daemon.fault(route, Fault::Hang);
        shop.follow();
        shop.daemon.wait_for_request(route, 1);
        shop.hub.unfollow(APP);
        wait_for_connections(&shop.daemon, 0);
        let before = shop.daemon.requests().len();
        shop.follow();
        shop.daemon.wait_for_request_after(route, before);
        assert_eq!(shop.hub.stop(), Exit::Done);
        wait_for_connections(&shop.daemon, 0);
    }
}

#[test]
fn a_log_that_cannot_be_read_does_not_hide_the_others() {
    let shop = Shop::with(&["web", "mute"]);
    let text = "configured logging driver does not support reading".to_owned();
    shop.daemon.fault(&format!("GET /containers/{}/logs", name("mute")), Fault::Status(501, text.clone()));
    let mute = shop.daemon.container_id(&name("mute")).expect("it is there");
    shop.daemon.fault(&format!("GET /containers/{mute}/logs"), Fault::Status(501, text));
    shop.write("web", 1, "heard");
    shop.follow();
    assert_eq!(shop.hub.lines_until("web-1   | heard"), ["web-1   | heard"]);
}

#[test]
fn the_name_of_a_project_is_that_of_its_label() {
    use reagent::domain::app::{AppKey, Stage};
    let app = AppKey { key: 900_101, stage: Stage::Prod };
    assert_eq!((names::container(app, "Shop").as_str(), names::project(app, "Shop").as_str()), (APP, PROJECT));
}
