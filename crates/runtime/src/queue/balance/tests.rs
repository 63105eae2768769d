//! Runners on a machine with an operating system that shares its cores out evenly among threads, in virtual time.

use super::*;
use crate::shares::{Record, Table};

/// The step of the simulation, in nanoseconds.
const STEP: u64 = 100_000;
const SECOND: u64 = 1_000_000_000;
/// How long the operating system lets a thread run, in steps.
const TIMESLICE: u64 = 30;
/// How long a worker polls before it asks again, in steps of its own CPU time.
const POLL: u64 = 10;

#[derive(Clone, Default)]
struct Worker {
    /// CPU time of this poll, and when it began.
    poll: Option<(u64, u64)>,
}

struct Runner {
    balance: Balance,
    is_lent: bool,
    busy_loops: usize,
    weight_each: u64,
    workers: Vec<Worker>,
    used: u64,
}

impl Runner {
    fn weight(&self) -> u64 {
        self.busy_loops as u64 * self.weight_each
    }
}

struct Machine {
    cores: usize,
    now: u64,
    table: Table,
    runners: Vec<Runner>,
    /// Worker threads in the order in which they get a core; those of runners that are not there always want one.
    order: Vec<(usize, usize)>,
}

impl Machine {
    /// Runners of one agent that declares `cpus`: so many busy loops of so much weight each.
    fn new(cores: usize, cpus: u64, loads: &[(usize, u64)]) -> Machine {
        let threads = usize::try_from(cpus.div_ceil(1_000)).unwrap();
        let runner = |(seat, (busy_loops, weight_each)): (usize, &(usize, u64))| Runner {
            balance: Balance::new(seat, seat as u64 + 1, threads),
            is_lent: false,
            busy_loops: *busy_loops,
            weight_each: *weight_each,
            workers: vec![Worker::default(); threads],
            used: 0,
        };
        let runners: Vec<Runner> = loads.iter().enumerate().map(runner).collect();
        let order = (0..runners.len()).flat_map(|runner| (0..threads).map(move |worker| (runner, worker))).collect();
        Machine { cores, now: SECOND, table: Table { cpus, records: vec![None; SEATS] }, runners, order }
    }

    /// The same with runners of revocable tasks after the others.
    fn lending(cores: usize, cpus: u64, loads: &[(usize, u64)], lent: &[(usize, u64)]) -> Machine {
        let mut machine = Machine::new(cores, cpus, &[loads, lent].concat());
        for (seat, runner) in machine.runners.iter_mut().enumerate().skip(loads.len()) {
            runner.is_lent = true;
            runner.balance = Balance::new(seat, seat as u64 + 1, runner.workers.len()).lent(true);
        }
        machine
    }

    /// Gives a runner other work.
    fn load(&mut self, runner: usize, busy_loops: usize) {
        self.runners[runner].busy_loops = busy_loops;
        if busy_loops == 0 {
            self.runners[runner].workers.iter_mut().for_each(|worker| worker.poll = None);
        }
    }

    fn run(&mut self, seconds: u64) {
        for step in 0..seconds * SECOND / STEP {
            self.step(step);
        }
    }

    /// CPU time of the runners in the next seconds, in cores.
    fn measure(&mut self, seconds: u64) -> Vec<f64> {
        let before: Vec<u64> = self.runners.iter().map(|runner| runner.used).collect();
        self.run(seconds);
        let used = self.runners.iter().zip(before).map(|(runner, before)| runner.used - before);
        used.map(|used| used as f64 / (seconds * SECOND) as f64).collect()
    }

    fn step(&mut self, step: u64) {
        for number in 0..self.runners.len() {
            self.look(number);
            self.begin_polls(number);
        }
        let runners = &self.runners;
        let runnable = self.order.iter().copied().filter(|(runner, worker)| {
            runners.get(*runner).is_none_or(|runner| runner.workers[*worker].poll.is_some())
        });
        let running: Vec<_> = runnable.take(self.cores).collect();
        self.now += STEP;
        let ours = self.runners.len();
        for (runner, worker) in running.iter().filter(|(runner, _)| *runner < ours) {
            self.runners[*runner].used += STEP;
            let poll = &mut self.runners[*runner].workers[*worker].poll;
            if let Some((cpu, _)) = poll {
                *cpu += STEP;
            }
            self.end_poll(*runner, *worker);
        }
        if step % TIMESLICE == TIMESLICE - 1 {
            self.order.retain(|thread| !running.contains(thread));
            self.order.extend(running);
        }
    }

