//! Sink, recorder, sink, recorder, …, sink: each run of the recorder between two of the sink.
//!
//! What a packet costs is the CPU time of the receiving process plus what the kernel does for it
//! before that process sees it. On loopback the kernel does that on the sender's time: it is the
//! sender's CPU time less that of sending the same packets into a drop at ingress.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use edge_recorder::IngressDrop;
use edge_recorder::config::CaptureMode;

use crate::Capture;
use crate::generate::{Generator, Sample, Sent};
use crate::network::{Network, raise_file_limit};
use crate::proof;
use crate::report::{Machine, Pair, Point, Receiver, RecorderRun, Report};
use crate::scrape::Metrics;
use crate::sip::{Client, Placed};

/// Caches, pages and buffers are as they will be.
const WARM_UP: Duration = Duration::from_secs(2);
/// What was sent last has arrived.
const SETTLE: Duration = Duration::from_millis(300);
const EXIT_LIMIT: Duration = Duration::from_secs(120);
/// Calls placed while the others run, to see how fast they are answered.
const CALLS_UNDER_LOAD: u32 = 100;
/// Two pairs of ports a call, what a recorder needs besides, and the sources.
const OTHER_FILES: u64 = 4_096;

/// Ports into which packets are sent that nobody receives; the recorder's own range.
const DROPPED_PORTS: (u16, u16) = (20_000, 59_999);

pub fn capture(plan: &Capture, network: Network) -> Result<()> {
    let most = plan.calls.iter().max().copied().unwrap_or(0);
    raise_file_limit(u64::from(most) * 4 + OTHER_FILES);
    let mut report = Report::of(Machine::this(network));
    for mode in &plan.capture {
        for calls in &plan.calls {
            eprintln!("{calls} calls, {}", mode_name(*mode));
            let point = point(plan, network, *mode, *calls)?;
            eprintln!("{}", point.line());
            report.points.push(point);
        }
    }
    print!("{}", report.table());
    if let Some(out) = &plan.out {
        report.write(out)?;
    }
    ensure!(report.is_valid(), "a run lost something: see above");
    Ok(())
}

pub fn mode_name(mode: CaptureMode) -> &'static str {
    match mode {
        CaptureMode::Auto => "auto",
        CaptureMode::Sweep => "sweep",
        CaptureMode::Ring => "ring",
    }
}

fn point(plan: &Capture, network: Network, mode: CaptureMode, calls: u32) -> Result<Point> {
    let seconds = Duration::from_secs_f64(plan.seconds);
    let sending = match network {
        Network::Private => Some(sending_alone(calls, seconds).context("measure the sender")?),
        Network::Shared => None,
    };
    let mut before = sink(calls, seconds, sending)?;
    let mut pairs = Vec::new();
    for number in 1..=plan.pairs {
        let recorder = recorder(plan, mode, calls, sending)?;
        let after = sink(calls, seconds, sending)?;
        let pair = Pair::new(before, recorder, after);
        eprintln!("  pair {number}: {}", pair.line());
        pairs.push(pair);
        before = after;
    }
    Ok(Point { capture: mode_name(mode).to_owned(), calls, seconds: plan.seconds, pairs })
}

/// CPU time per packet, in nanoseconds.
fn ns_per_packet(cpu: Duration, packets: u64) -> f64 {
    cpu.as_nanos() as f64 / packets.max(1) as f64
}

/// What the sender and the process `pid` use while packets flow.
fn window(generator: &Generator, pid: Option<u32>, length: Duration) -> Result<(Duration, Sample)> {
    let of = |pid: Option<u32>| pid.map_or(Ok(Duration::ZERO), crate::cpu::of_process);
    let (sent_before, cpu_before) = (generator.sample(), of(pid)?);
    std::thread::sleep(length);
    let (sent_after, cpu_after) = (generator.sample(), of(pid)?);
    let sample = Sample {
        packets: sent_after.packets - sent_before.packets,
        cpu: sent_after.cpu.saturating_sub(sent_before.cpu),
        latest: sent_after.latest,
    };
    Ok((cpu_after.saturating_sub(cpu_before), sample))
}

