//! Listening to a call in progress: pieces of some seconds, each decoded by itself and begun where
//! the one before ends, on the clock of the sound card. So there is no gap between them.
//!
//! A piece is fetched while the one before plays. One that comes too late is begun at once, and
//! the listener is that much further behind.

use leptos::prelude::*;
use leptos::task::spawn_local;
use model::RecordingId;
use wasm_bindgen::{JsCast as _, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{AudioBuffer, AudioBufferSourceNode, AudioContext};

use crate::api::{self, ApiError, LivePiece};

/// The next piece is fetched when this much is left of what is there.
const FETCH_AHEAD_SECS: f64 = 3.0;
/// How long to wait when there is nothing new.
const WAIT_MS: i32 = 1_000;
/// What a sound card needs to begin.
const START_SECS: f64 = 0.1;

#[derive(Clone, Copy)]
pub struct Listener {
    /// The call that is listened to.
    pub call: RwSignal<Option<RecordingId>>,
    /// What is heard now, from the start of the call.
    pub at_secs: RwSignal<f64>,
    pub problem: RwSignal<Option<String>>,
    sound: StoredValue<Option<Sound>, LocalStorage>,
    /// Rises with every start and stop: what an earlier one fetched is not played any more.
    turn: StoredValue<u32>,
}

/// What is playing and what will.
struct Sound {
    context: AudioContext,
    pieces: Vec<Playing>,
}

/// A piece on the sound card's clock.
struct Playing {
    node: AudioBufferSourceNode,
    begins: f64,
    ends: f64,
    from_secs: f64,
}

impl Listener {
    pub fn new() -> Self {
        let listener = Self {
            call: RwSignal::new(None),
            at_secs: RwSignal::new(0.0),
            problem: RwSignal::new(None),
            sound: StoredValue::new_local(None),
            turn: StoredValue::new(0),
        };
        if let Ok(timer) = set_interval_with_handle(
            move || listener.follow(),
            std::time::Duration::from_millis(250),
        ) {
            on_cleanup(move || timer.clear());
        }
        on_cleanup(move || listener.stop());
        listener
    }

    /// Begins with the newest, or at `from_secs` of the call.
    pub fn start(self, call: RecordingId, from_secs: Option<f64>) {
        self.stop();
        self.call.set(Some(call));
        self.problem.set(None);
        let turn = self.turn.get_value();
        // Made within the click, without which browsers keep it silent.
        match AudioContext::new() {
            Ok(context) => self.sound.set_value(Some(Sound { context, pieces: Vec::new() })),
            Err(_) => {
                self.fail("This browser cannot play calls in progress.".to_owned());
                return;
            }
        }
        let from_ms = from_secs.map(|secs| (secs.max(0.0) * 1_000.0) as u64);
        spawn_local(async move { self.run(call, from_ms, turn).await });
    }

    pub fn stop(self) {
        self.turn.try_update_value(|turn| *turn += 1);
        if let Some(Some(sound)) = self.sound.try_update_value(Option::take) {
            let _ = sound.context.close();
        }
        self.call.try_set(None);
    }

    /// Goes back, or forward as far as there is something.
    pub fn skip(self, secs: f64) {
        if let Some(call) = self.call.get_untracked() {
            let at = self.at_secs.get_untracked() + secs;
            self.start(call, Some(at));
        }
    }

    fn fail(self, problem: String) {
        self.stop();
        self.problem.set(Some(problem));
    }

    fn is_over(self, turn: u32) -> bool {
        self.turn.try_get_value() != Some(turn)
    }

    async fn run(self, call: RecordingId, mut from_ms: Option<u64>, turn: u32) {
        loop {
            let piece = api::live_piece(call, from_ms).await;
            if self.is_over(turn) {
                return;
            }
            let wait_ms = match piece {
                Ok(LivePiece { audio: Some(audio), next_from_ms, from_ms: at, .. }) => {
                    from_ms = Some(next_from_ms);
                    match self.play(&audio, at, next_from_ms, turn).await {
                        Ok(left_secs) => ((left_secs - FETCH_AHEAD_SECS).max(0.0) * 1_000.0) as i32,
                        Err(_) if self.is_over(turn) => return,
                        Err(_) => {
                            self.fail("The audio could not be decoded here.".to_owned());
                            return;
                        }
                    }
                }
                Ok(LivePiece { is_going_on: true, next_from_ms, .. }) => {
                    from_ms = Some(next_from_ms);
                    WAIT_MS
                }
                Ok(_) => {
                    sleep((self.left_secs() * 1_000.0) as i32).await;
                    if !self.is_over(turn) {
                        self.stop();
                    }
                    return;
                }
                // A moment without the network: what is there plays on.
                Err(ApiError::Unreachable) => WAIT_MS,
                Err(error) => {
                    self.fail(error.to_string());
                    return;
                }
            };
            sleep(wait_ms).await;
            if self.is_over(turn) {
                return;
            }
        }
    }

    /// Puts a piece behind what is there; how many seconds are there now.
    async fn play(self, audio: &[u8], from_ms: u64, to_ms: u64, turn: u32) -> Result<f64, JsValue> {
        let context = self.sound.with_value(|sound| sound.as_ref().map(|it| it.context.clone()));
        let Some(context) = context else { return Err(JsValue::NULL) };
        let bytes = js_sys::Uint8Array::from(audio).buffer();
        let decoded = JsFuture::from(context.decode_audio_data(&bytes)?).await?;
        let buffer: AudioBuffer = decoded.dyn_into()?;
        if self.is_over(turn) {
            return Err(JsValue::NULL);
        }
        let length = (to_ms - from_ms) as f64 / 1_000.0;
        // Some decoders keep what only settles them; the piece is what comes last.
        let skipped = (buffer.duration() - length).max(0.0);
        let node = context.create_buffer_source()?;
        node.set_buffer(Some(&buffer));
        node.connect_with_audio_node(&context.destination())?;
        let now = context.current_time();
        let mut left = 0.0;
        self.sound.update_value(|sound| {
            let Some(sound) = sound else { return };
            let earliest = now + START_SECS;
            let begins = sound.pieces.last().map_or(earliest, |last| last.ends.max(earliest));
            let _ = node.start_with_when_and_grain_offset(begins, skipped);
            let ends = begins + buffer.duration() - skipped;
            sound.pieces.retain(|piece| piece.ends > now);
            let from_secs = from_ms as f64 / 1_000.0;
            sound.pieces.push(Playing { node, begins, ends, from_secs });
            left = ends - now;
        });
        Ok(left)
    }

    fn left_secs(self) -> f64 {
        self.sound.with_value(|sound| {
            let sound = sound.as_ref();
            let last = sound.and_then(|sound| Some((sound, sound.pieces.last()?.ends)));
            last.map_or(0.0, |(sound, ends)| (ends - sound.context.current_time()).max(0.0))
        })
    }

    /// Says where in the call the sound is.
    fn follow(self) {
        let at = self.sound.with_value(|sound| {
            let sound = sound.as_ref()?;
            let now = sound.context.current_time();
            let playing =
                sound.pieces.iter().find(|piece| (piece.begins..piece.ends).contains(&now))?;
            // A node that nobody holds may be collected while it plays.
            let _ = &playing.node;
            Some(playing.from_secs + now - playing.begins)
        });
        if let Some(at) = at {
            self.at_secs.set(at);
        }
    }
}

async fn sleep(ms: i32) {
    let promise = js_sys::Promise::new(&mut |resolve, _| {
        let _ = window().set_timeout_with_callback_and_timeout_and_arguments_0(&resolve, ms);
    });
    let _ = JsFuture::from(promise).await;
}
