//! What the kernel says about this process' memory.

use std::fs;

use crate::measure::Failure;

/// Memory and mappings of this process.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Footprint {
    /// Resident bytes.
    pub(crate) rss: f64,
    /// Resident bytes, shared pages divided by their number of users.
    pub(crate) pss: f64,
    /// Bytes of page tables.
    pub(crate) page_tables: f64,
    /// Lines of `/proc/self/maps`.
    pub(crate) mappings: f64,
}

impl Footprint {
    pub(crate) fn now() -> Result<Footprint, Failure> {
        let rollup = fs::read_to_string("/proc/self/smaps_rollup")?;
        let status = fs::read_to_string("/proc/self/status")?;
        let mappings = fs::read_to_string("/proc/self/maps")?.lines().count();
        Ok(Footprint {
            rss: kibibytes(&rollup, "Rss:")?,
            pss: kibibytes(&rollup, "Pss:")?,
            page_tables: kibibytes(&status, "VmPTE:")?,
            mappings: mappings as f64,
        })
    }

    pub(crate) fn minus(self, before: Footprint) -> Footprint {
        Footprint {
            rss: self.rss - before.rss,
            pss: self.pss - before.pss,
            page_tables: self.page_tables - before.page_tables,
            mappings: self.mappings - before.mappings,
        }
    }
}

fn kibibytes(text: &str, name: &str) -> Result<f64, Failure> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).ok_or_else(|| format!("no {name}"))?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<f64>()? * 1024.0)
}