fn begin_all(generator: &Generator, targets: impl Iterator<Item = [SocketAddr; 2]>) -> Result<()> {
    (0..).zip(targets).try_for_each(|(call, targets)| generator.begin(call, targets))
}

/// What sending a packet costs when nobody receives it.
fn sending_alone(calls: u32, length: Duration) -> Result<f64> {
    let _drop = IngressDrop::of_ports(DROPPED_PORTS.0, DROPPED_PORTS.1)?;
    let generator = Generator::start()?;
    let pairs = u32::from((DROPPED_PORTS.1 - DROPPED_PORTS.0) / 2);
    let target = |stream: u32| {
        let port = DROPPED_PORTS.0 + (stream % pairs * 2) as u16;
        SocketAddr::from(([127, 0, 0, 1], port))
    };
    begin_all(&generator, (0..calls).map(|call| [target(call * 2), target(call * 2 + 1)]))?;
    std::thread::sleep(WARM_UP);
    let (_, sample) = window(&generator, None, length)?;
    generator.stop();
    Ok(ns_per_packet(sample.cpu, sample.packets))
}

/// A run of the yardstick.
fn sink(calls: u32, length: Duration, sending: Option<f64>) -> Result<Receiver> {
    let mut process = Process::start(&["sink"])?;
    let target: SocketAddr = process.line()?.trim().parse().context("where the sink listens")?;
    let generator = Generator::start()?;
    begin_all(&generator, (0..calls).map(|_| [target; 2]))?;
    std::thread::sleep(WARM_UP);
    let (cpu, sample) = window(&generator, Some(process.pid()), length)?;
    let sent: u64 = generator.stop().iter().map(|sent| sent.packets).sum();
    std::thread::sleep(SETTLE);
    process.tell("count")?;
    let received: u64 = process.line()?.trim().parse().context("what the sink received")?;
    process.finish()?;
    Ok(receiver(cpu, sample, sending, sent.saturating_sub(received)))
}

fn receiver(cpu: Duration, sample: Sample, sending: Option<f64>, lost: u64) -> Receiver {
    let sender_ns = ns_per_packet(sample.cpu, sample.packets);
    Receiver {
        process_ns: ns_per_packet(cpu, sample.packets),
        kernel_ns: sending.map(|sending| (sender_ns - sending).max(0.0)),
        packets: sample.packets,
        lost,
        sender_late_ms: sample.latest.as_secs_f64() * 1e3,
    }
}

/// A run of the recorder.
fn recorder(
    plan: &Capture,
    mode: CaptureMode,
    calls: u32,
    sending: Option<f64>,
) -> Result<RecorderRun> {
    let dir = data_dir(plan.dir.as_deref())?;
    let running = Running::start(dir.path(), mode)?;
    let generator = Generator::start()?;
    let slab_before = slab_bytes();
    let mut client = Client::connect(running.sip)?;
    let placed = place(&mut client, &generator, calls)?;
    begin_all(&generator, placed.iter().map(|call| call.media))?;
    std::thread::sleep(WARM_UP);
    let length = Duration::from_secs_f64(plan.seconds);
    let (cpu, sample) = window(&generator, Some(running.process.pid()), length)?;
    let memory = running.memory_bytes()?;
    let slab = slab_bytes().saturating_sub(slab_before);
    let more: Vec<Placed> = (0..CALLS_UNDER_LOAD)
        .map(|call| client.place(generator.sources(call)))
        .collect::<Result<_>>()?;
    let metrics = Metrics::read(running.admin)?;
    let sent = generator.stop();
    std::thread::sleep(SETTLE);
    for call in placed.iter().chain(&more) {
        client.hang_up(call)?;
    }
    running.finish()?;
    let proof = proof::read(dir.path(), &sent)?;
    let mut answered: Vec<f64> =
        more.iter().map(|call| call.answered_in.as_secs_f64() * 1e3).collect();
    answered.sort_by(f64::total_cmp);
    let sync_ms = |quantile| metrics.quantile_ms("linekeeper_journal_sync_seconds", quantile);
    Ok(RecorderRun {
        receiver: receiver(cpu, sample, sending, proof.missing),
        memory_bytes: memory,
        slab_bytes: slab,
        commit_p50_below_ms: sync_ms(0.5),
        commit_p99_below_ms: sync_ms(0.99),
        answer_p50_ms: answered[answered.len() / 2],
        answer_p99_ms: answered[answered.len() * 99 / 100],
        dropped_by_kernel: metrics.sum("linekeeper_rtp_kernel_dropped_packets_total") as u64,
        dropped_by_journal: metrics.sum("linekeeper_journal_dropped_packets_total") as u64,
        stalled_sweeps: metrics.sum("linekeeper_capture_stalled_sweeps_total") as u64,
        proof,
    })
}

