//! What a disk loses: an agent does not run, or trust, what is not what it wrote.

use std::fs;
use std::path::PathBuf;

use rustix::process::Signal;

use crate::harness::{Cluster, p1};

fn cached(cluster: &Cluster, cache: &str, ending: &str) -> Vec<PathBuf> {
    let dir = cluster.dir.path().join("agent-0").join(cache);
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.to_string_lossy().ends_with(ending)).collect()
}

/// Changes one byte in the middle of a file, as a worn disk would.
fn damage(path: &PathBuf) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Ends the agent, does something to its disk, and starts it again.
fn meanwhile(cluster: &mut Cluster, change: impl FnOnce()) {
    cluster.agents[0].signal(Signal::TERM);
    cluster.agents[0].wait();
    change();
    cluster.restart_agent(0);
    cluster.wait_for_agents(1);
}

#[test]
fn damaged_native_code_and_blobs_are_made_anew() {
    let mut cluster = Cluster::new("cpus:1;mem:1GiB");
    cluster.holm(&["run", p1("hello")]).expect(0);
    let (native, blobs) = (cached(&cluster, "native", ".core"), cached(&cluster, "blobs", ""));
    assert_eq!((native.len(), blobs.len()), (1, 1));
    let (native, blob) = (&native[0], &blobs[0]);
    let (code, bytes) = (fs::read(native).unwrap(), fs::read(blob).unwrap());

    meanwhile(&mut cluster, || damage(native));
    cluster.holm(&["run", p1("hello")]).expect(0);
    assert!(fs::read(native).unwrap() == code, "damaged native code was run");

    // Without native code the blob is needed again.
    meanwhile(&mut cluster, || {
        fs::remove_file(native).unwrap();
        damage(blob);
    });
    cluster.holm(&["run", p1("hello")]).expect(0);
    assert!(fs::read(blob).unwrap() == bytes, "a damaged blob was compiled");
    assert!(fs::read(native).unwrap() == code);
}
