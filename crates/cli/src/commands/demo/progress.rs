//! How far the demo is: bars, and the two roles' dominant shares as they move.

use std::io::IsTerminal;
use std::time::Duration;

use holm_proto::v1;
use holm_sdk::Client;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::time::Instant;

use super::{picture, wordcount};

/// How often the master is asked.
const POLL: Duration = Duration::from_millis(200);
/// How often a line is printed where bars cannot be shown.
const LINE: Duration = Duration::from_secs(2);
/// How many moments the summary shows.
const MOMENTS: usize = 32;

/// The bars.
pub(super) struct Progress {
    pub(super) words: ProgressBar,
    pub(super) tiles: ProgressBar,
    shares: ProgressBar,
    interactive: bool,
}

/// A role's share over time, in millionths.
#[derive(Clone, Debug)]
pub(super) struct History {
    pub(super) role: &'static str,
    pub(super) resource: String,
    pub(super) shares: Vec<u32>,
}

impl Progress {
    pub(super) fn new() -> Progress {
        let bars = MultiProgress::new();
        let bar = |name: &'static str| {
            let bar = bars.add(ProgressBar::new(1));
            let template = format!("  {name:<14} {{bar:40}} {{pos}}/{{len}} tasks");
            bar.set_style(ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        };
        let (words, tiles) = (bar("word count"), bar("picture"));
        let shares = bars.add(ProgressBar::no_length());
        shares.set_style(ProgressStyle::with_template("  {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()));
        Progress { words, tiles, shares, interactive: std::io::stderr().is_terminal() }
    }

    /// Shows and remembers the roles' shares, for ever.
    pub(super) async fn watch(&self, client: &Client, histories: &mut [History; 2]) {
        let mut printed = Instant::now();
        loop {
            match client.operator().list_roles(v1::ListRolesRequest {}).await {
                Ok(reply) => take(&reply.into_inner().roles, histories),
                Err(status) => tracing::debug!(message = status.message(), "the roles cannot be asked for"),
            }
            let line = histories.iter().map(History::line).collect::<Vec<_>>().join("   ");
            self.shares.set_message(format!("dominant shares: {line}"));
            if !self.interactive && printed.elapsed() >= LINE {
                printed = Instant::now();
                let (words, tiles) = (&self.words, &self.tiles);
                eprintln!(
                    "  word count {}/{}  picture {}/{}  dominant shares: {line}",
                    words.position(),
                    words.length().unwrap_or(0),
                    tiles.position(),
                    tiles.length().unwrap_or(0),
                );
            }
            tokio::time::sleep(POLL).await;
        }
    }

    pub(super) fn finish(&self) {
        for bar in [&self.words, &self.tiles] {
            bar.abandon();
        }
        self.shares.finish_and_clear();
    }
}

fn take(roles: &[v1::RoleSummary], histories: &mut [History; 2]) {
    for history in histories {
        let role = roles.iter().find(|role| role.role == history.role);
        history.shares.push(role.map_or(0, |role| role.dominant_share_ppm));
        if let Some(role) = role.filter(|role| !role.dominant_resource.is_empty()) {
            history.resource.clone_from(&role.dominant_resource);
        }
    }
}

/// Nothing seen yet of the two roles.
pub(super) fn histories() -> [History; 2] {
    [wordcount::ROLE, picture::ROLE].map(|role| History { role, resource: String::new(), shares: Vec::new() })
}

impl History {
    fn line(&self) -> String {
        let share = self.shares.last().copied().unwrap_or(0);
        format!(
            "{} {:>3}% of {}",
            self.role,
            share / 10_000,
            if self.resource.is_empty() { "-" } else { &self.resource }
        )
    }

    /// The shares as a row of bars, and the highest.
    pub(super) fn summary(&self) -> String {
        const BARS: [char; 8] =
            ['\u{2581}', '\u{2582}', '\u{2583}', '\u{2584}', '\u{2585}', '\u{2586}', '\u{2587}', '\u{2588}'];
        let step = self.shares.len().div_ceil(MOMENTS).max(1);
        let bar = |moments: &[u32]| {
            let share = moments.iter().copied().max().unwrap_or(0).min(1_000_000) as usize;
            if share == 0 { ' ' } else { BARS[share * (BARS.len() - 1) / 1_000_000] }
        };
        let bars: String = self.shares.chunks(step).map(bar).collect();
        let highest = self.shares.iter().copied().max().unwrap_or(0);
        format!("{:<7} |{bars}| up to {}% of {}", self.role, highest / 10_000, self.resource)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_drawn_over_time() {
        let mut histories = histories();
        for share in [0, 500_000, 1_000_000] {
            let role = v1::RoleSummary {
                role: "words".to_owned(),
                dominant_share_ppm: share,
                dominant_resource: "cpus".to_owned(),
                ..v1::RoleSummary::default()
            };
            take(&[role], &mut histories);
        }
        assert_eq!(histories[0].summary(), "words   | \u{2584}\u{2588}| up to 100% of cpus");
        assert_eq!(histories[1].shares, [0, 0, 0]);
    }
}
