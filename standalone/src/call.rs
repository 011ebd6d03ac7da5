//! Places calls to a recorder, as an SBC would, and reports what was sent.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use caller::{
    CallPlan, CallReport, Codec, MetadataStyle, Outcome, Party, Progress, Suite, TlsTrust,
    Transport,
};
use clap::Args;
use serde::Serialize;

#[derive(Args)]
pub struct CallFlags {
    /// The recorder: host or address, with its port unless it is 5060 (TLS: 5061)
    pub target: String,
    /// udp, tcp or tls
    #[arg(long, default_value = "tcp")]
    pub transport: Transport,
    /// How many calls to place
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub calls: u32,
    /// How many of them begin in a second
    #[arg(long, value_name = "PER_SEC", default_value_t = 10.0)]
    pub rate: f64,
    /// How long each call talks
    #[arg(long, value_name = "S", default_value_t = 10.0)]
    pub seconds: f64,
    /// 2: a stream for each party; 1: both mixed into one
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=2))]
    pub streams: u8,
    /// pcmu, pcma, g722 or opus
    #[arg(long, default_value = "pcmu")]
    pub codec: Codec,
    /// Encrypt the media, with keys in the offer
    #[arg(long)]
    pub srtp: bool,
    /// What to say: 8 kHz, 16 bit, one channel or one for each stream; else speech is made up
    #[arg(long, value_name = "FILE")]
    pub wav: Option<PathBuf>,
    /// full, none, broken, or a file with metadata to send as it is
    #[arg(long, value_name = "STYLE", default_value = "full")]
    pub metadata: String,
    /// Leave `a=label` out of the offer
    #[arg(long)]
    pub no_labels: bool,
    /// Leave `Require: siprec` out of the INVITE
    #[arg(long)]
    pub no_require: bool,
    /// Name of the caller; an n in braces becomes the number of the call
    #[arg(long, value_name = "NAME")]
    pub from_name: Option<String>,
    /// SIP or tel URI of the caller
    #[arg(long, value_name = "URI")]
    pub from: Option<String>,
    /// Name of the callee
    #[arg(long, value_name = "NAME")]
    pub to_name: Option<String>,
    /// SIP or tel URI of the callee
    #[arg(long, value_name = "URI")]
    pub to: Option<String>,
    /// PEM with the authorities to believe in TLS; without it, any certificate will do
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Other seeds speak otherwise; the same seed says the same again
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Report in JSON
    #[arg(long)]
    pub json: bool,
}

