//! The queue in virtual time: workers that poll for a slice, and tasks that compute, sleep or come and go.

use super::*;

const MILLI: u64 = 1_000_000;

struct Task {
    claim: Claim,
    used: u64,
    kind: Kind,
    /// When it wakes, if it sleeps.
    wakes: Option<u64>,
    /// CPU time it needs until it sleeps or ends.
    left: u64,
    became_ready: u64,
    waited: Vec<u64>,
}

#[derive(Clone, Copy)]
enum Kind {
    BusyLoop,
    /// Sleeps for the first, computes for the second.
    Sleeper(u64, u64),
    /// Ends after computing for this long; another one follows.
    Short(u64),
}

struct World {
    queue: FairQueue<usize>,
    tasks: Vec<Task>,
    now: u64,
    slice: u64,
    workers: Vec<Option<(usize, u64)>>,
}

impl World {
    fn new(workers: usize, tasks: &[(u64, Option<u64>, Kind)]) -> World {
        let task = |(group, (milli, limit_milli, kind)): (u64, &(u64, Option<u64>, Kind))| Task {
            claim: Claim::new(CpuShare { milli: *milli, limit_milli: *limit_milli, group }),
            used: 0,
            kind: *kind,
            wakes: None,
            left: match kind {
                Kind::BusyLoop => u64::MAX,
                Kind::Sleeper(_, work) | Kind::Short(work) => *work,
            },
            became_ready: 0,
            waited: Vec::new(),
        };
        let tasks = (0..).zip(tasks).map(task).collect();
        let mut world =
            World { queue: FairQueue::default(), tasks, now: 0, slice: MILLI, workers: vec![None; workers] };
        for number in 0..world.tasks.len() {
            world.queue.enter(&mut world.tasks[number].claim, 0, number);
        }
        world
    }

    fn run(&mut self, until: u64) {
        while self.now < until {
            self.wake_sleepers();
            for worker in 0..self.workers.len() {
                if self.workers[worker].is_none() {
                    self.workers[worker] = self.take();
                }
            }
            self.advance();
        }
    }

    fn wake_sleepers(&mut self) {
        for number in 0..self.tasks.len() {
            let task = &mut self.tasks[number];
            if task.wakes.is_some_and(|at| at <= self.now) {
                task.wakes = None;
                task.became_ready = self.now;
                self.queue.wake(&mut task.claim, self.now, number);
            }
        }
    }

    fn take(&mut self) -> Option<(usize, u64)> {
        let number = self.queue.pop(self.now, false)?;
        let task = &mut self.tasks[number];
        self.queue.taken(&mut task.claim);
        task.waited.push(self.now - task.became_ready);
        Some((number, self.now + task.left.min(self.slice)))
    }

    /// To the next end of a slice, wake or return.
    fn advance(&mut self) {
        let slices = self.workers.iter().flatten().map(|(_, end)| *end);
        let wakes = self.tasks.iter().filter_map(|task| task.wakes);
        let next = slices.chain(wakes).chain(self.queue.next_return()).filter(|at| *at > self.now).min();
        self.now = next.expect("something happens at some time");
        for worker in 0..self.workers.len() {
            if let Some((number, _)) = self.workers[worker].take_if(|(_, end)| *end <= self.now) {
                self.slice_ends(number);
            }
        }
    }

    fn slice_ends(&mut self, number: usize) {
        let (now, slice) = (self.now, self.slice);
        let task = &mut self.tasks[number];
        let used = task.left.min(slice);
        task.used += used;
        task.left -= if task.left == u64::MAX { 0 } else { used };
        self.queue.charge(&mut task.claim, used, now);
        match task.kind {
            Kind::Sleeper(sleep, work) if task.left == 0 => {
                task.left = work;
                task.wakes = Some(now + sleep);
                self.queue.leave(&mut task.claim);
            }
            Kind::Short(work) if task.left == 0 => {
                task.left = work;
                self.queue.end(&mut task.claim);
                let Claim { weight, group, .. } = task.claim;
                task.claim = Claim::new(CpuShare { milli: weight, limit_milli: None, group });
                self.queue.enter(&mut task.claim, now, number);
            }
            _ => {
                task.became_ready = now;
                self.queue.again(&mut task.claim, now, number);
            }
        }
    }

