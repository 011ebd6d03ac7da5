//! What stands around every page: the rail, the top bar, and the overlay of an ended session.

use std::time::Duration;

use leptos::ev::SubmitEvent;
use leptos::html;
use leptos::prelude::*;
use leptos_router::NavigateOptions;
use leptos_router::components::A;
use leptos_router::hooks::{use_location, use_navigate, use_query_map};
use model::RecordingId;
use model::access::Permission;

use crate::components::help::HelpDialog;
use crate::components::icon::Icon;
use crate::components::sign_in::SignInForm;
use crate::keys::on_shortcut;
use crate::search::Filter;
use crate::session::Session;
use crate::settings::{Settings, Theme};
use crate::when;

/// How long after `g` the second key of a pair may come.
const PAIR_MS: f64 = 1_000.0;

/// The address is changed this long after the last key, so that not every letter is a search.
const TYPING_PAUSE: Duration = Duration::from_millis(250);

#[component]
pub fn Shell(children: Children) -> impl IntoView {
    let settings = Settings::expect();
    let help = RwSignal::new(false);
    let search = NodeRef::<html::Input>::new();
    let navigate = use_navigate();
    let g_pressed_ms = StoredValue::new(f64::NEG_INFINITY);
    on_shortcut(settings, move |key, _| {
        let is_pair = when::monotonic_ms() - g_pressed_ms.get_value() < PAIR_MS;
        g_pressed_ms.set_value(f64::NEG_INFINITY);
        match key {
            "r" if is_pair => navigate("/recordings", NavigateOptions::default()),
            "l" if is_pair => navigate("/live", NavigateOptions::default()),
            "h" if is_pair => navigate("/health", NavigateOptions::default()),
            "g" => g_pressed_ms.set_value(when::monotonic_ms()),
            "?" => help.set(true),
            "/" => {
                if let Some(field) = search.get_untracked() {
                    let _ = field.focus();
                    field.select();
                }
            }
            _ => return false,
        }
        true
    });
    view! {
        <a class="skip" href="#main">"Skip to the page"</a>
        <div class="shell">
            <Rail />
            <header class="top">
                <SearchBox field=search />
                <span class="zone" title="Times are shown in this zone">{when::zone()}</span>
                <button
                    type="button"
                    class="quiet"
                    aria-label="Keyboard shortcuts"
                    on:click=move |_| help.set(true)
                >
                    <Icon name="keys" />
                </button>
                <ThemeButton />
                <UserMenu />
            </header>
            <main id="main" tabindex="-1">{children()}</main>
        </div>
        <HelpDialog open=help />
        <ExpiredDialog />
    }
}

#[component]
fn Rail() -> impl IntoView {
    let session = Session::expect();
    view! {
        <nav class="rail" aria-label="Pages">
            <div class="brand">
                <Icon name="brand" />
                <span>"Linekeeper"</span>
            </div>
            <A href="/recordings">
                <Icon name="list" />
                <span>"Recordings"</span>
            </A>
            <Show when=move || session.permits(Permission::Live)>
                <A href="/live">
                    <Icon name="live" />
                    <span>"Live"</span>
                </A>
            </Show>
            <Show when=move || session.permits(Permission::System)>
                <A href="/health">
                    <Icon name="health" />
                    <span>"Health"</span>
                </A>
            </Show>
        </nav>
    }
}

