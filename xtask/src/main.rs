//! `cargo xtask`: every build verb of the project.
//!
//! Each verb sets up what is missing on the machine first (see [`setup`]), so that a fresh clone
//! needs nothing but cargo.

mod aws_tools;
mod bench;
mod check;
mod demo;
mod deploy;
mod failover;
mod fuzz;
mod package;
mod run;
mod setup;
mod site;
mod templates;
mod test;
mod wasm;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, tests and shows Linekeeper")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Build everything, start it, place demo calls, print the URL and the sign-in
    Demo {
        /// Exit with 0 as soon as a call is playable, instead of running on
        #[arg(long)]
        no_wait: bool,
    },
    /// Run every test
    Test {
        /// Only the tests whose name contains this
        filter: Option<String>,
    },
    /// Check what machines can check: formatting, lints, licences, who depends on whom, templates
    Check,
    /// `check`, then `test`: what continuous integration runs
    Ci,
    /// Build the browser application
    Site {
        /// Where to put it
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Build a release as it is deployed: bundles of the functions, the edge's archive, the site
    Package {
        /// Where to put it [default: `bundles` in the target directory]
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Deploy the stacks of infra/ into an AWS account
    Deploy {
        /// What to deploy; `infra/deploy.example.toml` is one
        file: PathBuf,
        /// The bundles of the release, to be uploaded before the functions are deployed
        #[arg(long)]
        bundles: Option<PathBuf>,
        /// Only check the file and print the stacks
        #[arg(long)]
        dry_run: bool,
    },
    /// Measure what a recorded packet costs: `bench capture`, `bench soak`
    Bench {
        /// For the program `bench`; `--help` lists them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, default_value = "capture")]
        arguments: Vec<String>,
    },
    /// Put the faults that the last `test` survived into docs/design/failover.md
    Failover,
    /// Run every fuzz target
    Fuzz {
        /// How long each target runs
        #[arg(long, default_value_t = 20)]
        secs: u64,
    },
}

fn main() -> Result<()> {
    let root = run::root();
    match Arguments::parse().verb {
        Verb::Demo { no_wait } => demo::demo(&root, no_wait),
        Verb::Test { filter } => test::test(&root, filter.as_deref()),
        Verb::Check => check::check(&root),
        Verb::Ci => {
            check::check(&root)?;
            test::test(&root, None)
        }
        Verb::Site { out } => {
            setup::for_site()?;
            site::build(&root, &out.unwrap_or_else(|| run::site_dir(&root)))
        }
        Verb::Package { out } => {
            let out = out.unwrap_or_else(|| run::target_dir().join("bundles"));
            package::package(&root, &out)
        }
        Verb::Deploy { file, bundles, dry_run } => {
            deploy::deploy(&root, &file, bundles.as_deref(), dry_run)
        }
        Verb::Bench { arguments } => bench::bench(&root, &arguments),
        Verb::Failover => failover::write(&root),
        Verb::Fuzz { secs } => fuzz::fuzz(&root, secs),
    }
}
