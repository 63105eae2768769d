//! The embedded store as its caller sees it.

use holm_model::Epoch;

use super::*;

fn open_as(dir: &Path, cluster: u128, adopted: bool) -> Result<Embedded, OpenError> {
    let dir = DataDir::open(dir, "master", adopted).unwrap();
    Embedded::open(dir, &Options { fresh_cluster: ClusterId(cluster), adopted, written_by: "0.1.0".to_owned() })
}

fn open(dir: &Path) -> Result<Embedded, OpenError> {
    open_as(dir, 7, false)
}

fn put(key: &str, value: &str) -> KeyOp {
    KeyOp::put(key, value)
}

#[tokio::test]
async fn what_was_committed_is_there_after_reopening_and_the_epoch_has_grown() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let first = store.campaign().await.unwrap();
    assert_eq!(first, Leadership { cluster: ClusterId(7), epoch: Epoch(1) });
    let ops = vec![put("agent/1", "a"), put("agent/2", "b"), put("framework/1", "c")];
    assert_eq!(store.commit(first, ops).await, CommitOutcome::Committed);
    assert_eq!(store.commit(first, vec![KeyOp::remove("agent/1")]).await, CommitOutcome::Committed);
    drop(store);

    let store = open_as(dir.path(), 8, false).unwrap();
    assert_eq!(store.cluster(), ClusterId(7));
    assert_eq!(store.campaign().await.unwrap().epoch, Epoch(2));
    assert_eq!(store.snapshot("agent/").await.unwrap(), [("agent/2".to_owned(), b"b".to_vec())]);
    assert_eq!(store.snapshot("").await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_leader_that_was_succeeded_is_fenced_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let old = store.campaign().await.unwrap();
    let new = store.campaign().await.unwrap();
    assert_eq!(store.commit(old, vec![put("x", "old")]).await, CommitOutcome::Fenced);
    assert_eq!(store.commit(new, vec![put("y", "new")]).await, CommitOutcome::Committed);
    assert_eq!(store.snapshot("").await.unwrap(), [("y".to_owned(), b"new".to_vec())]);
}

#[tokio::test]
async fn many_writers_at_once_all_get_their_answer() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let reign = store.campaign().await.unwrap();
    let store = std::sync::Arc::new(store);
    let mut writes = Vec::new();
    for at in 0..600 {
        let store = store.clone();
        writes.push(tokio::spawn(async move { store.commit(reign, vec![put(&format!("k{at:03}"), "v")]).await }));
    }
    for write in writes {
        assert_eq!(write.await.unwrap(), CommitOutcome::Committed);
    }
    assert_eq!(store.snapshot("k").await.unwrap().len(), 600);
}

#[tokio::test]
async fn an_oversized_value_is_refused_with_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let reign = store.campaign().await.unwrap();
    let big = KeyOp::put("big", vec![0; crate::MAX_VALUE_BYTES + 1]);
    let CommitOutcome::Unknown(why) = store.commit(reign, vec![put("small", "x"), big]).await else {
        panic!("an oversized value was stored")
    };
    assert!(why.contains("4194304"), "{why}");
    assert!(store.snapshot("").await.unwrap().is_empty(), "half of a commit was applied");
}

#[tokio::test]
async fn the_directory_is_free_as_soon_as_the_store_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path()).unwrap();
    let reign = first.campaign().await.unwrap();
    assert!(DataDir::open(dir.path(), "master", false).is_err());
    assert_eq!(first.commit(reign, vec![put("x", "y")]).await, CommitOutcome::Committed);
    drop(first);
    assert_eq!(open(dir.path()).unwrap().snapshot("").await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_adopted_store_outruns_every_epoch_of_its_original() {
    let dir = tempfile::tempdir().unwrap();
    let (original, copy) = (dir.path().join("a"), dir.path().join("b"));
    drop(open(&original).unwrap());
    std::fs::create_dir(&copy).unwrap();
    std::fs::copy(original.join(FILE), copy.join(FILE)).unwrap();
    let adopted = open_as(&copy, 8, true).unwrap();
    let reign = adopted.campaign().await.unwrap();
    assert_eq!(reign, Leadership { cluster: ClusterId(7), epoch: Epoch((1 << 20) + 1) });
}

#[test]
fn a_store_of_a_newer_build_is_refused_naming_both_versions() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    let database = Database::open(dir.path().join(FILE)).unwrap();
    let write = database.begin_write().unwrap();
    write.open_table(META).unwrap().insert(MIN_WRITER, "9").unwrap();
    write.open_table(META).unwrap().insert(WRITTEN_BY, "3.2.1").unwrap();
    write.commit().unwrap();
    drop(database);
    let error = open(dir.path()).unwrap_err().to_string();
    for part in ["holm 3.2.1", "format 9", "format 1", "newer holm"] {
        assert!(error.contains(part), "{error:?} lacks {part:?}");
    }
}

#[test]
fn a_file_that_is_no_database_is_named_as_damaged() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(FILE), vec![b'x'; 8192]).unwrap();
    let error = open(dir.path()).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
}
