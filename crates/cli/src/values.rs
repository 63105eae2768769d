//! Values on the command line: sizes, durations, pairs; each refusal says what was expected.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use holm_model::{Amount, BatchId, ResourceName, TaskId, TaskState};

/// Most tasks of one `holm run`.
pub(crate) const MAX_COUNT: u32 = 1_000_000;
/// Longest duration: 365 days.
const MAX_DURATION: Duration = Duration::from_secs(365 * 24 * 3600);
/// Longest grace period that agents give.
const MAX_GRACE: Duration = Duration::from_secs(3600);
/// Largest picture, in pixels of each side.
const MAX_SIDE: u32 = 8192;

/// CPU cores.
pub(crate) fn cpus(text: &str) -> Result<Amount, String> {
    amount(&ResourceName::Cpus, text)
}

/// Memory.
pub(crate) fn mem(text: &str) -> Result<Amount, String> {
    amount(&ResourceName::Mem, text)
}

/// Disk.
pub(crate) fn disk(text: &str) -> Result<Amount, String> {
    amount(&ResourceName::Disk, text)
}

fn amount(name: &ResourceName, text: &str) -> Result<Amount, String> {
    // ".5" is what many write.
    let whole = if text.starts_with('.') { format!("0{text}") } else { text.to_owned() };
    match name.parse_amount(&whole) {
        Ok(Amount(0)) => Err(format!("{name}: a task needs more than zero")),
        Ok(amount) => Ok(amount),
        Err(error) => Err(error.to_string()),
    }
}

/// A name for tasks that can be typed on a command line again.
pub(crate) fn task_name(text: &str) -> Result<BatchId, String> {
    if text.starts_with('-') {
        return Err(format!("name {text:?} begins with -, which other commands would take for an option"));
    }
    text.parse().map_err(|error: holm_model::NameError| error.to_string())
}

/// Units of fuel.
pub(crate) fn fuel(text: &str) -> Result<u64, String> {
    let fuel = text.parse().ok().filter(|fuel| *fuel > 0);
    fuel.ok_or_else(|| format!("fuel {text:?} is not a number from 1 to {}", u64::MAX))
}

/// A seed.
pub(crate) fn seed(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("seed {text:?} is not a number from 0 to {}", u64::MAX))
}

/// How long a task may take to end by itself.
pub(crate) fn grace(text: &str) -> Result<Duration, String> {
    let grace = duration(text)?;
    if grace > MAX_GRACE {
        return Err(format!("grace {text:?} is over the limit of 1h"));
    }
    Ok(grace)
}

/// How many lines.
pub(crate) fn limit(text: &str) -> Result<usize, String> {
    let limit = text.parse().ok().filter(|limit| *limit > 0);
    limit.ok_or_else(|| format!("limit {text:?} is not a number from 1"))
}

/// A number of bytes.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let amount = ResourceName::Disk.parse_amount(text);
    amount.map(|amount| amount.0).map_err(|_| format!("{text:?} is not a size such as 64MiB or 2GiB"))
}

/// A part in hundredths, such as `10%`.
pub(crate) fn percent(text: &str) -> Result<u8, String> {
    let number = text.strip_suffix('%').and_then(|number| number.parse().ok()).filter(|number| *number < 100);
    number.ok_or_else(|| format!("{text:?} is not a part from 0% to 99%"))
}

/// How many tasks.
pub(crate) fn count(text: &str) -> Result<u32, String> {
    let count = text.parse().ok().filter(|count| (1..=MAX_COUNT).contains(count));
    count.ok_or_else(|| format!("count {text:?} is not a number from 1 to {MAX_COUNT}"))
}

/// A duration: numbers with units (`ms`, `s`, `m`, `h`, `d`), largest first or not, such as `1h30m` or `1.5s`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text)
        .ok_or_else(|| format!("duration {text:?} is not one such as 500ms, 30s, 5m or 1h30m, up to 365d"))
}

fn parse_duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 6] =
        [("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86400.0)];
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(number_end);
        let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit.trim())?;
        let seconds = number.parse::<f64>().ok()? * factor;
        total = total.checked_add(Duration::try_from_secs_f64(seconds).ok()?)?;
        rest = after;
    }
    (!text.is_empty() && total <= MAX_DURATION).then_some(total)
}

/// `KEY=VALUE` with a key.
pub(crate) fn key_value(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
    pair.map(|(key, value)| (key.to_owned(), value.to_owned())).ok_or_else(|| format!("{text:?} is not KEY=VALUE"))
}

