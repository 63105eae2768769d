//! How answers look: tables for people, JSON for programs.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use holm_model::{Quantity, Resources};
use holm_proto::v1;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::args::Format;
pub(crate) use crate::stdio::print;

/// Text from elsewhere without what would move the cursor or worse: control characters become `?`, line ends stay.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    let is_bad = |c: char| c.is_control() && c != '\n' && c != '\t';
    if text.contains(is_bad) { Cow::Owned(text.replace(is_bad, "?")) } else { Cow::Borrowed(text) }
}

/// The same on one line, at most `most` characters long.
pub(crate) fn one_line(text: &str, most: usize) -> String {
    let first = text.lines().next().unwrap_or("");
    let short: String = clean(first).chars().take(most).collect();
    if short.chars().count() < text.trim_end().chars().count() { format!("{short}...") } else { short }
}

/// Columns that are as wide as what is in them.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(header: &[&str]) -> Table {
        Table { rows: vec![header.iter().map(|name| (*name).to_owned()).collect()] }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| clean(&cell).replace(['\n', '\t'], " ")).collect());
    }

    pub(crate) fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                // Writing to a string does not fail.
                let _ = write!(line, "{cell:<width$}  ");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Prints a list: a table, or an array of objects. `empty` is what people read instead of a table without rows.
pub(crate) fn print_list<T: Serialize>(
    format: Format,
    items: &[T],
    empty: &str,
    table: impl FnOnce(&[T]) -> Table,
) -> io::Result<()> {
    match format {
        Format::Json => print_json(&items),
        Format::Text if items.is_empty() => print(&format!("{empty}\n")),
        Format::Text => print(&table(items).render()),
    }
}

/// Prints one value as JSON on a line of its own.
pub(crate) fn print_json(value: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_string(value).map_err(io::Error::other)?;
    text.push('\n');
    print(&text)
}

/// Resources for programs: bytes and numbers, ranges as pairs, sets as lists.
pub(crate) fn resources_json(resources: &Resources) -> Value {
    let value = |name: &holm_model::ResourceName, quantity: &Quantity| match quantity {
        Quantity::Scalar(amount) if name.is_bytes() => Value::from(amount.0),
        Quantity::Scalar(amount) if amount.0 % 1000 == 0 => Value::from(amount.0 / 1000),
        Quantity::Scalar(amount) => Value::from(amount.0 as f64 / 1000.0),
        Quantity::Ranges(ranges) => ranges.iter().map(|(first, last)| Value::from(vec![first, last])).collect(),
        Quantity::Set(items) => items.iter().map(|item| Value::from(&**item)).collect(),
    };
    Value::Object(
        resources
            .iter()
            .map(|(name, quantity)| (name.as_str().to_owned(), value(name, quantity)))
            .collect::<Map<_, _>>(),
    )
}

/// The resources of an answer; nothing where the answer has none, or some that this version cannot read.
pub(crate) fn resources(view: Option<v1::ResourceView>) -> Resources {
    let wire = view.map(|view| view.resources).unwrap_or_default();
    holm_proto::resources::from_wire(wire).unwrap_or(Resources::EMPTY)
}

/// Resources for a table: sizes rounded, long ranges and sets cut.
pub(crate) fn brief(resources: &Resources) -> String {
    const LONGEST: usize = 32;
    let show = |(name, quantity): (&holm_model::ResourceName, &Quantity)| match quantity {
        Quantity::Scalar(amount) => format!("{name}:{}", brief_amount(name, *amount)),
        Quantity::Ranges(_) | Quantity::Set(_) => {
            let own: Resources = [(name.clone(), quantity.clone())].into_iter().collect();
            one_line(&own.to_string(), LONGEST)
        }
    };
    let text = resources.iter().map(show).collect::<Vec<_>>().join(";");
    if text.is_empty() { "-".to_owned() } else { text }
}

/// An amount of a resource, sizes rounded: 10.8GiB, 64MiB, 0.5.
pub(crate) fn brief_amount(name: &holm_model::ResourceName, amount: holm_model::Amount) -> String {
    match name.is_bytes() {
        true => bytes(amount.0).replace(".0 ", "").replace(' ', ""),
        false => name.show(amount),
    }
}

/// A number of seconds for programs, to the microsecond.
pub(crate) fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e6
}

/// A number of milliseconds for programs, to the microsecond.
pub(crate) fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// A number of bytes for people.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A large number with its magnitude: 1.2M, 3.4G.
pub(crate) fn magnitude(number: u64) -> String {
    const UNITS: [&str; 5] = ["", "k", "M", "G", "T"];
    let mut value = number as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { number.to_string() } else { format!("{value:.1}{}", UNITS[unit]) }
}

/// A duration in two units at most.
pub(crate) fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 if duration < Duration::from_millis(1) => format!("{}us", duration.as_micros()),
        0 => format!("{}ms", duration.as_millis()),
        1..60 => format!("{:.1}s", duration.as_secs_f64()),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// How long ago a moment was, given in microseconds since the Unix epoch; zero is unknown.
pub(crate) fn ago(unix_micros: u64) -> String {
    match unix_micros {
        0 => "-".to_owned(),
        then => span(Duration::from_micros(now_unix_micros().saturating_sub(then))),
    }
}

/// Now, in microseconds since the Unix epoch.
pub(crate) fn now_unix_micros() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap_or(0)
}

/// A moment for programs; null when it is not known.
pub(crate) fn time_json(unix_micros: u64) -> Value {
    let known = i64::try_from(unix_micros).ok().filter(|micros| *micros > 0);
    known
        .and_then(|micros| jiff::Timestamp::from_microsecond(micros).ok())
        .map_or(Value::Null, |at| at.to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_elsewhere_cannot_move_the_cursor() {
        let mut table = Table::new(&["NAME", "X"]);
        table.row(["a\u{1b}[2J\nb".to_owned(), "1".to_owned()]);
        assert_eq!(table.render(), "NAME     X\na?[2J b  1\n");
        assert_eq!(one_line("first\nsecond", 80), "first...");
        assert_eq!(one_line("abcdef", 3), "abc...");
    }

    #[test]
    fn resources_are_numbers_for_programs() {
        let resources: Resources = "cpus:1.5;mem:1KiB;gpus:2;ports:[5-6,9-9];x:{a}".parse().unwrap();
        let expected = serde_json::json!({"cpus": 1.5, "mem": 1024, "gpus": 2, "ports": [[5, 6], [9, 9]], "x": ["a"]});
        assert_eq!(resources_json(&resources), expected);
        let shown = brief(&resources);
        for part in ["cpus:1.5", "mem:1KiB", "gpus:2", "ports:[5-6,9-9]", "x:{a}"] {
            assert!(shown.contains(part), "{shown}");
        }
        let odd = "mem:11293472KiB;ports:[1-1,3-3,5-5,7-7,9-9,11-11,13-13,15-15]".parse().unwrap();
        assert_eq!(brief(&odd), "mem:10.8GiB;ports:[1-1,3-3,5-5,7-7,9-9,11-11...");
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!(bytes(512), "512 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(magnitude(1_234_567), "1.2M");
        assert_eq!(span(Duration::from_millis(1500)), "1.5s");
        assert_eq!(span(Duration::from_secs(3700)), "1h01m");
        assert_eq!(ago(0), "-");
    }
}
