//! What building audio takes: processor time against libopus alone, the memory of an hour and of
//! ten, and how long after its end a call can be played.
//!
//! - **Speed** is a ratio: a call from its sealed packets to a finished file, against libopus that
//!   encodes the same samples with the same settings and nothing else. They alternate in one run.
//! - **Memory** is the greatest resident set of a process that builds one call and does nothing
//!   else (`VmHWM`). The call lies in an embedded store, as its recorder would have left it.
//! - **From BYE to playable** is from the end of the call in the index to the recording in the
//!   index, with the last segments on their way. A long call was encoded ahead until
//!   [`AHEAD_LAG_SECS`] before its end, which is how late the look that does it may come.

mod edge;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lambdas::finalizer::{self, Ahead, Outcome};
use media::{Call, Selection, webm};
use model::{TenantId, WallTime};
use segment::{Opener, RecordKind, SealedKey};
use serde::{Deserialize, Serialize};
use storage_embedded::Embedded;

use crate::network::Network;
use crate::report::Machine;
use crate::{Media, cpu};

const SAMPLE_RATE: u32 = 8_000;
/// The finaliser looks every 20 s and encodes whole minutes.
const AHEAD_LAG_SECS: u64 = 80;
/// Of a short call the last segment is under way when it ends.
const SHORT_LAG_SECS: u64 = 5;

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    /// Seconds of stereo audio in one second of one processor.
    times_real_time: f64,
    /// Processor time of a build divided by that of libopus alone; each pair.
    over_libopus: Vec<f64>,
    builds: Vec<Built>,
}

/// What a process tells that built one call.
#[derive(Debug, Serialize, Deserialize)]
struct Built {
    minutes: u64,
    encoded_ahead: bool,
    /// The greatest there was.
    memory_bytes: u64,
    bye_to_playable_secs: f64,
    processor_secs: f64,
}

