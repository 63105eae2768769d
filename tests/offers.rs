//! The offer cycle through real processes: weighted DRF as the paper has it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use holm_sdk::model::{Launch, Offer, Refusal, Role, TaskRange, TaskSpec, TaskState};
use holm_sdk::{Calls, Client, Driver, Event, Scheduler, framework_info};
use tokio::sync::watch;

use crate::harness::{Cluster, LIMIT, p1, wait_for};

/// Launches one task per offer and gives the rest back at once; what does not fit, too.
struct OnePerOffer {
    role: Role,
    spec: Arc<TaskSpec>,
    launched: u32,
    running: watch::Sender<u32>,
}

impl Scheduler for OnePerOffer {
    fn describe(&self) -> holm_sdk::model::FrameworkInfo {
        framework_info(self.role.as_str(), [self.role.clone()])
    }

    fn handle(&mut self, events: Vec<Event>, calls: &mut Calls) {
        for event in events {
            match event {
                Event::Offers(offers) => offers.into_iter().for_each(|offer| self.offer(&offer, calls)),
                Event::Updates(updates) => {
                    let running = updates.iter().filter(|update| update.status.state == TaskState::Running).count();
                    self.running.send_modify(|count| *count += u32::try_from(running).unwrap());
                    let ended = updates.iter().find(|update| update.status.state.is_terminal());
                    assert!(ended.is_none(), "{ended:?}");
                }
                Event::Error { message } => panic!("{message}"),
                _ => {}
            }
        }
    }
}

impl OnePerOffer {
    fn offer(&mut self, offer: &Offer, calls: &mut Calls) {
        if !offer.resources.contains(&self.spec.resources) {
            // Long enough not to be asked again and again for what can never fit.
            return calls.decline([offer.id], Some(Refusal::new(Duration::from_millis(200))));
        }
        let id = format!("{}-{}", self.role, self.launched).parse().unwrap();
        self.launched += 1;
        let launch = Launch { id, tasks: TaskRange::Single, slots: 1, spec: self.spec.clone() };
        calls.accept([offer.id], vec![launch], Refusal::NONE);
    }
}

#[test]
fn the_papers_example_comes_out_as_three_and_two_tasks() {
    // The agent comes last: whoever is alone with it may take all of it.
    let mut cluster = Cluster::bare();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let masters = vec![cluster.address.clone()];
    let mut counts = runtime.block_on(async {
        let client = Client::connect(&masters, None).await.unwrap();
        let module = client.push(std::fs::read(p1("sleep")).unwrap()).await.unwrap().digest;
        let mut counts = BTreeMap::new();
        for (role, shape) in [("a", "cpus:1;mem:4GiB"), ("b", "cpus:3;mem:1GiB")] {
            let spec = TaskSpec {
                module,
                args: vec!["600000".into()],
                resources: shape.parse().unwrap(),
                ..TaskSpec::default()
            };
            let (running, count) = watch::channel(0);
            let mut scheduler = OnePerOffer { role: role.parse().unwrap(), spec: spec.into(), launched: 0, running };
            let options = holm_sdk::Options { masters: masters.clone(), ..holm_sdk::Options::default() };
            let (driver, mut handle) = Driver::new(options).unwrap();
            tokio::spawn(async move { driver.run(&mut scheduler).await });
            handle.registered().await.unwrap();
            counts.insert(role, count);
        }
        counts
    });
    cluster.add_agent("cpus:9;mem:18GiB");
    runtime.block_on(async {
        for (role, expected) in [("a", 3), ("b", 2)] {
            let count = counts.get_mut(role).unwrap();
            let reached = tokio::time::timeout(LIMIT, count.wait_for(|count| *count >= expected)).await.is_ok();
            assert!(reached, "{role} runs {} tasks", *count.borrow());
        }
        assert_eq!((*counts["a"].borrow(), *counts["b"].borrow()), (3, 2));
    });
    wait_for("the shares are equal", || {
        let roles = cluster.list(&["roles"]);
        let share = |name: &str| {
            let role = roles.iter().find(|role| role["role"] == name)?;
            Some((role["dominant_share"].as_f64()?, role["dominant_resource"].as_str()?.to_owned()))
        };
        let close = |share: f64| (share - 2.0 / 3.0).abs() < 1e-3;
        let ((a, of_a), (b, of_b)) = (share("a")?, share("b")?);
        (close(a) && close(b) && of_a == "mem" && of_b == "cpus").then_some(())
    });
    runtime.shutdown_background();
}

#[test]
fn offers_that_are_held_are_listed_and_rescinded_with_their_agent() {
    struct Holder(watch::Sender<(u32, u32)>);
    impl Scheduler for Holder {
        fn describe(&self) -> holm_sdk::model::FrameworkInfo {
            framework_info("holder", [Role::default_role()])
        }
        fn handle(&mut self, events: Vec<Event>, _calls: &mut Calls) {
            for event in events {
                match event {
                    Event::Offers(offers) => self.0.send_modify(|seen| seen.0 += u32::try_from(offers.len()).unwrap()),
                    Event::Rescinded(offers) => {
                        self.0.send_modify(|seen| seen.1 += u32::try_from(offers.len()).unwrap())
                    }
                    _ => {}
                }
            }
        }
    }
    let mut cluster = Cluster::new("cpus:2;mem:1GiB");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (sender, mut seen) = watch::channel((0, 0));
    let options = holm_sdk::Options { masters: vec![cluster.address.clone()], ..holm_sdk::Options::default() };
    let (driver, _) = Driver::new(options).unwrap();
    runtime.spawn(async move { driver.run(&mut Holder(sender)).await });
    let wait = |seen: &mut watch::Receiver<(u32, u32)>, wanted: fn(&(u32, u32)) -> bool| {
        runtime.block_on(async {
            tokio::time::timeout(LIMIT, seen.wait_for(wanted)).await.unwrap().unwrap();
        });
    };
    wait(&mut seen, |seen| seen.0 == 1);
    let offers =
        wait_for("the offer is listed", || Some(cluster.list(&["offers"])).filter(|offers| !offers.is_empty()));
    assert_eq!((offers.len(), &offers[0]["resources"]["cpus"]), (1, &2.into()));
    cluster.agents[0].kill();
    wait(&mut seen, |seen| seen.1 == 1);
    wait_for("no offer is out", || cluster.list(&["offers"]).is_empty().then_some(()));
    runtime.shutdown_background();
}
