//! The streams of one app, of its container or of each container of its compose project, as one log: pure.
//!
//! A plain app has one member, itself. The members of a project come from listings: one with each wish to follow, and one
//! at a time. What nobody has heard yet comes with the listing, sorted by time; each member's stream goes on from there.
//!
//! **Invariant:** a member has at most one stream, and at most one listing is under way (see `follow`).

use crate::sorted::IntoSorted;
use std::collections::BTreeMap;
use std::time::Duration;

use super::follow::{End, Follow, From, Order};
use super::listing::{Known, Listing};
use super::{project, stamp};
use crate::clock::Now;

/// One stream, or one listing: what is said about an older one is recognised.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stream {
    /// The app.
    pub app: String,
    /// Counts those of the app.
    pub number: u32,
}

/// What a follower does.
#[derive(Debug, Clone, PartialEq)]
pub enum Task {
    /// Opens the log of a container.
    Follow {
        /// Its name.
        container: String,
        /// How.
        from: From,
    },
    /// Lists the containers of a project.
    List {
        /// Its name.
        project: String,
        /// What is known already, by container.
        known: BTreeMap<String, Known>,
    },
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    /// Start a follower.
    Attach(Stream, Task),
    /// Cancel it; [`Streams::ended`] will tell.
    Detach(Stream),
    /// Nothing more comes of a member, for this reason.
    GiveUp(String),
}

/// What an end brings about.
#[derive(Debug, Default, PartialEq)]
pub struct Ended {
    /// To be done.
    pub acts: Vec<Act>,
    /// New lines.
    pub lines: Vec<String>,
    /// They are old ones, which take the place of restored ones.
    pub replay: bool,
}

#[derive(Debug, Default)]
struct Member {
    /// What compose calls it; a plain app has no other name.
    label: Option<String>,
    follow: Follow,
    number: u32,
    /// Its last run that was heard to the end.
    run: String,
}

/// See the module.
#[derive(Debug)]
pub struct Streams {
    app: String,
    project: Option<String>,
    /// By container.
    members: BTreeMap<String, Member>,
    /// When the project is listed: as when a stream is opened.
    listing: Follow,
    listing_number: u32,
    /// A listing was asked for while one was under way.
    again: bool,
    /// Bytes of the longest label.
    width: usize,
    /// Containers beyond the limit.
    left_out: usize,
    numbers: u32,
}

impl Streams {
    /// Of an app that nobody follows yet.
    pub fn new(app: &str) -> Streams {
        Streams {
            app: app.to_owned(),
            project: None,
            members: BTreeMap::new(),
            listing: Follow::default(),
            listing_number: 0,
            again: false,
            width: 0,
            left_out: 0,
            numbers: 0,
        }
    }

    /// Whether nothing of the app is followed or is about to be.
    pub fn is_idle(&self) -> bool {
        self.all().all(Follow::is_idle)
    }

    /// Whether a stream or a listing is open or closing.
    pub fn has_stream(&self) -> bool {
        self.all().any(Follow::has_stream)
    }

    /// The app runs, as a compose project or not.
    pub fn follow(&mut self, now: Now, project: Option<String>) -> Vec<Act> {
        let mut acts = Vec::new();
        if self.project != project {
            acts = self.unfollow(now);
            self.project = project;
            self.members.retain(|_, member| member.follow.has_stream());
        }
        if self.project.is_some() {
            match self.listing.follow(now) {
                Some(order) => acts.extend(self.of_listing(now, order)),
                None => self.again = true,
            }
        } else {
            let container = self.app.clone();
            let order = self.members.entry(container.clone()).or_default().follow.follow(now);
            acts.extend(order.and_then(|order| self.of_member(&container, order)));
        }
        acts
    }

    /// The app is gone.
    pub fn unfollow(&mut self, now: Now) -> Vec<Act> {
        self.again = false;
        let order = self.listing.unfollow();
        let mut acts: Vec<Act> = order.and_then(|order| self.of_listing(now, order)).into_iter().collect();
        acts.extend(self.each(|follow| follow.unfollow()));
        acts
    }

    /// A line of a stream came, with its stamp: the line to show if it is a new one.
    pub fn hear(&mut self, stream: &Stream, line: String) -> Option<String> {
        let width = self.width;
        let (_, member) = self.with_stream(stream.number)?;
        member.hear(line, width)
    }

    /// A stream or a listing has ended.
    pub fn ended(&mut self, now: Now, stream: &Stream, end: End) -> Ended {
        if stream.number == self.listing_number {
            return self.listed(now, end);
        }
        let mut ended = Ended::default();
        let Some((container, member)) = self.with_stream(stream.number) else { return ended };
        let container = container.clone();
        if let End::Exited { code, run } = &end
            && !member.follow.is_idle()
            && *run != member.run
            && let Some(label) = &member.label
        {
            ended.lines.push(project::exited(label, *code));
            member.run.clone_from(run);
        }
        let order = member.follow.ended(now, end);
        ended.acts.extend(order.and_then(|order| self.of_member(&container, order)));
        // What it was before the app became a compose project, or ceased to be one.
        let in_project = self.project.is_some();
        self.members.retain(|_, member| member.follow.has_stream() || member.label.is_some() == in_project);
        ended
    }

