//! What happened during the call: on the axis for the eye, as a list of buttons for everybody.

use leptos::prelude::*;
use model::recording::{Mark, MarkKind};
use model::{Recording, Track};

use crate::components::icon::Icon;
use crate::components::seek::percent;
use crate::player::Player;
use crate::text;

/// The row of marks above the lanes. The list below says the same, so this is for the eye only.
#[component]
pub fn MarkAxis(#[prop(into)] recording: Signal<Recording>) -> impl IntoView {
    let player = Player::expect();
    let marks = move || recording.with(|it| it.marks.clone());
    view! {
        <div class="marks-axis" aria-hidden="true">
            {move || {
                marks()
                    .into_iter()
                    .map(|mark| {
                        let from_secs = mark.from_ms as f64 / 1_000.0;
                        let to_secs = mark.to_ms as f64 / 1_000.0;
                        let end = move || player.duration_secs.get();
                        let (icon, label) = text::mark_kind(mark.kind);
                        let class = format!("mark mark-{}", class(mark.kind));
                        view! {
                            <div
                                class=class
                                title=label
                                style=("--from", move || percent(from_secs, end()))
                                style=("--to", move || percent(to_secs, end()))
                                on:click=move |_| player.seek(from_secs)
                            >
                                <Icon name=icon />
                            </div>
                        }
                    })
                    .collect_view()
            }}
        </div>
    }
}

#[component]
pub fn MarkList(#[prop(into)] recording: Signal<Recording>) -> impl IntoView {
    let player = Player::expect();
    let items = move || {
        recording.with(|it| {
            it.marks
                .iter()
                .map(|mark| (mark.kind, mark.from_ms as f64 / 1_000.0, describe(it, mark)))
                .collect::<Vec<_>>()
        })
    };
    let can_seek = move || recording.with(|it| it.playable);
    view! {
        <Show when=move || recording.with(|it| !it.marks.is_empty())>
            <section class="block" aria-labelledby="marks-title">
                <h2 id="marks-title">"Marks"</h2>
                <ol class="mark-list">
                    {move || {
                        items()
                            .into_iter()
                            .map(|(kind, at, (when, what))| view! {
                                <li>
                                    <button
                                        type="button"
                                        disabled=move || !can_seek()
                                        on:click=move |_| player.seek(at)
                                    >
                                        <span class=format!("mark-glyph mark-{}", class(kind))>
                                            <Icon name=text::mark_kind(kind).0 />
                                        </span>
                                        <span class="mark-when">{when}</span>
                                        <span>{what}</span>
                                    </button>
                                </li>
                            })
                            .collect_view()
                    }}
                </ol>
            </section>
        </Show>
    }
}

fn class(kind: MarkKind) -> &'static str {
    text::mark_kind(kind).0
}

/// When, and what: `0:33–0:51`, `On hold, Ana`.
fn describe(recording: &Recording, mark: &Mark) -> (String, String) {
    let from = text::clock(mark.from_ms as f64 / 1_000.0);
    let to = text::clock(mark.to_ms as f64 / 1_000.0);
    let when = if from == to { from } else { format!("{from}–{to}") };
    let mut what = text::mark_kind(mark.kind).1.to_owned();
    if mark.kind == MarkKind::Gap {
        what.push_str(&format!(" for {}", length(mark.to_ms.saturating_sub(mark.from_ms))));
    }
    if let Some((number, track)) = track(recording, mark) {
        what.push_str(&format!(", {}", text::track_name(recording, number, track)));
    }
    if let Some(detail) = &mark.detail {
        what.push_str(&format!(" ({detail})"));
    }
    (when, what)
}

fn track<'a>(recording: &'a Recording, mark: &Mark) -> Option<(usize, &'a Track)> {
    let number = mark.track?;
    recording.tracks.get(number).map(|track| (number, track))
}

/// `140 ms`, `2.5 s`.
fn length(ms: u64) -> String {
    if ms < 1_000 { format!("{ms} ms") } else { format!("{:.1} s", ms as f64 / 1_000.0) }
}

/// The start of the mark before (-1) or after (1) a position, to jump to.
pub fn next_mark(recording: &Recording, at_secs: f64, step: isize) -> Option<f64> {
    let starts = recording.marks.iter().map(|mark| mark.from_ms as f64 / 1_000.0);
    if step > 0 {
        starts.filter(|start| *start > at_secs + 0.05).reduce(f64::min)
    } else {
        // Pressed twice in a row it must leave the mark it stands on.
        starts.filter(|start| *start < at_secs - 1.0).reduce(f64::max)
    }
}

#[test]
fn a_short_gap_is_told_in_milliseconds() {
    assert_eq!(length(140), "140 ms");
    assert_eq!(length(2_500), "2.5 s");
}
