//! The configuration of the one-machine product: a TOML file under the command line.
//!
//! The tables `edge`, `sip`, `rtp`, `journal` and `admin` are those of the recorder alone, and
//! are read by its own types; the rest is here. A key that nobody knows is an error that names
//! it. The flags and their keys:
//!
//! ```text
//! --data-dir      data_dir            --behind-proxy  http.behind_proxy
//! --log-format    log_format          --sip           sip.listen
//! --site          site                --sips          sip.tls_listen
//! --json          json                --admin         admin.listen
//! --http          http.listen         --rtp-address   rtp.address
//! --https         https.listen        --rtp-ports     rtp.ports
//! --cert          https.certificate   --capture       rtp.capture
//! --key           https.key           --keep-days     retention.keep_days
//! ```

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use edge_recorder::config::{
    AdminConfig, Config as RecorderConfig, EdgeConfig, RtpConfig, SipConfig, TlsConfig,
};
use model::retention::RetentionPolicy;
use serde::Deserialize;

use crate::arguments::{LogFormat, RunFlags};

/// The file, as it is.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct File {
    pub data_dir: Option<PathBuf>,
    pub log_format: Option<LogFormat>,
    site: Option<PathBuf>,
    json: bool,
    http: HttpConfig,
    https: Option<HttpsConfig>,
    edge: EdgeConfig,
    sip: SipConfig,
    rtp: RtpConfig,
    /// As the recorder's, without `dir`: that is in the data directory.
    journal: toml::Table,
    admin: AdminConfig,
    retention: RetentionPolicy,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct HttpConfig {
    /// Loopback: passwords and calls do not cross a network in the clear.
    listen: SocketAddr,
    /// A proxy with TLS stands in front, and nothing else can reach us.
    behind_proxy: bool,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)), behind_proxy: false }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HttpsConfig {
    /// Absent: the certificate is for --sips alone.
    listen: Option<SocketAddr>,
    /// PEM: our certificate, then those of the authorities between it and the root.
    certificate: PathBuf,
    /// PEM: the private key of the first certificate.
    key: PathBuf,
}

impl File {
    /// Without a path, everything is at its default.
    pub fn load(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else { return Ok(Self::default()) };
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("read the configuration file {shown}"))?;
        Self::parse(&text).with_context(|| format!("the configuration file {shown} is not valid"))
    }

    fn parse(text: &str) -> Result<Self> {
        let file: Self = toml::from_str(text)?;
        if file.journal.contains_key("dir") {
            bail!(
                "journal.dir: the journal lies in `journal` in the data directory; to have it \
                   on another disk, mount that one there"
            );
        }
        file.retention.checked().context("retention.keep_days")?;
        // Found now and not at the first command that needs it.
        file.recorder(Path::new("/"))?;
        Ok(file)
    }

    fn recorder(&self, data_dir: &Path) -> Result<RecorderConfig> {
        let mut journal = self.journal.clone();
        let dir = data_dir.join("journal");
        let dir = dir.to_str().context("the path of the data directory is not UTF-8")?;
        journal.insert("dir".to_owned(), dir.into());
        let journal = toml::Value::Table(journal).try_into().context("[journal]")?;
        Ok(RecorderConfig {
            edge: self.edge.clone(),
            sip: self.sip.clone(),
            rtp: self.rtp.clone(),
            journal,
            admin: self.admin.clone(),
        })
    }
}

/// In the working directory: whoever tries the product needs no rights, and a service names its
/// own.
pub fn data_dir(flag: Option<PathBuf>, file: &File) -> PathBuf {
    let chosen = flag.or_else(|| file.data_dir.clone());
    let chosen = chosen.unwrap_or_else(|| PathBuf::from("linekeeper-data"));
    // Absolute, so that messages about it can be understood from anywhere.
    std::path::absolute(&chosen).unwrap_or(chosen)
}

/// What `run` runs with.
#[derive(Debug)]
pub struct Settings {
    pub data_dir: PathBuf,
    pub recorder: RecorderConfig,
    pub http: SocketAddr,
    pub behind_proxy: bool,
    pub https: Option<Https>,
    pub site: Option<PathBuf>,
    pub json: bool,
    pub retention: RetentionPolicy,
}

