//! The one player of the page: a hidden audio element and what is known about it.
//!
//! It lives above the pages, so that a call goes on playing while somebody walks from the list to
//! the call and back. The element's own controls are not shown: two clocks and two seek bars for
//! one sound would be one too many.

use leptos::html;
use leptos::prelude::*;
use leptos::task::spawn_local;
use model::{Recording, RecordingId};
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::JsFuture;
use web_sys::{HtmlAudioElement, MediaError};

use crate::api;
use crate::settings::{store, stored};

/// How fast a call can be played.
pub const SPEEDS: [f64; 7] = [0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0];

#[derive(Clone, Copy)]
pub struct Player {
    audio: NodeRef<html::Audio>,
    /// The call in the player.
    pub loaded: RwSignal<Option<Recording>>,
    pub position_secs: RwSignal<f64>,
    pub duration_secs: RwSignal<f64>,
    pub playing: RwSignal<bool>,
    /// Playing, but the network is behind.
    pub waiting: RwSignal<bool>,
    pub speed: RwSignal<f64>,
    pub muted: RwSignal<bool>,
    pub problem: RwSignal<Option<String>>,
    /// A second failure without sound between is said; the first is tried again, because the
    /// address of the audio may have run out while the call was paused.
    retried: StoredValue<bool>,
}

impl Player {
    pub fn provide() -> Self {
        let speed = stored("speed").and_then(|speed| speed.parse().ok());
        let player = Self {
            audio: NodeRef::new(),
            loaded: RwSignal::new(None),
            position_secs: RwSignal::new(0.0),
            duration_secs: RwSignal::new(0.0),
            playing: RwSignal::new(false),
            waiting: RwSignal::new(false),
            speed: RwSignal::new(speed.filter(|speed| SPEEDS.contains(speed)).unwrap_or(1.0)),
            muted: RwSignal::new(false),
            problem: RwSignal::new(None),
            retried: StoredValue::new(false),
        };
        provide_context(player);
        player
    }

    pub fn expect() -> Self {
        expect_context()
    }

    /// `None` also once the player is gone: frames and events of the browser come after it.
    fn element(self) -> Option<HtmlAudioElement> {
        self.audio.try_get_untracked().flatten()
    }

    pub fn loaded_id(self) -> Option<RecordingId> {
        self.loaded.with(|loaded| loaded.as_ref().map(|recording| recording.id))
    }

    /// Puts a call into the player. The one that is there already stays where it is.
    pub fn load(self, recording: &Recording) {
        if untrack(|| self.loaded_id()) == Some(recording.id) {
            self.loaded.set(Some(recording.clone()));
            return;
        }
        self.loaded.set(Some(recording.clone()));
        self.position_secs.set(0.0);
        self.duration_secs.set(recording.duration_ms.unwrap_or(0) as f64 / 1_000.0);
        self.problem.set(None);
        self.retried.set_value(false);
        if let Some(audio) = self.element() {
            audio.set_src(&api::audio_url(recording.id));
            audio.set_default_playback_rate(self.speed.get_untracked());
            audio.set_playback_rate(self.speed.get_untracked());
        }
    }

    /// Takes the call out of the player.
    pub fn close(self) {
        if let Some(audio) = self.element() {
            let _ = audio.pause();
            let _ = audio.remove_attribute("src");
            audio.load();
        }
        self.playing.set(false);
        self.waiting.set(false);
        self.loaded.set(None);
    }

    pub fn play(self) {
        let Some(audio) = self.element() else { return };
        self.problem.set(None);
        let Ok(started) = audio.play() else { return };
        spawn_local(async move {
            // Refused when the browser wants a click first; what is wrong with the audio itself
            // arrives as an `error` event.
            if let Err(error) = JsFuture::from(started).await
                && is_not_allowed(&error)
            {
                self.problem.set(Some("The browser waits for you to press Play.".to_owned()));
            }
        });
    }

    pub fn toggle(self) {
        if self.playing.get_untracked() {
            if let Some(audio) = self.element() {
                let _ = audio.pause();
            }
        } else {
            self.play();
        }
    }

