//! One figure with what it is compared to, as JSON and as a line of a table.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    /// What was measured.
    pub(crate) what: String,
    /// How much; none when it could not be measured, and the note says why.
    pub(crate) value: Option<f64>,
    /// Of what.
    pub(crate) unit: String,
    /// The figure in units of its reference, or the other way round where the note says so.
    pub(crate) ratio: Option<f64>,
    /// Everything else that the measuring program said: spread, notes, parts.
    pub(crate) more: Map<String, Value>,
}

impl Row {
    pub(crate) fn new(what: impl Into<String>, value: f64, unit: &str) -> Row {
        Row { what: what.into(), value: Some(value), unit: unit.to_owned(), ratio: None, more: Map::new() }
    }

    /// A figure that could not be measured.
    pub(crate) fn missing(what: impl Into<String>, unit: &str, why: &str) -> Row {
        let row = Row { what: what.into(), value: None, unit: unit.to_owned(), ratio: None, more: Map::new() };
        row.with("note", why)
    }

    /// The median of several runs, with the lowest and the highest.
    pub(crate) fn median(what: impl Into<String>, values: &[f64], unit: &str) -> Row {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let row = Row::new(what, median(&sorted), unit);
        match (sorted.first(), sorted.last()) {
            (Some(low), Some(high)) if sorted.len() > 1 => row.with("low", *low).with("high", *high),
            _ => row,
        }
    }

    pub(crate) fn with(mut self, key: &str, value: impl Into<Value>) -> Row {
        self.more.insert(key.to_owned(), value.into());
        self
    }

    pub(crate) fn ratio(mut self, ratio: f64, reference: &str) -> Row {
        self.ratio = Some(ratio);
        self.with("reference", reference)
    }

    /// Reads the line of a measuring program.
    pub(crate) fn parse(line: &str) -> Result<Row> {
        let mut object: Map<String, Value> = serde_json::from_str(line).context("not a JSON object")?;
        let what =
            object.remove("what").and_then(|what| Some(what.as_str()?.to_owned())).context("it has no `what`")?;
        let unit = object.remove("unit").and_then(|unit| Some(unit.as_str()?.to_owned())).unwrap_or_default();
        let value = object.remove("value").and_then(|value| value.as_f64());
        let ratio = object.remove("ratio").and_then(|ratio| ratio.as_f64());
        Ok(Row { what, value, unit, ratio, more: object })
    }

    pub(crate) fn to_json(&self, machine: &Machine) -> Value {
        let mut object = self.more.clone();
        object.insert("what".to_owned(), self.what.clone().into());
        object.insert("value".to_owned(), json!(self.value));
        object.insert("unit".to_owned(), self.unit.clone().into());
        object.insert("ratio".to_owned(), json!(self.ratio));
        object.insert("cores".to_owned(), machine.cores.into());
        Value::Object(object)
    }

    fn cells(&self) -> [String; 6] {
        let spread = match (self.number("low"), self.number("high")) {
            (Some(low), Some(high)) => format!("{}..{}", figure(low), figure(high)),
            _ => String::new(),
        };
        let text = |key| self.more.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let ratio = self.ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
        let ratio = match text("reference") {
            reference if reference.is_empty() || ratio.is_empty() => ratio,
            reference => format!("{ratio} {reference}"),
        };
        let value = self.value.map_or_else(|| "-".to_owned(), figure);
        [self.what.clone(), value, self.unit.clone(), spread, ratio, text("note")]
    }

    fn number(&self, key: &str) -> Option<f64> {
        self.more.get(key).and_then(Value::as_f64)
    }
}

/// The middle of a sorted list, of the two in the middle their mean; not a number for an empty one.
pub(crate) fn median(sorted: &[f64]) -> f64 {
    match sorted {
        [] => f64::NAN,
        odd if odd.len() % 2 == 1 => odd[odd.len() / 2],
        even => (even[even.len() / 2 - 1] + even[even.len() / 2]) / 2.0,
    }
}

/// With as many digits as mean something.
fn figure(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

/// What the figures were measured on.
pub(crate) struct Machine {
    pub(crate) cores: usize,
    model: String,
    memory_mib: u64,
    kernel: String,
}

impl Machine {
    pub(crate) fn this() -> Machine {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, key: &str| {
            let line = text.lines().find(|line| line.starts_with(key))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let memory = field(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
        let kib: u64 = memory.split(' ').next().and_then(|kib| kib.parse().ok()).unwrap_or(0);
        Machine {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            model: field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown CPU".to_owned()),
            memory_mib: kib >> 10,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

/// The rows for people.
pub(crate) fn table(rows: &[Row], machine: &Machine) -> String {
    const HEAD: [&str; 6] = ["what", "value", "unit", "low..high", "ratio", "note"];
    let lines: Vec<[String; 6]> = std::iter::once(HEAD.map(str::to_owned)).chain(rows.iter().map(Row::cells)).collect();
    let widths: [usize; 6] =
        std::array::from_fn(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0));
    let Machine { cores, model, memory_mib, kernel } = machine;
    let mut text = format!("{model}, {cores} cores, {memory_mib} MiB, Linux {kernel}\n\n");
    for line in &lines {
        let mut row = String::new();
        for (column, cell) in line.iter().enumerate() {
            // Figures to the right, words to the left. Writing to a string does not fail.
            let _ = match column {
                1 => write!(row, "{cell:>width$}  ", width = widths[column]),
                _ => write!(row, "{cell:<width$}  ", width = widths[column]),
            };
        }
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine { cores: 2, model: "a CPU".to_owned(), memory_mib: 1024, kernel: "6.1".to_owned() }
    }

    #[test]
    fn what_a_program_prints_is_kept_and_the_cores_are_added() {
        let row = Row::parse(r#"{"what":"p1","value":9000,"unit":"tasks/s","ratio":0.6,"threads":2}"#).unwrap();
        let json = row.to_json(&machine());
        assert_eq!(json, json!({"what":"p1","value":9000.0,"unit":"tasks/s","ratio":0.6,"threads":2,"cores":2}));
        assert!(Row::parse("warming up").is_err());
        assert!(Row::parse(r#"{"value":1}"#).is_err());
    }

    #[test]
    fn a_median_shows_its_spread_and_what_is_missing_says_why() {
        let rows = [
            Row::median("ours", &[30.0, 10.0, 20.0], "ms").ratio(2.0, "x theirs"),
            Row::missing("theirs", "ms", "cannot be installed"),
        ];
        assert_eq!(rows[0].value, Some(20.0));
        let text = table(&rows, &machine());
        assert!(text.contains("ours     20.0  ms    10.0..30.0  2.00 x theirs"), "{text}");
        assert!(text.contains("cannot be installed"), "{text}");
        assert!(text.lines().all(|line| line == line.trim_end()));
    }
}
