//! The two clocks of the run queue: time that passes, and CPU time of a thread or of the process.

use std::cell::Cell;

use rustix::time::{ClockId, clock_gettime};

fn nanos(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let nanos = time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec);
    u64::try_from(nanos).unwrap_or(0)
}

/// Nanoseconds since the machine was started, the same in all processes.
pub(crate) fn now() -> u64 {
    nanos(ClockId::Monotonic)
}

/// CPU time of this thread in nanoseconds. A system call of a quarter of a microsecond.
pub(crate) fn thread_cpu() -> u64 {
    nanos(ClockId::ThreadCPUTime)
}

/// CPU time of this process in nanoseconds.
pub(crate) fn process_cpu() -> u64 {
    nanos(ClockId::ProcessCPUTime)
}

thread_local! {
    /// On threads that do blocking calls for guests: CPU time of the thread when the last call ended.
    static BLOCKING_CPU: Cell<Option<u64>> = const { Cell::new(None) };
}

/// A tokio runtime whose threads do what guests wait for: timers, sockets and blocking file calls. CPU time of the file
/// calls is charged to the tasks that made them; with a runtime made otherwise it is not.
///
/// # Errors
/// When its threads cannot be started.
pub fn io_runtime(blocking_threads: usize) -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(blocking_threads.max(1))
        .thread_name("runner-io")
        .on_thread_start(|| BLOCKING_CPU.set(Some(thread_cpu())))
        // Threads for blocking calls never park: the one that does serves timers and sockets.
        .on_thread_park(|| BLOCKING_CPU.set(None))
        .enable_all()
        .build()
}

/// CPU time of this thread since it last woke a task, in nanoseconds, if it does blocking calls for guests. A call ends
/// with waking the task that made it, on the thread that did it, so this is what the call took.
pub(crate) fn take_blocking_cpu() -> u64 {
    let Some(before) = BLOCKING_CPU.get() else { return 0 };
    let now = thread_cpu();
    BLOCKING_CPU.set(Some(now));
    now.saturating_sub(before)
}

/// Does something on a thread for blocking calls that no guest is to pay for.
pub fn uncharged<R>(work: impl FnOnce() -> R) -> R {
    let owed = BLOCKING_CPU.get().map(|before| thread_cpu().saturating_sub(before));
    let result = work();
    BLOCKING_CPU.set(owed.map(|owed| thread_cpu().saturating_sub(owed)));
    result
}
