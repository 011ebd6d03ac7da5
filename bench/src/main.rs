//! What a packet costs the recorder, against the least that receiving it could cost; and what
//! building audio costs, see [`media`].
//!
//! The figure is **R**: the recorder's CPU time per packet divided by that of a bare sink, which
//! receives the same packets and throws them away. Absolute times say more about the machine and
//! its neighbours than about the recorder; the ratio, taken from runs that alternate, does not.
//!
//! - [`generate`] sends the calls: one SIPREC session each, two streams, paced.
//! - [`sink`] is the yardstick, [`recorder`] the recorder with everything on: journal, sealing,
//!   checksums, commits, upload and announcements.
//! - [`measure`] alternates them, [`proof`] re-reads what was recorded and makes a run valid or
//!   not, [`report`] writes it down.
//!
//! Everything runs in a network of its own where the system allows that, so that no other traffic
//! is measured and none is disturbed.

mod cpu;
mod generate;
mod measure;
mod media;
mod network;
mod proof;
mod recorder;
mod report;
mod scrape;
mod sink;
mod sip;
mod soak;
mod svg;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};
use edge_recorder::config::CaptureMode;

#[derive(Parser)]
#[command(name = "bench", about = "Measures what a recorded packet costs")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Sink and recorder in turn: prints R and a table
    Capture(Capture),
    /// Calls that start and end all the time: memory, descriptors, loss
    Soak(Soak),
    /// Building audio: against libopus alone, memory, and how soon after its end a call is playable
    Media(Media),
    /// Builds one call; started by `media`
    #[command(hide = true)]
    MediaBuild(media::Build),
    /// The yardstick; started by `capture`
    #[command(hide = true)]
    Sink,
    /// The recorder; started by `capture` and `soak`
    #[command(hide = true)]
    Recorder {
        #[arg(long)]
        dir: PathBuf,
        #[arg(long)]
        capture: CaptureMode,
    },
}

#[derive(clap::Args)]
pub struct Capture {
    /// Calls at once; several points make a curve
    #[arg(long, value_delimiter = ',', default_value = "100,300,1000")]
    pub calls: Vec<u32>,
    /// How packets are taken from the network; several are measured one after the other
    #[arg(long, value_delimiter = ',', default_value = "sweep,ring")]
    pub capture: Vec<CaptureMode>,
    /// Runs of the recorder at each point; each has a run of the sink before and after it
    #[arg(long, default_value_t = 5)]
    pub pairs: u32,
    /// Measured part of each run
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// Where the results go; absent: nowhere
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Where journals are written during the runs: on the disk that is to be measured
    #[arg(long)]
    pub dir: Option<PathBuf>,
}

#[derive(clap::Args)]
pub struct Soak {
    /// Calls at once
    #[arg(long, default_value_t = 500)]
    pub calls: u32,
    #[arg(long, default_value_t = 3600)]
    pub seconds: u64,
    #[arg(long, default_value = "auto")]
    pub capture: CaptureMode,
    /// How long each call lasts
    #[arg(long, default_value_t = 30.0)]
    pub call_seconds: f64,
    /// Where the summary goes; absent: nowhere
    #[arg(long)]
    pub out: Option<PathBuf>,
    #[arg(long)]
    pub dir: Option<PathBuf>,
}

#[derive(clap::Args)]
pub struct Media {
    /// Lengths of the calls that are built
    #[arg(long, value_delimiter = ',', default_value = "1,10,60,600")]
    pub minutes: Vec<u64>,
    /// Builds that are compared with libopus
    #[arg(long, default_value_t = 5)]
    pub pairs: u32,
    /// Length of the call that is compared with libopus
    #[arg(long, default_value_t = 300)]
    pub seconds: u64,
    /// Where the result goes; absent: nowhere
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Where calls are stored meanwhile: 2 GB for one of ten hours
    #[arg(long)]
    pub dir: Option<PathBuf>,
}

fn main() -> Result<()> {
    match Arguments::parse().verb {
        Verb::Capture(plan) => {
            // Before anything starts a thread: a namespace belongs to the thread that made it.
            let network = network::enter();
            measure::capture(&plan, network)
        }
        Verb::Soak(plan) => {
            let network = network::enter();
            soak::soak(&plan, network)
        }
        Verb::Media(plan) => media::media(&plan, network::Network::Shared),
        Verb::MediaBuild(plan) => media::build(&plan),
        Verb::Sink => sink::run(),
        Verb::Recorder { dir, capture } => recorder::run(&dir, capture),
    }
}
