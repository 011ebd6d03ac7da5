//! The buttons of the player.

use leptos::prelude::*;

use crate::components::icon::Icon;
use crate::player::{Player, SPEEDS};
use crate::text;

const SKIP_SECS: f64 = 5.0;

/// Play, five seconds back and on, and the time.
#[component]
pub fn PlayControls() -> impl IntoView {
    let player = Player::expect();
    let plays = move || player.playing.get();
    view! {
        <div class="play-controls">
            <button
                type="button"
                class="quiet"
                aria-label="5 seconds back"
                on:click=move |_| player.skip(-SKIP_SECS)
            >
                <Icon name="back" />
            </button>
            <button
                type="button"
                class="play-main"
                aria-label=move || if plays() { "Pause" } else { "Play" }
                on:click=move |_| player.toggle()
            >
                <Icon name=Signal::derive(move || if plays() { "pause" } else { "play" }) />
            </button>
            <button
                type="button"
                class="quiet"
                aria-label="5 seconds on"
                on:click=move |_| player.skip(SKIP_SECS)
            >
                <Icon name="forward" />
            </button>
        </div>
    }
}

/// `0:12 / 1:23`. Not a live region: a clock that is read out is noise.
#[component]
pub fn Position() -> impl IntoView {
    let player = Player::expect();
    let at = Memo::new(move |_| text::clock(player.position_secs.get()));
    view! {
        <span class="position" class:waiting=player.waiting>
            <strong>{at}</strong>
            " / "
            {move || text::clock(player.duration_secs.get())}
        </span>
    }
}

#[component]
pub fn SpeedSelect() -> impl IntoView {
    let player = Player::expect();
    view! {
        <select
            aria-label="Speed"
            class="speed"
            on:change=move |event| {
                if let Ok(speed) = event_target_value(&event).parse() {
                    player.set_speed(speed);
                }
            }
            prop:value=move || player.speed.get().to_string()
        >
            {SPEEDS.map(|speed| view! {
                <option value=speed.to_string() selected=move || player.speed.get() == speed>
                    {format!("{speed}×")}
                </option>
            })}
        </select>
    }
}

#[component]
pub fn MuteButton() -> impl IntoView {
    let player = Player::expect();
    let muted = player.muted;
    view! {
        <button
            type="button"
            class="quiet"
            aria-label=move || if muted.get() { "Sound on" } else { "Mute" }
            on:click=move |_| player.toggle_mute()
        >
            <Icon name=Signal::derive(move || if muted.get() { "muted" } else { "sound" }) />
        </button>
    }
}

/// What went wrong with the sound.
#[component]
pub fn PlayerProblem() -> impl IntoView {
    let player = Player::expect();
    view! {
        <div role="alert">
            {move || {
                player.problem.get().map(|problem| view! {
                    <p class="problem"><Icon name="warning" />{problem}</p>
                })
            }}
        </div>
    }
}
