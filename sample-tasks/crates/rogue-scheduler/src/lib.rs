//! A scheduler that misbehaves in the way its configuration names: what its host must survive.

use std::time::Duration;

use holm_sdk::model::{FrameworkInfo, Role};
use holm_sdk::{Calls, Configured, Event, Scheduler};

struct Rogue {
    way: String,
}

impl Configured for Rogue {
    fn configure(config: &[u8]) -> Result<Rogue, String> {
        let way = String::from_utf8_lossy(config).into_owned();
        if way == "spin-in-describe" {
            spin();
        }
        if way.is_empty() {
            return Err("no way to misbehave is given".to_owned());
        }
        Ok(Rogue { way })
    }
}

impl Scheduler for Rogue {
    fn describe(&self) -> FrameworkInfo {
        let name = if self.way == "nameless" { "" } else { "rogue" };
        holm_sdk::framework_info(name, [Role::default_role()])
    }

    fn handle(&mut self, events: Vec<Event>, calls: &mut Calls) {
        match self.way.as_str() {
            "trap" => panic!("as told, at {} events", events.len()),
            "spin" => spin(),
            "sleep" => std::thread::sleep(Duration::from_secs(3600)),
            "grow" => grow(),
            "look-around" => calls.finish(0, look_around()),
            "abort" => calls.abort("as told"),
            _ => {}
        }
    }
}

fn spin() {
    let mut turns = 0_u64;
    loop {
        turns = std::hint::black_box(turns.wrapping_add(1));
    }
}

fn grow() {
    let mut held = Vec::new();
    loop {
        held.push(std::hint::black_box(vec![1_u8; 1 << 20]));
    }
}

/// What a component can find out about the world around it.
fn look_around() -> String {
    let arguments = std::env::args().count();
    let variables = std::env::vars().count();
    let root = std::fs::read_dir("/").is_ok();
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map(|time| time.as_secs());
    format!("{arguments} arguments, {variables} variables, root {root}, time {since_1970:?}")
}

holm_sdk::export_scheduler!(Rogue);
