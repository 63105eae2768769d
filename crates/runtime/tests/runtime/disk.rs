//! The disk ledger, through both linkers: every case runs as a core module and as a component.

use std::path::Path;

use holm_model::{Reason, TaskState};
use holm_runtime::{Command, Disk, DiskError, DiskLimits, HostDir, Preopen};
use holm_test_programs as samples;

use crate::harness::{Done, ENGINE, command, preopen, program_of, queue, submit};

const KIB: u64 = 1 << 10;

/// A task's own directory.
fn own(root: &Path, limits: DiskLimits) -> (Preopen, Disk) {
    let disk = Disk::open(root, limits).unwrap();
    (Preopen { host: HostDir::Own(root.into(), disk.clone()), guest: "/".into(), writable: true }, disk)
}

fn with_args(args: &[&str], preopens: Vec<Preopen>) -> Command {
    let mut command = Command { preopens, ..command() };
    command.args.extend(args.iter().map(|&arg| arg.to_owned()));
    command
}

/// Both forms of a sample, each in a directory of its own with these limits.
fn both(sample: samples::Program, args: &[&str], limits: DiskLimits) -> [(Done, Disk, tempfile::TempDir); 2] {
    [sample.p1_bytes(), sample.p2_bytes()].map(|bytes| {
        let root = tempfile::tempdir().unwrap();
        let (preopen, disk) = own(root.path(), limits);
        let program = program_of(&ENGINE, &bytes.unwrap());
        let done = submit(&queue(1), &program, with_args(args, vec![preopen])).wait();
        (done, disk, root)
    })
}

/// What really is in a directory: bytes in blocks, and names.
fn really(root: &Path) -> (u64, u64) {
    let disk = Disk::open(root, DiskLimits { bytes: u64::MAX, entries: u64::MAX }).unwrap();
    (disk.bytes(), disk.entries())
}

/// Runs commands of `file-ops` with 32 KiB and 8 names; `FULL` stands for "no space". What the ledger then says is what
/// there is.
fn case(script: &str, expected: &str) {
    let limits = DiskLimits { bytes: 32 * KIB, entries: 8 };
    let args: Vec<&str> = script.split_whitespace().collect();
    for (done, disk, root) in both(samples::FILE_OPS, &args, limits) {
        // Components of this toolchain make any failure of a stream an I/O error without a kind of its own.
        let said = done.stdout.trim().replace("StorageFull", "FULL").replace("Uncategorized", "FULL");
        assert_eq!(said, expected, "{script}: {} {}", done.message(), done.stderr);
        assert_eq!((disk.bytes(), disk.entries()), really(root.path()), "{script}");
        assert!(disk.peak() <= 32 * KIB);
        assert_eq!(done.end.peak_disk, disk.peak());
    }
}

#[test]
fn the_write_that_exceeds_is_refused_and_nothing_of_it_is_written() {
    case("open a f : write a 32768 : write a 1 : close a", "ok ok FULL ok");
    case("open a f : write a 16384 : write a 16385", "ok ok FULL");
    case("append a f : write a 20000 : write a 20000", "ok ok FULL");
    case("open a f : open b f : write a 1 100000 : write b 1 32767", "ok ok FULL ok");
}

#[test]
fn nothing_is_written_of_a_write_that_is_too_long() {
    // Components of this toolchain write large buffers in pieces of 4 KiB, so this shows only in core modules.
    let script = "open a f : write a 16384 : write a 16385 : write a 16384 : write a 1";
    let args: Vec<&str> = script.split_whitespace().collect();
    let [(done, ..), _] = both(samples::FILE_OPS, &args, DiskLimits { bytes: 32 * KIB, entries: 8 });
    assert_eq!(done.stdout.trim(), "ok ok StorageFull ok StorageFull");
}

#[test]
fn what_is_there_can_be_written_again() {
    case("open a f : write a 32768 : write a 32768 0 : open b f : write b 4096", "ok ok ok ok ok");
}

