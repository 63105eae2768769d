//! Several processes like the runners of one agent, each with busy loops.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::fallible::Fallible;
use crate::guests;
use crate::host::{Host, Running};

/// The first argument of a child process.
pub(crate) const CHILD: &str = "child";

/// A child: `TABLE SEAT THREADS COUNTxMILLI`. For every line that it reads it prints the CPU time of each busy loop and then
/// that of the process, in nanoseconds.
pub(crate) fn child(args: &[String]) -> Fallible<()> {
    let [table, seat, threads, load] = args else { return Err("child TABLE SEAT THREADS COUNTxMILLI".into()) };
    let (count, milli) = load.split_once('x').ok_or("COUNTxMILLI")?;
    let host = Host::new(threads.parse()?, Some((Path::new(table), seat.parse()?)))?;
    let program = host.program(&guests::busy_loop())?;
    let milli = milli.parse()?;
    let loops: Vec<Running> = (0..count.parse()?).map(|_| host.run(&program, milli, None)).collect::<Fallible<_>>()?;
    for _line in std::io::stdin().lines() {
        let used = loops.iter().map(|task| task.handle.cpu().as_nanos().to_string());
        let used: Vec<String> = used.chain([process_cpu().as_nanos().to_string()]).collect();
        println!("{}", used.join(" "));
    }
    Ok(())
}

/// CPU time of this process.
pub(crate) fn process_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The parent's side of a child.
struct Member {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// CPU time in cores that each busy loop of each process got over a while, and that of each process.
pub(crate) struct Shares {
    pub(crate) tasks: Vec<Vec<f64>>,
    pub(crate) processes: Vec<f64>,
}

/// Runs processes with so many busy loops of so many thousandths of a core each, at one table of `cpus_milli`.
pub(crate) fn measure(cpus_milli: u64, loads: &[(usize, u64)], over: Duration) -> Fallible<Shares> {
    let dir = tempfile::tempdir()?;
    let table = dir.path().join("cpu-shares");
    holm_runtime::prepare_cpu_table(&table, cpus_milli)?;
    let threads = cpus_milli.div_ceil(1_000).to_string();
    let mut members = Vec::new();
    for (seat, (count, milli)) in loads.iter().enumerate() {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(CHILD).arg(&table).args([seat.to_string(), threads.clone(), format!("{count}x{milli}")]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (ask, answers) = (child.stdin.take(), child.stdout.take());
        let (Some(ask), Some(answers)) = (ask, answers) else { return Err("a child has no pipes".into()) };
        members.push(Member { child, ask, answers: BufReader::new(answers) });
    }
    let mut ask = || members.iter_mut().map(Member::used).collect::<Fallible<Vec<Vec<f64>>>>();
    // The first answer comes when the child has started its loops.
    ask()?;
    std::thread::sleep(Duration::from_secs(1));
    let (begin, before) = (std::time::Instant::now(), ask()?);
    std::thread::sleep(over);
    let (wall, after) = (begin.elapsed().as_secs_f64() * 1e9, ask()?);
    let grown = |(after, before): (&Vec<f64>, &Vec<f64>)| -> Vec<f64> {
        after.iter().zip(before).map(|(after, before)| (after - before) / wall).collect()
    };
    let mut tasks: Vec<Vec<f64>> = after.iter().zip(&before).map(grown).collect();
    let processes = tasks.iter_mut().filter_map(Vec::pop).collect();
    for Member { mut child, ask, answers } in members {
        drop((ask, answers));
        child.kill()?;
        child.wait()?;
    }
    Ok(Shares { tasks, processes })
}

impl Member {
    fn used(&mut self) -> Fallible<Vec<f64>> {
        writeln!(self.ask)?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?)
    }
}
