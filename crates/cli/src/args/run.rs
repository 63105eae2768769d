//! `holm run`.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use holm_model::{Amount, BatchId, Constraint, Placement, Resources, Role, VolumeMount};

use super::OutputArgs;
use super::metering::MeteringArg;
use super::network::NetworkArgs;
use crate::values;

const EXAMPLES: &str = "\
Examples:
  holm run hello.wasm
  holm run count.wasm --cpus 1 --mem 128MiB --timeout 30s -- 1000000
  holm run render.wasm --count 200 --env SCENE=island
  holm run nightly.wasm --cpus 0.5 --cpus-limit 0.5 --metering epochs
  holm run grep.wasm --file ./words.txt::words.txt -- needle words.txt
  holm run convert.wasm --dir ./photos::photos:rw --detach
  holm run fetch.wasm --allow-net api.example.org:443 --allow-net 'udp:10.0.0.53:53'
  holm run --revocable render.wasm --count 200 --cpus 1
  holm run --role eng import.wasm --volume data:/db --file ./new.csv::new.csv
  holm run train.wasm --count 8 --constraint zone=eu --constraint ssd --placement pack --priority 10
  holm run --kind service hello-http.wasm --cpus 0.5 --listen loopback

Exit code: the task's own. 1 when it failed without one, 137 when it was killed, 130 when you interrupted it; for an array \
0 when all tasks finished, else 1. Ctrl-C kills the tasks, a second one leaves at once.

Every task sees HOLM_TASK_ID (unless --seed is given), those of an array HOLM_TASK_INDEX, from 0. With --output json \
stdout has one JSON object per task end, and what the tasks write goes to stderr.";

/// Arguments of `holm run`.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RunArgs {
    /// The program: a core wasip1 module or a wasip2 component
    #[arg(value_name = "MODULE")]
    pub(crate) module: PathBuf,
    /// What to call the task [default: the file's name and a suffix]
    #[arg(long, value_name = "NAME", allow_hyphen_values = true, value_parser = values::task_name)]
    pub(crate) name: Option<BatchId>,
    /// The role in which to ask for resources
    #[arg(long, value_name = "ROLE", default_value = "default")]
    pub(crate) role: Role,
    /// CPU cores that a task holds
    #[arg(long, value_name = "X", default_value = "0.1", allow_negative_numbers = true, value_parser = values::cpus)]
    pub(crate) cpus: Amount,
    /// CPU cores that a task uses at most, not below --cpus; equal to it, a hard cap [default: what others leave idle]
    #[arg(long, value_name = "X", allow_negative_numbers = true, value_parser = values::cpus)]
    pub(crate) cpus_limit: Option<Amount>,
    /// Memory that a task holds; also its limit
    #[arg(long, value_name = "SIZE", default_value = "64MiB", allow_negative_numbers = true, value_parser = values::mem)]
    pub(crate) mem: Amount,
    /// Disk that a task holds; with it, it may write to its sandbox
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true, value_parser = values::disk)]
    pub(crate) disk: Option<Amount>,
    /// Other resources that a task holds, such as "gpus:1"
    #[arg(long, value_name = "SPEC")]
    pub(crate) resources: Option<Resources>,
    /// Fuel after which a task is stopped, about one unit per Wasm instruction
    #[arg(long, allow_negative_numbers = true, value_name = "N", value_parser = values::fuel)]
    pub(crate) fuel: Option<u64>,
    /// How instructions are counted and interrupted: "epochs" counts no fuel, which suits code that calls a lot
    #[arg(long, value_enum, value_name = "HOW", default_value_t = MeteringArg::FuelAndEpochs)]
    pub(crate) metering: MeteringArg,
    /// Wall time after which a task is stopped, such as 30s or 5m
    #[arg(long, value_name = "DURATION", allow_negative_numbers = true, value_parser = values::duration)]
    pub(crate) timeout: Option<Duration>,
    /// Output beyond which a task's is dropped [default: the agent's, 16MiB]
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true, value_parser = values::size)]
    pub(crate) output_limit: Option<u64>,
    /// How many tasks
    #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true, value_parser = values::count)]
    pub(crate) count: u32,
    /// A variable of a task's environment; may be repeated
    #[arg(long, value_name = "K=V", value_parser = values::key_value)]
    pub(crate) env: Vec<(String, String)>,
    /// A file to give to a task, read-only; may be repeated
    #[arg(long, value_name = "HOST::GUEST")]
    pub(crate) file: Vec<FileArg>,
    /// A directory of the agent's host to open for a task, read-only unless it ends in :rw; a relative path begins here. May be
    /// repeated
    #[arg(long, value_name = "HOST::GUEST[:ro|:rw]")]
    pub(crate) dir: Vec<DirectoryArg>,
    /// A volume to mount, at a path of the task's sandbox; the task runs where the volume is, and waits while another task has
    /// it. May be repeated
    #[arg(long, value_name = "ID:/PATH[:ro]")]
    pub(crate) volume: Vec<VolumeArg>,
    /// Fixes what a task gets for randomness and time, so that its fuel repeats exactly
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = values::seed)]
    pub(crate) seed: Option<u64>,
    /// Run on what other tasks leave unused; the tasks give way, and end PREEMPTED when it is needed back
    #[arg(long, conflicts_with_all = ["disk", "resources"])]
    pub(crate) revocable: bool,
    /// Leave as soon as the tasks are launched; they go on for up to 24 hours
    #[arg(long)]
    pub(crate) detach: bool,
    /// Wait for an agent that is large enough, even if there is none
    #[arg(long)]
    pub(crate) wait: bool,
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    /// Arguments of the program
    #[arg(last = true, value_name = "ARGS")]
    pub(crate) args: Vec<String>,
}

