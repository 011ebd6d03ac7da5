//! What a person set for this browser. Kept in local storage; where that is forbidden, for as
//! long as the page is open.

use leptos::prelude::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Theme {
    Auto,
    Light,
    Dark,
}

impl Theme {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }

    fn parse(text: &str) -> Self {
        match text {
            "light" => Self::Light,
            "dark" => Self::Dark,
            _ => Self::Auto,
        }
    }

    pub fn next(self) -> Self {
        match self {
            Self::Auto => Self::Light,
            Self::Light => Self::Dark,
            Self::Dark => Self::Auto,
        }
    }
}

#[derive(Clone, Copy)]
pub struct Settings {
    pub theme: RwSignal<Theme>,
    /// Shortcuts of one key can get in the way of speech input (WCAG 2.2, 2.1.4).
    pub single_keys: RwSignal<bool>,
}

impl Settings {
    pub fn provide() -> Self {
        let theme = RwSignal::new(Theme::parse(&stored("theme").unwrap_or_default()));
        let single_keys = RwSignal::new(stored("keys").as_deref() != Some("off"));
        Effect::new(move || {
            let theme = theme.get();
            store("theme", theme.as_str());
            // boot.js reads the same entry, so that the first paint has the right colours.
            if let Some(root) = document().document_element() {
                let _ = root.set_attribute("data-theme", theme.as_str());
            }
        });
        Effect::new(move || store("keys", if single_keys.get() { "on" } else { "off" }));
        let settings = Self { theme, single_keys };
        provide_context(settings);
        settings
    }

    pub fn expect() -> Self {
        expect_context()
    }
}

pub fn stored(name: &str) -> Option<String> {
    let storage = window().local_storage().ok().flatten()?;
    storage.get_item(&format!("linekeeper.{name}")).ok().flatten()
}

pub fn store(name: &str, value: &str) {
    if let Ok(Some(storage)) = window().local_storage() {
        // A full or forbidden storage forgets the setting when the page closes, nothing worse.
        let _ = storage.set_item(&format!("linekeeper.{name}"), value);
    }
}
