//! Which key presses are shortcuts.

use leptos::prelude::*;
use wasm_bindgen::JsCast;
use web_sys::{Element, KeyboardEvent};

use crate::settings::Settings;

/// The key, if it is a shortcut: not typed into a field, not meant for the element that has the
/// focus, not for the browser, not beneath a dialog.
pub fn shortcut(event: &KeyboardEvent, settings: Settings) -> Option<String> {
    let key = event.key();
    let target = event.target().and_then(|target| target.dyn_into::<Element>().ok());
    let element = target.as_ref().map(Element::tag_name).unwrap_or_default();
    let modified = event.ctrl_key() || event.meta_key() || event.alt_key();
    if event.default_prevented() || modified || !is_ours(&key, &element) {
        return None;
    }
    if is_character(&key) && !settings.single_keys.get_untracked() {
        return None;
    }
    let beneath_dialog = document().query_selector("dialog[open]").ok().flatten().is_some();
    (!beneath_dialog).then_some(key)
}

/// Whether an element of this kind leaves the key to us.
fn is_ours(key: &str, element: &str) -> bool {
    match element {
        "INPUT" | "TEXTAREA" | "SELECT" => key == "Escape",
        "BUTTON" | "SUMMARY" => !matches!(key, " " | "Enter"),
        // A link does nothing on Space, and a row of the list plays.
        "A" => key != "Enter",
        _ => true,
    }
}

fn is_character(key: &str) -> bool {
    key != " " && key.chars().count() == 1
}

/// Calls `handle` with each shortcut for as long as the component that calls this is shown.
/// `handle` says whether the key did something; then the browser does not act on it too.
pub fn on_shortcut(settings: Settings, handle: impl Fn(&str, bool) -> bool + 'static) {
    let listener = window_event_listener(leptos::ev::keydown, move |event| {
        if let Some(key) = shortcut(&event, settings)
            && handle(&key, event.shift_key())
        {
            event.prevent_default();
        }
    });
    on_cleanup(move || listener.remove());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_is_not_a_shortcut() {
        for element in ["INPUT", "TEXTAREA", "SELECT"] {
            assert!(!is_ours("j", element));
            assert!(!is_ours(" ", element));
        }
        assert!(!is_ours(" ", "BUTTON"));
        assert!(is_ours("j", "BUTTON"));
        assert!(is_ours(" ", "A"));
        assert!(!is_ours("Enter", "A"));
    }

    #[test]
    fn only_characters_can_be_switched_off() {
        assert!(is_character("j") && is_character("?"));
        assert!(!is_character("ArrowDown") && !is_character(" "));
    }
}