    /// Loads and plays; pauses when it is what plays already.
    pub fn toggle_call(self, recording: &Recording) {
        if untrack(|| self.loaded_id()) == Some(recording.id) {
            self.toggle();
        } else {
            self.load(recording);
            self.play();
        }
    }

    pub fn seek(self, seconds: f64) {
        let end = self.duration_secs.get_untracked();
        let seconds = seconds.clamp(0.0, end.max(0.0));
        self.position_secs.set(seconds);
        if let Some(audio) = self.element() {
            audio.set_current_time(seconds);
        }
    }

    pub fn skip(self, seconds: f64) {
        self.seek(self.position_secs.get_untracked() + seconds);
    }

    pub fn set_speed(self, speed: f64) {
        self.speed.set(speed);
        store("speed", &speed.to_string());
        if let Some(audio) = self.element() {
            audio.set_playback_rate(speed);
        }
    }

    /// One step faster (1) or slower (-1).
    pub fn change_speed(self, step: isize) {
        let now = SPEEDS.iter().position(|&speed| speed == self.speed.get_untracked());
        let next = now.and_then(|at| at.checked_add_signed(step)).and_then(|at| SPEEDS.get(at));
        if let Some(&speed) = next {
            self.set_speed(speed);
        }
    }

    pub fn toggle_mute(self) {
        let muted = !self.muted.get_untracked();
        self.muted.set(muted);
        if let Some(audio) = self.element() {
            audio.set_muted(muted);
        }
    }

    fn learn_duration(self) {
        let known = self.element().map_or(f64::NAN, |audio| audio.duration());
        if known.is_finite() && known > 0.0 {
            self.duration_secs.set(known);
        }
    }

    fn learn_position(self) {
        if let Some(audio) = self.element() {
            self.position_secs.set(audio.current_time());
        }
    }

    /// `timeupdate` comes four times a second, which is a stuttering playhead.
    fn follow(self) {
        if self.playing.try_get_untracked() == Some(true) {
            self.learn_position();
            request_animation_frame(move || self.follow());
        }
    }

    fn started(self) {
        self.waiting.set(false);
        self.retried.set_value(false);
        if self.playing.try_get_untracked() == Some(false) {
            self.playing.set(true);
            self.follow();
        }
    }

    fn failed(self) {
        let Some(audio) = self.element() else { return };
        let Some(error) = audio.error() else { return };
        let was_playing = self.playing.get_untracked();
        if !self.retried.get_value() {
            self.retried.set_value(true);
            let at = self.position_secs.get_untracked();
            audio.load();
            audio.set_current_time(at);
            if was_playing {
                self.play();
            }
            return;
        }
        self.playing.set(false);
        self.waiting.set(false);
        self.problem.set(Some(explain(&error).to_owned()));
    }
}

fn is_not_allowed(error: &JsValue) -> bool {
    js_sys::Reflect::get(error, &"name".into())
        .is_ok_and(|name| name.as_string().as_deref() == Some("NotAllowedError"))
}

fn explain(error: &MediaError) -> &'static str {
    match error.code() {
        MediaError::MEDIA_ERR_NETWORK => {
            "The connection broke while the audio was loading. Press Play to go on."
        }
        MediaError::MEDIA_ERR_DECODE => {
            "The audio could not be decoded here. Download it as WAV instead."
        }
        _ => "The audio could not be fetched. Press Play to try again, or download it as WAV.",
    }
}

/// The element that makes the sound. Shown nowhere, so it has no place in the pages.
#[component]
pub fn PlayerElement() -> impl IntoView {
    let player = Player::expect();
    view! {
        <audio
            node_ref=player.audio
            preload="metadata"
            hidden
            on:loadedmetadata=move |_| {
                player.learn_duration();
                if let Some(audio) = player.element() {
                    audio.set_playback_rate(player.speed.get_untracked());
                }
            }
            on:durationchange=move |_| player.learn_duration()
            on:playing=move |_| player.started()
            on:pause=move |_| player.playing.set(false)
            on:ended=move |_| {
                player.playing.set(false);
                player.learn_position();
            }
            on:waiting=move |_| player.waiting.set(true)
            on:seeked=move |_| player.learn_position()
            on:error=move |_| player.failed()
        ></audio>
    }
}
