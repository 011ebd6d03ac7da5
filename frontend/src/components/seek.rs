//! Where in the call: a slider as the ARIA authoring practices describe one for media.

use leptos::ev::{KeyboardEvent, PointerEvent};
use leptos::prelude::*;
use wasm_bindgen::JsCast;
use web_sys::HtmlElement;

use crate::player::Player;
use crate::text;

const STEP_SECS: f64 = 5.0;
const LONG_STEP_SECS: f64 = 15.0;
const PAGE_SECS: f64 = 60.0;

#[component]
pub fn SeekSlider() -> impl IntoView {
    let player = Player::expect();
    // Whole seconds: anything finer would be read out without end.
    let now = Memo::new(move |_| player.position_secs.get() as u64);
    let end = Memo::new(move |_| player.duration_secs.get() as u64);
    let says =
        move || format!("{} of {}", text::spoken(now.get() as f64), text::spoken(end.get() as f64));
    view! {
        <div
            class="seek"
            role="slider"
            tabindex="0"
            aria-label="Position in the call"
            aria-valuemin="0"
            aria-valuemax=move || end.get().to_string()
            aria-valuenow=move || now.get().to_string()
            aria-valuetext=says
            style=("--at", move || percent(player.position_secs.get(), player.duration_secs.get()))
            on:keydown=move |event| press(player, &event)
            on:pointerdown=move |event| point(player, &event)
            on:pointermove=move |event| drag(player, &event)
        >
            <div class="seek-line"></div>
            <div class="seek-thumb"></div>
        </div>
    }
}

/// How far in, for a style.
pub fn percent(seconds: f64, of: f64) -> String {
    let percent = if of > 0.0 { (seconds / of * 100.0).clamp(0.0, 100.0) } else { 0.0 };
    format!("{percent:.3}%")
}

fn press(player: Player, event: &KeyboardEvent) {
    if event.ctrl_key() || event.alt_key() || event.meta_key() {
        return;
    }
    let step = if event.shift_key() { LONG_STEP_SECS } else { STEP_SECS };
    match event.key().as_str() {
        "ArrowRight" | "ArrowUp" => player.skip(step),
        "ArrowLeft" | "ArrowDown" => player.skip(-step),
        "PageUp" => player.skip(PAGE_SECS),
        "PageDown" => player.skip(-PAGE_SECS),
        "Home" => player.seek(0.0),
        "End" => player.seek(f64::INFINITY),
        _ => return,
    }
    event.prevent_default();
}

/// Seeks to where an axis of the whole call was pressed, and follows until it is let go.
pub fn point(player: Player, event: &PointerEvent) {
    let axis = event.current_target().and_then(|it| it.dyn_into::<HtmlElement>().ok());
    if event.button() != 0 {
        return;
    }
    if let Some(axis) = axis {
        // Without capture the drag ends at the element's edge, nothing worse.
        let _ = axis.set_pointer_capture(event.pointer_id());
        seek_to(player, &axis, event);
    }
}

pub fn drag(player: Player, event: &PointerEvent) {
    let axis = event.current_target().and_then(|it| it.dyn_into::<HtmlElement>().ok());
    if let Some(axis) = axis.filter(|axis| axis.has_pointer_capture(event.pointer_id())) {
        seek_to(player, &axis, event);
    }
}

fn seek_to(player: Player, axis: &HtmlElement, event: &PointerEvent) {
    let rect = axis.get_bounding_client_rect();
    if rect.width() > 0.0 {
        let at = (f64::from(event.client_x()) - rect.left()) / rect.width();
        player.seek(at * player.duration_secs.get_untracked());
    }
}

#[test]
fn a_position_outside_of_the_call_stays_on_the_line() {
    assert_eq!(percent(5.0, 10.0), "50.000%");
    assert_eq!(percent(15.0, 10.0), "100.000%");
    assert_eq!(percent(1.0, 0.0), "0.000%");
}
