//! The waveform of one track.
//!
//! Drawn once per size and theme onto two canvases that lie on each other: what is still to come
//! in grey, what was played in the lane's colour. Playing moves only the edge at which the upper
//! one is clipped, which costs nothing (see `.wave-played` in the style sheet). Hidden from
//! screen readers: the slider and the list of marks say the same in words.

use leptos::html;
use leptos::prelude::*;
use wasm_bindgen::JsCast;
use web_sys::{CanvasRenderingContext2d, HtmlCanvasElement};

use crate::peaks::{Column, Peaks};
use crate::screen::Screen;
use crate::settings::Settings;

/// A call of quiet voices is drawn larger, but noise is not drawn as speech.
const LARGEST_GAIN: f64 = 8.0;

#[component]
pub fn Lane(track: usize, #[prop(into)] peaks: Signal<Option<Peaks>>) -> impl IntoView {
    let rest = NodeRef::<html::Canvas>::new();
    let played = NodeRef::<html::Canvas>::new();
    let screen = Screen::expect();
    let theme = Settings::expect().theme;
    Effect::new(move || {
        // What decides size and colours.
        screen.resized.track();
        screen.dark.track();
        theme.track();
        let (Some(rest), Some(played)) = (rest.get(), played.get()) else { return };
        // A frame later the style sheet has applied the new theme.
        request_animation_frame(move || {
            // The page may be gone by then, and its peaks with it.
            peaks.try_with_untracked(|peaks| {
                for canvas in [&rest, &played] {
                    draw(canvas, track, peaks.as_ref());
                }
            });
        });
        peaks.track();
    });
    view! {
        <div class="wave" aria-hidden="true">
            <canvas node_ref=rest class="wave-rest"></canvas>
            <canvas node_ref=played class="wave-played"></canvas>
        </div>
    }
}

/// Draws in the canvas's text colour, which is how a script learns what a style sheet says.
fn draw(canvas: &HtmlCanvasElement, track: usize, peaks: Option<&Peaks>) {
    let Some((context, colour)) = context(canvas) else { return };
    let ratio = window().device_pixel_ratio().max(1.0);
    let width = f64::from(canvas.client_width()) * ratio;
    let height = f64::from(canvas.client_height()) * ratio;
    // Setting the size also clears.
    canvas.set_width(width as u32);
    canvas.set_height(height as u32);
    context.set_fill_style_str(&colour);
    let middle = height / 2.0;
    context.fill_rect(0.0, middle - ratio / 2.0, width, ratio);
    let Some(peaks) = peaks else { return };
    let columns = peaks.columns(track, (width / ratio) as usize);
    let gain = gain(&columns);
    for (x, column) in columns.iter().enumerate() {
        let top = middle - (column.high * gain).min(1.0) * middle;
        let bottom = middle - (column.low * gain).max(-1.0) * middle;
        context.fill_rect(x as f64 * ratio, top, ratio, (bottom - top).max(ratio));
    }
}

fn context(canvas: &HtmlCanvasElement) -> Option<(CanvasRenderingContext2d, String)> {
    let context = canvas.get_context("2d").ok()??.dyn_into::<CanvasRenderingContext2d>().ok()?;
    let style = window().get_computed_style(canvas).ok()??;
    Some((context, style.get_property_value("color").ok()?))
}

/// Makes the loudest column fill the lane.
fn gain(columns: &[Column]) -> f64 {
    let loudest = columns.iter().fold(0.0_f64, |loudest, it| loudest.max(it.high).max(-it.low));
    if loudest > 0.0 { (1.0 / loudest).min(LARGEST_GAIN) } else { 1.0 }
}

#[test]
fn a_quiet_call_fills_its_lane_and_noise_does_not() {
    assert_eq!(gain(&[Column { low: -0.5, high: 0.25 }]), 2.0);
    assert_eq!(gain(&[Column { low: 0.0, high: 0.001 }]), LARGEST_GAIN);
    assert_eq!(gain(&[]), 1.0);
}
