//! What the screen is like, for what style sheets cannot decide.

use leptos::prelude::*;
use wasm_bindgen::JsCast;
use wasm_bindgen::closure::Closure;

#[derive(Clone, Copy)]
pub struct Screen {
    /// Rows of the list have two lines.
    pub narrow: ReadSignal<bool>,
    pub dark: ReadSignal<bool>,
    /// Changes whenever the window's size does.
    pub resized: ReadSignal<u32>,
}

impl Screen {
    /// Made once, above all pages: its listeners stay for as long as the page is open.
    pub fn provide() -> Self {
        let (resized, set_resized) = signal(0_u32);
        let _ = window_event_listener(leptos::ev::resize, move |_| {
            set_resized.update(|times| *times = times.wrapping_add(1));
        });
        let screen = Self {
            narrow: media_query("(max-width: 640px)"),
            dark: media_query("(prefers-color-scheme: dark)"),
            resized,
        };
        provide_context(screen);
        screen
    }

    pub fn expect() -> Self {
        expect_context()
    }
}

/// Names the page in the browser's tab and history. No names of callers: the history is kept on
/// a disk that is not ours.
pub fn set_title(page: &str) {
    document().set_title(&format!("{page} · Linekeeper"));
}

/// Moves the focus to the page, when what had it is gone with the page before.
pub fn focus_page() {
    request_animation_frame(|| {
        let main = document().get_element_by_id("main");
        if let Some(main) = main.and_then(|main| main.dyn_into::<web_sys::HtmlElement>().ok())
            && document().active_element().is_none_or(|focused| focused.tag_name() == "BODY")
        {
            let _ = main.focus();
        }
    });
}

fn media_query(query: &str) -> ReadSignal<bool> {
    let list = window().match_media(query).ok().flatten();
    let (matches, set_matches) = signal(list.as_ref().is_some_and(|list| list.matches()));
    if let Some(list) = list {
        let asked = list.clone();
        let changed = Closure::<dyn Fn()>::new(move || set_matches.set(asked.matches()));
        list.set_onchange(Some(changed.as_ref().unchecked_ref()));
        changed.forget();
    }
    matches
}