pub fn media(plan: &Media, network: Network) -> Result<()> {
    let (times_real_time, over_libopus) = speed(plan.pairs, plan.seconds)?;
    let mut sorted = over_libopus.clone();
    sorted.sort_by(f64::total_cmp);
    println!(
        "stereo at 8 kHz: {times_real_time:.0} × real time on one processor, {:.2} × the time of \
         libopus alone ({:.2} to {:.2})",
        sorted[sorted.len() / 2],
        sorted[0],
        sorted[sorted.len() - 1]
    );
    let mut builds = Vec::new();
    for minutes in &plan.minutes {
        for encoded_ahead in [false, true] {
            // Calls as short as this are not encoded ahead.
            if encoded_ahead && *minutes <= 10 {
                continue;
            }
            let built = in_a_process_of_its_own(*minutes, encoded_ahead, plan.dir.as_deref())?;
            println!(
                "{minutes} min{}: {:.0} MiB, playable {:.1} s after its end, {:.1} s of processor \
                 time",
                if encoded_ahead { ", encoded ahead" } else { "" },
                built.memory_bytes as f64 / f64::from(1 << 20),
                built.bye_to_playable_secs,
                built.processor_secs,
            );
            builds.push(built);
        }
    }
    if let Some(out) = &plan.out {
        let report =
            Report { machine: Machine::this(network), times_real_time, over_libopus, builds };
        std::fs::create_dir_all(out)?;
        let path = out.join("media.json");
        std::fs::write(&path, serde_json::to_string_pretty(&report)?)
            .with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// Stores a call, and has it built by another process.
fn in_a_process_of_its_own(minutes: u64, ahead: bool, dir: Option<&Path>) -> Result<Built> {
    let dir = crate::measure::data_dir(dir)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("media-build").arg("--dir").arg(dir.path());
    command.args(["--minutes", &minutes.to_string()]);
    if ahead {
        command.arg("--ahead");
    }
    let lag = if minutes > 10 { AHEAD_LAG_SECS } else { SHORT_LAG_SECS };
    let (cuts, ended) = runtime()?.block_on(edge::store(dir.path(), minutes * 60, lag))?;
    command.args(["--ended", &ended.0.to_string()]);
    let mut through = Vec::new();
    for (number, cut) in cuts.iter().enumerate() {
        std::fs::write(dir.path().join(format!("open-{number}")), &cut.bytes)?;
        through.push(format!("{}={}", cut.through.0, cut.key.as_str()));
    }
    std::fs::write(dir.path().join("open"), through.join("\n"))?;
    drop(cuts);
    // Where its temporary files go is where the store is: a memory disk would be memory.
    let output = command.env("TMPDIR", dir.path()).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[derive(clap::Args)]
pub struct Build {
    #[arg(long)]
    dir: PathBuf,
    #[arg(long)]
    minutes: u64,
    #[arg(long)]
    ahead: bool,
    /// Position of the end of the call.
    #[arg(long)]
    ended: u64,
}

/// Builds the call that lies in a directory, and tells what it took as one line of JSON.
pub fn build(plan: &Build) -> Result<()> {
    let (seconds, processor_secs) = runtime()?.block_on(build_and_wait(plan))?;
    let memory_bytes = cpu::kib_line("/proc/self/status", "VmHWM").context("no VmHWM")?;
    let built = Built {
        minutes: plan.minutes,
        encoded_ahead: plan.ahead,
        memory_bytes,
        bye_to_playable_secs: seconds,
        processor_secs,
    };
    println!("{}", serde_json::to_string(&built)?);
    Ok(())
}

async fn build_and_wait(plan: &Build) -> Result<(f64, f64)> {
    let engines = Embedded::open(&plan.dir)?;
    let (index, objects) = (engines.index(), engines.objects());
    let (keys, tenant) = (Arc::new(edge::keys()), TenantId::default());
    let used = || cpu::of_process(std::process::id());
    let before = used()?;
    if plan.ahead {
        let now = WallTime::from_unix_ms(edge::WALL_MS + plan.minutes as i64 * 60_000);
        let mut ahead = Ahead::default();
        ahead.advance(&*index, &*objects, &keys, &tenant, now, None).await?;
    }
    let open = std::fs::read_to_string(plan.dir.join("open"))?;
    let mut cuts = Vec::new();
    for (number, line) in open.lines().enumerate() {
        let (through, key) = line.split_once('=').context("a position and a key")?;
        cuts.push(edge::Cut {
            key: model::object_key::ObjectKey::parse(key).context("not a key")?,
            bytes: std::fs::read(plan.dir.join(format!("open-{number}")))?,
            through: model::Position(through.parse()?),
        });
    }
    let began = Instant::now();
    let ended = edge::ended(plan.minutes * 60);
    edge::tell(&engines, model::Position(plan.ended), ended).await?;
    for cut in cuts {
        edge::put(&engines, cut).await?;
    }
    let outcome = finalizer::build(&*index, &*objects, &keys, &tenant, edge::recording()).await?;
    ensure!(outcome == Outcome::Built { generation: 1, complete: true }, "{outcome:?}");
    Ok((began.elapsed().as_secs_f64(), (used()? - before).as_secs_f64()))
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// Times real time, and the ratios of all pairs.
fn speed(pairs: u32, seconds: u64) -> Result<(f64, Vec<f64>)> {
    let mut call = edge::Call::new(true)?;
    call.speak(seconds);
    call.end();
    let (records, said) = call.into_records();
    let said = said.context("what was said is kept")?;
    let key = |record: &segment::SessionRecord| {
        (record.kind == RecordKind::Key).then(|| record.as_key().ok()).flatten()
    };
    let sealed: Vec<SealedKey> = records.iter().filter_map(key).collect();
    let opener = Arc::new(Opener::new(&edge::keys(), edge::session(), &sealed));
    let (mut ratios, mut build_secs) = (Vec::new(), Vec::new());
    for _ in 0..pairs.max(1) {
        let before = libopus(&said)?;
        let began = cpu::of_this_thread();
        let call = Call::read(
            Box::new(records.clone()),
            opener.clone(),
            edge::session(),
            edge::recording(),
            &edge::Call::facts(),
        )?;
        let file = webm::write(&call, Selection::Sides)?;
        let build = cpu::of_this_thread() - began;
        ensure!(call.duration_ms().abs_diff(seconds * 1_000) < 40, "{} ms", call.duration_ms());
        ensure!(file.len() as u64 > seconds * 1_000, "a file of {} bytes", file.len());
        let after = libopus(&said)?;
        ratios.push(build.as_secs_f64() * 2.0 / (before + after).as_secs_f64());
        build_secs.push(build.as_secs_f64());
    }
    build_secs.sort_by(f64::total_cmp);
    Ok((seconds as f64 / build_secs[build_secs.len() / 2], ratios))
}

/// The same samples and settings, and nothing but the encoder.
fn libopus(said: &[Vec<i16>; 2]) -> Result<Duration> {
    let [left, right] = said;
    let frames: Vec<i16> = left.iter().zip(right).flat_map(|(l, r)| [*l, *r]).collect();
    let mut encoder =
        opus::Encoder::new(SAMPLE_RATE, opus::Channels::Stereo, opus::Application::Audio)?;
    encoder.set_bitrate(opus::Bitrate::Bits(48_000))?;
    let mut out = [0; 1_500];
    let began = cpu::of_this_thread();
    for frame in frames.chunks_exact(2 * SAMPLE_RATE as usize / 50) {
        encoder.encode(frame, &mut out)?;
    }
    Ok(cpu::of_this_thread() - began)
}