/// Exit code 1 when any call was not answered.
pub async fn call(flags: CallFlags) -> Result<ExitCode> {
    let json = flags.json;
    let plan = plan(flags).await?;
    let reports = caller::place(plan, move |progress| {
        if !json {
            tell(&progress);
        }
    })
    .await?;
    let answered = reports.iter().filter(|report| report.outcome == Outcome::Answered).count();
    if json {
        #[derive(Serialize)]
        struct Answer {
            calls: Vec<CallReport>,
        }
        println!("{}", serde_json::to_string_pretty(&Answer { calls: reports.clone() })?);
    } else {
        print!("{}", table(&reports));
        println!("{answered} of {} answered", reports.len());
    }
    Ok(if answered == reports.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn plan(flags: CallFlags) -> Result<CallPlan> {
    let target = resolve(&flags.target, flags.transport).await?;
    let plan = CallPlan::to(target);
    let [mut from, mut to] = plan.participants.clone();
    for (slot, given) in [
        (&mut from.name, flags.from_name),
        (&mut from.aor, flags.from),
        (&mut to.name, flags.to_name),
        (&mut to.aor, flags.to),
    ] {
        if let Some(given) = given {
            *slot = given;
        }
    }
    Ok(CallPlan {
        transport: flags.transport,
        tls: flags.ca.map_or(TlsTrust::Anybody, TlsTrust::Authorities),
        calls: flags.calls,
        rate_per_sec: flags.rate,
        seconds: flags.seconds,
        streams: flags.streams,
        codec: flags.codec,
        // The one that every implementation has (RFC 4568 §6.2).
        srtp: flags.srtp.then_some(Suite::AesCm128Sha1Tag80),
        wav: flags.wav,
        seed: flags.seed,
        metadata: metadata(&flags.metadata)?,
        labels: !flags.no_labels,
        require: !flags.no_require,
        participants: [Party { ..from }, Party { ..to }],
        ..plan
    })
}

fn metadata(style: &str) -> Result<MetadataStyle> {
    Ok(match style {
        "full" => MetadataStyle::Full,
        "none" => MetadataStyle::None,
        "broken" => MetadataStyle::Broken,
        file => MetadataStyle::Custom(
            std::fs::read_to_string(file)
                .with_context(|| format!("--metadata: full, none, broken or a file; {file}"))?,
        ),
    })
}

/// The first address of `host[:port]`; `sip:` in front does no harm.
async fn resolve(target: &str, transport: Transport) -> Result<SocketAddr> {
    let port = if transport == Transport::Tls { 5061 } else { 5060 };
    let host = target.strip_prefix("sips:").or(target.strip_prefix("sip:")).unwrap_or(target);
    if let Ok(address) = host.parse() {
        return Ok(address);
    }
    if let Ok(address) = host.trim_matches(['[', ']']).parse() {
        return Ok(SocketAddr::new(address, port));
    }
    let with_port = if host.contains(':') { host.to_owned() } else { format!("{host}:{port}") };
    let found = tokio::net::lookup_host(&with_port).await;
    found.ok().and_then(|mut addresses| addresses.next()).with_context(|| {
        format!("{target} is not a recorder's address: write host, host:port or address:port")
    })
}

fn tell(progress: &Progress) {
    match progress {
        Progress::NotAnswered { index, outcome } => {
            eprintln!("call {index}: {}", words(outcome));
        }
        Progress::Ended { index, by } => tracing::debug!(index, ?by, "call ended"),
        Progress::Answered { index, answered_ms } => {
            tracing::debug!(index, answered_ms, "call answered");
        }
        _ => {}
    }
}

fn words(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Answered => "answered".to_owned(),
        Outcome::Refused { status, reason } => format!("refused: {status} {reason}"),
        Outcome::Timeout => "no answer".to_owned(),
        Outcome::Failed { problem } => format!("failed: {problem}"),
    }
}

fn table(reports: &[CallReport]) -> String {
    let mut text =
        format!("{:>5}  {:<40}  {:>9}  {:>8}  outcome\n", "call", "call id", "packets", "seconds");
    for report in reports {
        let packets: u64 = report.streams.iter().map(|stream| stream.packets_sent).sum();
        let seconds = report.duration_ms as f64 / 1_000.0;
        let (index, id, outcome) = (report.index, &report.call_id, words(&report.outcome));
        text += &format!("{index:>5}  {id:<40}  {packets:>9}  {seconds:>8.2}  {outcome}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_target_needs_no_port() {
        for (target, transport, address) in [
            ("127.0.0.1:7000", Transport::Udp, "127.0.0.1:7000"),
            ("127.0.0.1", Transport::Udp, "127.0.0.1:5060"),
            ("sips:127.0.0.1", Transport::Tls, "127.0.0.1:5061"),
            ("[::1]:9", Transport::Tcp, "[::1]:9"),
            ("::1", Transport::Tcp, "[::1]:5060"),
        ] {
            let found = resolve(target, transport).await.unwrap();
            assert_eq!(found, address.parse().unwrap(), "{target}");
        }
        let error = resolve("not a host", Transport::Udp).await.unwrap_err().to_string();
        assert!(error.contains("host:port"), "{error}");
    }

    #[test]
    fn metadata_that_is_no_style_is_a_file() {
        assert_eq!(metadata("none").unwrap(), MetadataStyle::None);
        let error = format!("{:#}", metadata("nnoe").unwrap_err());
        assert!(error.contains("nnoe") && error.contains("broken"), "{error}");
    }
}
