//! Which crate may depend on which, as data: the layers of `docs/ARCHITECTURE.md`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::process::Command;

use cargo_metadata::{CargoOpt, DependencyKind, MetadataCommand};

use crate::Offence;
use crate::source::{CORES, SIMULATOR};
use crate::tree;

/// A crate of ours and the crates of ours it may name, from the bottom layer up. What is not listed is forbidden.
const ARROWS: [(&str, &[&str]); 17] = [
    ("model", &[]),
    ("allocator", &["model"]),
    ("proto", &["model"]),
    ("master", &["allocator", "model"]),
    ("agent", &["model"]),
    ("session", &["model"]),
    // docs/adr/0001-datadir-crate.md
    ("datadir", &["model"]),
    ("coordination", &["session", "proto", "datadir", "model"]),
    ("runtime", &["model"]),
    // `runtime` only behind the feature `policy`.
    ("masterd", &["master", "coordination", "proto", "datadir", "model", "runtime?"]),
    ("agentd", &["agent", "session", "runtime", "proto", "datadir", "model"]),
    ("sdk", &["session", "proto", "model"]),
    ("host", &["sdk", "runtime", "model"]),
    // The demo embeds its guests.
    ("cli", &["masterd", "agentd", "sdk", "host", "proto", "datadir", "model", "test-programs"]),
    ("sim", &["master", "agent", "session", "allocator", "model"]),
    ("test-programs", &[]),
    ("xtask", &[]),
];

/// Tests may use the sample tasks anywhere.
const DEV: &str = "test-programs";

/// External crates and the only crates of ours that may name them, other than in tests.
const OWNERS: [(&str, &[&str]); 15] = [
    ("redb", &["coordination"]),
    ("etcd-client", &["coordination"]),
    // `host` generates the scheduler world's bindings.
    ("wasmtime", &["runtime", "host"]),
    ("wasmtime-wasi", &["runtime", "host"]),
    ("wasmtime-wasi-http", &["runtime"]),
    ("wasmtime-environ", &["runtime"]),
    ("prost", &["proto"]),
    ("prost-types", &["proto"]),
    ("prost-reflect", &["proto"]),
    ("tonic-prost", &["proto"]),
    ("tonic-prost-build", &["proto"]),
    ("protox", &["proto"]),
    ("tonic", &["proto", "masterd", "agentd", "sdk", "cli"]),
    ("axum", &["masterd"]),
    ("anyhow", &["cli", "xtask"]),
];

/// What a core must not reach, however indirectly: runtimes, sockets, files, clocks, randomness.
const IMPURE: [&str; 28] = [
    "async-std",
    "axum",
    "cap-std",
    "chrono",
    "etcd-client",
    "fs-err",
    "getrandom",
    "h2",
    "hyper",
    "jiff",
    "libc",
    "mio",
    "nix",
    "prost",
    "rand",
    "rand_core",
    "rayon",
    "redb",
    "reqwest",
    "rustix",
    "signal-hook",
    "smol",
    "socket2",
    "tempfile",
    "tokio",
    "tonic",
    "wasmtime",
    "wasmtime-wasi",
];

/// How a dependency is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal,
    Optional,
    Build,
    Dev,
}

/// What the checks need of `cargo metadata`.
#[derive(Default)]
pub(crate) struct Graph {
    /// Our crates, by directory name, with what their manifests name (ours without the prefix).
    direct: BTreeMap<String, Vec<(String, Kind)>>,
    /// Every package that is linked in, with the packages it links; build tools and macros left out.
    linked: BTreeMap<String, BTreeSet<String>>,
}

/// Reads the graph of this workspace for this machine.
pub(crate) fn workspace() -> Graph {
    let root = tree::root();
    let rustc = Command::new("rustc").current_dir(&root).arg("-vV").output().expect("rustc runs");
    let rustc = String::from_utf8_lossy(&rustc.stdout).into_owned();
    let host = rustc.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc -vV names its host");
    let metadata = MetadataCommand::new()
        .manifest_path(root.join("Cargo.toml"))
        .features(CargoOpt::AllFeatures)
        .other_options(vec!["--filter-platform".to_owned(), host.to_owned()])
        .exec()
        .expect("cargo metadata answers");
    let mut graph = Graph::default();
    for package in metadata.workspace_packages() {
        let named = package.dependencies.iter().map(|dependency| {
            let kind = match dependency.kind {
                DependencyKind::Development => Kind::Dev,
                DependencyKind::Build => Kind::Build,
                _ if dependency.optional => Kind::Optional,
                _ => Kind::Normal,
            };
            (short(&dependency.name).to_owned(), kind)
        });
        graph.direct.insert(short(&package.name).to_owned(), named.collect());
    }
    let resolve = metadata.resolve.as_ref().expect("metadata without --no-deps resolves");
    let is_macro =
        |id: &cargo_metadata::PackageId| metadata[id].targets.iter().any(cargo_metadata::Target::is_proc_macro);
    for node in resolve.nodes.iter().filter(|node| !is_macro(&node.id)) {
        let normal =
            node.deps.iter().filter(|dep| dep.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal));
        let links = normal.filter(|dep| !is_macro(&dep.pkg)).map(|dep| short(&metadata[&dep.pkg].name).to_owned());
        // Two versions of one package count as one: a core may reach neither.
        graph.linked.entry(short(&metadata[&node.id].name).to_owned()).or_default().extend(links);
    }
    graph
}

fn short(name: &str) -> &str {
    name.strip_prefix("holm-").unwrap_or(name)
}

fn manifest(name: &str) -> String {
    if name == "xtask" { "xtask/Cargo.toml".to_owned() } else { format!("crates/{name}/Cargo.toml") }
}