#[derive(Debug)]
pub struct Https {
    pub listen: SocketAddr,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Joins flags and file, and refuses what does not go together.
pub fn settings(data_dir: PathBuf, flags: RunFlags, file: File) -> Result<Settings> {
    let mut recorder = file.recorder(&data_dir)?;
    recorder.sip.listen = flags.sip.unwrap_or(recorder.sip.listen);
    recorder.sip.tls_listen = flags.sips.or(recorder.sip.tls_listen);
    recorder.admin.listen = flags.admin.unwrap_or(recorder.admin.listen);
    recorder.rtp.address = flags.rtp_address.or(recorder.rtp.address);
    recorder.rtp.ports = flags.rtp_ports.unwrap_or(recorder.rtp.ports);
    recorder.rtp.capture = flags.capture.unwrap_or(recorder.rtp.capture);

    let (listen, certificate, key) = match file.https {
        Some(https) => (https.listen, Some(https.certificate), Some(https.key)),
        None => (None, None, None),
    };
    let listen = flags.https.or(listen);
    let pair = match (flags.cert.or(certificate), flags.key.or(key)) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => bail!("--cert and --key go together"),
    };
    if recorder.sip.tls_listen.is_some() && recorder.sip.tls.is_none() {
        let Some((certificate, key)) = pair.clone() else {
            bail!("--sips needs --cert and --key");
        };
        recorder.sip.tls = Some(TlsConfig::new(certificate, key));
    }
    let https = match (listen, pair) {
        (Some(listen), Some((certificate, key))) => Some(Https { listen, certificate, key }),
        (Some(_), None) => bail!("--https needs --cert and --key"),
        (None, _) => None,
    };
    recorder.check()?;

