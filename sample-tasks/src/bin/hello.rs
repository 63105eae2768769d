//! The smallest task: one line to stdout, exit code 0. `hello`
//!
//! Says who it is: the task id when the cluster provides one, its own name otherwise.

fn main() {
    let name = std::env::var("HOLM_TASK_ID").ok().or_else(|| std::env::args().next());
    println!("hello from {}", name.as_deref().unwrap_or("a task without a name"));
}
