//! Commands run one after another, each with its name and its seconds, until one fails.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// How cargo is called from here: which one, where, and with what environment.
pub(crate) struct Cargo {
    program: OsString,
    root: PathBuf,
    target_dir: Option<PathBuf>,
    locked: bool,
}

/// Set by the cargo that runs this binary, about this binary: build scripts that look at them would run again for nothing.
const OURS: [&str; 3] = ["CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_PRIMARY_PACKAGE"];

impl Cargo {
    /// Reads `CARGO`, `CARGO_TARGET_DIR` and `CI`. Fails when the working directory is gone.
    pub(crate) fn from_env(root: PathBuf) -> Result<Self> {
        let here = std::env::current_dir().context("the working directory")?;
        Ok(Cargo {
            program: std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()),
            root,
            // Relative to where the caller is, while commands run at the root.
            target_dir: std::env::var_os("CARGO_TARGET_DIR").filter(|dir| !dir.is_empty()).map(|dir| here.join(dir)),
            locked: std::env::var_os("CI").is_some_and(|ci| ci == "true"),
        })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// `cargo <subcommand>` at the root of the checkout.
    pub(crate) fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.current_dir(&self.root).arg(subcommand);
        if let Some(dir) = &self.target_dir {
            command.env("CARGO_TARGET_DIR", dir);
        }
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| OURS.iter().any(|prefix| name.starts_with(prefix))) {
                command.env_remove(name);
            }
        }
        command
    }

    /// A step that runs `cargo <subcommand> [--locked] <args>`.
    pub(crate) fn step(&self, name: &'static str, subcommand: &str, args: &[&str]) -> Step {
        let mut command = self.command(subcommand);
        if self.locked && subcommand != "fmt" {
            command.arg("--locked");
        }
        command.args(args);
        Step { name, command }
    }

    /// Where cargo puts what it builds, as cargo itself says: its configuration may name a directory too.
    pub(crate) fn target_dir(&self) -> Result<PathBuf> {
        let output = self
            .command("metadata")
            .args(["--format-version", "1", "--no-deps"])
            .output()
            .context("run cargo metadata")?;
        if !output.status.success() {
            bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let metadata: serde_json::Value =
            serde_json::from_slice(&output.stdout).context("the answer of cargo metadata")?;
        let dir = metadata["target_directory"].as_str().context("cargo metadata names no target_directory")?;
        Ok(PathBuf::from(dir))
    }
}

/// One command of a plan.
pub(crate) struct Step {
    name: &'static str,
    command: Command,
}

/// Everything that has to hold before a change is good, the quick checks first.
pub(crate) fn test_plan(cargo: &Cargo) -> Vec<Step> {
    const GUESTS: &str = "sample-tasks/Cargo.toml";
    const GUEST_TARGETS: [&str; 4] = ["--target", "wasm32-wasip1", "--target", "wasm32-wasip2"];
    // Guests are linted and tested beside the workspace's own output, where cargo's lock and cache are the same.
    // Policies do without std, and with std in the same build they would get it: they are linted by themselves.
    const POLICIES: [&str; 3] = ["policy-guest", "rogue-policy", "strict-priority"];
    let guests = |more: &[&'static str]| {
        let others = POLICIES.iter().flat_map(|name| ["--exclude", name]);
        ["--manifest-path", GUESTS, "--workspace"]
            .into_iter()
            .chain(others)
            .chain(more.iter().copied())
            .collect::<Vec<_>>()
    };
    let policies: Vec<&str> = ["--manifest-path", GUESTS, "--target", "wasm32-wasip2"]
        .into_iter()
        .chain(POLICIES.iter().flat_map(|name| ["-p", name]))
        .chain(["--", "-D", "warnings"])
        .collect();
    let mut documentation = cargo.step("documentation", "doc", &["--workspace", "--no-deps"]);
    documentation.command.env("RUSTDOCFLAGS", "-D warnings");
    let mut plan = vec![
        cargo.step("format", "fmt", &["--all", "--check"]),
        cargo.step("format of the sample tasks", "fmt", &["--manifest-path", GUESTS, "--all", "--check"]),
        cargo.step("lints", "clippy", &["--workspace", "--all-targets", "--", "-D", "warnings"]),
        cargo.step(
            "lints of the sample tasks",
            "clippy",
            &guests(&[&GUEST_TARGETS[..], &["--", "-D", "warnings"]].concat()),
        ),
        cargo.step("lints of the policies among the sample tasks", "clippy", &policies),
        cargo.step("tests", "test", &["--workspace"]),
        cargo.step("tests of the sample tasks", "test", &["--manifest-path", GUESTS, "-p", "words"]),
        documentation,
    ];
    if cargo.target_dir.is_none() {
        let dir = cargo.root.join("target");
        for step in plan.iter_mut().filter(|step| step.name.ends_with("sample tasks")) {
            step.command.env("CARGO_TARGET_DIR", &dir);
        }
    }
    plan
}

