//! Listing a project for the hub: its containers, and what nobody has heard of them yet. Blocks the thread `log-list` with the
//! deadlines and the token of the client.

use crate::sorted::sort_by;
use std::collections::BTreeMap;

use super::excerpt::{self, Line, Member, Window};
use super::{follow, project};
use crate::clock::Wall;
use crate::docker::{self, Docker};

/// Bytes of the lines that come with a listing.
const BYTES: usize = 256 * 1024;

/// What the hub knows of a container of a project.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Known {
    /// It has a stream.
    pub open: bool,
    /// It was heard before, to a little behind this moment.
    pub since: Option<Wall>,
    /// Its last run that was heard to the end.
    pub run: String,
}

/// A project as it was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    /// Its name.
    pub project: String,
    /// Its containers.
    pub members: Vec<Found>,
    /// The newest lines of those that nobody has heard yet, each with its container and with its stamp, oldest first: of
    /// containers that are heard for the first time, and of those that ran meanwhile and have ended.
    pub lines: Vec<(String, String)>,
    /// So many more containers are beyond the limit.
    pub left_out: usize,
}

/// A container of a project.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// Its name.
    pub container: String,
    /// What compose calls it.
    pub label: String,
    /// It runs.
    pub running: bool,
    /// Names its last run, if it has ended.
    pub run: String,
    /// The newest stamp that was read of it, whether its line is among those of the listing or not, and how many of its lines
    /// have it.
    pub last: Option<(Wall, usize)>,
}

/// Lists the containers of a project, some of which are known by their name.
///
/// # Errors
/// Those of the Engine's list; that it is away, or takes too long.
pub fn list(docker: &Docker, name: &str, known: &BTreeMap<String, Known>) -> Result<Listing, docker::Error> {
    let known = |member: &Member| known.get(&member.name).cloned().unwrap_or_default();
    let mut members = excerpt::members(docker, name)?;
    // What is followed stays, what runs goes before what has ended.
    let rank = |member: &Member| (!known(member).open, !member.running);
    sort_by(&mut members, |a, b| rank(a).cmp(&rank(b)));
    let left_out = members.len().saturating_sub(project::MOST);
    members.truncate(project::MOST);
    let window = Window { tail: follow::TAIL, bytes: BYTES, since: None, until: None, limit: docker.deadline() };
    let (mut all, mut lines) = (Vec::with_capacity(members.len()), Vec::new());
    for (index, member) in members.iter().enumerate() {
        let (container, label) = (member.name.clone(), member.label.clone().unwrap_or_default());
        let mut found = Found { container, label, running: member.running, ..Found::default() };
        let of = known(member);
        // What is followed, or goes on where it was heard before, has a stream of its own for everything.
        if !(of.open || member.running && of.since.is_some()) {
            match unheard(docker, index, member, &of, &window) {
                Ok((run, more)) => {
                    found.run = run;
                    let last = more.iter().filter_map(|line| line.at).max();
                    found.last = last.map(|at| (at, more.iter().filter(|line| line.at == last).count()));
                    lines = excerpt::merge(vec![lines, more], &window);
                }
                // It went in between.
                Err(error) if error.is_not_found() => continue,
                // Its log cannot be read; if it runs, its stream will say so.
                Err(docker::Error::Status { .. } | docker::Error::Http(_)) => {}
                Err(error) => return Err(error),
            }
        }
        all.push(found);
    }
    let lines = lines.into_iter().map(|line| (members[line.member].name.clone(), line.stamped)).collect();
    Ok(Listing { project: name.to_owned(), members: all, lines, left_out })
}

/// The name of a container's last run, if it has ended, and its lines that nobody has heard.
fn unheard(
    docker: &Docker,
    index: usize,
    member: &Member,
    known: &Known,
    window: &Window,
) -> Result<(String, Vec<Line>), docker::Error> {
    let inspected = docker.inspect_container(&member.id)?;
    let run = if member.running { String::new() } else { inspected.state.started_at.clone() };
    if !member.running && run == known.run {
        return Ok((run, Vec::new()));
    }
    let window = Window { since: known.since, ..*window };
    Ok((run, excerpt::of_container(docker, index, &inspected, &window)?))
}