/// Where tasks are to run, and before whom.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct PlaceArgs {
    /// Only on agents of which this holds: rack=a, rack!=a, 'rack=~a[0-9]+', 'rack!~b.*', ssd, '!ssd'; @hostname is the host's
    /// name. May be repeated: all must hold
    #[arg(long, value_name = "CONDITION")]
    pub(crate) constraint: Vec<Constraint>,
    /// Which agents to use first: those with the most free (spread), with the least (pack), or any (random) [default: spread]
    #[arg(long, value_name = "POLICY")]
    pub(crate) placement: Option<Placement>,
    /// Before whom of the same role it is served: a higher number first
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    pub(crate) priority: i32,
}

/// A file of this machine and where the guest finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileArg {
    pub(crate) host: PathBuf,
    pub(crate) guest: String,
}

/// A directory of the agent's machine and where the guest finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DirectoryArg {
    pub(crate) host: PathBuf,
    pub(crate) guest: String,
    pub(crate) writable: bool,
}

/// A volume and where the guest finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VolumeArg(pub(crate) VolumeMount);

impl FromStr for VolumeArg {
    type Err = String;

    fn from_str(text: &str) -> Result<VolumeArg, String> {
        let expected = "expected ID:/PATH or ID:/PATH:ro, such as data:/db";
        let (id, place) = text.split_once(':').ok_or(expected)?;
        let (path, read_only) = place.strip_suffix(":ro").map_or((place, false), |path| (path, true));
        let path = path.trim_start_matches('/').trim_end_matches('/');
        if path.is_empty() || path.contains(':') {
            return Err(expected.to_owned());
        }
        let id = id.parse().map_err(|error: holm_model::IdTextError| error.to_string())?;
        Ok(VolumeArg(VolumeMount { id, path: path.into(), read_only }))
    }
}

fn host_and_guest(text: &str) -> Option<(PathBuf, &str)> {
    let (host, guest) = text.split_once("::").filter(|(host, _)| !host.is_empty())?;
    // The guest's root is its sandbox: the leading slash is no more than a habit.
    let guest = guest.trim_start_matches('/').trim_end_matches('/');
    (!guest.is_empty()).then(|| (host.into(), guest))
}

impl FromStr for FileArg {
    type Err = String;

    fn from_str(text: &str) -> Result<FileArg, String> {
        let (host, guest) = host_and_guest(text).ok_or("expected HOST::GUEST, such as ./words.txt::words.txt")?;
        Ok(FileArg { host, guest: guest.to_owned() })
    }
}

impl FromStr for DirectoryArg {
    type Err = String;

    fn from_str(text: &str) -> Result<DirectoryArg, String> {
        let (path, writable) = match (text.strip_suffix(":rw"), text.strip_suffix(":ro")) {
            (Some(path), _) => (path, true),
            (None, Some(path)) => (path, false),
            (None, None) => (text, false),
        };
        let (host, guest) = host_and_guest(path)
            .ok_or("expected HOST::GUEST, HOST::GUEST:ro or HOST::GUEST:rw, such as ./data::data")?;
        if let Some((_, end)) = guest.split_once(':') {
            return Err(format!("the guest's path {guest:?} has a colon; :{end} is neither :ro nor :rw"));
        }
        Ok(DirectoryArg { host, guest: guest.to_owned(), writable })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_a_place_here_and_there() {
        let file: FileArg = "a/b.txt::/in/b.txt".parse().unwrap();
        assert_eq!(file, FileArg { host: "a/b.txt".into(), guest: "in/b.txt".to_owned() });
        for bad in ["", "a", "a::", "::b", "a:b", "a::/"] {
            assert!(bad.parse::<FileArg>().is_err(), "{bad:?} passed");
        }
    }

    #[test]
    fn a_volume_has_an_id_and_a_place() {
        let mount =
            |id: &str, path: &str, read_only| VolumeMount { id: id.parse().unwrap(), path: path.into(), read_only };
        for (text, expected) in [
            ("data:/db", mount("data", "db", false)),
            ("data:a/b/", mount("data", "a/b", false)),
            ("data.1:/db:ro", mount("data.1", "db", true)),
        ] {
            assert_eq!(text.parse::<VolumeArg>().unwrap().0, expected, "{text}");
        }
        for bad in ["data", "data:", ":/db", "da ta:/db", "data:/", "data:/db:rw"] {
            assert!(bad.parse::<VolumeArg>().is_err(), "{bad:?} passed");
        }
    }

    #[test]
    fn a_directory_is_for_reading_unless_asked() {
        let read: DirectoryArg = ".::work".parse().unwrap();
        let write: DirectoryArg = ".::work:rw".parse().unwrap();
        assert!(!read.writable && write.writable);
        assert_eq!(".::work:ro".parse::<DirectoryArg>().unwrap(), read);
        for bad in [".::x:zz", ".::a:b:rw", ".", ".::", "::x"] {
            assert!(bad.parse::<DirectoryArg>().is_err(), "{bad:?} passed");
        }
        assert_eq!((read.guest, write.guest), ("work".to_owned(), "work".to_owned()));
    }
}