pub fn place(client: &mut Client, generator: &Generator, calls: u32) -> Result<Vec<Placed>> {
    (0..calls).map(|call| client.place(generator.sources(call))).collect()
}

pub fn data_dir(parent: Option<&Path>) -> Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("linekeeper-bench-");
    let made = match parent {
        Some(parent) => builder.tempdir_in(parent),
        None => builder.tempdir(),
    };
    made.context("make a directory for the recorder's data")
}

/// Kernel memory in small objects, of the whole machine: sockets and their buffers are there.
fn slab_bytes() -> u64 {
    crate::cpu::kib_line("/proc/meminfo", "Slab").unwrap_or(0)
}

/// A recorder that runs as a process of its own.
pub struct Running {
    pub process: Process,
    pub sip: SocketAddr,
    pub admin: SocketAddr,
}

impl Running {
    pub fn start(dir: &Path, mode: CaptureMode) -> Result<Self> {
        let dir = dir.to_str().context("a directory with a UTF-8 name")?;
        let arguments = ["recorder", "--dir", dir, "--capture", mode_name(mode)];
        let mut process = Process::start(&arguments)?;
        let ready: serde_json::Value =
            serde_json::from_str(&process.line()?).context("the recorder did not start")?;
        let address = |name: &str| -> Result<SocketAddr> {
            Ok(ready[name].as_str().context("an address")?.parse()?)
        };
        Ok(Self { sip: address("sip")?, admin: address("admin")?, process })
    }

    pub fn memory_bytes(&self) -> Result<u64> {
        let status = format!("/proc/{}/status", self.process.pid());
        crate::cpu::kib_line(&status, "VmRSS").context("read the recorder's memory")
    }

    /// Drains it and waits until everything is delivered and it has exited.
    pub fn finish(self) -> Result<()> {
        self.process.finish()
    }
}

/// A copy of this program with another verb.
pub struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Process {
    fn start(arguments: &[&str]) -> Result<Self> {
        let program = std::env::current_exe().context("find this program")?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", arguments[0]))?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("its output is piped"));
        Ok(Self { child, input, output })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line)
    }

    fn tell(&mut self, line: &str) -> Result<()> {
        let input = self.input.as_mut().expect("open until `finish`");
        writeln!(input, "{line}").context("tell a process of ours")
    }

    /// Ends its input and waits for it to exit.
    fn finish(mut self) -> Result<()> {
        self.input = None;
        let begun = Instant::now();
        while begun.elapsed() < EXIT_LIMIT {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "a process of ours failed: {status}");
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("a process of ours did not exit within {EXIT_LIMIT:?}")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already gone after `finish`.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The total of what a set of streams was sent.
pub fn total(sent: &[Sent]) -> u64 {
    sent.iter().map(|sent| sent.packets).sum()
}
