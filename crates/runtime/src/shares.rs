//! The table through which the runner processes of one agent share its CPU time: a small file with a seat for each runner.
//!
//! A runner reads all seats and writes its own, some hundred times a second while it is busy. It is a file that is read and
//! written, not one that is mapped: whoever may write to a file may also cut it off, and that would kill everybody who has
//! it mapped. A runner out of whose sandbox somebody broke can therefore write nonsense here, but not crash its
//! neighbours: what is read is checked, and [`crate::Queue`] bounds what nonsense that passes can make it do.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use crate::clock;

/// Seats of a table, and with it runners of an agent that share CPU time. Others go without.
pub const SEATS: usize = 256;

const MAGIC: u64 = u64::from_le_bytes(*b"holmcpu1");
const WORD: usize = 8;
/// Words of the head, and of each seat.
const WORDS: usize = 8;
const RECORD_BYTES: usize = WORDS * WORD;
const TABLE_BYTES: usize = (SEATS + 1) * RECORD_BYTES;
/// The most cores that anything in a table is believed to have, in thousandths.
const MAX_MILLI: u64 = 1 << 20;
/// What was said longer ago is not true any more, in nanoseconds: on a busy machine a thread may have no core for long.
pub(crate) const STALE: u64 = 500_000_000;
/// The largest weight of a runner that is believed, in thousandths of a core.
const MAX_WEIGHT: u64 = 1 << 40;

/// What a runner says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    /// Tells runners on the same seat apart, one after another.
    pub(crate) owner: u64,
    /// When it said so: nanoseconds of the machine's clock.
    pub(crate) at: u64,
    /// Its virtual time: nanoseconds of CPU time by core of weight.
    pub(crate) time: u64,
    /// Weight of its tasks that compete, in thousandths of a core.
    pub(crate) weight: u64,
    /// Cores it could use, in thousandths.
    pub(crate) wants: u64,
    /// Whether it gets less than it could use.
    pub(crate) is_hungry: bool,
    /// Whether it has what the others leave and nothing more.
    pub(crate) is_lent: bool,
    /// CPU time that the process used, in nanoseconds.
    pub(crate) used: u64,
}

/// Bits of the word that says how a runner stands.
const HUNGRY: u64 = 1;
const LENT: u64 = 2;

impl Record {
    fn words(&self) -> [u64; WORDS - 1] {
        let Record { owner, at, time, weight, wants, is_hungry, is_lent, used } = *self;
        let standing = if is_hungry { HUNGRY } else { 0 } | if is_lent { LENT } else { 0 };
        [owner, at, time, weight, wants, standing, used]
    }

    fn to_bytes(self) -> [u8; RECORD_BYTES] {
        bytes(self.words())
    }

    /// A record that was written whole and can be true; an empty or torn one is none.
    fn from_bytes(bytes: &[u8]) -> Option<Record> {
        // Most seats are empty, and a table is read a thousand times a second.
        if bytes.starts_with(&[0; WORD]) {
            return None;
        }
        let [owner, at, time, weight, wants, standing, used] = words(bytes)?;
        let plausible = owner > 0 && (1..=MAX_WEIGHT).contains(&weight) && wants <= MAX_MILLI;
        let (is_hungry, is_lent) = (standing & HUNGRY != 0, standing & LENT != 0);
        plausible.then_some(Record { owner, at, time, weight, wants, is_hungry, is_lent, used })
    }
}