    let http = flags.http.unwrap_or(file.http.listen);
    let behind_proxy = flags.behind_proxy || file.http.behind_proxy;
    if !http.ip().is_loopback() && !behind_proxy {
        bail!(
            "--http {http}: plain HTTP would carry passwords and calls in the clear, so it listens \
             on loopback only; use --https with --cert and --key, or --behind-proxy if a proxy \
             with TLS stands in front"
        );
    }
    let retention = match flags.keep_days {
        None => file.retention,
        Some(days) => RetentionPolicy { keep_days: Some(days) }.checked().context("--keep-days")?,
    };
    Ok(Settings {
        data_dir,
        retention,
        recorder,
        http,
        behind_proxy,
        https,
        site: flags.site.or(file.site),
        json: flags.json || file.json,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags() -> RunFlags {
        RunFlags::default()
    }

    fn joined(flags: RunFlags, text: &str) -> Result<Settings> {
        settings(PathBuf::from("/data"), flags, File::parse(text)?)
    }

    #[test]
    fn a_flag_goes_before_the_file_and_the_file_before_the_default() {
        let text = "[sip]\nlisten = \"127.0.0.1:7000\"\n[http]\nlisten = \"127.0.0.1:7001\"\n\
                    [rtp]\nports = \"30000-30099\"";
        let sip = "127.0.0.1:9000".parse().ok();
        let settings = joined(RunFlags { sip, ..flags() }, text).unwrap();
        assert_eq!(settings.recorder.sip.listen.port(), 9000);
        assert_eq!(settings.http.port(), 7001);
        assert_eq!(settings.recorder.rtp.ports.to_string(), "30000-30099");
        assert_eq!(settings.recorder.admin.listen.port(), 9060);
        assert_eq!(settings.recorder.journal.dir, Path::new("/data/journal"));
        assert_eq!(settings.recorder.journal.segment_secs.get(), 5);
    }

    #[test]
    fn the_example_in_the_documentation_is_a_configuration() {
        let example = include_str!("../linekeeper.example.toml");
        File::parse(example).unwrap();
        // And so it is with every line that is commented out.
        let all: String = example
            .lines()
            .map(|line| line.strip_prefix("#: ").unwrap_or(line))
            .map(|line| format!("{line}\n"))
            .collect();
        assert_ne!(all, example);
        let settings = joined(flags(), &all).unwrap();
        assert!(settings.https.is_some());
    }

    /// The keys of a table and of those in it, as `table.key`.
    fn keys(prefix: &str, table: &toml::Table, out: &mut Vec<String>) {
        for (key, value) in table {
            match value {
                toml::Value::Table(inner) => keys(&format!("{prefix}{key}."), inner, out),
                _ => out.push(format!("{prefix}{key}")),
            }
        }
    }

    #[test]
    fn the_reference_names_every_flag_variable_and_key() {
        use clap::CommandFactory;

        let reference = include_str!("../../docs/reference/config.md");
        let command = crate::arguments::Arguments::command();
        let run = command.find_subcommand("run").unwrap();
        let mut names = Vec::new();
        for flag in command.get_arguments().chain(run.get_arguments()) {
            names.extend(flag.get_long().filter(|long| *long != "help").map(|l| format!("--{l}")));
            names.extend(flag.get_env().map(|name| name.to_str().unwrap().to_owned()));
        }
        names.push(lambdas::telemetry::FILTER_VARIABLE.to_owned());

        let mut recorder = RecorderConfig::new("/x");
        recorder.sip.tls_listen = "127.0.0.1:5061".parse().ok();
        recorder.sip.advertised_host = Some("sip.example.com".to_owned());
        let (certificate, key) = (PathBuf::from("c.pem"), PathBuf::from("k.pem"));
        let client_authorities = Some(PathBuf::from("ca.pem"));
        recorder.sip.tls =
            Some(TlsConfig { client_authorities, ..TlsConfig::new(certificate, key) });
        recorder.rtp.address = "192.0.2.10".parse().ok();
        recorder.rtp.bind = recorder.rtp.address;
        keys("", &toml::Table::try_from(&recorder).unwrap(), &mut names);
        let example = include_str!("../linekeeper.example.toml").replace("#: ", "");
        keys("", &toml::from_str(&example).unwrap(), &mut names);

        assert!(names.len() > 50, "{names:?}");
        for name in names {
            assert!(reference.contains(&format!("`{name}`")), "{name} is not in the reference");
        }
    }

    #[test]
    fn a_key_that_nobody_knows_is_named() {
        for (text, named) in [
            ("[journal]\nsegment_sec = 5", "segment_sec"),
            ("[htpp]\nlisten = \"127.0.0.1:1\"", "htpp"),
            ("[http]\nlisten_on = \"127.0.0.1:1\"", "listen_on"),
            ("[journal]\ndir = \"/x\"", "mount"),
            ("[retention]\nkeep_days = 0", "keep_days"),
        ] {
            let error = File::parse(text).unwrap_err();
            assert!(crate::chain(error.as_ref()).contains(named), "{error:#}");
        }
    }

    #[test]
    fn plain_http_does_not_leave_the_machine_by_accident() {
        let http = "0.0.0.0:8080".parse().ok();
        let refused = joined(RunFlags { http, ..flags() }, "").unwrap_err().to_string();
        assert!(refused.contains("--behind-proxy"), "{refused}");
        let behind_proxy = true;
        assert!(joined(RunFlags { http, behind_proxy, ..flags() }, "").is_ok());
    }

    #[test]
    fn tls_needs_a_certificate_and_its_key() {
        let address = "127.0.0.1:0".parse().ok();
        let (cert, key) = (Some(PathBuf::from("c.pem")), Some(PathBuf::from("k.pem")));
        for incomplete in [
            RunFlags { https: address, ..flags() },
            RunFlags { sips: address, ..flags() },
            RunFlags { https: address, cert: cert.clone(), ..flags() },
        ] {
            let error = joined(incomplete, "").unwrap_err().to_string();
            assert!(error.contains("--cert and --key"), "{error}");
        }
        let both = RunFlags { https: address, sips: address, cert, key, ..flags() };
        let settings = joined(both, "").unwrap();
        assert_eq!(settings.recorder.sip.tls.unwrap().key, Path::new("k.pem"));
        assert_eq!(settings.https.unwrap().certificate, Path::new("c.pem"));
    }
}
