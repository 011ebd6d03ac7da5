//! The application: what lives as long as the page does, and which page an address shows.

use leptos::prelude::*;
use leptos_router::components::{Redirect, Route, Router, Routes};
use leptos_router::path;

use crate::components::shell::Shell;
use crate::listing::Listing;
use crate::pages::call::CallPage;
use crate::pages::health::HealthPage;
use crate::pages::live::LivePage;
use crate::pages::recordings::RecordingsPage;
use crate::pages::sign_in::{NewPasswordPage, SignInPage, UnreachablePage};
use crate::player::{Player, PlayerElement};
use crate::screen::Screen;
use crate::session::{Gate, Session};
use crate::settings::Settings;

#[component]
pub fn App() -> impl IntoView {
    Settings::provide();
    Screen::provide();
    let session = Session::provide();
    view! {
        <Router>
            {move || match session.gate.get() {
                Gate::Asking => {
                    view! { <p role="status" class="loading">"Starting…"</p> }.into_any()
                }
                Gate::Unreachable => view! { <UnreachablePage /> }.into_any(),
                Gate::SignIn => view! { <SignInPage /> }.into_any(),
                Gate::NewPassword => view! { <NewPasswordPage /> }.into_any(),
                Gate::Inside => view! { <Inside /> }.into_any(),
            }}
        </Router>
    }
}

/// Everything for somebody who is signed in. Built anew for the next person: nothing of what one
/// saw or heard stays for another.
#[component]
fn Inside() -> impl IntoView {
    Player::provide();
    Listing::provide(Session::expect());
    view! {
        <PlayerElement />
        <Shell>
            <Routes fallback=|| view! { <NoSuchPage /> }>
                <Route path=path!("/") view=|| view! { <Redirect path="/recordings" /> } />
                <Route path=path!("/recordings") view=RecordingsPage />
                <Route path=path!("/recordings/:id") view=CallPage />
                <Route path=path!("/live") view=LivePage />
                <Route path=path!("/health") view=HealthPage />
            </Routes>
        </Shell>
    }
}

#[component]
fn NoSuchPage() -> impl IntoView {
    view! {
        <div class="page">
            <div class="empty">
                <h1>"There is no page at this address"</h1>
                <p><a href="/recordings">"All recordings"</a></p>
            </div>
        </div>
    }
}
