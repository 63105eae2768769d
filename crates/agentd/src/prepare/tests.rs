//! A compile worker that is a shell script shows how often it is started, and for how long it lives.

use std::path::Path;
use std::sync::Mutex as StdMutex;
use std::time::Duration;

use holm_datadir::digest_of;
use holm_model::{Epoch, Resources};
use holm_runtime::CompileLimits;

use super::*;
use crate::native::WorkerCommand;

/// Longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Brings every blob that the tests know.
struct Known(Vec<Vec<u8>>);

impl Fetch for Known {
    async fn fetch(&self, digest: Digest, store: &BlobStore) -> Result<(), String> {
        let blob = self.0.iter().find(|blob| digest_of(blob) == digest).ok_or("nobody has it")?;
        store.import(&blob[..], Some(digest)).map(drop).map_err(|error| error.to_string())
    }
}

struct Rig {
    dir: tempfile::TempDir,
    preparer: Arc<Preparer<Known>>,
    said: Arc<StdMutex<Vec<String>>>,
}

impl Rig {
    /// The script knows its input as `$2`, its output as `$4`, and the directory of the test as `$0`. It notes each start.
    fn new(script: &str, wall: Duration) -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let below = |name: &str| {
            let path = dir.path().join(name);
            fs::create_dir(&path).unwrap();
            path
        };
        let script = format!("echo $$ >> $0/started; {script}");
        let args = vec!["-c".to_owned(), script, dir.path().display().to_string()];
        let worker =
            WorkerCommand { program: "/bin/sh".into(), args, threads: 1, limits: CompileLimits::default(), wall };
        let native = NativeCaches {
            counted: NativeCache::new(&below("native"), "key", worker.clone()),
            uncounted: NativeCache::new(&below("uncounted"), "other", worker),
        };
        let blobs = Arc::new(BlobStore::open(&below("blobs"), 1 << 20).unwrap());
        let caches = Caches { blobs, native, max_bytes: 1 << 30 };
        let allowed = AllowedDirectories::new(&[]).unwrap();
        let network = AgentNetwork::new(None, &[], &Resources::EMPTY, None);
        let sandboxes = Sandboxes { works: below("works"), group: None };
        let known = Known((0..9).map(|module| vec![module]).collect());
        let preparer = Arc::new(Preparer::new(caches, 2, allowed, network, sandboxes, known));
        Rig { dir, preparer, said: Arc::default() }
    }

    /// Asks for the native code of a module, for a framework.
    fn ask(&self, module: u8, framework: u64) -> tokio::task::JoinHandle<Result<PathBuf, PrepareError>> {
        let (preparer, said) = (self.preparer.clone(), self.said.clone());
        tokio::spawn(async move {
            let waits = move |what: Arc<str>| said.lock().unwrap().push(what.to_string());
            let framework = FrameworkId::new(Epoch(1), framework);
            preparer.native_code(digest_of(&[module]), Metering::default(), framework, &waits).await
        })
    }

    /// The process ids of the workers that were started.
    fn started(&self) -> Vec<u32> {
        let text = fs::read_to_string(self.dir.path().join("started")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Lets the workers go on that wait for it.
    fn go(&self) {
        fs::write(self.dir.path().join("go"), "").unwrap();
    }
}

async fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "not within {PATIENCE:?}: {what}");
}

fn is_running(process: u32) -> bool {
    // The letter after the name: one that has ended and was not waited for yet is a Z. (The command line is empty during exec.)
    let stat = fs::read_to_string(Path::new("/proc").join(process.to_string()).join("stat"));
    stat.is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X'])))
}

const WAIT: &str = "while [ ! -e $0/go ]; do sleep 0.01; done;";
const FINE: &str = r#"echo native > "$4"; echo '{"ok":true,"kind":"core"}'"#;

#[tokio::test]
async fn launches_of_one_module_wait_for_one_compilation_and_say_so() {
    let rig = Rig::new(&format!("{WAIT} {FINE}"), PATIENCE);
    let asked: Vec<_> = (0..20).map(|framework| rig.ask(1, framework)).collect();
    wait_for("somebody says what it waits for", || {
        rig.said.lock().unwrap().iter().any(|what| what == "its module is compiled")
    })
    .await;
    rig.go();
    for result in asked {
        assert!(result.await.unwrap().unwrap().exists());
    }
    assert_eq!(rig.started().len(), 1);
    // And it is there for who comes later.
    rig.ask(1, 1).await.unwrap().unwrap();
    assert_eq!(rig.started().len(), 1);
}

#[tokio::test]
async fn a_module_that_cannot_be_compiled_is_tried_once() {
    let refused = r#"echo '{"ok":false,"reason":"INVALID_MODULE","message":"no entry"}'"#;
    let rig = Rig::new(&format!("{WAIT} {refused}"), PATIENCE);
    let asked = [rig.ask(1, 1), rig.ask(1, 2)];
    wait_for("the worker is started", || rig.started().len() == 1).await;
    rig.go();
    for result in asked {
        let error = result.await.unwrap().unwrap_err();
        assert_eq!((error.reason, &*error.message), (Reason::InvalidModule, "no entry"));
    }
    assert!(rig.ask(1, 3).await.unwrap().is_err());
    assert_eq!(rig.started().len(), 1);
}

#[tokio::test]
async fn a_compilation_that_nobody_waits_for_is_killed() {
    let rig = Rig::new("exec sleep 1000", PATIENCE);
    let [first, second] = [rig.ask(1, 1), rig.ask(1, 2)];
    wait_for("the worker is started", || rig.started().len() == 1).await;
    wait_for("both wait for it", || rig.said.lock().unwrap().len() >= 2).await;
    let worker = rig.started()[0];
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    assert!(is_running(worker));
    second.abort();
    wait_for("the worker is gone", || !is_running(worker)).await;
}

#[tokio::test]
async fn one_frameworks_slow_modules_leave_a_worker_for_the_others() {
    // Modules 2 and up of the greedy framework hang; module 1 does not.
    let script = format!(r#"[ "$(od -An -tu1 "$2" | tr -d ' ')" = 1 ] || exec sleep 1000; {FINE}"#);
    let rig = Rig::new(&script, PATIENCE);
    let hanging: Vec<_> = (2..7).map(|module| rig.ask(module, 1)).collect();
    wait_for("a slow module is compiled", || rig.started().len() == 1).await;
    rig.ask(1, 2).await.unwrap().unwrap();
    assert_eq!(rig.started().len(), 2, "the greedy framework has one worker");
    hanging.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_compilation_that_takes_too_long_is_killed_and_names_the_limit() {
    let rig = Rig::new("exec sleep 1000", Duration::from_millis(50));
    let error = rig.ask(1, 1).await.unwrap().unwrap_err();
    assert_eq!(error.reason, Reason::Compile);
    assert!(error.message.contains("50ms, the limit (limit compile-time)"), "{}", error.message);
    let worker = rig.started().first().copied();
    wait_for("the worker is gone", || worker.is_none_or(|worker| !is_running(worker))).await;
}

#[tokio::test]
async fn a_worker_that_talks_without_end_is_heard_up_to_a_bound() {
    let rig = Rig::new("exec yes", Duration::from_secs(2));
    assert_eq!(rig.ask(1, 1).await.unwrap().unwrap_err().reason, Reason::Compile);
}
