//! What a runner opens while it still may, and the confinement that it then takes upon itself.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use holm_runtime::{Layer, OpenPaths, Seat, watch_own_pages};

use super::{Options, RunnerError, log_dir, socket};
use crate::process::{ProcessIdentity, raise_open_files};

/// What the process has in hand once it is confined.
pub(super) struct Footing {
    /// The directories it may reach, held open.
    pub(super) paths: OpenPaths,
    /// Its socket, on which it listens already.
    pub(super) listener: UnixListener,
    /// Its log's directory, as it reaches it now.
    pub(super) log: PathBuf,
    /// The directory that guests without files see as their root.
    pub(super) empty: OwnedFd,
    /// Its seat at the table of CPU shares.
    pub(super) seat: Option<Seat>,
}

impl Footing {
    /// Opens everything, then confines the process for good. It must not have a thread yet.
    ///
    /// The directory, the socket and the note of the process's identity stay the agent's: only the log is the runner's own.
    pub(super) fn take(options: &Options) -> Result<Footing, RunnerError> {
        let dir = options.dir.as_path();
        let io = |what| move |source| RunnerError::Io { dir: dir.to_owned(), what, source };
        raise_open_files();
        if options.revocable {
            stand_back();
        }
        let plan = &options.confinement;
        let owner = plan.run_as.filter(|_| plan.has(Layer::User));
        if owner.is_some() {
            // A runner of another user may go on with what tasks leave in a volume. Who gets that far is decided by the
            // directories above it.
            rustix::process::umask(rustix::fs::Mode::empty());
        }
        let log = log_dir(dir);
        let made = make_private(&log).and_then(|()| match owner {
            Some(user) => chown(&log, Some(user.uid), Some(user.gid)),
            None => Ok(()),
        });
        made.map_err(io("make its log's directory"))?;
        let empty = empty_directory(dir).map_err(io("make an empty directory"))?;
        ProcessIdentity::of_this_process().write(dir).map_err(io("write its identity"))?;
        let seat = options.cpu_seat.as_ref().map(|(table, seat)| Seat::take(table, *seat)).transpose();
        let seat = seat.map_err(io("take its seat at the table of CPU shares"))?;
        let seat = seat.map(|seat: Seat| if options.revocable { seat.on_what_is_left() } else { seat });
        let listener = socket::bind(dir).map_err(io("listen on its socket"))?;
        let paths = plan.open()?;
        watch_own_pages();
        plan.apply(&paths)?;
        let log = paths.resolve(&log);
        Ok(Footing { paths, listener, log, empty, seat })
    }
}

/// Tells the operating system that everybody else goes first: for what the run queue does not see, and should the agent be
/// too late. Each of these is a request that needs no privilege and may fail; the agent watches in any case.
fn stand_back() {
    let last = "19";
    let requests = [
        ("niceness", rustix::process::setpriority_process(None, 19).map_err(io::Error::from)),
        // Niceness counts within a session only.
        ("niceness of its session", fs::write("/proc/self/autogroup", last)),
        ("first to be ended when memory is short", fs::write("/proc/self/oom_score_adj", "1000")),
    ];
    for (what, result) in requests {
        if let Err(error) = result {
            tracing::debug!(what, %error, "a runner of revocable tasks cannot stand back");
        }
    }
}

fn make_private(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
}

fn empty_directory(dir: &Path) -> io::Result<OwnedFd> {
    let path = dir.join("empty");
    fs::create_dir_all(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o555))?;
    Ok(fs::File::open(path)?.into())
}