    /// When [`Streams::due`] wants to be called.
    pub fn deadline(&self) -> Option<Duration> {
        self.all().filter_map(Follow::deadline).min()
    }

    /// Opens what has waited long enough.
    pub fn due(&mut self, now: Now) -> Vec<Act> {
        let order = self.listing.due(now);
        let mut acts: Vec<Act> = order.and_then(|order| self.of_listing(now, order)).into_iter().collect();
        acts.extend(self.each(|follow| follow.due(now)));
        acts
    }

    fn all(&self) -> impl Iterator<Item = &Follow> {
        self.members.values().map(|member| &member.follow).chain([&self.listing])
    }

    fn each(&mut self, mut ask: impl FnMut(&mut Follow) -> Option<Order>) -> Vec<Act> {
        let orders: Vec<_> = self
            .members
            .iter_mut()
            .filter_map(|(container, member)| Some((container.clone(), ask(&mut member.follow)?)))
            .collect();
        orders.into_iter().filter_map(|(container, order)| self.of_member(&container, order)).collect()
    }

    fn with_stream(&mut self, number: u32) -> Option<(&String, &mut Member)> {
        self.members.iter_mut().find(|(_, member)| member.number == number && member.follow.has_stream())
    }

    fn listed(&mut self, now: Now, mut end: End) -> Ended {
        let mut ended = Ended::default();
        if let End::Listed(listing) = &mut end
            && !self.listing.is_idle()
            && self.project.as_ref() == Some(&listing.project)
        {
            ended = self.take(now, std::mem::take(listing));
        }
        let mut order = self.listing.ended(now, end);
        if std::mem::take(&mut self.again) && order.is_none() {
            order = self.listing.follow(now);
        }
        ended.acts.extend(order.and_then(|order| self.of_listing(now, order)));
        ended
    }

    /// Takes over what a listing shows.
    fn take(&mut self, now: Now, listing: Listing) -> Ended {
        let Listing { members, lines, left_out, .. } = listing;
        let mut ended = Ended::default();
        self.width = members.iter().map(|member| member.label.len()).max().unwrap_or(0);
        if left_out > 0 && left_out != self.left_out {
            ended.lines.push(project::left_out(left_out));
        }
        self.left_out = left_out;
        let is_listed = |container: &String| members.iter().any(|of| of.container == *container);
        self.members.retain(|container, member| member.follow.has_stream() || is_listed(container));
        for found in &members {
            let member = self.members.entry(found.container.clone()).or_default();
            member.label = Some(found.label.clone());
            if !member.follow.has_stream() {
                let position = member.follow.position();
                let since = position.since(now);
                position.rewind(since);
            }
        }
        for (container, line) in lines {
            // A stream that was opened meanwhile tells them itself.
            let member = self.members.get_mut(&container).filter(|member| !member.follow.has_stream());
            ended.lines.extend(member.and_then(|member| member.hear(line, self.width)));
            ended.replay = true;
        }
        for found in members {
            let Some(member) = self.members.get_mut(&found.container) else { continue };
            if let (Some((stamp, copies)), false) = (found.last, member.follow.has_stream()) {
                member.follow.position().pass(stamp, copies);
            }
            if found.running {
                let order = member.follow.follow(now);
                ended.acts.extend(order.and_then(|order| self.of_member(&found.container, order)));
            } else if !member.follow.has_stream() && !found.run.is_empty() {
                member.run = found.run;
            }
        }
        ended
    }

    fn of_member(&mut self, container: &str, order: Order) -> Option<Act> {
        let member = self.members.get_mut(container)?;
        Some(match order {
            Order::Attach(from) => {
                self.numbers = self.numbers.wrapping_add(1);
                member.number = self.numbers;
                Act::Attach(self.stream(self.numbers), Task::Follow { container: container.to_owned(), from })
            }
            Order::Detach => {
                let number = member.number;
                Act::Detach(self.stream(number))
            }
            Order::GiveUp(reason) => match &member.label {
                Some(label) => Act::GiveUp(format!("{label}: {reason}")),
                None => Act::GiveUp(reason),
            },
        })
    }

    fn of_listing(&mut self, now: Now, order: Order) -> Option<Act> {
        Some(match order {
            Order::Attach(_) => {
                let project = self.project.clone()?;
                self.numbers = self.numbers.wrapping_add(1);
                self.listing_number = self.numbers;
                self.again = false;
                let known = self.members.iter_mut().map(|(container, member)| (container.clone(), member.known(now)));
                let task = Task::List { project, known: known.into_map() };
                Act::Attach(self.stream(self.listing_number), task)
            }
            Order::Detach => Act::Detach(self.stream(self.listing_number)),
            Order::GiveUp(reason) => Act::GiveUp(format!("the project: {reason}")),
        })
    }

    fn stream(&self, number: u32) -> Stream {
        Stream { app: self.app.clone(), number }
    }
}

impl Member {
    fn hear(&mut self, line: String, width: usize) -> Option<String> {
        let (stamp, text) = stamp::take(line);
        self.follow.line(stamp, &text).then(|| match &self.label {
            Some(label) => project::line(label, width, &text),
            None => text,
        })
    }

    fn known(&mut self, now: Now) -> Known {
        Known { open: self.follow.has_stream(), since: self.follow.position().since(now), run: self.run.clone() }
    }
}

#[cfg(test)]
mod tests;
