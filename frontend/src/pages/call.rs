//! One call: its sound, who was on it, how well it was received, and what proves it.

use std::time::Duration;

use leptos::prelude::*;
use leptos::task::spawn_local;
use leptos_router::NavigateOptions;
use leptos_router::hooks::{use_navigate, use_params_map, use_query_map};
use model::access::Permission;
use model::{Recording, RecordingId};

use crate::api::{self, ApiError};
use crate::components::copy::to_clipboard;
use crate::components::facts::{Flags, Identity, Participants, Quality, RawMetadata};
use crate::components::icon::{Icon, State};
use crate::components::marks::{MarkList, next_mark};
use crate::components::recording_table::Time;
use crate::components::timeline::{Timeline, link_to_position};
use crate::keys::on_shortcut;
use crate::listing::Listing;
use crate::player::Player;
use crate::screen::{focus_page, set_title};
use crate::session::Session;
use crate::settings::Settings;
use crate::when::Style;
use crate::{text, when};

/// How often a call that is not final yet is asked again.
const POLL: Duration = Duration::from_secs(1);

/// Reads the address; `/recordings/nonsense` is a page that says so.
#[component]
pub fn CallPage() -> impl IntoView {
    let params = use_params_map();
    let id = Memo::new(move |_| {
        params.with(|params| params.get("id")).and_then(|id| id.parse::<RecordingId>().ok())
    });
    move || match id.get() {
        Some(id) => view! { <Call id /> }.into_any(),
        None => view! { <Failed error=ApiError::NotFound /> }.into_any(),
    }
}

/// Fetches the call, and goes on until nothing about it can change by itself.
#[component]
fn Call(id: RecordingId) -> impl IntoView {
    let session = Session::expect();
    let recording = RwSignal::new(None::<Recording>);
    let problem = RwSignal::new(None::<ApiError>);
    let fetch = move || {
        spawn_local(async move {
            let answer = session.checked(api::recording(id)).await;
            // The page may be gone by now; then there is nobody to tell.
            match answer {
                Ok(fetched) => {
                    problem.try_set(None);
                    if recording.try_with_untracked(|old| old.as_ref() != Some(&fetched))
                        == Some(true)
                    {
                        recording.set(Some(fetched));
                    }
                }
                Err(error) => {
                    problem.try_set(Some(error));
                }
            }
        });
    };
    fetch();
    let poll = move || {
        let moving = recording.with_untracked(|it| it.as_ref().is_some_and(text::is_moving));
        let unreachable = problem.with_untracked(|it| *it == Some(ApiError::Unreachable));
        if (moving || unreachable) && !document().hidden() && !session.has_expired() {
            fetch();
        }
    };
    if let Ok(timer) = set_interval_with_handle(poll, POLL) {
        on_cleanup(move || timer.clear());
    }
    let known = Memo::new(move |_| recording.with(Option::is_some));
    view! {
        {move || problem.get().map(|error| view! { <Failed error /> })}
        <Show when=move || known.get()>
            <CallView recording=Signal::derive(move || {
                recording.get().expect("shown only once the call is known")
            }) />
        </Show>
        <Show when=move || !known.get() && problem.with(Option::is_none)>
            <p role="status" class="loading">"Loading the call…"</p>
        </Show>
    }
}

#[component]
fn Failed(error: ApiError) -> impl IntoView {
    let is_missing = error == ApiError::NotFound;
    view! {
        <div class="page">
            <div role="alert" class="empty">
                <h1>
                    {if is_missing { "There is no such call" } else { "This call cannot be shown" }}
                </h1>
                <p>
                    {if is_missing {
                        "It may have been deleted, or the link is incomplete.".to_owned()
                    } else {
                        error.to_string()
                    }}
                </p>
                <p><a href="/recordings">"All recordings"</a></p>
            </div>
        </div>
    }
}

/// Draws the call and the player; fetches the waveform once there is one.
#[component]
fn CallView(recording: Signal<Recording>) -> impl IntoView {
    let session = Session::expect();
    let player = Player::expect();
    let id = recording.with_untracked(|it| it.id);
    let started_at = recording.with_untracked(|it| it.started_at);
    set_title(&format!("Call, {}", when::text(started_at, Style::Row)));
    focus_page();
    let can_play =
        Memo::new(move |_| session.permits(Permission::Play) && recording.with(|it| it.playable));
    let peaks = LocalResource::new(move || {
        let playable = can_play.get();
        async move {
            if !playable {
                return None;
            }
            // Without a waveform the call can still be heard and sought in.
            session.checked(api::peaks(id)).await.ok()
        }
    });
    let peaks = Signal::derive(move || peaks.get().flatten());

    let query = use_query_map();
    let start = query.with_untracked(|query| query.get("t")).and_then(|t| t.parse::<f64>().ok());
    let started = StoredValue::new(false);
    Effect::new(move || {
        if can_play.get() {
            player.load(&recording.get());
            if let Some(start) = start.filter(|_| !started.get_value()) {
                player.seek(start);
            }
            started.set_value(true);
        }
    });
    use_player_keys(recording, can_play);
    view! {
        <article class="page call">
            <CallHead recording />
            <Show
                when=move || can_play.get()
                fallback=move || view! { <NotPlayable recording /> }
            >
                <Timeline recording peaks />
            </Show>
            <MarkList recording />
            <Flags recording />
            <div class="columns">
                <Participants recording />
                <Quality recording />
            </div>
            <Identity recording />
            <MetadataBlock id />
        </article>
    }
}