    fn look(&mut self, number: usize) {
        let runner = &mut self.runners[number];
        let now = Now { time: self.now, process: runner.used, cores: self.cores as u64 * 1_000 };
        if runner.busy_loops == 0 {
            if let Some(record) = runner.balance.goes_idle(now) {
                self.table.records[number] = Some(record);
            }
            return;
        }
        // Only between two polls, or while it is held back.
        let all_poll = runner.workers.iter().all(|worker| worker.poll.is_some());
        if all_poll || self.now < runner.balance.recheck() {
            return;
        }
        let weight = runner.weight();
        let record = runner.balance.look(now, runner.busy_loops, weight, Some(&self.table));
        self.table.records[number] = Some(record);
    }

    fn begin_polls(&mut self, number: usize) {
        let runner = &mut self.runners[number];
        let most = runner.balance.allowed().min(runner.busy_loops);
        let mut polling = runner.workers.iter().filter(|worker| worker.poll.is_some()).count();
        for worker in &mut runner.workers {
            if worker.poll.is_none() && polling < most {
                worker.poll = Some((0, self.now));
                polling += 1;
            }
        }
    }

    fn end_poll(&mut self, number: usize, worker: usize) {
        let runner = &mut self.runners[number];
        let weight = runner.weight();
        if let Some((cpu, began)) = runner.workers[worker].poll
            && cpu >= POLL * STEP
        {
            runner.balance.used(cpu, self.now - began, 0, weight);
            runner.workers[worker].poll = None;
        }
    }
}

fn assert_near(got: f64, wanted: f64) {
    assert!((got / wanted - 1.0).abs() < 0.03, "{got} instead of {wanted}");
}

#[test]
fn tasks_get_their_share_whatever_runner_they_are_in() {
    let mut machine = Machine::new(2, 2_000, &[(4, 125), (2, 250), (2, 500)]);
    let got = machine.measure(10);
    for (got, wanted) in got.iter().zip([0.5, 0.5, 1.0]) {
        assert_near(*got, wanted);
    }
}

#[test]
fn who_can_use_less_than_its_share_leaves_the_rest_to_the_others() {
    let mut machine = Machine::new(2, 2_000, &[(1, 1_000), (2, 100)]);
    let got = machine.measure(5);
    assert!(got[0] > 0.9 && got[1] > 0.9, "{got:?}");
    // With less load than cores nobody is held back at all.
    let mut machine = Machine::new(2, 2_000, &[(1, 1_000), (1, 10)]);
    let got = machine.measure(5);
    assert!(got[0] > 0.99 && got[1] > 0.99, "{got:?}");
}

#[test]
fn all_together_stay_below_what_the_agent_declares() {
    let mut machine = Machine::new(2, 500, &[(1, 100), (1, 200), (1, 100)]);
    let got = machine.measure(10);
    let sum: f64 = got.iter().sum();
    assert!(sum <= 0.502 && sum > 0.485, "{sum} of 0.5");
    for (got, wanted) in got.iter().zip([0.125, 0.25, 0.125]) {
        assert_near(*got, wanted);
    }
    let mut machine = Machine::new(4, 1_500, &[(4, 100), (4, 200)]);
    let got = machine.measure(10);
    assert!(got[0] + got[1] <= 1.51, "{got:?}");
    assert_near(got[1] / got[0], 2.0);
}

#[test]
fn nobody_is_made_to_pay_for_what_was_free() {
    // Two runners with a core each drift apart ...
    let mut machine = Machine::new(2, 2_000, &[(1, 1_000), (1, 10), (0, 990)]);
    machine.run(5);
    // ... then a third comes, and each has its share at once.
    machine.runners[2].busy_loops = 1;
    let got = machine.measure(2);
    assert!(got[1] > 0.007, "{got:?}");
    assert_near(got[0], got[2]);
    // When it goes, the others have the machine again.
    machine.runners[2].busy_loops = 0;
    machine.runners[2].workers.iter_mut().for_each(|worker| worker.poll = None);
    machine.run(1);
    let got = machine.measure(2);
    assert!(got[0] > 0.95 && got[1] > 0.95, "{got:?}");
}

