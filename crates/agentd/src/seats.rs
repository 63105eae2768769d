//! Who sits where at the table of CPU shares ([`holm_runtime::Seat`]): the agent gives every runner a seat of its own.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use holm_model::RunnerId;
use holm_runtime::{SEATS, hungry_seats, prepare_cpu_table};

/// In a runner's directory, the number of its seat, for the next life of the agent.
const SEAT_FILE: &str = "cpu-seat";

/// The table and its seats.
pub(crate) struct Seats {
    table: PathBuf,
    taken: BTreeMap<RunnerId, usize>,
}

impl Seats {
    /// The table at `path`; the runners together keep below `cpus_milli` thousandths of a core.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn open(path: PathBuf, cpus_milli: u64) -> io::Result<Seats> {
        prepare_cpu_table(&path, cpus_milli)?;
        Ok(Seats { table: path, taken: BTreeMap::new() })
    }

    /// The table's file.
    pub(crate) fn table(&self) -> &Path {
        &self.table
    }

    /// A seat for a runner that starts; none when all are taken: it runs without, as fast as the machine lets it.
    ///
    /// # Errors
    /// When the runner's directory cannot be written.
    pub(crate) fn assign(&mut self, runner: RunnerId, dir: &Path) -> io::Result<Option<usize>> {
        let free = (0..SEATS).find(|seat| !self.taken.values().any(|taken| taken == seat));
        let Some(seat) = free else {
            tracing::warn!(%runner, limit = SEATS, "a runner gets no seat at the table of CPU shares: all are taken");
            return Ok(None);
        };
        fs::write(dir.join(SEAT_FILE), seat.to_string())?;
        self.taken.insert(runner, seat);
        Ok(Some(seat))
    }

    /// A runner of an earlier life of the agent has its seat still.
    pub(crate) fn recall(&mut self, runner: RunnerId, dir: &Path) {
        let written = fs::read_to_string(dir.join(SEAT_FILE)).ok().and_then(|text| text.trim().parse().ok());
        if let Some(seat) = written {
            self.taken.insert(runner, seat);
        }
    }

    /// The runners that said lately that they get less CPU time than their tasks could use.
    pub(crate) fn hungry(&self) -> Vec<RunnerId> {
        let seats = hungry_seats(&self.table).unwrap_or_default();
        self.taken.iter().filter(|(_, seat)| seats.contains(seat)).map(|(runner, _)| *runner).collect()
    }

    /// A runner has ended.
    pub(crate) fn free(&mut self, runner: RunnerId) {
        self.taken.remove(&runner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_is_given_again_only_after_its_runner_ended_also_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let table = dir.path().join("cpus");
        let runner_dir = |id: u64| {
            let path = dir.path().join(id.to_string());
            fs::create_dir_all(&path).unwrap();
            path
        };
        let mut seats = Seats::open(table.clone(), 1_000).unwrap();
        let got: Vec<_> = (1..=3).map(|id| seats.assign(RunnerId(id), &runner_dir(id)).unwrap()).collect();
        assert_eq!(got, [Some(0), Some(1), Some(2)]);
        let mut seats = Seats::open(table, 1_000).unwrap();
        [1, 3].into_iter().for_each(|id| seats.recall(RunnerId(id), &runner_dir(id)));
        assert_eq!(seats.assign(RunnerId(4), &runner_dir(4)).unwrap(), Some(1));
        assert_eq!(seats.assign(RunnerId(5), &runner_dir(5)).unwrap(), Some(3));
        seats.free(RunnerId(1));
        assert_eq!(seats.assign(RunnerId(6), &runner_dir(6)).unwrap(), Some(0));
    }
}
