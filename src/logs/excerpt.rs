//! A part of what the containers of an app have written, read once: of several, one list in the order of time
//! (`storage-and-logs.md` 4.1, 4.2). Blocks the calling thread, at most for the time of its [`Window`].

use crate::sorted::sort_by;
use std::collections::VecDeque;
use std::time::Duration;

use super::{project, stamp};
use crate::clock::{self, Wall};
use crate::docker::{self, Docker, Filters, LogOptions, Which};

/// A container of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The Engine's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// It runs: also while it is paused, or waits for its restart.
    pub running: bool,
    /// What compose calls it: only in a project.
    pub label: Option<String>,
}

impl Member {
    /// A container that belongs to no project.
    pub fn plain(container: &docker::Container) -> Member {
        let (id, name) = (container.id.clone(), container.name().to_owned());
        Member { id, name, running: container.state.running, label: None }
    }
}

/// Which lines are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// So many at most, the newest.
    pub tail: u32,
    /// Bytes of them at most; one line may be longer.
    pub bytes: usize,
    /// Those of this time and later.
    pub since: Option<Wall>,
    /// Those of this time and earlier.
    pub until: Option<Wall>,
    /// The Engine gets so long for everything.
    pub limit: Duration,
}

/// A line as the Engine gives it, with its stamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Which of the containers that were asked for.
    pub member: usize,
    /// When it was written; the rest of a line over 1 MiB has the stamp of its beginning.
    pub at: Option<Wall>,
    /// Stamp, blank, text.
    pub stamped: String,
}

impl Line {
    /// What the container wrote.
    pub fn text(self) -> String {
        stamp::take(self.stamped).1
    }
}

/// The containers of a project, running or not, by label: those of one-off commands left out. `name` is its normalised name.
///
/// # Errors
/// Those of the Engine's list.
pub fn members(docker: &Docker, name: &str) -> Result<Vec<Member>, docker::Error> {
    let filters = Filters::none().with("label", &format!("{}={name}", docker::labels::PROJECT));
    let listed = docker.list_containers(Which::All, &filters)?;
    let of_services = listed.iter().filter(|of| !project::is_one_off(&of.labels));
    let member = |of: &docker::ContainerSummary| Member {
        id: of.id.clone(),
        name: of.name().to_owned(),
        running: matches!(of.state.as_str(), "running" | "paused" | "restarting"),
        label: Some(project::label(of.name(), &of.labels)),
    };
    let mut members: Vec<Member> = of_services.map(member).collect();
    sort_by(&mut members, |a, b| a.label.cmp(&b.label));
    Ok(members)
}

/// The lines of a window, oldest first; those of several containers in the order of their stamps. A container that is gone,
/// or whose log the Engine cannot read, has none.
///
/// # Errors
/// [`docker::Error::Cancelled`], and that the Engine is away or takes too long.
pub fn read(docker: &Docker, members: &[Member], window: &Window) -> Result<Vec<Line>, docker::Error> {
    let mut parts = Vec::with_capacity(members.len());
    let until = clock::mono() + window.limit;
    for (member, of) in members.iter().enumerate() {
        let limit = until.saturating_sub(clock::mono());
        let docker = docker.within(docker.deadline().min(limit));
        let part = docker.inspect_container(&of.id);
        let part = part.and_then(|found| of_container(&docker, member, &found, &Window { limit, ..*window }));
        match part {
            Ok(lines) => parts.push(lines),
            Err(docker::Error::Status { .. }) => {}
            Err(error) => return Err(error),
        }
        parts = vec![merge(parts, window)];
    }
    Ok(parts.pop().unwrap_or_default())
}

/// Lines as they are shown, those of a project behind the name that compose gives their container; `text` says with or
/// without their stamps.
pub fn shown(members: &[Member], lines: Vec<Line>, text: impl Fn(Line) -> String) -> Vec<String> {
    let labels: Vec<Option<&str>> = members.iter().map(|member| member.label.as_deref()).collect();
    let width = labels.iter().flatten().map(|label| label.len()).max().unwrap_or(0);
    let show = |line: Line| match labels[line.member] {
        Some(label) => project::line(label, width, &text(line)),
        None => text(line),
    };
    lines.into_iter().map(show).collect()
}

