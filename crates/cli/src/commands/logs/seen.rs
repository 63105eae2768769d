//! What has been shown of the output of tasks, so that a stream that is opened again repeats nothing.

use std::collections::BTreeMap;

use holm_proto::v1::{LogRecord, LogStream};

/// How far the output of each task has been shown.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// By task; none for one whose output is complete.
    tasks: BTreeMap<String, Option<Shown>>,
}

/// What has been shown of a task that has not ended.
#[derive(Debug, Default)]
struct Shown {
    /// Bytes taken of stdout and of stderr, those that were not kept included.
    taken: [u64; 2],
    /// Of which so many are to come again, after the stream was opened again.
    again: [u64; 2],
}

impl Seen {
    /// A stream begins at the beginning: what was shown comes again.
    pub(crate) fn rewind(&mut self) {
        self.tasks.values_mut().flatten().for_each(|shown| shown.again = shown.taken);
    }

    /// The part of a record that was not shown before; none for what says nothing new.
    pub(crate) fn admit(&mut self, mut record: LogRecord) -> Option<LogRecord> {
        let stream = record.stream();
        let entry = self.tasks.entry(record.task_id.clone()).or_insert_with(|| Some(Shown::default()));
        let shown = entry.as_mut()?;
        match stream {
            LogStream::Stdout => shown.take(0, &mut record),
            LogStream::Stderr => shown.take(1, &mut record),
            LogStream::End => *entry = None,
            LogStream::Unspecified => return None,
        }
        Some(record)
    }
}

impl Shown {
    fn take(&mut self, stream: usize, record: &mut LogRecord) {
        let again = &mut self.again[stream];
        let dropped_again = record.dropped_bytes.min(*again);
        *again -= dropped_again;
        let from = usize::try_from(*again).unwrap_or(usize::MAX).min(record.data.len());
        *again -= from as u64;
        record.dropped_bytes -= dropped_again;
        record.data = record.data.slice(from..);
        self.taken[stream] += record.dropped_bytes + record.data.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(stream: LogStream, data: &'static [u8], dropped_bytes: u64) -> LogRecord {
        LogRecord { stream: stream.into(), data: data.into(), dropped_bytes, ..LogRecord::default() }
    }

    #[test]
    fn what_comes_again_is_not_shown_again() {
        let mut seen = Seen::default();
        let take = |seen: &mut Seen, data, dropped| {
            let record = seen.admit(record(LogStream::Stdout, data, dropped)).unwrap();
            (String::from_utf8(record.data.to_vec()).unwrap(), record.dropped_bytes)
        };
        assert_eq!(take(&mut seen, b"hello ", 0), ("hello ".to_owned(), 0));
        assert_eq!(take(&mut seen, b"world", 3), ("world".to_owned(), 3));
        seen.rewind();
        // Cut elsewhere than the first time.
        assert_eq!(take(&mut seen, b"hel", 0), (String::new(), 0));
        assert_eq!(take(&mut seen, b"lo ", 0), (String::new(), 0));
        assert_eq!(take(&mut seen, b"world, and more", 3), (", and more".to_owned(), 0));
        let other = seen.admit(record(LogStream::Stderr, b"other stream", 0)).unwrap();
        assert_eq!(&other.data[..], b"other stream");
    }

    #[test]
    fn a_task_ends_once() {
        let mut seen = Seen::default();
        let end = || record(LogStream::End, b"", 5);
        assert_eq!(seen.admit(end()).unwrap().dropped_bytes, 5);
        seen.rewind();
        assert!(seen.admit(end()).is_none());
        assert!(seen.admit(record(LogStream::Stdout, b"again", 0)).is_none());
    }
}
