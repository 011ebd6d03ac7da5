//! The call laid out in time: marks, one lane per track, the slider and the buttons.

use leptos::prelude::*;
use leptos::task::spawn_local;
use model::Recording;

use crate::api;
use crate::components::copy::to_clipboard;
use crate::components::icon::Icon;
use crate::components::lane::Lane;
use crate::components::marks::MarkAxis;
use crate::components::seek::{SeekSlider, drag, percent, point};
use crate::components::transport::{
    MuteButton, PlayControls, PlayerProblem, Position, SpeedSelect,
};
use crate::peaks::Peaks;
use crate::player::Player;
use crate::{text, when};

/// Lanes have this many colours; a fifth track starts again.
const COLOURS: usize = 4;

/// Distances of the ruler's lines, in seconds; the first that leaves room for the text is taken.
const RULER_STEPS: [u32; 12] = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1_800, 3_600];
const MOST_RULER_LINES: f64 = 9.0;

#[component]
pub fn Timeline(
    #[prop(into)] recording: Signal<Recording>,
    #[prop(into)] peaks: Signal<Option<Peaks>>,
) -> impl IntoView {
    let player = Player::expect();
    let lanes = Memo::new(move |_| recording.with(lanes));
    let at = move || percent(player.position_secs.get(), player.duration_secs.get());
    view! {
        <section class="player" aria-label="Player">
            <div class="timeline" style=("--at", at)>
                <Show when=move || recording.with(|it| !it.marks.is_empty())>
                    <div class="timeline-row marks-row">
                        <div class="lane-name"></div>
                        <MarkAxis recording />
                    </div>
                </Show>
                {move || {
                    lanes
                        .get()
                        .into_iter()
                        .enumerate()
                        .map(|(track, (name, second))| view! {
                            <div class=format!("timeline-row lane lane-{}", track % COLOURS + 1)>
                                <div class="lane-name">
                                    <strong>{name}</strong>
                                    <span class="muted">{second}</span>
                                </div>
                                <div
                                    class="axis"
                                    on:pointerdown=move |event| point(player, &event)
                                    on:pointermove=move |event| drag(player, &event)
                                >
                                    <Lane track peaks />
                                    <div class="playhead"></div>
                                </div>
                            </div>
                        })
                        .collect_view()
                }}
                <div class="timeline-row">
                    <div class="lane-name"></div>
                    <Ruler />
                </div>
                <div class="timeline-row">
                    <div class="lane-name"></div>
                    <SeekSlider />
                </div>
            </div>
            <div class="transport">
                <PlayControls />
                <Position />
                <WallClock recording />
                <span class="spread"></span>
                <MuteButton />
                <SpeedSelect />
                <ShareButton recording />
                <a
                    class="button"
                    href=move || recording.with(|it| api::wav_url(it.id))
                    download=""
                    rel="external"
                >
                    <Icon name="download" />
                    "WAV"
                </a>
            </div>
            <PlayerProblem />
        </section>
    }
}

/// What stands beside each lane: who is heard, and the role or address.
fn lanes(recording: &Recording) -> Vec<(String, String)> {
    recording
        .tracks
        .iter()
        .enumerate()
        .map(|(number, track)| {
            let second = match track.speakers.as_slice() {
                [speaker] => recording.participants.get(*speaker).map(|participant| {
                    let role = participant.role.clone();
                    let said = [role, text::second_line(participant)];
                    said.into_iter().flatten().collect::<Vec<_>>().join(" · ")
                }),
                [] => None,
                _ => Some("mixed".to_owned()),
            };
            (text::track_name(recording, number, track), second.unwrap_or_default())
        })
        .collect()
}

#[component]
fn Ruler() -> impl IntoView {
    let player = Player::expect();
    view! {
        <div class="ruler" aria-hidden="true">
            {move || {
                let end = player.duration_secs.get();
                ruler_lines(end)
                    .into_iter()
                    .map(|at| view! {
                        <span style=("--from", percent(at, end))>{text::clock(at)}</span>
                    })
                    .collect_view()
            }}
        </div>
    }
}

/// The times at which the ruler has a line.
fn ruler_lines(end_secs: f64) -> Vec<f64> {
    let fits = |step: &u32| end_secs / f64::from(*step) <= MOST_RULER_LINES;
    let longest = RULER_STEPS[RULER_STEPS.len() - 1];
    let step = RULER_STEPS.into_iter().find(fits).unwrap_or_else(|| {
        // Longer than a working day: as many whole hours as it takes.
        longest * (end_secs / f64::from(longest) / MOST_RULER_LINES).ceil() as u32
    });
    // The last line keeps away from the edge, where its text would be cut.
    let lines = (end_secs * 0.97 / f64::from(step)).floor().max(0.0) as u32;
    (0..=lines).map(|line| f64::from(line * step)).collect()
}

/// What the clock on the wall said at the position.
#[component]
fn WallClock(recording: Signal<Recording>) -> impl IntoView {
    let player = Player::expect();
    let clock = Memo::new(move |_| {
        let at = std::time::Duration::from_secs_f64(player.position_secs.get().max(0.0));
        when::text(recording.with(|it| it.started_at) + at, when::Style::Clock)
    });
    view! { <span class="muted wall-clock" title="Time of day at this position">{clock}</span> }
}

/// Copies a link to the position. Whoever opens it needs a sign-in of their own.
#[component]
fn ShareButton(recording: Signal<Recording>) -> impl IntoView {
    let player = Player::expect();
    let said = RwSignal::new("");
    let share = move |_| {
        let link = link_to_position(&recording.get_untracked(), player);
        spawn_local(async move {
            said.set(if to_clipboard(&link).await {
                "Link copied"
            } else {
                "Copying is not allowed"
            });
            set_timeout(move || said.set(""), std::time::Duration::from_secs(2));
        });
    };
    view! {
        <span role="status" class="said">{said}</span>
        <button type="button" class="quiet" on:click=share aria-label="Copy a link to this second">
            <Icon name="link" />
        </button>
    }
}

pub fn link_to_position(recording: &Recording, player: Player) -> String {
    let origin = window().location().origin().unwrap_or_default();
    let at = player.position_secs.get_untracked();
    format!("{origin}/recordings/{}?t={at:.1}", recording.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ruler_has_room_for_its_text() {
        for end in [0.0, 0.4, 7.0, 83.0, 3_600.0, 90_000.0, 400_000.0] {
            let lines = ruler_lines(end);
            assert!(!lines.is_empty() && lines.len() <= 10, "{end}: {lines:?}");
            assert!(lines.iter().all(|line| *line <= end), "{end}: {lines:?}");
        }
        assert_eq!(ruler_lines(50.0), [0.0, 10.0, 20.0, 30.0, 40.0]);
    }
}
