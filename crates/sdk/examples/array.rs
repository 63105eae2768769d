//! A whole framework: runs a Wasm program as an array of tasks and says how they ended.
//!
//! `cargo run -p holm-sdk --example array -- 127.0.0.1:5050 job.wasm 1000 [TOKEN]`

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use holm_sdk::model::{FrameworkInfo, Launch, MAX_BATCH_TASKS, Offer, Refusal, TaskRange, TaskSpec, TaskState};
use holm_sdk::{Calls, Client, Driver, Event, Options, Scheduler, framework_info};

/// Runs tasks 0 to `count` - 1 of one template.
struct Array {
    template: Arc<TaskSpec>,
    count: u32,
    launched: u32,
    finished: u32,
    failed: u32,
}

impl Array {
    /// Uses an offer for as many tasks as it has room for, each slot for several of them.
    fn accept(&mut self, offer: &Offer, calls: &mut Calls) {
        let left = self.count - self.launched;
        let slots = offer.resources.count_fitting(&self.template.resources, left);
        if slots == 0 {
            return calls.decline([offer.id], None);
        }
        let count = left.min(slots * 16).min(MAX_BATCH_TASKS);
        let tasks = TaskRange::Array { first: self.launched, count };
        let id = format!("array.{}", self.launched).parse().expect("letters, a dot and digits are a name");
        calls.accept([offer.id], vec![Launch { id, tasks, slots, spec: self.template.clone() }], Refusal::default());
        self.launched += count;
    }
}

impl Scheduler for Array {
    fn describe(&self) -> FrameworkInfo {
        // Tasks go on while the connection to the master is lost for less than a minute.
        let role = "batch".parse().expect("a role");
        FrameworkInfo { failover_timeout: Duration::from_secs(60), ..framework_info("array", [role]) }
    }

    fn handle(&mut self, events: Vec<Event>, calls: &mut Calls) {
        for event in events {
            match event {
                Event::Offers(offers) => offers.iter().for_each(|offer| self.accept(offer, calls)),
                Event::Updates(updates) => {
                    for update in updates.iter().filter(|update| update.status.state.is_terminal()) {
                        let finished = update.status.state == TaskState::Finished;
                        *if finished { &mut self.finished } else { &mut self.failed } += update.count();
                    }
                }
                Event::Error { message } => eprintln!("{message}"),
                _ => {}
            }
        }
        if self.finished + self.failed == self.count {
            calls.finish(u8::from(self.failed > 0), format!("{} finished, {} not", self.finished, self.failed));
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [master, module, count, token @ ..] = args.as_slice() else { return Err("MASTER MODULE COUNT [TOKEN]".into()) };
    let (masters, token) = (vec![master.clone()], token.first().cloned());
    let pushed =
        Client::connect(&masters, token.as_deref()).await?.push_file(module.as_ref(), |_sent, _size| {}).await?;
    let template = TaskSpec { module: pushed.digest, resources: "cpus:0.1;mem:32MiB".parse()?, ..TaskSpec::default() };
    let mut array = Array { template: template.into(), count: count.parse()?, launched: 0, finished: 0, failed: 0 };
    let (driver, _handle) = Driver::new(Options { masters, token, ..Options::default() })?;
    let outcome = driver.run(&mut array).await?;
    println!("{}", String::from_utf8_lossy(&outcome.report));
    Ok(())
}
