//! Reads the recorder's metrics, as an operator's Prometheus would.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

pub struct Metrics(String);

impl Metrics {
    pub fn read(admin: SocketAddr) -> Result<Self> {
        let mut stream = TcpStream::connect(admin).context("reach the recorder's admin port")?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).context("read the recorder's metrics")?;
        Ok(Self(answer))
    }

    /// The sum of a counter or gauge over its labels; 0 where it has not appeared yet.
    pub fn sum(&self, name: &str) -> f64 {
        self.lines(name).map(|(_, value)| value).sum()
    }

    /// The upper bound, in milliseconds, of the histogram's bucket in which this quantile lies.
    /// `None`: above the largest, or nothing was counted.
    pub fn quantile_ms(&self, name: &str, quantile: f64) -> Option<f64> {
        let count = self.sum(&format!("{name}_count"));
        let bucket = format!("{name}_bucket");
        let mut bounds: Vec<(f64, f64)> = self
            .lines(&bucket)
            .filter_map(|(labels, value)| {
                let bound = labels.split("le=\"").nth(1)?.split('"').next()?;
                Some((bound.parse().ok()?, value))
            })
            .collect();
        bounds.sort_by(|a, b| a.0.total_cmp(&b.0));
        let found = bounds.into_iter().find(|(_, below)| *below >= count * quantile);
        found.filter(|(bound, _)| count > 0.0 && bound.is_finite()).map(|(bound, _)| bound * 1e3)
    }

    /// Labels and value of every line of one metric.
    fn lines<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.0.lines().filter_map(move |line| {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = match rest.strip_prefix('{') {
                Some(rest) => rest.split_once("} ")?,
                None => ("", rest.strip_prefix(' ')?),
            };
            Some((labels, value.trim().parse().ok()?))
        })
    }
}

#[test]
fn counters_are_summed_and_quantiles_found() {
    let metrics = Metrics(
        "# HELP a_total x\na_total{reason=\"x\"} 2\na_total{reason=\"y\"} 3\na_total_more 9\n\
         b_bucket{le=\"0.001\"} 50\nb_bucket{le=\"0.01\"} 99\nb_bucket{le=\"+Inf\"} 100\n\
         b_count 100\n"
            .to_owned(),
    );
    assert_eq!(metrics.sum("a_total"), 5.0);
    assert_eq!(metrics.sum("nothing"), 0.0);
    assert_eq!(metrics.quantile_ms("b", 0.5), Some(1.0));
    assert_eq!(metrics.quantile_ms("b", 0.99), Some(10.0));
    assert_eq!(metrics.quantile_ms("b", 0.999), None);
}