    fn used(&self, number: usize) -> f64 {
        self.tasks[number].used as f64
    }
}

fn assert_near(got: f64, wanted: f64, part: f64) {
    assert!((got / wanted - 1.0).abs() < part, "{got} instead of {wanted}");
}

const BUSY: Kind = Kind::BusyLoop;

#[test]
fn busy_loops_get_cpu_time_by_weight() {
    let weights = [125, 125, 125, 125, 250, 250, 500, 500];
    let mut world = World::new(2, &weights.map(|weight| (weight, None, BUSY)));
    world.run(10_000 * MILLI);
    for (number, weight) in weights.into_iter().enumerate() {
        assert_near(world.used(number), 10_000.0 * MILLI as f64 * weight as f64 / 1_000.0, 0.01);
    }
}

#[test]
fn what_one_cannot_use_the_others_get() {
    let mut world = World::new(2, &[(1_000, None, BUSY), (100, None, BUSY), (200, None, BUSY)]);
    world.run(3_000 * MILLI);
    let got = [world.used(0), world.used(1), world.used(2)].map(|used| used / (1_000.0 * MILLI as f64));
    assert_near(got[0], 3.0, 0.01);
    assert_near(got[1], 1.0, 0.02);
    assert_near(got[2], 2.0, 0.02);
}

#[test]
fn a_sleeper_is_polled_next_among_busy_loops() {
    let mut tasks = vec![(100, None, Kind::Sleeper(10 * MILLI, MILLI))];
    tasks.extend([(28, None, BUSY); 64]);
    let mut world = World::new(2, &tasks);
    world.run(2_000 * MILLI);
    let waited = &world.tasks[0].waited;
    assert!(waited.len() > 150);
    // Slices end every millisecond, and nobody is interrupted here.
    assert!(waited.iter().skip(1).all(|waited| *waited <= MILLI), "{:?}", waited.iter().max());
}

#[test]
fn nobody_gains_by_sleeping_or_by_being_short() {
    let kinds = [BUSY, Kind::Sleeper(1_000, MILLI), Kind::Sleeper(MILLI, 3 * MILLI), Kind::Short(30_000)];
    let mut world = World::new(1, &kinds.map(|kind| (100, None, kind)));
    world.run(10_000 * MILLI);
    let share = 10_000.0 * MILLI as f64 / 4.0;
    for number in 0..4 {
        assert!(world.used(number) < share * 1.02, "{number} got {}", world.used(number) / share);
    }
    assert_near(world.used(0), share, 0.03);
}

#[test]
fn a_new_task_does_not_wait_for_a_round() {
    let mut world = World::new(1, &[(10, None, BUSY); 64]);
    world.run(500 * MILLI);
    let mut claim = Claim::new(CpuShare { milli: 10, limit_milli: None, group: 99 });
    world.queue.enter(&mut claim, world.now, 64);
    assert_eq!(world.queue.pop(world.now, false), Some(64));
}

#[test]
fn a_ceiling_holds_alone_and_in_company() {
    for others in [0, 2] {
        let mut tasks = vec![(500, Some(500), BUSY), (10, Some(10), BUSY)];
        tasks.extend(vec![(100, None, BUSY); others]);
        let mut world = World::new(2, &tasks);
        world.run(10_000 * MILLI);
        assert_near(world.used(0), 5_000.0 * MILLI as f64, 0.01);
        assert_near(world.used(1), 100.0 * MILLI as f64, 0.03);
    }
}

