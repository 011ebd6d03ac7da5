//! What stands before everything else. The address stays what it was, so that whoever follows a
//! link to a call is at that call after signing in.

use leptos::prelude::*;

use crate::components::icon::Icon;
use crate::components::sign_in::{NewPasswordForm, SignInForm};
use crate::screen::set_title;
use crate::session::Session;

#[component]
fn Card(title: &'static str, children: Children) -> impl IntoView {
    set_title(title);
    view! {
        <main class="card-page">
            <div class="card">
                <p class="brand">
                    <Icon name="brand" />
                    <span>"Linekeeper"</span>
                </p>
                <h1>{title}</h1>
                {children()}
            </div>
        </main>
    }
}

#[component]
pub fn SignInPage() -> impl IntoView {
    view! {
        <Card title="Sign in">
            <SignInForm />
        </Card>
    }
}

#[component]
pub fn NewPasswordPage() -> impl IntoView {
    let session = Session::expect();
    view! {
        <Card title="Choose a password">
            <p class="muted">
                "The password you signed in with was made by the system. Replace it to continue."
            </p>
            <NewPasswordForm />
            <button type="button" class="quiet" on:click=move |_| session.sign_out()>
                "Sign out"
            </button>
        </Card>
    }
}

#[component]
pub fn UnreachablePage() -> impl IntoView {
    let session = Session::expect();
    view! {
        <Card title="The server cannot be reached">
            <p class="muted">
                "The page is here and the server behind it does not answer. Calls may well be \
                 recorded all the same. Check that it is running, then try again."
            </p>
            <button type="button" class="primary" on:click=move |_| session.ask()>
                "Try again"
            </button>
        </Card>
    }
}