#[component]
fn CallHead(recording: Signal<Recording>) -> impl IntoView {
    let id = recording.with_untracked(|it| it.id);
    let started_at = recording.with_untracked(|it| it.started_at);
    let length = move || recording.with(|it| it.duration_ms.map(|ms| ms as f64 / 1_000.0));
    view! {
        <header class="call-head">
            <p class="crumbs">
                <a href=Listing::expect().address()>
                    <Icon name="left" />
                    "Recordings"
                </a>
                <span class="spread"></span>
                <Neighbour id step=-1 />
                <Neighbour id step=1 />
            </p>
            <h1>{move || recording.with(text::parties)}</h1>
            <p class="call-facts">
                <State recording />
                <Time time=started_at style=Style::Full />
                {move || length().map(|secs| view! { <span>{text::spoken(secs)}</span> })}
                {move || recording.with(|it| {
                    it.end_reason.as_deref().map(|reason| view! {
                        <span class="muted">{text::end_sentence(reason)}</span>
                    })
                })}
            </p>
        </header>
    }
}

/// To the call before or after this one in the list that it was opened from.
#[component]
fn Neighbour(id: RecordingId, step: isize) -> impl IntoView {
    let listing = Listing::expect();
    let there = listing.neighbour(id, step);
    there.map(|there| {
        let label = if step < 0 { "Previous call" } else { "Next call" };
        view! {
            <a
                class="quiet button"
                href=format!("/recordings/{there}")
                aria-label=label
                title=label
            >
                <Icon name=if step < 0 { "up" } else { "down" } />
            </a>
        }
    })
}

/// Says why there is nothing to hear yet, and turns into the player when there is.
#[component]
fn NotPlayable(recording: Signal<Recording>) -> impl IntoView {
    let session = Session::expect();
    let sentence = move || {
        if recording.with(|it| it.playable) && !session.permits(Permission::Play) {
            return "Your role may see this call and not listen to it.";
        }
        recording.with(text::status_sentence)
    };
    let moving = move || recording.with(text::is_moving);
    view! {
        <section class="player waiting-player" role="status">
            <p>
                {move || moving().then(|| view! { <span class="pulse" aria-hidden="true"></span> })}
                {sentence}
            </p>
        </section>
    }
}

/// The documents are fetched when somebody asks for them: reading them is an act of its own.
#[component]
fn MetadataBlock(id: RecordingId) -> impl IntoView {
    let opened = RwSignal::new(false);
    view! {
        <details class="block raw" on:toggle=move |_| opened.set(true)>
            <summary><h2>"SIPREC metadata as received"</h2></summary>
            <Show when=move || opened.get()>
                <FetchedMetadata id />
            </Show>
        </details>
    }
}

#[component]
fn FetchedMetadata(id: RecordingId) -> impl IntoView {
    let session = Session::expect();
    let metadata = LocalResource::new(move || session.checked(api::metadata(id)));
    view! {
        <Suspense fallback=|| view! { <p role="status">"Loading…"</p> }>
            {move || Suspend::new(async move {
                view! { <RawMetadata answer=metadata.await /> }
            })}
        </Suspense>
    }
}

/// The keys of the player, for as long as the call is shown.
fn use_player_keys(recording: Signal<Recording>, can_play: Memo<bool>) {
    let player = Player::expect();
    let listing = Listing::expect();
    let navigate = use_navigate();
    on_shortcut(Settings::expect(), move |key, shift| {
        let id = recording.with_untracked(|it| it.id);
        let to_call = |step| {
            if let Some(there) = listing.neighbour(id, step) {
                navigate(&format!("/recordings/{there}"), NavigateOptions::default());
            }
        };
        match key {
            "[" => to_call(-1),
            "]" => to_call(1),
            "Escape" => navigate(&listing.address(), NavigateOptions::default()),
            _ if can_play.get_untracked() => {
                return recording.with_untracked(|it| player_key(player, it, key, shift));
            }
            _ => return false,
        }
        true
    });
}

fn player_key(player: Player, recording: &Recording, key: &str, shift: bool) -> bool {
    let small_step = if shift { 15.0 } else { 1.0 };
    let to_mark = |step| {
        let at = player.position_secs.get_untracked();
        if let Some(start) = next_mark(recording, at, step) {
            player.seek(start);
        }
    };
    match key {
        " " | "k" => player.toggle(),
        "j" => player.skip(-5.0),
        "l" => player.skip(5.0),
        "ArrowLeft" => player.skip(-small_step),
        "ArrowRight" => player.skip(small_step),
        "," => to_mark(-1),
        "." => to_mark(1),
        "<" => player.change_speed(-1),
        ">" => player.change_speed(1),
        "m" => player.toggle_mute(),
        "0" => player.seek(0.0),
        "y" => {
            let link = link_to_position(recording, player);
            spawn_local(async move {
                to_clipboard(&link).await;
            });
        }
        _ => return false,
    }
    true
}
