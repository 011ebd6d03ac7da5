//! Calls that start and end all the time: whether memory and descriptors stay where they are,
//! and whether every packet of every call is there afterwards.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::Soak;
use crate::generate::Generator;
use crate::measure::{Running, data_dir, mode_name, total};
use crate::network::{Network, raise_file_limit};
use crate::proof::{self, Proof};
use crate::report::Machine;
use crate::scrape::Metrics;
use crate::sip::{Client, Placed};

/// A call that was ended is quiet before its BYE.
const QUIET: Duration = Duration::from_millis(60);
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How much more than at a quarter of the time may be used at the end: allocators keep some, and
/// files that the outage of a busy disk needed are given back one by one.
const MEMORY_SLACK_BYTES: u64 = 48 << 20;
const DESCRIPTOR_SLACK: usize = 64;

#[derive(Debug, Serialize)]
struct Summary {
    machine: Machine,
    capture: String,
    calls_at_once: u32,
    calls: u32,
    seconds: u64,
    packets: u64,
    memory_bytes_at_quarter: u64,
    memory_bytes_at_end: u64,
    memory_bytes_most: u64,
    descriptors_at_quarter: usize,
    descriptors_at_end: usize,
    answer_p99_ms: f64,
    dropped_by_kernel: u64,
    dropped_by_journal: u64,
    proof: Proof,
}

struct Talking {
    number: u32,
    placed: Placed,
    until: Instant,
}

pub fn soak(plan: &Soak, network: Network) -> Result<()> {
    raise_file_limit(u64::from(plan.calls) * 8 + 4_096);
    let dir = data_dir(plan.dir.as_deref())?;
    let running = Running::start(dir.path(), plan.capture)?;
    let generator = Generator::start()?;
    let mut client = Client::connect(running.sip)?;
    let length = Duration::from_secs(plan.seconds);
    let call_length = Duration::from_secs_f64(plan.call_seconds);
    // So that in the steady state as many calls end as begin.
    let every = call_length / plan.calls.max(1);
    let begun = Instant::now();
    let (mut number, mut due, mut look) = (0, begun, begun);
    let mut talking: VecDeque<Talking> = VecDeque::new();
    let mut answers = Vec::new();
    let (mut quarter, mut most) = (None, 0);
    while begun.elapsed() < length {
        if Instant::now() >= due {
            due += every;
            let placed = client.place(generator.sources(number))?;
            answers.push(placed.answered_in.as_secs_f64() * 1e3);
            generator.begin(number, placed.media)?;
            talking.push_back(Talking { number, placed, until: Instant::now() + call_length });
            number += 1;
        }
        if let Some(call) = talking.pop_front_if(|call| call.until <= Instant::now()) {
            hang_up(&mut client, &generator, &call)?;
        }
        if Instant::now() >= look {
            look += LOOK_EVERY;
            let memory = running.memory_bytes()?;
            most = most.max(memory);
            if begun.elapsed() >= length / 4 && quarter.is_none() {
                quarter = Some((memory, crate::cpu::descriptors(running.process.pid())?));
            }
        }
        std::thread::sleep(
            Duration::from_millis(1).min(due.saturating_duration_since(Instant::now())),
        );
    }
    let memory_bytes_at_end = running.memory_bytes()?;
    let descriptors_at_end = crate::cpu::descriptors(running.process.pid())?;
    let metrics = Metrics::read(running.admin)?;
    for call in &talking {
        hang_up(&mut client, &generator, call)?;
    }
    let sent = generator.stop();
    running.finish()?;
    let proof = proof::read(dir.path(), &sent)?;
    answers.sort_by(f64::total_cmp);
    let (memory_bytes_at_quarter, descriptors_at_quarter) =
        quarter.context("too short to see anything: give it more seconds")?;
    let summary = Summary {
        machine: Machine::this(network),
        capture: mode_name(plan.capture).to_owned(),
        calls_at_once: plan.calls,
        calls: number,
        seconds: plan.seconds,
        packets: total(&sent),
        memory_bytes_at_quarter,
        memory_bytes_at_end,
        memory_bytes_most: most.max(memory_bytes_at_end),
        descriptors_at_quarter,
        descriptors_at_end,
        answer_p99_ms: answers.get(answers.len() * 99 / 100).copied().unwrap_or(f64::NAN),
        dropped_by_kernel: metrics.sum("linekeeper_rtp_kernel_dropped_packets_total") as u64,
        dropped_by_journal: metrics.sum("linekeeper_journal_dropped_packets_total") as u64,
        proof,
    };
    let text = serde_json::to_string_pretty(&summary)? + "\n";
    print!("{text}");
    if let Some(out) = &plan.out {
        std::fs::create_dir_all(out)?;
        std::fs::write(out.join("soak.json"), &text)?;
    }
    judge(&summary)
}

fn hang_up(client: &mut Client, generator: &Generator, call: &Talking) -> Result<()> {
    generator.end(call.number)?;
    std::thread::sleep(QUIET);
    client.hang_up(&call.placed)
}

fn judge(summary: &Summary) -> Result<()> {
    ensure!(summary.proof.is_valid(), "packets are missing, or the journal is damaged");
    let grown = summary.memory_bytes_at_end.saturating_sub(summary.memory_bytes_at_quarter);
    ensure!(grown <= MEMORY_SLACK_BYTES, "memory grew by {grown} bytes");
    let leaked = summary.descriptors_at_end.saturating_sub(summary.descriptors_at_quarter);
    ensure!(leaked <= DESCRIPTOR_SLACK, "{leaked} descriptors more than at a quarter of the time");
    Ok(())
}