#[test]
fn one_that_is_to_end_is_taken_first_wherever_it_is() {
    let mut queue = FairQueue::default();
    let share = |limit_milli| CpuShare { milli: 100, limit_milli, group: 0 };
    let mut claims = [share(None), share(None), share(Some(100))].map(Claim::new);
    for (number, claim) in claims.iter_mut().enumerate() {
        queue.enter(claim, 0, number);
    }
    // The last one is set aside: its bucket is empty.
    assert_eq!([queue.pop(0, false), queue.pop(0, false), queue.pop(0, false)], [Some(0), Some(1), Some(2)]);
    queue.charge(&mut claims[2], 100 * MILLI, 0);
    queue.again(&mut claims[2], 0, 2);
    queue.again(&mut claims[0], 0, 0);
    assert!(queue.next_return().is_some_and(|at| at > 0));
    queue.urge(&mut claims[2], 2);
    assert_eq!((queue.pop(0, true), queue.next_return()), (Some(2), None));
    assert_eq!(queue.weight(), 300);
}

/// Whatever happens to tasks in whatever order, the weight that competes is that of those ready or being polled, and nobody
/// who is ready is lost.
#[test]
fn weights_and_tasks_add_up() {
    for seed in 0..500_u64 {
        let mut chaos = Chaos::new();
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        for _ in 0..200 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            chaos.step(random >> 33);
        }
        chaos.check();
    }
}

/// Eight tasks, every other one with a ceiling, to which things happen.
struct Chaos {
    queue: FairQueue<usize>,
    claims: Vec<Claim>,
    polled: Vec<usize>,
    away: [bool; 8],
    now: u64,
}

impl Chaos {
    fn new() -> Chaos {
        let claim = |group: u64| {
            let limit_milli = group.is_multiple_of(2).then_some(200);
            Claim::new(CpuShare { milli: 100 + group, limit_milli, group })
        };
        let claims = (0..8).map(claim).collect();
        Chaos { queue: FairQueue::default(), claims, polled: Vec::new(), away: [true; 8], now: 0 }
    }

    fn step(&mut self, random: u64) {
        let (number, step, time) = (usize::try_from(random % 8).unwrap(), random / 8 % 6, random / 48 % (5 * MILLI));
        self.now += time;
        match step {
            0 | 1 if self.away[number] => {
                self.away[number] = false;
                self.queue.wake(&mut self.claims[number], self.now, number);
            }
            2 | 3 => self.polled.extend(self.queue.pop(self.now, false)),
            _ => {
                let Some(taken) = self.polled.pop() else { return };
                let claim = &mut self.claims[taken];
                self.queue.taken(claim);
                self.queue.charge(claim, time, self.now);
                if step == 4 {
                    self.queue.again(claim, self.now, taken);
                } else {
                    self.queue.leave(claim);
                    self.away[taken] = true;
                }
            }
        }
    }

    fn check(mut self) {
        // In the far future every bucket is full.
        self.now += 1_000_000 * MILLI;
        while let Some(taken) = self.queue.pop(self.now, false) {
            self.polled.push(taken);
        }
        let competing: u64 = self.polled.iter().map(|number| self.claims[*number].weight).sum();
        assert_eq!(self.queue.weight(), competing);
        self.polled.sort_unstable();
        let expected: Vec<usize> = (0..8).filter(|number| !self.away[*number]).collect();
        assert_eq!(self.polled, expected);
    }
}

#[test]
fn nobody_is_owed_anything_in_a_queue_that_has_what_others_leave() {
    for is_lent in [false, true] {
        let mut queue = FairQueue::default().lent(is_lent);
        let share = CpuShare { milli: 1_000, limit_milli: None, group: 1 };
        let (mut busy, mut sleeper) = (Claim::new(share), Claim::new(share));
        queue.enter(&mut busy, 0, "busy");
        assert_eq!(queue.pop(0, false), Some("busy"));
        queue.charge(&mut busy, 10 * MILLI, 0);
        queue.again(&mut busy, 0, "busy");
        assert_eq!(queue.pop(0, false), Some("busy"));
        queue.leave(&mut busy);
        // It has waited and would go first; the process is held back.
        queue.wake(&mut sleeper, 0, "sleeper");
        assert_eq!(queue.pop(0, true), (!is_lent).then_some("sleeper"));
        queue.urge(&mut busy, "to end");
        assert_eq!(queue.pop(0, true), Some("to end"), "ending needs no share");
    }
}
