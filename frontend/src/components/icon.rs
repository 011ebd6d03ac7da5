//! Icons, by the name of their symbol in `index.html`.

use leptos::prelude::*;
use model::{Recording, Status};

use crate::text;

/// A picture beside a text; on its own it says nothing to a screen reader.
#[component]
pub fn Icon(#[prop(into)] name: Signal<&'static str>) -> impl IntoView {
    view! {
        <svg class="icon" aria-hidden="true" focusable="false">
            <use href=move || format!("#i-{}", name.get())></use>
        </svg>
    }
}

/// The state of a call: a glyph and its word.
#[component]
pub fn State(#[prop(into)] recording: Signal<Recording>) -> impl IntoView {
    let shown = move || recording.with(|it| (it.status, text::status(it.status, it.playable)));
    view! {
        <span class=move || format!("state state-{}", class(shown().0))>
            <Icon name=Signal::derive(move || shown().1.0) />
            {move || shown().1.1}
        </span>
    }
}

fn class(status: Status) -> &'static str {
    match status {
        Status::Recording => "live",
        Status::Finalizing => "moving",
        Status::Stored => "stored",
        Status::Partial => "partial",
        Status::Purging | Status::Deleted => "gone",
    }
}