#[test]
fn a_runner_that_lies_cannot_stop_the_others() {
    let mut machine = Machine::new(2, 2_000, &[(4, 500)]);
    let lie =
        |at| Record { owner: 9, at, time: 0, weight: 1, wants: 1 << 20, is_hungry: true, is_lent: false, used: at };
    let before = machine.runners[0].used;
    for step in 0..2 * SECOND / STEP {
        machine.table.records[7] = Some(lie(machine.now));
        machine.step(step);
    }
    let got = (machine.runners[0].used - before) as f64 / (2 * SECOND) as f64;
    assert!(got > 2.0 / 25.0, "{got} cores of 2");
}

#[test]
fn shares_hold_on_a_machine_that_is_busy_with_other_things() {
    // Twenty threads of others: each of ours waits long for its turn.
    let mut machine = Machine::new(2, 2_000, &[(4, 125), (2, 250), (2, 500)]);
    machine.order.extend((0..20).map(|thread| (usize::MAX, thread)));
    let got = machine.measure(40);
    let sum: f64 = got.iter().sum();
    for (got, wanted) in got.iter().zip([0.25, 0.25, 0.5]) {
        assert_near(got / sum, wanted);
    }
}

#[test]
fn owners_have_all_of_their_share_whatever_is_lent_beside_them() {
    let owners = [(4, 125), (2, 250), (2, 500)];
    let alone = Machine::new(2, 2_000, &owners).measure(10);
    let mut machine = Machine::lending(2, 2_000, &owners, &[(4, 1_000_000), (4, 1_000_000)]);
    // The first moments show how long a borrower takes to see that somebody wants its core.
    machine.run(1);
    let got = machine.measure(10);
    for (got, alone) in got.iter().zip(&alone) {
        assert!(*got > alone * 0.995, "{got} beside borrowers, {alone} without");
    }
    assert!(got[3] + got[4] < 0.01, "{got:?}");
}

#[test]
fn borrowers_have_what_owners_leave_and_share_it_by_weight() {
    // One owner computes on one of four cores, another sleeps.
    let mut machine = Machine::lending(4, 4_000, &[(1, 3_000), (0, 1_000)], &[(4, 100), (4, 200)]);
    machine.run(1);
    let got = machine.measure(10);
    assert!(got[0] > 0.99, "{got:?}");
    assert!(got[2] + got[3] > 2.7, "{got:?}");
    assert_near(got[3] / got[2], 2.0);
}

#[test]
fn an_owner_that_wakes_up_has_its_share_within_a_few_milliseconds() {
    let mut machine = Machine::lending(2, 2_000, &[(0, 1_000)], &[(2, 1_000)]);
    machine.run(2);
    for _ in 0..20 {
        machine.load(0, 2);
        let before = machine.runners[0].used;
        for step in 0..20_000_000 / STEP {
            machine.step(step);
        }
        let used = machine.runners[0].used - before;
        assert!(used > 30_000_000, "{} of 40 ms of CPU time in the first 20 ms", used / 1_000_000);
        machine.load(0, 0);
        machine.run(1);
    }
}

#[test]
fn what_borrowers_use_is_not_taken_off_the_ceiling_of_owners() {
    // A quarter of the machine is the agent's. Its owner sleeps, borrowers have all of it; then it wants all.
    let mut machine = Machine::lending(4, 1_000, &[(0, 1_000)], &[(2, 1_000)]);
    machine.run(1);
    let got = machine.measure(5);
    assert!(got[1] > 0.95 && got[1] < 1.01, "borrowers keep to the ceiling too: {got:?}");
    machine.load(0, 1);
    machine.run(1);
    let got = machine.measure(5);
    assert!(got[0] > 0.99, "{got:?}");
    assert!(got[1] < 0.01, "{got:?}");
}

#[test]
fn a_borrower_that_lies_costs_owners_nothing() {
    let owners = [(2, 500), (2, 500)];
    let alone = Machine::new(2, 2_000, &owners).measure(5);
    let mut machine = Machine::new(2, 2_000, &owners);
    let before: Vec<u64> = machine.runners.iter().map(|runner| runner.used).collect();
    for step in 0..5 * SECOND / STEP {
        let at = machine.now;
        let lie = Record { owner: 9, at, time: 0, weight: 1, wants: 1 << 20, is_hungry: true, is_lent: true, used: at };
        machine.table.records[7] = Some(lie);
        machine.step(step);
    }
    for ((runner, before), alone) in machine.runners.iter().zip(before).zip(alone) {
        assert_near((runner.used - before) as f64 / (5 * SECOND) as f64, alone);
    }
}
