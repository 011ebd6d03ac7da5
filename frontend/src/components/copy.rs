//! A button that copies a text.

use std::time::Duration;

use leptos::prelude::*;
use leptos::task::spawn_local;
use wasm_bindgen_futures::JsFuture;

use crate::components::icon::Icon;

/// Copies `text`; says for two seconds that it did, or that the browser does not allow it.
#[component]
pub fn CopyButton(
    /// What is copied, for who cannot see what stands beside the button: `call id`.
    what: &'static str,
    #[prop(into)] text: Signal<String>,
) -> impl IntoView {
    let said = RwSignal::new("");
    let copy = move |_| {
        spawn_local(async move {
            said.set(if to_clipboard(&text.get_untracked()).await {
                "Copied"
            } else {
                "Not allowed"
            });
            set_timeout(move || said.set(""), Duration::from_secs(2));
        });
    };
    view! {
        <button type="button" class="quiet copy" on:click=copy aria-label=format!("Copy {what}")>
            <Icon name="copy" />
        </button>
        <span role="status" class="said">{said}</span>
    }
}

/// False where the browser has no clipboard for us: on plain HTTP, or when the person refused.
pub async fn to_clipboard(text: &str) -> bool {
    let navigator = window().navigator();
    let has_clipboard = js_sys::Reflect::get(&navigator, &"clipboard".into())
        .is_ok_and(|clipboard| clipboard.is_object());
    has_clipboard && JsFuture::from(navigator.clipboard().write_text(text)).await.is_ok()
}
