//! The log of a compose project with a real Engine: containers that carry compose's labels, made without compose.

use super::Docker;
use crate::logs::Hub;

const APP: &str = "logs_7310_shop";
const PROJECT: &str = "logs_7310_shop_compose";

/// Makes and starts a container of a service, which runs a script.
#[track_caller]
fn run(docker: &Docker, service: &str, more: &[&str], script: &str) -> String {
    let name = format!("{PROJECT}-{service}-1");
    let labels = [
        format!("com.docker.compose.project={PROJECT}"),
        format!("com.docker.compose.service={service}"),
        "com.docker.compose.container-number=1".to_owned(),
        "com.docker.compose.oneoff=False".to_owned(),
    ];
    let mut args = vec!["run", "-d", "--name", &name, "--network", "none"];
    labels.iter().for_each(|label| args.extend(["--label", label]));
    args.extend(more);
    args.extend(["busybox:local", "sh", "-c", script]);
    docker.run(&args);
    name
}

#[test]
fn d5_a_project_is_followed_over_rotation_stops_and_starts_without_a_lost_or_doubled_line() {
    let mut docker = Docker::shared();
    docker.own_containers(PROJECT);
    let hub = Hub::of(reagent::docker::Docker::from_env().expect("the engine of the CLI"));
    // One line after the other on both pipes, in bursts of ten.
    let count = "n=0; while [ $n -lt 1000 ]; do n=$((n+1)); echo out $n; n=$((n+1)); echo err $n >&2; \
                 [ $((n % 10)) = 0 ] && sleep 0.02; done; sleep 0.5; echo done; while true; do sleep 1; done";
    let rotated = ["--log-opt", "max-size=20k", "--log-opt", "max-file=3"];
    let web = run(&docker, "web", &rotated, count);
    let worker = run(&docker, "worker", &["-t"], "echo worker ready; while [ ! -e /go ]; do sleep 0.1; done; exit 3");
    hub.follow(APP, PROJECT);
    let lines = hub.lines_until("web-1     | done");
    let of_web: Vec<&String> = lines.iter().filter(|line| line.starts_with("web-1     | ")).collect();
    let number = |line: &str| line.rsplit(' ').next().and_then(|n| n.parse::<usize>().ok()).expect("a number");
    // The Engine reads the pipes side by side: each is in order.
    for (pipe, odd) in [("out", 1), ("err", 0)] {
        let heard: Vec<usize> = of_web.iter().filter(|line| line.contains(pipe)).map(|line| number(line)).collect();
        let written: Vec<usize> = (heard[0]..=1000).filter(|n| n % 2 == odd).collect();
        assert_eq!(heard, written, "{pipe}");
    }
    assert_eq!(lines.iter().filter(|line| *line == "worker-1  | worker ready").count(), 1, "{lines:?}");

    docker.run(&["exec", &worker, "touch", "/go"]);
    assert_eq!(hub.lines_until("worker-1 exited with code 3"), ["worker-1 exited with code 3"]);
    docker.run(&["start", &worker]);
    hub.follow(APP, PROJECT);
    let again = ["worker-1  | worker ready", "worker-1 exited with code 3"];
    assert_eq!(hub.lines_until(again[1]), again, "its file is still there");

    // A shell as first process ignores SIGTERM.
    docker.run(&["stop", "-t", "1", &web]);
    assert_eq!(hub.lines_until("web-1 exited with code 137"), ["web-1 exited with code 137"]);
    docker.run(&["rm", "-f", &web, &worker]);
    let web = run(&docker, "web", &[], "echo anew; while [ ! -e /go ]; do sleep 0.1; done");
    hub.follow(APP, PROJECT);
    assert_eq!(hub.lines_until("web-1  | anew"), ["web-1  | anew"], "another container of the same name");
    // One that is removed as it ends may be gone before its exit code was asked for.
    docker.run(&["kill", &web]);
    let last = hub.lines_until("web-1 exited with code 137");
    assert_eq!(last.len(), 1);
    let history = hub.history(APP);
    assert_eq!(history[history.len() - 2..], ["web-1  | anew", "web-1 exited with code 137"]);
}
