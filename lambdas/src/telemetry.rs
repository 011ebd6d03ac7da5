//! Where log lines go and what they look like; every binary calls [`init`] once, first.
//!
//! Lines go to standard error, because standard output belongs to answers (`export --out -`,
//! `--json`). `LINEKEEPER_LOG` chooses what is logged, in the syntax of `tracing`'s `EnvFilter`
//! (`debug`, `info,edge_recorder=trace`).

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// The environment variable that chooses what is logged.
pub const FILTER_VARIABLE: &str = "LINEKEEPER_LOG";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One object per line, for log collectors.
    Json,
}

/// A filter that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{FILTER_VARIABLE}={text:?} is not a log filter: write a level or `crate=level,…`")]
pub struct InvalidFilter {
    text: String,
    #[source]
    cause: tracing_subscriber::filter::ParseError,
}

/// Starts logging. `default` is the filter when the environment says nothing. A second call
/// changes nothing: tests in one process share one subscriber.
pub fn init(format: Format, default: &str) -> Result<(), InvalidFilter> {
    let text = std::env::var(FILTER_VARIABLE).unwrap_or_else(|_| default.to_owned());
    let filter = filter(&text)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Failing means that a subscriber is already there.
    let _ = match format {
        Format::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
    Ok(())
}

fn filter(text: &str) -> Result<EnvFilter, InvalidFilter> {
    EnvFilter::try_new(text).map_err(|cause| InvalidFilter { text: text.to_owned(), cause })
}

#[test]
fn a_filter_with_a_typing_error_is_refused() {
    assert!(filter("info,lambdas=debug").is_ok());
    let refused = filter("lambdas=loud").unwrap_err();
    assert!(refused.to_string().contains("lambdas=loud"), "{refused}");
}
