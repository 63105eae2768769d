//! Files with the quotas and weights of many roles, as TOML or JSON.

use std::fmt;
use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;
use holm_model::{MAX_QUOTA_CHANGES, ResourceName, Role, RoleUpdate, parse_amounts, parse_weight};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use super::as_resources;
use crate::args::Amounts;

/// Largest file, in bytes.
const MAX_BYTES: u64 = 4 << 20;

/// Reads a file, or stdin for `-`.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<RoleUpdate>> {
    let shown = path.display();
    let mut text = String::new();
    let from = |source: &mut dyn std::io::Read, text: &mut String| source.take(MAX_BYTES + 1).read_to_string(text);
    let bytes = match path.as_os_str() == "-" {
        true => from(&mut std::io::stdin().lock(), &mut text),
        false => std::fs::File::open(path).and_then(|mut file| from(&mut file, &mut text)),
    };
    let bytes = bytes.with_context(|| format!("cannot read {shown}"))?;
    anyhow::ensure!(bytes as u64 <= MAX_BYTES, "{shown} is over the limit of {MAX_BYTES} bytes");
    let is_json = match path.extension().and_then(|extension| extension.to_str()) {
        Some("json") => true,
        Some("toml") => false,
        _ => text.trim_start().starts_with('{'),
    };
    parse(&text, is_json).with_context(|| format!("{shown} is not a file of quotas"))
}

fn parse(text: &str, is_json: bool) -> anyhow::Result<Vec<RoleUpdate>> {
    let Entries(entries) = if is_json { serde_json::from_str(text)? } else { toml::from_str(text)? };
    anyhow::ensure!(!entries.is_empty(), "it names no role");
    let (count, limit) = (entries.len(), MAX_QUOTA_CHANGES);
    anyhow::ensure!(count <= limit, "it names {count} roles; the limit is {limit}");
    let update = |(role, entry): (String, Entry)| entry.read(&role).with_context(|| format!("role {role:?}"));
    entries.into_iter().map(update).collect()
}

/// What a file says, in its order. A role that is there twice stays there twice, and is refused by the master.
struct Entries(Vec<(String, Entry)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Entries, D::Error> {
        struct Roles;
        impl<'de> Visitor<'de> for Roles {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of roles")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Entries, M::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Roles)
    }
}

/// What a file says of one role.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    weight: Option<Number>,
    guarantee: Option<Bundle>,
    limit: Option<Bundle>,
}

/// A number, or a text such as `8GiB`.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Number {
    Whole(u64),
    Decimal(f64),
    Text(String),
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Number::Whole(number) => number.fmt(f),
            Number::Decimal(number) => number.fmt(f),
            Number::Text(text) => f.write_str(text),
        }
    }
}

/// `"cpus:4;mem:8GiB"`, or a table of the same.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Bundle {
    Text(String),
    Table(std::collections::BTreeMap<String, Number>),
}

impl Entry {
    fn read(self, role: &str) -> anyhow::Result<RoleUpdate> {
        let role: Role = role.parse()?;
        let weight = self.weight.map(|weight| parse_weight(&weight.to_string())).transpose()?;
        let guarantee = self.guarantee.map(Bundle::read).transpose().context("guarantee")?.map(as_resources);
        let limit = self.limit.map(Bundle::read).transpose().context("limit")?;
        Ok(RoleUpdate { role, weight, guarantee, limit })
    }
}

impl Bundle {
    fn read(self) -> anyhow::Result<Amounts> {
        match self {
            Bundle::Text(text) if matches!(text.trim(), "" | "none") => Ok(Amounts::new()),
            Bundle::Text(text) => Ok(parse_amounts(&text)?),
            Bundle::Table(table) => {
                let entry = |(name, amount): (String, Number)| {
                    let name: ResourceName = name.parse()?;
                    let amount = name.parse_amount(&amount.to_string())?;
                    Ok((name, amount))
                };
                table.into_iter().map(entry).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOML: &str = "
        [eng]
        weight = 2
        guarantee = 'cpus:4;mem:8GiB'
        limit = { cpus = 8, gpus = 0, mem = '16GiB' }

        ['eng/batch']
        weight = 0.5
        limit = 'none'
    ";

    #[test]
    fn toml_and_json_say_the_same() {
        let json = r#"{"eng": {"weight": 2, "guarantee": "cpus:4;mem:8GiB", "limit": {"cpus": 8, "gpus": 0, "mem": "16GiB"}},
            "eng/batch": {"weight": 0.5, "limit": ""}}"#;
        let updates = parse(TOML, false).unwrap();
        assert_eq!(updates, parse(json, true).unwrap());
        let eng = &updates[0];
        assert_eq!(eng.limit, Some(parse_amounts("cpus:8;gpus:0;mem:16GiB").unwrap()));
        assert_eq!(eng.guarantee, Some("cpus:4;mem:8GiB".parse().unwrap()));
        let batch = &updates[1];
        assert_eq!((batch.weight.unwrap().get(), &batch.guarantee, &batch.limit), (500, &None, &Some(Amounts::new())));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, is_json, part) in [
            ("", false, "no role"),
            ("[eng]\nlimits = 'cpus:1'", false, "limits"),
            ("[eng]\nlimit = 'cpu'", false, "name:amount"),
            ("['a/../b']\nweight = 1", false, "\"..\""),
            ("[eng]\nweight = 0", false, "weight"),
            ("[eng]\nlimit = { mem = '8Gb' }", false, "mem"),
            ("[eng]\n[eng]\n", false, "eng"),
            ("{\"eng\": 3}", true, "expected"),
        ] {
            let error = format!("{:#}", parse(text, is_json).map(drop).unwrap_err());
            assert!(error.contains(part), "{text}: {error}");
        }
        let twice = r#"{"eng": {"weight": 1}, "eng": {"weight": 2}}"#;
        assert_eq!(parse(twice, true).unwrap().len(), 2, "the master refuses it by name");
    }
}