/// Searches as somebody types when the list is shown, on Enter from anywhere else.
#[component]
fn SearchBox(field: NodeRef<html::Input>) -> impl IntoView {
    let query = use_query_map();
    let location = use_location();
    let navigate = use_navigate();
    let on_list = move || location.pathname.with(|path| path == "/recordings");
    let filter = move || query.with(|query| Filter::read(|name| query.get(name)));
    let text = Memo::new(move |_| if on_list() { filter().q } else { String::new() });
    // The address follows the field while somebody types; the other way round only when the
    // address changed by itself, or the text would jump back under the fingers.
    Effect::new(move || {
        let text = text.get();
        if let Some(field) = field.get()
            && field.value().trim() != text
        {
            field.set_value(&text);
        }
    });
    let go = {
        let navigate = navigate.clone();
        move |replace: bool| {
            let Some(field) = field.get_untracked() else { return };
            let q = field.value().trim().to_owned();
            let known = if untrack(on_list) { untrack(filter) } else { Filter::default() };
            let options = NavigateOptions { replace, scroll: false, ..Default::default() };
            navigate(&Filter { q, ..known }.address(), options);
        }
    };
    let search_typed = {
        let go = go.clone();
        leptos::leptos_dom::helpers::debounce(TYPING_PAUSE, move |()| {
            if untrack(on_list) {
                go(true);
            }
        })
    };
    let mut search_typed = search_typed;
    let submit = move |event: SubmitEvent| {
        event.prevent_default();
        let q = field.get_untracked().map(|field| field.value()).unwrap_or_default();
        // Whoever pastes the id of a recording wants that recording.
        match q.trim().parse::<RecordingId>() {
            Ok(id) => navigate(&format!("/recordings/{id}"), NavigateOptions::default()),
            Err(_) => go(false),
        }
    };
    view! {
        <form role="search" class="search" on:submit=submit>
            <Icon name="search" />
            <input
                node_ref=field
                type="search"
                aria-label="Search calls by name, number or call id"
                placeholder="Search by name, number or call id"
                autocomplete="off"
                spellcheck="false"
                on:input=move |_| search_typed(())
                on:keydown=move |event| {
                    if event.key() == "Escape" && let Some(field) = field.get_untracked() {
                        let _ = field.blur();
                    }
                }
            />
            <kbd aria-hidden="true">"/"</kbd>
        </form>
    }
}

#[component]
fn ThemeButton() -> impl IntoView {
    let theme = Settings::expect().theme;
    let says = move || match theme.get() {
        Theme::Auto => ("theme-auto", "Colours: as the system"),
        Theme::Light => ("theme-light", "Colours: light"),
        Theme::Dark => ("theme-dark", "Colours: dark"),
    };
    view! {
        <button
            type="button"
            class="quiet"
            aria-label=move || says().1
            title=move || says().1
            on:click=move |_| theme.update(|theme| *theme = theme.next())
        >
            <Icon name=Signal::derive(move || says().0) />
        </button>
    }
}

#[component]
fn UserMenu() -> impl IntoView {
    let session = Session::expect();
    let who = move || session.user().map(|user| user.login.to_string()).unwrap_or_default();
    let role = move || session.user().map(|user| user.role.as_str()).unwrap_or_default();
    view! {
        <details class="menu">
            <summary>
                <Icon name="user" />
                <span class="who">{who}</span>
            </summary>
            <div class="menu-body">
                <p>
                    <strong>{who}</strong>
                    <br />
                    <span class="muted">{role}</span>
                </p>
                <button type="button" on:click=move |_| session.sign_out()>
                    "Sign out"
                </button>
            </div>
        </details>
    }
}

/// Lies over the page when the session has ended. The page keeps its state, and the player its
/// place, until the same person has signed in again.
#[component]
fn ExpiredDialog() -> impl IntoView {
    let session = Session::expect();
    let dialog = NodeRef::<html::Dialog>::new();
    Effect::new(move || {
        let Some(dialog) = dialog.get() else { return };
        if session.has_expired() && !dialog.open() {
            let _ = dialog.show_modal();
        } else if !session.has_expired() {
            dialog.close();
        }
    });
    let login = move || session.user().map(|user| user.login.to_string()).unwrap_or_default();
    view! {
        <dialog
            node_ref=dialog
            aria-labelledby="expired-title"
            // Escape would leave a page on which nothing works.
            on:cancel=move |event: leptos::ev::Event| event.prevent_default()
        >
            <h2 id="expired-title">"Your session has ended"</h2>
            <p class="muted">"Sign in to go on where you were."</p>
            <Show when=move || session.has_expired()>
                <SignInForm login=login() />
            </Show>
        </dialog>
    }
}