/// Every arrow between our crates is one that is allowed, and every crate is known.
pub(crate) fn check_arrows(graph: &Graph) -> Vec<Offence> {
    let mut offences = Vec::new();
    for (from, named) in &graph.direct {
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| name == from) else {
            offences.push(Offence::new(
                &manifest(from),
                1,
                format!("`{from}` is in no layer: a new crate needs an ADR and a line in ARROWS"),
            ));
            continue;
        };
        for (to, kind) in named.iter().filter(|(to, _)| graph.direct.contains_key(to)) {
            let optional = *kind == Kind::Optional && allowed.contains(&format!("{to}?").as_str());
            let in_tests = *kind == Kind::Dev && (to == DEV || from == "cli");
            if !allowed.contains(&to.as_str()) && !optional && !in_tests {
                offences.push(Offence::new(
                    &manifest(from),
                    1,
                    format!("`{from} -> {to}` is not an allowed arrow ({kind:?} dependency)"),
                ));
            }
        }
    }
    offences
}

/// Heavy dependencies are named only where they belong.
pub(crate) fn check_owners(graph: &Graph) -> Vec<Offence> {
    let mut offences = Vec::new();
    for (from, named) in &graph.direct {
        for (to, _) in named.iter().filter(|(_, kind)| *kind != Kind::Dev) {
            let owners = OWNERS.iter().find(|(name, _)| name == to).map(|(_, owners)| *owners);
            if let Some(owners) = owners.filter(|owners| !owners.contains(&from.as_str())) {
                offences.push(Offence::new(
                    &manifest(from),
                    1,
                    format!("`{from}` names `{to}`; only {} may", owners.join(", ")),
                ));
            }
        }
    }
    offences
}

/// No core links, through anything, what would let it touch the outside world. Names the way there.
pub(crate) fn check_purity(graph: &Graph) -> Vec<Offence> {
    let mut offences = Vec::new();
    for core in CORES.into_iter().chain([SIMULATOR]) {
        let mut queue = VecDeque::from([vec![core]]);
        let mut seen = BTreeSet::from([core]);
        while let Some(way) = queue.pop_front() {
            let at = way[way.len() - 1];
            if IMPURE.contains(&at) {
                offences.push(Offence::new(
                    &manifest(core),
                    1,
                    format!("`{core}` must be pure, but reaches {}", way.join(" -> ")),
                ));
                continue;
            }
            for next in graph.linked.get(at).into_iter().flatten().filter(|next| seen.insert(next.as_str())) {
                queue.push_back(way.iter().copied().chain([next.as_str()]).collect());
            }
        }
    }
    offences
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(direct: &[(&str, &[(&str, Kind)])], linked: &[(&str, &[&str])]) -> Graph {
        let owned = |named: &[(&str, Kind)]| named.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect();
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Graph {
            direct: direct.iter().map(|(from, named)| ((*from).to_owned(), owned(named))).collect(),
            linked: linked.iter().map(|(from, names)| ((*from).to_owned(), set(names))).collect(),
        }
    }

    fn whats(offences: Vec<Offence>) -> Vec<String> {
        offences.into_iter().map(|offence| offence.what).collect()
    }

    #[test]
    fn the_graph_read_from_cargo_holds_our_crates_and_what_they_link() {
        let graph = workspace();
        for (name, _) in ARROWS {
            assert!(graph.direct.contains_key(name), "{name} is in ARROWS and not in the workspace");
        }
        assert!(graph.linked["proto"].contains("prost"), "{:?}", graph.linked["proto"]);
        assert!(graph.linked["prost"].contains("bytes"), "{:?}", graph.linked["prost"]);
    }

    #[test]
    fn an_arrow_that_goes_up_is_found() {
        let graph = graph(&[("model", &[("master", Kind::Normal)]), ("master", &[("model", Kind::Normal)])], &[]);
        assert_eq!(whats(check_arrows(&graph)), ["`model -> master` is not an allowed arrow (Normal dependency)"]);
    }

    #[test]
    fn tests_and_build_scripts_point_down_too() {
        let graph = graph(
            &[
                ("sdk", &[("masterd", Kind::Dev), ("test-programs", Kind::Dev)]),
                ("masterd", &[]),
                ("test-programs", &[]),
            ],
            &[],
        );
        assert_eq!(whats(check_arrows(&graph)), ["`sdk -> masterd` is not an allowed arrow (Dev dependency)"]);
    }

    #[test]
    fn the_policy_runtime_is_allowed_only_when_optional() {
        let optional = graph(&[("masterd", &[("runtime", Kind::Optional)]), ("runtime", &[])], &[]);
        assert_eq!(check_arrows(&optional), []);
        let always = graph(&[("masterd", &[("runtime", Kind::Normal)]), ("runtime", &[])], &[]);
        assert_eq!(check_arrows(&always).len(), 1);
    }

    #[test]
    fn a_crate_in_no_layer_is_found() {
        assert_eq!(check_arrows(&graph(&[("scheduler", &[])], &[])).len(), 1);
    }

    #[test]
    fn a_heavy_dependency_in_the_wrong_crate_is_found() {
        let graph = graph(
            &[("agentd", &[("prost", Kind::Normal), ("tonic", Kind::Normal)]), ("sdk", &[("redb", Kind::Dev)])],
            &[],
        );
        assert_eq!(whats(check_owners(&graph)), ["`agentd` names `prost`; only proto may"]);
    }

    #[test]
    fn a_core_that_reaches_the_world_is_found_with_the_way_there() {
        let graph =
            graph(&[], &[("session", &["uuid", "thiserror"]), ("uuid", &["getrandom"]), ("getrandom", &["libc"])]);
        assert_eq!(whats(check_purity(&graph)), ["`session` must be pure, but reaches session -> uuid -> getrandom"]);
    }
}
