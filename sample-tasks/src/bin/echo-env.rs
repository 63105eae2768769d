//! What a task was given: its arguments, then its environment in order of name. `echo-env [ARGS...]`

fn main() {
    for (index, arg) in std::env::args().enumerate() {
        println!("arg {index} {arg}");
    }
    let mut env: Vec<_> = std::env::vars().collect();
    env.sort();
    for (name, value) in env {
        println!("env {name}={value}");
    }
}
