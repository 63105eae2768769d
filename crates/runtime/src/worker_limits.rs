//! What a compile worker may use. A compiler fed with hostile Wasm can take any amount of time and memory; the process
//! ends itself before that hurts others, and how it ended says which limit it was.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The compiler recurses over the module's structure; all of its threads have this much stack.
pub const COMPILE_STACK_BYTES: usize = 32 << 20;
/// Open files.
const OPEN_FILES: u64 = 64;

/// What one compilation may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// Bytes of address space of the process.
    pub memory_bytes: u64,
    /// CPU time of all its threads, rounded up to whole seconds.
    pub cpu: Duration,
    /// Bytes of the native code. The largest module makes about three times its size of code, and the image of its
    /// memories comes on top.
    pub native_bytes: u64,
}

impl Default for CompileLimits {
    fn default() -> CompileLimits {
        CompileLimits { memory_bytes: 4 << 30, cpu: Duration::from_secs(300), native_bytes: 512 << 20 }
    }
}

impl CompileLimits {
    fn cpu_seconds(&self) -> u64 {
        self.cpu.as_secs() + u64::from(self.cpu.subsec_nanos() > 0)
    }

    /// Limits this process from here on.
    pub(crate) fn apply(&self) -> io::Result<()> {
        let cpu = self.cpu_seconds();
        let limits = [
            (Resource::As, self.memory_bytes, self.memory_bytes),
            // At the first the process gets a signal of its own, at the second it is killed.
            (Resource::Cpu, cpu, cpu.saturating_add(1)),
            // Native code over its limit is refused with both numbers; this is for a compiler that was taken over.
            (Resource::Fsize, self.native_bytes, self.native_bytes),
            (Resource::Nofile, OPEN_FILES, OPEN_FILES),
            // No copy of a tenant's module is left behind by a crash.
            (Resource::Core, 0, 0),
        ];
        for (resource, soft, hard) in limits {
            let allowed = getrlimit(resource).maximum.unwrap_or(u64::MAX);
            let (soft, hard) = (soft.min(allowed), hard.min(allowed));
            setrlimit(resource, Rlimit { current: Some(soft), maximum: Some(hard) })?;
        }
        Ok(())
    }

    /// What the death of a worker without a verdict means for its module. `said` is what it wrote to stderr.
    pub fn explain(&self, status: ExitStatus, said: &str) -> String {
        const SYS: i32 = rustix::process::Signal::SYS.as_raw();
        const XCPU: i32 = rustix::process::Signal::XCPU.as_raw();
        const XFSZ: i32 = rustix::process::Signal::XFSZ.as_raw();
        const KILL: i32 = rustix::process::Signal::KILL.as_raw();
        let cpu = self.cpu_seconds();
        // What the standard library says before it aborts.
        let asked = said.split("memory allocation of ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
        if let Some(asked) = asked {
            return self.over_memory(Some(asked));
        }
        if said.contains("overflowed its stack") {
            return format!(
                "compilation needs more stack than its limit of {COMPILE_STACK_BYTES} bytes: the module is nested too \
                 deep (limit compile-stack)"
            );
        }
        match status.signal() {
            Some(SYS) => {
                "the compile worker made a forbidden system call and was ended: the compiler was taken over, or \
                          a library has changed"
                    .to_owned()
            }
            Some(XCPU) => format!(
                "compilation took {cpu} s of CPU time and was not done; the limit is {cpu} s (limit compile-cpu)"
            ),
            Some(XFSZ) => {
                format!("native code exceeds {} bytes, which is its limit (limit compile-output)", self.native_bytes)
            }
            Some(KILL) => format!(
                "the compile worker was killed from outside, as a host does that is short of memory; its own limits are \
                 {} bytes of memory and {cpu} s of CPU time",
                self.memory_bytes
            ),
            _ => format!("the compile worker ended with {status} and without a verdict: {}", tail(said)),
        }
    }

    /// The message for a module whose compilation met the memory limit.
    pub(crate) fn over_memory(&self, asked: Option<u64>) -> String {
        let asked = asked.map_or_else(String::new, |asked| format!("asked for {asked} bytes more than it had and "));
        format!(
            "compilation {asked}exceeds its memory; the limit is {} bytes (limit compile-memory)",
            self.memory_bytes
        )
    }
}

/// The end of what a process said.
fn tail(said: &str) -> &str {
    let said = said.trim();
    said.lines().next_back().filter(|line| !line.is_empty()).unwrap_or("it said nothing")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explain(signal: i32, said: &str) -> String {
        CompileLimits::default().explain(ExitStatus::from_raw(signal), said)
    }

    #[test]
    fn a_death_is_explained_by_the_limit_that_caused_it() {
        let abort = rustix::process::Signal::ABORT.as_raw();
        let memory = explain(abort, "memory allocation of 8589934592 bytes failed\n");
        assert!(
            memory.contains("8589934592") && memory.contains("4294967296 bytes (limit compile-memory)"),
            "{memory}"
        );
        let stack = explain(abort, "thread 'x' has overflowed its stack\nfatal runtime error: stack overflow");
        assert!(stack.contains("33554432") && stack.contains("compile-stack"), "{stack}");
        let cpu = explain(rustix::process::Signal::XCPU.as_raw(), "");
        assert!(cpu.contains("300 s") && cpu.contains("compile-cpu"), "{cpu}");
        assert!(explain(rustix::process::Signal::XFSZ.as_raw(), "").contains("compile-output"));
        assert!(explain(rustix::process::Signal::KILL.as_raw(), "").contains("short of memory"));
        assert!(explain(abort, "a\nlast words\n").ends_with("last words"));
    }

    #[test]
    fn parts_of_a_second_count_as_a_whole_one() {
        let limits = CompileLimits { cpu: Duration::from_millis(1_200), ..CompileLimits::default() };
        assert_eq!(limits.cpu_seconds(), 2);
    }
}
