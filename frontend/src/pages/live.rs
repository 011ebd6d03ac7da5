//! Calls in progress.

use std::time::Duration;

use leptos::prelude::*;
use leptos::task::spawn_local;
use model::api::Live;
use model::recording::flag;
use model::{Recording, RecordingId};

use crate::api::{self, ApiError};
use crate::components::icon::Icon;
use crate::components::recording_table::Time;
use crate::listen::Listener;
use crate::screen::set_title;
use crate::session::Session;
use crate::{text, when};

const POLL: Duration = Duration::from_secs(2);

/// A call that has ended stays this long, so that nobody wonders where it went.
const FAREWELL_MS: f64 = 10_000.0;

#[derive(Clone, Debug, PartialEq)]
struct LiveCall {
    recording: Recording,
    /// On [`when::monotonic_ms`].
    ended_ms: Option<f64>,
}

#[component]
pub fn LivePage() -> impl IntoView {
    set_title("Live");
    let session = Session::expect();
    let calls = RwSignal::new(None::<Vec<LiveCall>>);
    let problem = RwSignal::new(None::<ApiError>);
    // The server's clock minus ours that only goes forward: elapsed time must not depend on how
    // this machine's clock is set.
    let server_offset_ms = RwSignal::new(0.0);
    let fetch = move || {
        spawn_local(async move {
            let answer = session.checked(api::live()).await;
            match answer {
                Ok(live) => {
                    problem.try_set(None);
                    let now_ms = when::monotonic_ms();
                    server_offset_ms.try_set(live.now.unix_ms() as f64 - now_ms);
                    calls.try_update(|calls| {
                        *calls = Some(merge(calls.take().unwrap_or_default(), live, now_ms));
                    });
                }
                Err(error) => {
                    problem.try_set(Some(error));
                }
            }
        });
    };
    let listener = Listener::new();
    fetch();
    let poll = move || {
        if !document().hidden() && !session.has_expired() {
            fetch();
        }
    };
    if let Ok(timer) = set_interval_with_handle(poll, POLL) {
        on_cleanup(move || timer.clear());
    }
    let server_ms = RwSignal::new(0.0);
    let tick = move || server_ms.set(when::monotonic_ms() + server_offset_ms.get_untracked());
    Effect::new(move || {
        server_offset_ms.track();
        tick();
    });
    if let Ok(timer) = set_interval_with_handle(tick, Duration::from_secs(1)) {
        on_cleanup(move || timer.clear());
    }

    let active = Memo::new(move |_| calls.with(|calls| calls.as_deref().map(count_active)));
    let is_empty = move || calls.with(|calls| calls.as_ref().is_some_and(Vec::is_empty));
    view! {
        <div class="page live">
            <div class="page-head">
                <h1>"Live"</h1>
                <p role="status" class="count">
                    {move || match active.get() {
                        Some(number) => format!("{} in progress", text::count(number, "call")),
                        None => "Loading…".to_owned(),
                    }}
                </p>
            </div>
            <div role="alert">
                {move || problem.get().map(|error| view! {
                    <p class="banner"><Icon name="warning" /><span>{error.to_string()}</span></p>
                })}
            </div>
            <div role="alert">
                {move || listener.problem.get().map(|problem| view! {
                    <p class="banner"><Icon name="warning" /><span>{problem}</span></p>
                })}
            </div>
            <Show when=is_empty>
                <div class="empty">
                    <h2>"No call is in progress"</h2>
                    <p>"A call appears here within two seconds of its start."</p>
                </div>
            </Show>
            <Show when=move || calls.with(|calls| calls.as_ref().is_some_and(|it| !it.is_empty()))>
                <div class="list">
                    <LiveTable
                        calls=Signal::derive(move || calls.get().unwrap_or_default())
                        server_ms=server_ms.into()
                        listener
                    />
                </div>
            </Show>
        </div>
    }
}

fn count_active(calls: &[LiveCall]) -> u64 {
    calls.iter().filter(|call| call.ended_ms.is_none()).count() as u64
}

/// The calls in progress now, and for a moment those that have just ended, in their old places.
fn merge(shown: Vec<LiveCall>, live: Live, now_ms: f64) -> Vec<LiveCall> {
    let mut fresh = live.recordings;
    let mut merged = Vec::with_capacity(fresh.len());
    for call in shown {
        let again = fresh.iter().position(|recording| recording.id == call.recording.id);
        match (again, call.ended_ms) {
            (Some(at), _) => {
                merged.push(LiveCall { recording: fresh.remove(at), ended_ms: None });
            }
            (None, None) => merged.push(LiveCall { ended_ms: Some(now_ms), ..call }),
            (None, Some(ended_ms)) if now_ms - ended_ms < FAREWELL_MS => merged.push(call),
            (None, Some(_)) => {}
        }
    }
    merged.extend(fresh.into_iter().map(|recording| LiveCall { recording, ended_ms: None }));
    merged
}

#[component]
fn LiveTable(
    calls: Signal<Vec<LiveCall>>,
    server_ms: Signal<f64>,
    listener: Listener,
) -> impl IntoView {
    let ids =
        move || calls.with(|calls| calls.iter().map(|call| call.recording.id).collect::<Vec<_>>());
    view! {
        <table class="live-table">
            <caption class="hidden">"Calls in progress, oldest first"</caption>
            <thead>
                <tr>
                    <th scope="col" class="c-state">"State"</th>
                    <th scope="col" class="c-when">"Started"</th>
                    <th scope="col" class="c-length">"Elapsed"</th>
                    <th scope="col">"Participants"</th>
                    <th scope="col" class="c-tracks">"Tracks"</th>
                    <th scope="col" class="c-edge">"Recorder"</th>
                    <th scope="col" class="c-listen">"Listen"</th>
                </tr>
            </thead>
            <tbody>
                <For
                    each=ids
                    key=|id| *id
                    children=move |id| view! { <LiveRow id calls server_ms listener /> }
                />
            </tbody>
        </table>
    }
}

