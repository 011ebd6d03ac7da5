//! The command line. Every flag of `run` has a TOML key (see `config.rs`) and an environment
//! variable; a flag goes before the variable, the variable before the file.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use edge_recorder::config::{CaptureMode, PortRange};
use model::access::Role;
use model::attribution::Address;
use model::{GroupId, RecordingId, UserId, WallTime};
use serde::Deserialize;

#[derive(Parser)]
#[command(
    name = "linekeeper",
    version,
    about = "Records telephone calls that are forked to it by SIPREC"
)]
pub struct Arguments {
    /// Where recordings, journal, keys and accounts lie [default: ./linekeeper-data]
    #[arg(long, global = true, value_name = "DIR", env = "LINEKEEPER_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Configuration file; see docs/reference/config.md
    #[arg(long, global = true, value_name = "FILE", env = "LINEKEEPER_CONFIG")]
    pub config: Option<PathBuf>,
    /// What log lines look like; LINEKEEPER_LOG chooses which there are (`debug`, `warn`, …)
    #[arg(long, global = true, value_enum, env = "LINEKEEPER_LOG_FORMAT")]
    pub log_format: Option<LogFormat>,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

#[derive(Subcommand)]
pub enum Command {
    /// Record calls, and serve the API and the site
    Run(Box<RunFlags>),
    /// Place calls to a recorder, as an SBC would, and report what was sent
    Call(Box<crate::call::CallFlags>),
    /// Write one recording to a file; works with and without a running recorder
    Export(ExportFlags),
    /// Read again what was recorded and check every checksum; works while `run` runs
    Verify(VerifyFlags),
    /// Accounts of people who sign in
    #[command(subcommand)]
    User(UserCommand),
    /// Groups: who manages whose calls
    #[command(subcommand)]
    Group(GroupCommand),
}

#[derive(Args, Debug, Default)]
pub struct RunFlags {
    /// SIP over UDP and TCP [default: 127.0.0.1:5060]
    #[arg(long, value_name = "ADDR:PORT", env = "LINEKEEPER_SIP")]
    pub sip: Option<SocketAddr>,
    /// SIP over TLS, with --cert and --key
    #[arg(long, value_name = "ADDR:PORT", env = "LINEKEEPER_SIPS")]
    pub sips: Option<SocketAddr>,
    /// API and site over plain HTTP; loopback only, unless --behind-proxy [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR:PORT", env = "LINEKEEPER_HTTP")]
    pub http: Option<SocketAddr>,
    /// API and site over HTTPS, with --cert and --key
    #[arg(long, value_name = "ADDR:PORT", env = "LINEKEEPER_HTTPS")]
    pub https: Option<SocketAddr>,
    /// Certificate chain, PEM
    #[arg(long, value_name = "FILE", env = "LINEKEEPER_CERT")]
    pub cert: Option<PathBuf>,
    /// Private key of the certificate, PEM
    #[arg(long, value_name = "FILE", env = "LINEKEEPER_KEY")]
    pub key: Option<PathBuf>,
    /// A proxy with TLS stands in front: believe its X-Forwarded-Proto and X-Forwarded-For, and
    /// let --http listen on any address
    #[arg(long, env = "LINEKEEPER_BEHIND_PROXY")]
    pub behind_proxy: bool,
    /// Health, metrics and drain [default: 127.0.0.1:9060]
    #[arg(long, value_name = "ADDR:PORT", env = "LINEKEEPER_ADMIN")]
    pub admin: Option<SocketAddr>,
    /// The address that our SDP answers name, if it is not the one that callers reach
    #[arg(long, value_name = "IP", env = "LINEKEEPER_RTP_ADDRESS")]
    pub rtp_address: Option<IpAddr>,
    /// UDP ports for audio, two per stream [default: 20000-29999]
    #[arg(long, value_name = "FIRST-LAST", env = "LINEKEEPER_RTP_PORTS")]
    pub rtp_ports: Option<PortRange>,
    /// How packets are taken from the network: auto, sweep or ring [default: auto]
    #[arg(long, value_name = "ENGINE", env = "LINEKEEPER_CAPTURE")]
    pub capture: Option<CaptureMode>,
    /// The built site [default: `site` beside the program, if it is there]
    #[arg(long, value_name = "DIR", env = "LINEKEEPER_SITE")]
    pub site: Option<PathBuf>,
    /// Erase recordings this many days after the call, unless they are held [default: never]
    #[arg(long, value_name = "DAYS", env = "LINEKEEPER_KEEP_DAYS")]
    pub keep_days: Option<u32>,
    /// When ready, print one line of JSON instead of words
    #[arg(long, env = "LINEKEEPER_JSON")]
    pub json: bool,
}

#[derive(Args)]
pub struct ExportFlags {
    /// Id of the recording
    pub id: RecordingId,
    #[arg(long, value_enum)]
    pub format: ExportFormat,
    /// The file to write; `-` is standard output
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// With webm, wav and flac: this track alone, counted from 0
    #[arg(long, value_name = "N")]
    pub track: Option<usize>,
    /// With webm: everybody in one channel
    #[arg(long)]
    pub mono: bool,
    /// Replace the file if it is there
    #[arg(long)]
    pub force: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// Opus, as the player plays it
    Webm,
    /// Uncompressed
    Wav,
    /// Compressed without loss
    Flac,
    /// Everything that is known of the call
    Json,
    /// The packets as they came
    Pcap,
    /// Conversation data container
    Vcon,
}

#[derive(Args)]
#[command(group(clap::ArgGroup::new("what").required(true)))]
pub struct VerifyFlags {
    /// One recording
    #[arg(group = "what")]
    pub id: Option<RecordingId>,
    /// Journal, segments and every recording
    #[arg(long, group = "what")]
    pub all: bool,
    /// The audit log
    #[arg(long, group = "what")]
    pub audit: bool,
}

#[derive(Subcommand)]
pub enum UserCommand {
    /// Add an account. The password is asked for, or read from standard input; if that is empty,
    /// one is made and printed
    Add {
        login: String,
        /// administrator, supervisor, agent or auditor
        #[arg(long, value_parser = parse_role)]
        role: Role,
    },
    /// Set a password and sign the user out everywhere
    Passwd { login: String },
    /// Change what a user may do
    Role {
        login: String,
        /// administrator, supervisor, agent or auditor
        #[arg(value_parser = parse_role)]
        role: Role,
    },
    /// Say whose an address is: its calls of that time are the user's
    Assign {
        login: String,
        /// An extension (7001), the part of a SIP address before its @ (ana), or a whole telephone
        /// number (+38612345678)
        #[arg(value_parser = Address::new)]
        address: Address,
        /// Since when: a date (UTC) or an RFC 3339 time [default: always]
        #[arg(long, value_parser = parse_time)]
        from: Option<WallTime>,
        /// Not any more at this time [default: for ever]
        #[arg(long, value_parser = parse_time)]
        until: Option<WallTime>,
    },
    /// Take an address away from a user, with all its terms
    Unassign {
        login: String,
        #[arg(value_parser = Address::new)]
        address: Address,
    },
    /// Let a user no longer sign in, and sign them out
    Disable { login: String },
    /// Let a user sign in again
    Enable { login: String },
    /// Accounts, their roles and addresses
    List,
}

#[derive(Subcommand)]
pub enum GroupCommand {
    /// Add a group, or replace it
    Set {
        name: GroupId,
        /// Hears the group's calls, as a supervisor; may be given several times
        #[arg(long, value_name = "LOGIN")]
        manager: Vec<UserId>,
        /// Belongs to it; may be given several times
        #[arg(long, value_name = "LOGIN")]
        member: Vec<UserId>,
        /// An address that is nobody's alone, of a hunt group; may be given several times
        #[arg(long, value_parser = Address::new)]
        address: Vec<Address>,
    },
    /// Remove a group. Its members stay
    Remove { name: GroupId },
    /// Groups, their managers, members and addresses
    List,
}

/// A date means its beginning, in UTC.
fn parse_time(text: &str) -> Result<WallTime, String> {
    let is_date = text.len() == "yyyy-mm-dd".len();
    let time = if is_date { format!("{text}T00:00:00Z") } else { text.to_owned() };
    WallTime::parse(&time)
        .map_err(|_| format!("{text:?} is no time; write 2026-05-01 or 2026-05-01T08:00:00+02:00"))
}

fn parse_role(text: &str) -> Result<Role, String> {
    Role::parse(text).ok_or_else(|| {
        let names = Role::ALL.map(Role::as_str).join(", ");
        format!("{text:?} is not a role; there are {names}")
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn what_to_verify_must_be_said_and_only_once() {
        let parse = |line: &str| Arguments::try_parse_from(line.split(' ')).is_ok();
        assert!(parse("linekeeper verify --all --data-dir x"));
        assert!(parse("linekeeper verify 01890a5d-ac96-774b-bcce-b302099a8057"));
        assert!(!parse("linekeeper verify"));
        assert!(!parse("linekeeper verify --all --audit"));
    }

    #[test]
    fn what_cannot_be_assigned_is_named() {
        let parse = |line: &str| match Arguments::try_parse_from(line.split(' ')) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        };
        assert_eq!(parse("linekeeper user assign ana 7001 --from 2026-05-01"), "");
        assert!(parse("linekeeper user assign ana ana@pbx").contains("before its @"));
        assert!(parse("linekeeper user assign ana 7001 --from May").contains("is no time"));
        assert!(parse("linekeeper group set a/b").contains("not a valid name"));
    }

    #[test]
    fn every_flag_of_run_has_a_variable() {
        let command = Arguments::command();
        let run = command.find_subcommand("run").unwrap();
        for flag in run.get_arguments().filter(|flag| flag.get_id() != "help") {
            let name = flag.get_long().unwrap().to_uppercase().replace('-', "_");
            let variable = flag.get_env().and_then(|name| name.to_str()).map(str::to_owned);
            assert_eq!(variable, Some(format!("LINEKEEPER_{name}")));
        }
    }
}