/// Words and their checksum: a record that was read while it was written does not pass.
fn bytes(words: [u64; WORDS - 1]) -> [u8; RECORD_BYTES] {
    let mut bytes = [0; RECORD_BYTES];
    for (place, word) in bytes.chunks_exact_mut(WORD).zip(words.into_iter().chain([checksum(&words)])) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

fn words(bytes: &[u8]) -> Option<[u64; WORDS - 1]> {
    let (whole, _rest) = bytes.as_chunks::<WORD>();
    let [words @ .., sum] = <[[u8; WORD]; WORDS]>::try_from(whole).ok()?.map(u64::from_le_bytes);
    (checksum(&words) == sum).then_some(words)
}

fn checksum(words: &[u64]) -> u64 {
    words.iter().fold(MAGIC, |sum, word| (sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29))
}

/// Everything a table says.
pub(crate) struct Table {
    /// Thousandths of a core that all runners together may use.
    pub(crate) cpus: u64,
    /// By seat.
    pub(crate) records: Vec<Option<Record>>,
}

impl Table {
    fn from_bytes(bytes: &[u8]) -> Option<Table> {
        let mut parts = bytes.chunks_exact(RECORD_BYTES);
        let [magic, seats, cpus, ..] = words(parts.next()?)?;
        let known = magic == MAGIC && seats == SEATS as u64 && (1..=MAX_MILLI).contains(&cpus);
        known.then(|| Table { cpus, records: parts.map(Record::from_bytes).collect() })
    }
}

/// Makes the table at `path`, or takes the one that is there over: runners of an earlier life of the agent use it. All
/// runners together keep below `cpus_milli` thousandths of a core.
///
/// # Errors
/// When it cannot be written.
pub fn prepare_cpu_table(path: &Path, cpus_milli: u64) -> io::Result<()> {
    let file = File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    if file.metadata()?.len() != TABLE_BYTES as u64 {
        // Nothing that was written here can be read by anybody.
        file.set_len(0)?;
        file.write_all_at(&vec![0; TABLE_BYTES], 0)?;
    }
    file.write_all_at(&bytes([MAGIC, SEATS as u64, cpus_milli.clamp(1, MAX_MILLI), 0, 0, 0, 0]), 0)
}

/// The seats at the table whose runners said lately that they get less CPU time than their tasks could use.
///
/// # Errors
/// When the table cannot be read or is damaged.
pub fn hungry_seats(path: &Path) -> io::Result<Vec<usize>> {
    let mut bytes = Vec::with_capacity(TABLE_BYTES);
    File::open(path)?.take(TABLE_BYTES as u64).read_to_end(&mut bytes)?;
    let table = Table::from_bytes(&bytes).ok_or(io::ErrorKind::InvalidData)?;
    let now = clock::now();
    let lately = now.saturating_sub(STALE)..=now.saturating_add(STALE);
    let hungry = |record: &Record| record.is_hungry && record.wants > 0 && lately.contains(&record.at);
    let seats = table.records.iter().enumerate();
    Ok(seats.filter(|(_, record)| record.as_ref().is_some_and(hungry)).map(|(seat, _)| seat).collect())
}

/// One runner's place at the table.
#[derive(Debug)]
pub struct Seat {
    file: File,
    number: usize,
    is_lent: bool,
}

impl Seat {
    /// Takes a seat. The agent sees to it that nobody else has it.
    ///
    /// # Errors
    /// When the table cannot be opened, or has no such seat.
    pub fn take(path: &Path, number: usize) -> io::Result<Seat> {
        if number >= SEATS {
            let what = format!("seat {number} of a table with {SEATS}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let seat = Seat { file: File::options().read(true).write(true).open(path)?, number, is_lent: false };
        // Whoever sat here before is gone.
        seat.file.write_all_at(&[0; RECORD_BYTES], seat.offset())?;
        Ok(seat)
    }

    /// The seat of a runner of revocable tasks: it has the CPU time that the others leave, and nothing more.
    pub fn on_what_is_left(self) -> Seat {
        Seat { is_lent: true, ..self }
    }

    pub(crate) fn is_lent(&self) -> bool {
        self.is_lent
    }

    pub(crate) fn number(&self) -> usize {
        self.number
    }

    fn offset(&self) -> u64 {
        ((self.number + 1) * RECORD_BYTES) as u64
    }

    /// The whole table; none when it is damaged.
    pub(crate) fn read(&self) -> Option<Table> {
        let mut bytes = [0; TABLE_BYTES];
        self.file.read_exact_at(&mut bytes, 0).ok()?;
        Table::from_bytes(&bytes)
    }

    /// Says what this runner does. A record that cannot be written is soon too old to be believed.
    pub(crate) fn write(&self, record: &Record) {
        if let Err(error) = self.file.write_all_at(&record.to_bytes(), self.offset()) {
            tracing::debug!(%error, "the table of CPU shares cannot be written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: Record = Record {
        owner: 7,
        at: 1_000,
        time: 2_000,
        weight: 500,
        wants: 2_000,
        is_hungry: true,
        is_lent: true,
        used: 3_000,
    };

    #[test]
    fn what_one_runner_writes_the_others_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cpus");
        prepare_cpu_table(&path, 500).unwrap();
        let (here, there) = (Seat::take(&path, 3).unwrap(), Seat::take(&path, 255).unwrap());
        here.write(&RECORD);
        let table = there.read().unwrap();
        assert_eq!((table.cpus, table.records[3], table.records[255]), (500, Some(RECORD), None));
        // A new life of the agent changes the ceiling and leaves the runners alone; a new runner finds an empty seat.
        prepare_cpu_table(&path, 1_500).unwrap();
        let table = there.read().unwrap();
        assert_eq!((table.cpus, table.records[3]), (1_500, Some(RECORD)));
        let next = Seat::take(&path, 3).unwrap();
        assert_eq!(next.read().unwrap().records[3], None);
        assert!(Seat::take(&path, 256).is_err());
    }

    #[test]
    fn a_table_that_was_cut_off_or_scribbled_over_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cpus");
        prepare_cpu_table(&path, 500).unwrap();
        let (here, there) = (Seat::take(&path, 0).unwrap(), Seat::take(&path, 1).unwrap());
        here.write(&RECORD);
        let scribble = |offset: u64| here.file.write_all_at(&[0xff; WORD], offset).unwrap();
        scribble(here.offset() + 16);
        assert_eq!(there.read().unwrap().records[0], None, "a torn record passed");
        here.write(&Record { weight: 0, ..RECORD });
        assert_eq!(there.read().unwrap().records[0], None, "a weight of zero passed");
        here.write(&Record { wants: u64::MAX, ..RECORD });
        assert_eq!(there.read().unwrap().records[0], None, "more cores than any machine has passed");
        scribble(0);
        assert!(there.read().is_none());
        here.file.set_len(10).unwrap();
        assert!(there.read().is_none());
        prepare_cpu_table(&path, 500).unwrap();
        assert!(there.read().is_some());
    }
}
