//! What was measured, as JSON for machines, a table for the documentation, and a plot.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::network::Network;
use crate::proof::Proof;
use crate::svg;

#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    pub version: String,
    pub at: String,
    pub machine: Machine,
    pub points: Vec<Point>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Machine {
    pub processor: String,
    pub processors: usize,
    pub memory_bytes: u64,
    pub kernel: String,
    /// Without one, the kernel's share of a packet is not known, and R is of processes alone.
    pub own_network: bool,
}

/// One number of calls with one way of capture.
#[derive(Debug, Serialize, Deserialize)]
pub struct Point {
    pub capture: String,
    pub calls: u32,
    pub seconds: f64,
    pub pairs: Vec<Pair>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Pair {
    pub sink_before: Receiver,
    pub recorder: RecorderRun,
    pub sink_after: Receiver,
    pub r: f64,
}

/// What receiving a packet cost.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Receiver {
    pub process_ns: f64,
    /// In the kernel, before the process sees it. Absent: not measured.
    pub kernel_ns: Option<f64>,
    pub packets: u64,
    pub lost: u64,
    /// The latest that the sender was: above some 10 ms, the machine was too busy to measure.
    pub sender_late_ms: f64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RecorderRun {
    pub receiver: Receiver,
    pub memory_bytes: u64,
    pub slab_bytes: u64,
    pub commit_p50_below_ms: Option<f64>,
    pub commit_p99_below_ms: Option<f64>,
    /// From INVITE to 200 while all the calls run.
    pub answer_p50_ms: f64,
    pub answer_p99_ms: f64,
    pub dropped_by_kernel: u64,
    pub dropped_by_journal: u64,
    pub stalled_sweeps: u64,
    pub proof: Proof,
}

impl Receiver {
    pub fn total_ns(&self) -> f64 {
        self.process_ns + self.kernel_ns.unwrap_or(0.0)
    }
}

impl Pair {
    pub fn new(sink_before: Receiver, recorder: RecorderRun, sink_after: Receiver) -> Self {
        let sink_ns = (sink_before.total_ns() + sink_after.total_ns()) / 2.0;
        let r = recorder.receiver.total_ns() / sink_ns;
        Self { sink_before, recorder, sink_after, r }
    }

    pub fn is_valid(&self) -> bool {
        self.recorder.proof.is_valid()
    }

    pub fn line(&self) -> String {
        let proof = &self.recorder.proof;
        format!(
            "R {:.2}, sink {:.0} ns, recorder {:.0} + {:.0} ns, {} sent, {} missing, {} twice{}",
            self.r,
            self.sink_before.total_ns(),
            self.recorder.receiver.process_ns,
            self.recorder.receiver.kernel_ns.unwrap_or(0.0),
            proof.sent,
            proof.missing,
            proof.doubled,
            if self.is_valid() { "" } else { ": NOT VALID" },
        )
    }
}

/// The middle one; the lower of two.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

impl Point {
    pub fn r(&self) -> f64 {
        median(self.pairs.iter().map(|pair| pair.r))
    }

    fn r_range(&self) -> (f64, f64) {
        let each = || self.pairs.iter().map(|pair| pair.r);
        (each().fold(f64::INFINITY, f64::min), each().fold(0.0, f64::max))
    }

    pub fn sink_ns(&self) -> f64 {
        median(self.pairs.iter().map(|pair| pair.sink_before.total_ns()))
    }

    fn median_of(&self, what: impl Fn(&RecorderRun) -> f64) -> f64 {
        median(self.pairs.iter().map(|pair| what(&pair.recorder)))
    }

    pub fn recorder_ns(&self) -> f64 {
        self.median_of(|run| run.receiver.total_ns())
    }

    fn sum_of(&self, what: impl Fn(&RecorderRun) -> u64) -> u64 {
        self.pairs.iter().map(|pair| what(&pair.recorder)).sum()
    }

    pub fn line(&self) -> String {
        let (least, most) = self.r_range();
        format!("R {:.2} ({least:.2} to {most:.2})", self.r())
    }

