//! `holm blob`.

use serde_json::Value;

use crate::harness::{Cluster, p1};

#[test]
fn blobs_are_pushed_once_listed_and_removed() {
    let cluster = Cluster::bare();
    let bytes: Vec<u8> = (0u32..5 << 20).map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    let file = cluster.dir.file("large", &bytes);
    let first = cluster.holm(&["blob", "push", &file, "-o", "json"]).expect(0).object();
    let again = cluster.holm(&["blob", "push", &file, "-o", "json"]).expect(0).object();
    assert_eq!((&first["existed"], &again["existed"]), (&Value::from(false), &Value::from(true)));
    assert_eq!((&first["digest"], &first["size"]), (&again["digest"], &Value::from(5 << 20)));
    let digest = first["digest"].as_str().unwrap();
    let listed = cluster.list(&["blob", "ls"]);
    assert_eq!(listed, [serde_json::json!({"digest": digest, "size": 5 << 20})]);
    cluster.holm(&["blob", "rm", digest]).expect(0);
    assert!(cluster.list(&["blob", "ls"]).is_empty());
    let missing = cluster.holm(&["blob", "rm", digest]).expect(1);
    assert!(missing.stderr.contains(&digest[7..20]), "{missing:?}");
    cluster.holm(&["blob", "rm", "sha256:xyz"]).expect(2);
    cluster.holm(&["blob", "push", "/no/such/file"]).expect(1);
}

#[test]
fn an_agent_that_has_a_module_does_not_need_the_blob_again() {
    let cluster = Cluster::new("cpus:1;mem:1GiB");
    cluster.holm(&["run", p1("hello")]).expect(0);
    let blobs = cluster.list(&["blob", "ls"]);
    assert_eq!(blobs.len(), 1);
    cluster.holm(&["run", p1("hello")]).expect(0);
    assert_eq!(cluster.list(&["blob", "ls"]), blobs);
}