#[test]
fn two_descriptors_of_one_file_are_one_file() {
    case("open a f : open b f : write a 16384 : write b 16384 : write b 16384 : write a 16385", "ok ok ok ok ok FULL");
    case("append a f : append b f : write a 16384 : write b 16384 : write b 1", "ok ok ok ok FULL");
}

#[test]
fn a_length_that_is_only_claimed_counts() {
    case("open a f : size a 32768 : size a 32769 : size a 0 : size a 32768", "ok ok FULL ok ok");
}

#[test]
fn cutting_and_removing_give_back() {
    case("open a f : write a 32768 : size a 4096 : open b g : write b 28672 : write b 1", "ok ok ok ok ok FULL");
    case("open a f : write a 32768 : close a : truncate f : open b g : write b 32768", "ok ok ok ok ok ok");
    case("open a f : write a 32768 : close a : rm f : open b g : write b 32768", "ok ok ok ok ok ok");
    case(
        "mkdir d : open a d/f : write a 28672 : write a 1 : close a : rm d/f : rmdir d : open b f : write b 32768",
        "ok ok ok FULL ok ok ok ok ok",
    );
}

#[test]
fn a_file_that_is_removed_while_open_takes_its_space_until_it_is_closed() {
    let script = "open a f : write a 32768 : rm f : open b g : write b 1 : close a : open c g : write c 32768";
    case(script, "ok ok ok ok FULL ok ok ok");
    // Also while it is only read, and through a second descriptor.
    let script = "open a f : write a 32768 : read b f : close a : rm f : open c g : write c 1 : close b \
        : open d g : write d 9";
    case(script, "ok ok ok ok ok ok FULL ok ok ok");
}

#[test]
fn a_rename_over_a_file_gives_back_what_was_there() {
    case(
        "open a f : write a 16384 : open b g : write b 16384 : close b : mv f g : write a 32768 0",
        "ok ok ok ok ok ok ok",
    );
    case("open a f : write a 16384 : mv f g : write a 32768 0 : write a 1", "ok ok ok ok FULL");
    case("mkdir a : mkdir b : mv a b : open f b/f : write f 28672 : write f 1", "ok ok ok ok ok FULL");
}

#[test]
fn names_of_one_file_are_counted_each_and_its_bytes_once() {
    let script = "open a f : write a 32768 : ln f g : close a : rm f : open b h : write b 1 : rm g \
        : open c h : write c 1";
    case(script, "ok ok ok ok ok ok FULL ok ok ok");
    // Renaming one name of a file to another does nothing at all.
    case(
        "open a f : write a 32768 : close a : ln f g : mv f g : rm f : rm g : open b h : write b 32768",
        "ok ok ok ok ok ok ok ok ok",
    );
}

#[test]
fn names_are_limited() {
    let eight = "open a 1 : open a 2 : open a 3 : open a 4 : open a 5 : mkdir 6 : ln 1 7 : open a 8";
    case(
        &format!("{eight} : open a 9 : mkdir 9 : ln 1 9 : rm 8 : open a 9"),
        "ok ok ok ok ok ok ok ok FULL FULL FULL ok ok",
    );
    // What exists can be opened, and what cannot be made takes nothing.
    case(&format!("{eight} : open a 3 : mkdir 6"), "ok ok ok ok ok ok ok ok ok FULL");
    case("mkdir d : mkdir d : mkdir d : rmdir d : mkdir d", "ok AlreadyExists AlreadyExists ok ok");
    case(
        "mkdir a : mkdir b : mkdir c : mkdir d : mkdir e : mkdir f : mkdir g : mkdir h : rmdir a : open x f2 : write x 1 : rmdir b : write x 1",
        "ok ok ok ok ok ok ok ok ok ok ok ok ok",
    );
}

