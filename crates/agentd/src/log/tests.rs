//! The log as its readers see it.

use super::*;

fn name(batch: &str) -> LaunchName {
    LaunchName {
        framework: "framework-1-2".parse().unwrap(),
        batch: batch.parse().unwrap(),
        tasks: holm_model::TaskRange::Array { first: 10, count: 5 },
    }
}

fn read_all(tail: &mut Tail, wanted: impl Fn(WorkId, u32) -> bool) -> Vec<Record> {
    let mut records = Vec::new();
    while tail.read(1 << 20, |work, position, _| wanted(work, position), |record| records.push(record)).unwrap() {}
    records
}

#[test]
fn one_task_is_found_among_others_while_the_log_grows() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = LogWriter::open(dir.path(), 1 << 30).unwrap();
    let mut tail = Tail::new(dir.path());
    assert!(read_all(&mut tail, |_, _| true).is_empty());
    log.launch(WorkId(7), &name("build")).unwrap();
    log.output(WorkId(7), 1, RecordKind::Stdout, b"one").unwrap();
    log.output(WorkId(7), 2, RecordKind::Stderr, b"two").unwrap();
    log.flush().unwrap();
    let records = read_all(&mut tail, |_, position| position == 2);
    assert_eq!(records[0].launch_name(), Some(name("build")));
    assert_eq!(records[0].launch_name().unwrap().task_id(2).to_string(), "build/12");
    assert_eq!((records[1].kind, records[1].payload.as_slice()), (RecordKind::Stderr, b"two".as_slice()));
    log.end(WorkId(7), 2, 99).unwrap();
    log.flush().unwrap();
    let more = read_all(&mut tail, |_, position| position == 2);
    assert_eq!((more.len(), more[0].kind, more[0].dropped()), (1, RecordKind::End, 99));
}

#[test]
fn old_segments_give_way_and_names_are_carried_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = LogWriter::open(dir.path(), 2 * SEGMENT_BYTES).unwrap();
    log.launch(WorkId(1), &name("flood")).unwrap();
    let chunk = vec![b'x'; MAX_RECORD_BYTES];
    for _ in 0..(4 * SEGMENT_BYTES / chunk.len() as u64) {
        log.output(WorkId(1), 0, RecordKind::Stdout, &chunk).unwrap();
    }
    log.flush().unwrap();
    assert_eq!(segments(dir.path()).unwrap().len(), 2);
    let records = read_all(&mut Tail::new(dir.path()), |_, _| true);
    assert_eq!(records[0].launch_name(), Some(name("flood")));
    let kept: u64 = records.iter().map(|record| record.payload.len() as u64).sum();
    assert!(kept <= 2 * SEGMENT_BYTES + 1024 && kept > SEGMENT_BYTES);
}

#[test]
fn a_torn_tail_ends_the_log_and_the_next_writer_starts_a_new_segment() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = LogWriter::open(dir.path(), 1 << 30).unwrap();
    log.output(WorkId(1), 0, RecordKind::Stdout, b"kept").unwrap();
    log.flush().unwrap();
    let index = index_file(dir.path(), 1);
    let mut bytes = std::fs::read(&index).unwrap();
    bytes.extend([0x5a; ENTRY_BYTES + 7]);
    std::fs::write(&index, bytes).unwrap();
    drop(log);
    let mut log = LogWriter::open(dir.path(), 1 << 30).unwrap();
    log.output(WorkId(1), 0, RecordKind::Stdout, b"later").unwrap();
    log.flush().unwrap();
    let texts: Vec<_> = read_all(&mut Tail::new(dir.path()), |_, _| true).into_iter().map(|r| r.payload).collect();
    assert_eq!(texts, [b"kept".to_vec(), b"later".to_vec()]);
}
