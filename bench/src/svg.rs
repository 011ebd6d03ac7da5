//! A plot of what a packet costs by the number of calls: one line for the sink and one for each
//! way of capture.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::report::Point;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
const MARGIN: f64 = 56.0;
const COLOURS: [&str; 4] = ["#667085", "#1f6feb", "#1a7f37", "#9a3412"];

pub fn plot(points: &[Point]) -> String {
    let mut lines: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for point in points {
        let calls = f64::from(point.calls);
        lines.entry(point.capture.clone()).or_default().push((calls, point.recorder_ns()));
        lines.entry("bare sink".to_owned()).or_default().push((calls, point.sink_ns()));
    }
    let all = || lines.values().flatten();
    let most_ns = all().map(|(_, ns)| *ns).fold(1.0, f64::max) * 1.1;
    let (least, most) = all()
        .map(|(calls, _)| calls.max(1.0).log10())
        .fold((f64::INFINITY, 0.0_f64), |(least, most), at| (least.min(at), most.max(at)));
    let span = (most - least).max(0.1);
    let x = |calls: f64| MARGIN + (calls.max(1.0).log10() - least) / span * (WIDTH - 2.0 * MARGIN);
    let y = |ns: f64| HEIGHT - MARGIN - ns / most_ns * (HEIGHT - 2.0 * MARGIN);

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
         <text x=\"{MARGIN}\" y=\"24\">CPU time per packet, ns, by calls at once</text>\n"
    );
    for tick in 0..=4 {
        let ns = most_ns * f64::from(tick) / 4.0;
        let _ = writeln!(
            svg,
            "<path d=\"M{MARGIN} {at:.1}H{end}\" stroke=\"#d0d5dd\"/><text x=\"8\" y=\"{at:.1}\">{ns:.0}</text>",
            at = y(ns),
            end = WIDTH - MARGIN,
        );
    }
    let mut ticks: Vec<u32> = points.iter().map(|point| point.calls).collect();
    ticks.sort_unstable();
    ticks.dedup();
    for calls in ticks {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{calls}</text>",
            x(f64::from(calls)),
            HEIGHT - MARGIN / 2.0,
        );
    }
    for (number, (name, line)) in lines.iter_mut().enumerate() {
        line.sort_by(|a, b| a.0.total_cmp(&b.0));
        let colour = COLOURS[number % COLOURS.len()];
        let path: Vec<String> =
            line.iter().map(|(calls, ns)| format!("{:.1} {:.1}", x(*calls), y(*ns))).collect();
        let _ = writeln!(
            svg,
            "<path d=\"M{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\
             <text x=\"{}\" y=\"{}\" fill=\"{colour}\">{name}</text>",
            path.join("L"),
            WIDTH - MARGIN - 80.0,
            44 + number * 16,
        );
    }
    svg + "</svg>\n"
}

#[test]
fn an_empty_plot_is_still_a_picture() {
    let svg = plot(&[]);
    assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
}