/// The rules about the source itself.
pub(crate) fn tidy(cargo: &Cargo) -> Step {
    cargo.step("tidy", "test", &["-p", "xtask"])
}

/// Runs the steps in order; fails at the first that fails, naming it.
pub(crate) fn run_all(steps: Vec<Step>) -> Result<()> {
    let start = Instant::now();
    let count = steps.len();
    for Step { name, mut command } in steps {
        run(name, || {
            let line = line_of(&command);
            let status = command.status().with_context(|| format!("start {line}"))?;
            if status.success() { Ok(()) } else { bail!("{line}: {status}") }
        })?;
    }
    if count > 1 {
        println!("==> all {count} steps passed ({:.1} s)", start.elapsed().as_secs_f64());
    }
    Ok(())
}

/// Runs one step whose output is not what the caller's reader wants: what it says goes to stderr.
pub(crate) fn run_quietly(step: Step) -> Result<()> {
    let Step { mut command, .. } = step;
    let line = line_of(&command);
    eprintln!("==> {line}");
    let status = command.stdout(std::process::Stdio::null()).status().with_context(|| format!("start {line}"))?;
    if status.success() { Ok(()) } else { bail!("{line}: {status}") }
}

/// A command as somebody would type it.
fn line_of(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_else(|| command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Runs one step, printing its name before and its seconds after.
pub(crate) fn run(name: &str, step: impl FnOnce() -> Result<()>) -> Result<()> {
    println!("==> {name}");
    let start = Instant::now();
    let result = step();
    let seconds = start.elapsed().as_secs_f64();
    match &result {
        Ok(()) => println!("==> {name}: passed ({seconds:.1} s)"),
        Err(_) => println!("==> {name}: FAILED ({seconds:.1} s)"),
    }
    result.with_context(|| format!("step failed: {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cargo(locked: bool) -> Cargo {
        Cargo { program: "cargo".into(), root: "/".into(), target_dir: Some("/cache".into()), locked }
    }

    fn lines(plan: &[Step]) -> Vec<String> {
        let line = |step: &Step| step.command.get_args().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ");
        plan.iter().map(line).collect()
    }

    #[test]
    fn the_plan_covers_format_lints_tests_and_documentation() {
        let plan = lines(&test_plan(&cargo(false)));
        for wanted in [
            "fmt --all --check",
            "clippy --workspace --all-targets -- -D warnings",
            "test --workspace",
            "doc --workspace --no-deps",
        ] {
            assert!(plan.iter().any(|line| line == wanted), "{wanted} is not in {plan:#?}");
        }
        let guests =
            plan.iter().find(|line| line.starts_with("clippy --manifest-path")).expect("the guests are linted");
        assert!(guests.contains("--target wasm32-wasip1 --target wasm32-wasip2"), "{guests}");
    }

    #[test]
    fn in_ci_every_step_that_can_refuses_to_change_the_lock_file() {
        let plan = lines(&test_plan(&cargo(true)));
        let unlocked: Vec<_> = plan.iter().filter(|line| !line.contains("--locked")).collect();
        assert!(unlocked.iter().all(|line| line.starts_with("fmt ")), "{unlocked:#?}");
        assert!(!lines(&test_plan(&cargo(false))).iter().any(|line| line.contains("--locked")));
    }

    #[test]
    fn documentation_warnings_are_errors() {
        let plan = test_plan(&cargo(false));
        let doc = plan.iter().find(|step| step.name == "documentation").expect("documentation is built");
        assert!(
            doc.command.get_envs().any(|(name, value)| name == "RUSTDOCFLAGS" && value == Some("-D warnings".as_ref()))
        );
    }

    #[test]
    fn steps_see_the_target_directory_asked_for() {
        for step in test_plan(&cargo(false)) {
            let dir =
                step.command.get_envs().find(|(name, _)| *name == "CARGO_TARGET_DIR").and_then(|(_, value)| value);
            assert_eq!(dir, Some("/cache".as_ref()), "{}", step.name);
        }
    }

    #[test]
    fn the_first_failure_stops_the_plan_and_is_named() {
        let marker = std::env::temp_dir().join(format!("xtask-steps-{}", std::process::id()));
        let shell = |name, script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            Step { name, command }
        };
        let touch = format!("touch {}", marker.display());
        let error = run_all(vec![shell("fine", "true"), shell("broken", "exit 3"), shell("never", &touch)])
            .expect_err("a step fails");
        assert_eq!(error.to_string(), "step failed: broken");
        assert!(!marker.exists(), "a step after the failed one ran");
    }
}