#[component]
fn LiveRow(
    id: RecordingId,
    calls: Signal<Vec<LiveCall>>,
    server_ms: Signal<f64>,
    listener: Listener,
) -> impl IntoView {
    let found = Memo::new(move |_| {
        calls.with(|calls| calls.iter().find(|call| call.recording.id == id).cloned())
    });
    let with = move |show: fn(&LiveCall) -> String| {
        found.with(|call| call.as_ref().map(show).unwrap_or_default())
    };
    let odd = move || {
        found.with(|call| call.as_ref().map(|it| of_sound(&it.recording)).unwrap_or_default())
    };
    let ended = move || found.with(|call| call.as_ref().is_some_and(|it| it.ended_ms.is_some()));
    let started_at = found.with_untracked(|call| call.as_ref().map(|it| it.recording.started_at));
    let elapsed = move || {
        let started_ms = started_at.map_or(0.0, |it| it.unix_ms() as f64);
        text::clock((server_ms.get() - started_ms) / 1_000.0)
    };
    view! {
        <tr class:ended=ended>
            <td class="c-state">
                <span class=move || if ended() { "state state-moving" } else { "state state-live" }>
                    <Icon name=Signal::derive(move || if ended() { "upload" } else { "live" }) />
                    {move || if ended() { "Ended" } else { "Recording" }}
                </span>
            </td>
            <th scope="row" class="c-when">
                <a href=format!("/recordings/{id}")>
                    {started_at.map(|time| view! { <Time time /> })}
                </a>
            </th>
            <td class="c-length">
                {move || if ended() { "–".to_owned() } else { elapsed() }}
            </td>
            <td class="c-party">
                {move || with(|call| text::parties(&call.recording))}
                <For each=odd key=|flag| flag.clone() children=|flag| view! {
                    <span class="chip" title=text::flag_sentence(&flag)>
                        {text::flag_label(&flag)}
                    </span>
                } />
            </td>
            <td class="c-tracks">{move || with(|call| codecs(&call.recording))}</td>
            <td class="c-edge">{move || with(|call| call.recording.edge.to_string())}</td>
            <td class="c-listen"><Listen id listener /></td>
        </tr>
    }
}

/// What may be wrong with the sound of a call: there is still somebody to be asked.
fn of_sound(recording: &Recording) -> Vec<String> {
    let is_of_sound = |name: &&String| flag::OF_SOUND.contains(&name.as_str());
    recording.flags.iter().filter(is_of_sound).cloned().collect()
}

/// Begins to listen to a call; then says where the sound is, and goes back or stops.
#[component]
fn Listen(id: RecordingId, listener: Listener) -> impl IntoView {
    let is_heard = Memo::new(move |_| listener.call.get() == Some(id));
    view! {
        <Show
            when=move || is_heard.get()
            fallback=move || view! {
                <button type="button" class="listen" on:click=move |_| listener.start(id, None)>
                    "Listen"
                </button>
            }
        >
            <button
                type="button"
                aria-label="Back 10 seconds"
                on:click=move |_| listener.skip(-10.0)
            >
                "−10 s"
            </button>
            <span class="listen-at">{move || text::clock(listener.at_secs.get())}</span>
            <button type="button" on:click=move |_| listener.stop()>"Stop"</button>
        </Show>
    }
}

/// `2 × PCMU`, or each codec once.
fn codecs(recording: &Recording) -> String {
    let mut codecs: Vec<(&str, usize)> = Vec::new();
    for track in &recording.tracks {
        match codecs.iter_mut().find(|(codec, _)| *codec == track.codec) {
            Some((_, number)) => *number += 1,
            None => codecs.push((&track.codec, 1)),
        }
    }
    let said: Vec<String> = codecs
        .into_iter()
        .map(
            |(codec, number)| {
                if number == 1 { codec.to_owned() } else { format!("{number} × {codec}") }
            },
        )
        .collect();
    if said.is_empty() { "–".to_owned() } else { said.join(", ") }
}

#[cfg(test)]
mod tests {
    use model::{EdgeId, Status, WallTime};

    use super::*;

    fn live(numbers: &[u8]) -> Live {
        let recording = |&number: &u8| Recording {
            id: RecordingId::at(1, [number; 10]),
            status: Status::Recording,
            started_at: WallTime::from_unix_ms(1),
            ended_at: None,
            duration_ms: None,
            edge: EdgeId::new("edge-1").unwrap(),
            call_ids: Vec::new(),
            participants: Vec::new(),
            tracks: Vec::new(),
            flags: Vec::new(),
            marks: Vec::new(),
            sha256: None,
            playable: false,
            end_reason: None,
        };
        Live { now: WallTime::from_unix_ms(2), recordings: numbers.iter().map(recording).collect() }
    }

    #[test]
    fn a_call_that_ended_says_goodbye_in_its_place() {
        let shown = merge(Vec::new(), live(&[1, 2]), 0.0);
        let shown = merge(shown, live(&[2, 3]), 1_000.0);
        let ids: Vec<_> = shown.iter().map(|call| call.recording.id).collect();
        let expected: Vec<_> = live(&[1, 2, 3]).recordings.iter().map(|it| it.id).collect();
        assert_eq!(ids, expected);
        assert_eq!(shown[0].ended_ms, Some(1_000.0));
        assert_eq!(count_active(&shown), 2);
        assert_eq!(merge(shown.clone(), live(&[2, 3]), 5_000.0).len(), 3);
        assert_eq!(merge(shown, live(&[2, 3]), 11_000.0).len(), 2);
    }
}