    fn row(&self) -> String {
        let (least, most) = self.r_range();
        let below =
            |ms: f64| if ms.is_finite() { format!("≤ {ms}") } else { "> 5000".to_owned() };
        let mib = |bytes: f64| bytes / f64::from(1 << 20);
        format!(
            "| {} | {} | {:.2} ({least:.2}–{most:.2}) | {:.0} | {:.0} + {:.0} | {} | {} / {} | {:.0} + {:.0} | {:.1} |\n",
            self.capture,
            self.calls,
            self.r(),
            self.sink_ns(),
            self.median_of(|run| run.receiver.process_ns),
            self.median_of(|run| run.receiver.kernel_ns.unwrap_or(0.0)),
            self.sum_of(|run| run.proof.missing),
            below(self.median_of(|run| run.commit_p50_below_ms.unwrap_or(f64::INFINITY))),
            below(self.median_of(|run| run.commit_p99_below_ms.unwrap_or(f64::INFINITY))),
            mib(self.median_of(|run| run.memory_bytes as f64)),
            mib(self.median_of(|run| run.slab_bytes as f64)),
            self.median_of(|run| run.answer_p99_ms),
        )
    }
}

impl Machine {
    pub fn this(network: Network) -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let processor = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or("unknown", |(_, name)| name);
        Self {
            processor: processor.to_owned(),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: crate::cpu::kib_line("/proc/meminfo", "MemTotal").unwrap_or(0),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            own_network: network == Network::Private,
        }
    }
}

impl Report {
    pub fn of(machine: Machine) -> Self {
        let at = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Self { version, at, machine, points: Vec::new() }
    }

    pub fn is_valid(&self) -> bool {
        self.points.iter().flat_map(|point| &point.pairs).all(Pair::is_valid)
    }

    pub fn table(&self) -> String {
        let Machine { processor, processors, memory_bytes, kernel, own_network } = &self.machine;
        let mut text = format!(
            "{}: {processors} × {processor}, {:.0} GB, Linux {kernel}{}\n\n",
            self.at.split('T').next().unwrap_or_default(),
            *memory_bytes as f64 / 1e9,
            if *own_network { "" } else { "; the kernel's share is not measured" },
        );
        text += "| capture | calls | R (range) | sink ns | recorder ns: process + kernel | lost | \
                 commit ms: p50 / p99 | memory MiB: process + slab | 200 OK p99 ms |\n\
                 | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n";
        for point in &self.points {
            text += &point.row();
        }
        text
    }

    /// `capture.json`, `capture.md` and `capture.svg` in `dir`.
    pub fn write(&self, dir: &Path) -> Result<()> {
        std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        let files = [
            ("capture.json", serde_json::to_string_pretty(self)? + "\n"),
            ("capture.md", self.table()),
            ("capture.svg", svg::plot(&self.points)),
        ];
        for (name, text) in files {
            let path = dir.join(name);
            std::fs::write(&path, text).with_context(|| path.display().to_string())?;
            eprintln!("wrote {}", path.display());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receiver(process_ns: f64, kernel_ns: f64) -> Receiver {
        Receiver {
            process_ns,
            kernel_ns: Some(kernel_ns),
            packets: 1,
            lost: 0,
            sender_late_ms: 0.0,
        }
    }

    pub fn pair(sink: [f64; 2], recorder_ns: f64, missing: u64) -> Pair {
        let recorder = RecorderRun {
            receiver: receiver(recorder_ns, 100.0),
            memory_bytes: 1 << 26,
            slab_bytes: 0,
            commit_p50_below_ms: Some(5.0),
            commit_p99_below_ms: None,
            answer_p50_ms: 1.0,
            answer_p99_ms: 2.0,
            dropped_by_kernel: 0,
            dropped_by_journal: 0,
            stalled_sweeps: 0,
            proof: Proof { sent: 10, found: 10 - missing, missing, ..Proof::default() },
        };
        Pair::new(receiver(sink[0], 100.0), recorder, receiver(sink[1], 100.0))
    }

    #[test]
    fn r_is_the_recorder_against_the_sinks_before_and_after_it_kernel_included() {
        assert_eq!(pair([300.0, 500.0], 900.0, 0).r, 2.0);
    }

    #[test]
    fn a_point_tells_median_and_range_and_a_loss_makes_it_invalid() {
        let pairs = [900.0, 400.0, 1900.0].map(|ns| pair([400.0, 400.0], ns, 0));
        let mut report = Report::of(Machine::this(Network::Private));
        let capture = "sweep".to_owned();
        report.points.push(Point { capture, calls: 10, seconds: 1.0, pairs: pairs.into() });
        assert_eq!(report.points[0].line(), "R 2.00 (1.00 to 4.00)");
        assert!(report.is_valid());
        assert!(report.table().contains("| sweep | 10 | 2.00 (1.00–4.00) | 500 | 900 + 100 | 0 |"));
        report.points[0].pairs.push(pair([400.0, 400.0], 1.0, 1));
        assert!(!report.is_valid());
    }
}