/// The lines of one container, as [`read`] gives them.
///
/// # Errors
/// Those of the call.
pub fn of_container(
    docker: &Docker,
    member: usize,
    container: &docker::Container,
    window: &Window,
) -> Result<Vec<Line>, docker::Error> {
    let Window { tail, since, until, limit, .. } = *window;
    let deadline = clock::mono() + limit;
    let tty = container.config.tty;
    let options = LogOptions { tty, follow: false, tail: Some(tail), since, until, timestamps: true };
    let mut logs = docker.container_logs(&container.id, &options)?;
    let (mut lines, mut at) = (Bounded::new(window), None);
    while let Some(line) = logs.next_line(deadline.saturating_sub(clock::mono()))? {
        // What the Engine itself says is not the container's.
        if line.source != docker::Source::Engine {
            at = stamp::of(&line.text).or(at);
            lines.push(Line { member, at, stamped: line.text });
        }
    }
    Ok(lines.lines.into())
}

/// Several lists as one, in the order of their stamps: the newest lines of them that the window takes.
pub fn merge(parts: Vec<Vec<Line>>, window: &Window) -> Vec<Line> {
    let mut all: Vec<Line> = parts.into_iter().flatten().collect();
    // Stable: lines of one moment stay in their order.
    all.sort_by_key(|line| line.at);
    let mut lines = Bounded::new(window);
    all.into_iter().for_each(|line| lines.push(line));
    lines.lines.into()
}

/// The last lines of many.
struct Bounded {
    lines: VecDeque<Line>,
    bytes: usize,
    most: (usize, usize),
}

impl Bounded {
    fn new(window: &Window) -> Bounded {
        let tail = usize::try_from(window.tail).unwrap_or(usize::MAX);
        Bounded { lines: VecDeque::new(), bytes: 0, most: (tail, window.bytes) }
    }

    fn push(&mut self, line: Line) {
        self.bytes += line.stamped.len() + 1;
        self.lines.push_back(line);
        while self.lines.len() > self.most.0 || (self.bytes > self.most.1 && self.lines.len() > 1) {
            self.bytes -= self.lines.pop_front().map_or(0, |line| line.stamped.len() + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(member: usize, second: Option<i64>, text: &str) -> Line {
        let at = second.map(Wall::from_unix);
        let stamped = at.map_or(text.to_owned(), |at| format!("{at} {text}"));
        Line { member, at, stamped }
    }

    fn window(tail: u32, bytes: usize) -> Window {
        Window { tail, bytes, since: None, until: None, limit: Duration::ZERO }
    }

    fn texts(lines: Vec<Line>) -> Vec<String> {
        lines.into_iter().map(Line::text).collect()
    }

    fn parts() -> Vec<Vec<Line>> {
        vec![
            vec![line(0, Some(1), "a1"), line(0, Some(3), "a3"), line(0, Some(3), "rest of a3")],
            vec![line(1, Some(2), "b2"), line(1, Some(3), "b3"), line(1, Some(4), "b4")],
            vec![line(2, None, "without a stamp")],
        ]
    }

    #[test]
    fn lines_of_several_containers_are_in_the_order_of_time_and_those_of_one_moment_stay_together() {
        let all = merge(parts(), &window(100, 1000));
        assert_eq!(texts(all), ["without a stamp", "a1", "b2", "a3", "rest of a3", "b3", "b4"]);
    }

    #[test]
    fn the_newest_lines_of_all_stay_within_number_and_bytes_and_at_least_one() {
        assert_eq!(texts(merge(parts(), &window(2, 1000))), ["b3", "b4"]);
        let b4 = line(1, Some(4), "b4").stamped.len() + 1;
        assert_eq!(texts(merge(parts(), &window(100, b4 * 2))), ["b3", "b4"]);
        assert_eq!(texts(merge(parts(), &window(100, b4 * 2 - 1))), ["b4"]);
        assert_eq!(texts(merge(parts(), &window(100, 1))), ["b4"]);
        assert_eq!(texts(merge(parts(), &window(0, 1000))), Vec::<String>::new());
        assert_eq!(merge(Vec::new(), &window(9, 9)), []);
    }

    #[test]
    fn lines_are_shown_behind_the_name_of_their_container_with_or_without_their_stamp() {
        let member = |label: Option<&str>| Member {
            id: String::new(),
            name: String::new(),
            running: true,
            label: label.map(str::to_owned),
        };
        let members = [member(Some("web-1")), member(Some("side-1"))];
        let lines = || vec![line(0, Some(0), "web 1"), line(1, Some(0), "s")];
        assert_eq!(shown(&members, lines(), Line::text), ["web-1   | web 1", "side-1  | s"]);
        let stamped = shown(&members, lines(), |line| line.stamped);
        assert_eq!(stamped[0], "web-1   | 1970-01-01T00:00:00Z web 1");
        assert_eq!(shown(&[member(None)], vec![line(0, Some(0), "plain")], Line::text), ["plain"]);
    }
}