#[test]
fn a_name_does_not_leave_its_ledger() {
    for bytes in [samples::FILE_OPS.p1_bytes(), samples::FILE_OPS.p2_bytes()] {
        let (root, host) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(host.path().join("h"), "content").unwrap();
        let (mine, disk) = own(root.path(), DiskLimits { bytes: 32 * KIB, entries: 8 });
        let preopens = vec![mine, preopen(host.path(), "/host", true)];
        let script = "open a f : mv f /host/f : ln f /host/f : mv /host/h h : ln /host/h h \
            : open b /host/big : write b 100000 : rm /host/h : mkdir /host/d";
        let args: Vec<&str> = script.split_whitespace().collect();
        let done = submit(&queue(1), &program_of(&ENGINE, &bytes.unwrap()), with_args(&args, preopens)).wait();
        let crosses = "CrossesDevices CrossesDevices CrossesDevices CrossesDevices";
        assert_eq!(done.stdout.trim(), format!("ok {crosses} ok ok ok ok"), "{}", done.message());
        // A directory that the operator granted is not the task's disk.
        assert_eq!((disk.bytes(), disk.entries()), (0, 1));
    }
}

#[test]
fn a_ledger_begins_with_what_is_there() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("d")).unwrap();
    std::fs::write(root.path().join("d/f"), [0; 5000]).unwrap();
    std::fs::hard_link(root.path().join("d/f"), root.path().join("g")).unwrap();
    std::os::unix::fs::symlink("/etc", root.path().join("l")).unwrap();
    let limits = |bytes| DiskLimits { bytes, entries: 4 };
    let disk = Disk::open(root.path(), limits(16 * KIB)).unwrap();
    assert_eq!((disk.bytes(), disk.entries()), (16 * KIB, 4));
    let error = Disk::open(root.path(), limits(16 * KIB - 1)).unwrap_err();
    assert!(matches!(error, DiskError::Full { what: "bytes", asked: 16384, limit: 16383 }), "{error}");
    assert!(error.to_string().contains("16384") && error.to_string().contains("16383"), "{error}");
}

fn assert_flooded(way: &str, of_names: bool) {
    let limits = DiskLimits::of_bytes(256 << 10);
    for (done, disk, root) in both(samples::FILE_FLOOD, &[way], limits) {
        let status = done.status();
        assert_eq!(
            (status.state, status.reason),
            (TaskState::Failed, Some(Reason::DiskLimit)),
            "{way}: {}",
            done.message()
        );
        assert_eq!(status.exit_code, Some(1));
        // See `case`.
        let full = ["and then StorageFull", "and then Uncategorized"].iter().any(|full| done.stdout.contains(full));
        assert!(full, "{way}: {}", done.stdout);
        let limit = if of_names { limits.entries } else { limits.bytes };
        assert!(
            status.message.contains(&format!("limit disk {}{limit}", if of_names { "allows " } else { "is " })),
            "{}",
            status.message
        );
        assert!(disk.peak() <= limits.bytes && status.usage.peak_disk == disk.peak());
        let (bytes, names) = really(root.path());
        assert!(bytes <= limits.bytes && names <= limits.entries, "{way} left {bytes} bytes in {names} names");
    }
}

#[test]
fn file_flood() {
    assert_flooded("huge", false);
    assert_flooded("sparse", false);
    assert_flooded("directories", false);
    assert_flooded("deleted", false);
    assert_flooded("many", true);
    assert_flooded("links", true);
}

#[test]
fn who_gets_along_with_less_is_not_blamed() {
    // It fails for another reason than the refusal it met only when it fails at all.
    case("open a f : write a 40000 : open b f : write b 1", "ok FULL ok ok");
    for (done, ..) in
        both(samples::FILE_OPS, &["open", "a", "f", ":", "write", "a", "99999"], DiskLimits::of_bytes(4096))
    {
        assert_eq!(done.status().state, TaskState::Finished);
    }
}
