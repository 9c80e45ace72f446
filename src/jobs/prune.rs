//! `prune_images`: what nobody uses goes, told in the words of the Docker CLI. By the Engine's API, since the CLI may be
//! absent (`wamp-and-rpc.md` 4.2).

use super::work::{Failure, Work};
use crate::docker::{Error, Pruned, Unused};
use std::fmt::Write as _;
use std::time::Duration;

/// For each call: on a full disk the Engine takes its time, or hangs.
const DEADLINE: Duration = Duration::from_secs(300);

/// What `docker system prune -af --volumes` removes, in its order, and what it calls that.
const EVERYTHING: [(Unused, &str); 5] = [
    (Unused::Containers, "Deleted Containers"),
    (Unused::Networks, "Deleted Networks"),
    (Unused::Volumes, "Deleted Volumes"),
    (Unused::Images, "Deleted Images"),
    (Unused::BuildCache, "Deleted build cache objects"),
];

impl Work<'_> {
    /// Removes images without a tag.
    pub(super) fn prune_untagged(&self) -> Result<(), Failure> {
        self.docker.within(DEADLINE).prune(Unused::UntaggedImages)?;
        Ok(())
    }

    /// Removes everything that no running container uses: the text for people.
    pub(super) fn prune_everything(&self) -> Result<String, Failure> {
        let docker = self.docker.within(DEADLINE);
        let mut sections = Vec::new();
        for (what, title) in EVERYTHING {
            let pruned = match docker.prune(what) {
                // Old Engines, and those without BuildKit, have no such cache.
                Err(Error::Status { .. }) if what == Unused::BuildCache => Pruned::default(),
                other => other?,
            };
            sections.push((title, pruned));
        }
        Ok(report(&sections))
    }
}

fn report(sections: &[(&str, Pruned)]) -> String {
    let mut text = String::new();
    for (title, pruned) in sections.iter().filter(|(_, pruned)| !pruned.removed.is_empty()) {
        let _infallible = writeln!(text, "{title}:\n{}\n", pruned.removed.join("\n"));
    }
    let reclaimed = sections.iter().fold(0, |sum: u64, (_, pruned)| sum.saturating_add(pruned.reclaimed));
    let _infallible = writeln!(text, "Total reclaimed space: {}", size(reclaimed));
    text
}

/// Four digits and a decimal unit, as the CLI writes it: `1.234GB`.
#[expect(clippy::cast_precision_loss, reason = "four digits are shown")]
fn size(bytes: u64) -> String {
    let (mut value, mut units) = (bytes as f64, ["B", "kB", "MB", "GB", "TB", "PB", "EB"].into_iter());
    let mut unit = units.next().unwrap_or_default();
    for larger in units {
        if value < 1000.0 {
            break;
        }
        (value, unit) = (value / 1000.0, larger);
    }
    let decimals = if value < 10.0 {
        3
    } else if value < 100.0 {
        2
    } else {
        1
    };
    let digits = format!("{value:.decimals$}");
    format!("{}{unit}", digits.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_reads_like_the_one_of_the_cli() {
        let pruned = |removed: &[&str], reclaimed| Pruned {
            removed: removed.iter().map(|name| (*name).to_owned()).collect(),
            reclaimed,
        };
        let sections = [
            ("Deleted Containers", pruned(&["c1", "c2"], 0)),
            ("Deleted Networks", pruned(&[], 0)),
            ("Deleted Images", pruned(&["untagged: a:1", "deleted: sha256:1"], 1_234_567)),
        ];
        assert_eq!(
            report(&sections),
            "Deleted Containers:\nc1\nc2\n\nDeleted Images:\nuntagged: a:1\ndeleted: sha256:1\n\n\
             Total reclaimed space: 1.235MB\n"
        );
        assert_eq!(report(&[]), "Total reclaimed space: 0B\n");
    }

    #[test]
    fn sizes_have_four_digits() {
        let shown = [0, 999, 1000, 12_340, 123_450, 5_000_000_000, u64::MAX].map(size);
        assert_eq!(shown, ["0B", "999B", "1kB", "12.34kB", "123.5kB", "5GB", "18.45EB"]);
    }
}
