//! Metrics as log lines: CloudWatch makes metrics of lines in its Embedded Metric Format, and
//! sending them costs a function no request and no time.

use std::io::Write;

use serde_json::{Map, Value, json};

use crate::worker::wall_time;

/// Of every metric of ours. The alarms in `infra/` name it, too.
const NAMESPACE: &str = "Linekeeper";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Count,
    Seconds,
}

/// Writes the values of one invocation. `function` is their only dimension, without the name of the
/// deployment: an account has one deployment in a region.
pub fn emit(function: &str, values: &[(&str, Unit, f64)]) {
    let line = line(function, values, wall_time().unix_ms());
    // Whoever reads the log is told; a function has no reason to fail of it.
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn line(function: &str, values: &[(&str, Unit, f64)], now_ms: i64) -> Value {
    let metrics: Vec<Value> = values
        .iter()
        .map(|(name, unit, _)| json!({ "Name": name, "Unit": format!("{unit:?}") }))
        .collect();
    let mut line = Map::new();
    line.insert(
        "_aws".to_owned(),
        json!({
            "Timestamp": now_ms,
            "CloudWatchMetrics": [{
                "Namespace": NAMESPACE,
                "Dimensions": [["Function"]],
                "Metrics": metrics,
            }],
        }),
    );
    line.insert("Function".to_owned(), json!(function));
    for (name, _, value) in values {
        line.insert((*name).to_owned(), json!(value));
    }
    Value::Object(line)
}

#[test]
fn a_line_names_each_metric_and_has_its_value() {
    let made = line("reaper", &[("EdgesAlive", Unit::Count, 2.0), ("X", Unit::Seconds, 0.5)], 5);
    let expected = r#"{"EdgesAlive":2.0,"Function":"reaper","X":0.5,"_aws":{"CloudWatchMetrics":[{"Dimensions":[["Function"]],"Metrics":[{"Name":"EdgesAlive","Unit":"Count"},{"Name":"X","Unit":"Seconds"}],"Namespace":"Linekeeper"}],"Timestamp":5}}"#;
    assert_eq!(made.to_string(), expected);
}