/// `WIDTHxHEIGHT`.
pub(crate) fn picture_size(text: &str) -> Result<(u32, u32), String> {
    let side = |text: &str| text.parse().ok().filter(|side| (16..=MAX_SIDE).contains(side));
    let sides = text.split_once('x').and_then(|(width, height)| Some((side(width)?, side(height)?)));
    sides.ok_or_else(|| format!("size {text:?} is not WIDTHxHEIGHT with sides of 16 to {MAX_SIDE}"))
}

/// Every state of a task.
const STATES: [TaskState; 10] = [
    TaskState::Staging,
    TaskState::Running,
    TaskState::Killing,
    TaskState::Unreachable,
    TaskState::Finished,
    TaskState::Failed,
    TaskState::Killed,
    TaskState::Dropped,
    TaskState::Error,
    TaskState::Gone,
];

/// A task's state by its name.
pub(crate) fn task_state(text: &str) -> Result<TaskState, String> {
    let state = STATES.into_iter().find(|state| state.as_str().eq_ignore_ascii_case(text));
    state.ok_or_else(|| {
        let names: Vec<_> = STATES.iter().map(|state| state.as_str()).collect();
        format!("{text:?} is not one of {}", names.join(", "))
    })
}

/// The states of tasks that are not over.
pub(crate) fn live_states() -> Vec<TaskState> {
    STATES.into_iter().filter(|state| !state.is_terminal()).collect()
}

/// `TASK:PATH`: a path in a task's sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SandboxPath {
    pub(crate) task: TaskId,
    pub(crate) path: String,
}

impl FromStr for SandboxPath {
    type Err = String;

    fn from_str(text: &str) -> Result<SandboxPath, String> {
        let (task, path) = text.split_once(':').ok_or("expected TASK:PATH, such as report:out/result.csv")?;
        let task = task.parse().map_err(|error: holm_model::NameError| error.to_string())?;
        Ok(SandboxPath { task, path: path.trim_matches('/').to_owned() })
    }
}

impl fmt::Display for SandboxPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.task, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        for (text, expected) in [("500ms", 500), ("30s", 30_000), ("1h30m", 5_400_000), ("1.5s", 1500), ("0s", 0)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(expected)), "{text}");
        }
        for bad in ["", "5", "s", "-1s", "NaNs", "1x", "1s2", "1e9s", "366d", "999999999999999999999999d"] {
            assert!(duration(bad).is_err(), "{bad:?} passed");
        }
    }

    #[test]
    fn amounts_are_positive_numbers_within_the_limits() {
        assert_eq!(cpus("0.5"), Ok(Amount(500)));
        assert_eq!(cpus(".5"), Ok(Amount(500)));
        assert_eq!(mem("64MiB"), Ok(Amount(64 << 20)));
        for bad in ["0", "-1", "NaN", "inf", "1e3", "0.0001", "99999999999999999999", ""] {
            assert!(cpus(bad).is_err(), "{bad:?} passed");
            assert!(mem(bad).is_err(), "{bad:?} passed");
        }
        for bad in ["0", "-1", "1.5", "1000001", "x"] {
            assert!(count(bad).is_err(), "{bad:?} passed");
        }
    }

    #[test]
    fn refusals_name_the_field_the_value_and_the_limit() {
        assert!(fuel("-1").unwrap_err().contains("fuel \"-1\" is not a number from 1"));
        assert!(fuel("0").is_err() && seed("0").is_ok());
        assert!(seed("abc").unwrap_err().contains("seed \"abc\""));
        assert!(grace("99h").unwrap_err().contains("limit of 1h") && grace("1h").is_ok());
        assert!(task_name("-x").unwrap_err().contains("begins with -") && task_name("x-1").is_ok());
        assert!(limit("0").is_err() && limit("1").is_ok());
    }

    #[test]
    fn sandbox_paths_are_split_at_the_colon() {
        let path: SandboxPath = "render/17:/out/a:b".parse().unwrap();
        assert_eq!((path.task.to_string().as_str(), path.path.as_str()), ("render/17", "out/a:b"));
        assert!("render".parse::<SandboxPath>().is_err());
        assert!("a b:c".parse::<SandboxPath>().is_err());
    }

    #[test]
    fn states_are_found_in_any_case() {
        assert_eq!(task_state("running"), Ok(TaskState::Running));
        assert!(task_state("busy").unwrap_err().contains("STAGING"));
        assert_eq!(live_states().len(), 4);
    }

    #[test]
    fn picture_sizes_have_two_sides() {
        assert_eq!(picture_size("960x640"), Ok((960, 640)));
        for bad in ["960", "0x10", "99999x10", "axb"] {
            assert!(picture_size(bad).is_err(), "{bad:?} passed");
        }
    }
}
