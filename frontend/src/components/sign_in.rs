//! Signing in, and choosing a password of one's own.

use leptos::ev::SubmitEvent;
use leptos::html;
use leptos::prelude::*;
use leptos::task::spawn_local;

use crate::api::{self, ApiError};
use crate::components::icon::Icon;
use crate::session::Session;

/// The shortest password that the server accepts.
const SHORTEST_PASSWORD: usize = 12;

/// Login and password. Nothing stands in the way of a password manager or of pasting
/// (WCAG 2.2, 3.3.8).
#[component]
pub fn SignInForm(
    /// Whom to expect: set when a session has ended and the page beneath is somebody's.
    #[prop(optional)]
    login: String,
) -> impl IntoView {
    let session = Session::expect();
    let login_field = NodeRef::<html::Input>::new();
    let password_field = NodeRef::<html::Input>::new();
    let problem = RwSignal::new(None::<String>);
    let busy = RwSignal::new(false);
    let submit = move |event: SubmitEvent| {
        event.prevent_default();
        let (Some(login), Some(password)) = (login_field.get(), password_field.get()) else {
            return;
        };
        busy.set(true);
        problem.set(None);
        spawn_local(async move {
            let answer = api::sign_in(login.value().trim().to_owned(), password.value()).await;
            busy.set(false);
            match answer {
                Ok(answer) => session.signed_in(answer.user),
                Err(error) => {
                    problem.set(Some(explain(&error)));
                    password.select();
                }
            }
        });
    };
    view! {
        <form class="card-form" on:submit=submit>
            <label for="login">"Login"</label>
            <input
                id="login"
                node_ref=login_field
                prop:value=login
                autocomplete="username"
                autocapitalize="none"
                spellcheck="false"
                required
                autofocus
            />
            <label for="password">"Password"</label>
            <input
                id="password"
                node_ref=password_field
                type="password"
                autocomplete="current-password"
                required
            />
            <Problem text=problem />
            <button type="submit" class="primary" disabled=busy>
                {move || if busy.get() { "Signing in…" } else { "Sign in" }}
            </button>
        </form>
    }
}

/// One message for a wrong login and a wrong password: which of them it was is nobody's business.
fn explain(error: &ApiError) -> String {
    match error {
        ApiError::SignedOut | ApiError::Forbidden => {
            "Login and password do not match. Passwords tell capital letters from small ones."
                .to_owned()
        }
        ApiError::Unreachable => {
            "The server cannot be reached. Check that it is running, then try again.".to_owned()
        }
        other => other.to_string(),
    }
}

/// Replaces a password that the system gave out.
#[component]
pub fn NewPasswordForm() -> impl IntoView {
    let session = Session::expect();
    let current = NodeRef::<html::Input>::new();
    let new = NodeRef::<html::Input>::new();
    let again = NodeRef::<html::Input>::new();
    let problem = RwSignal::new(None::<String>);
    let busy = RwSignal::new(false);
    let submit = move |event: SubmitEvent| {
        event.prevent_default();
        let (Some(current), Some(new), Some(again)) = (current.get(), new.get(), again.get())
        else {
            return;
        };
        let (current, new) = (current.value(), new.value());
        if let Some(objection) = objection(&current, &new, &again.value()) {
            problem.set(Some(objection));
            return;
        }
        busy.set(true);
        problem.set(None);
        spawn_local(async move {
            let answer = session.checked(api::change_password(current, new)).await;
            busy.set(false);
            match answer {
                Ok(()) => session.password_changed(),
                Err(error @ (ApiError::Forbidden | ApiError::SignedOut)) => {
                    problem.set(Some(explain_change(&error)));
                }
                Err(error) => problem.set(Some(error.to_string())),
            }
        });
    };
    let login = session.user().map(|user| user.login.to_string()).unwrap_or_default();
    view! {
        <form class="card-form" on:submit=submit>
            // Tells password managers whose password this is.
            <input type="text" autocomplete="username" prop:value=login hidden readonly />
            <label for="current">"Password you were given"</label>
            <input
                id="current"
                node_ref=current
                type="password"
                autocomplete="current-password"
                required
                autofocus
            />
            <label for="new">"New password"</label>
            <input
                id="new"
                node_ref=new
                type="password"
                autocomplete="new-password"
                aria-describedby="new-hint"
                required
            />
            <p id="new-hint" class="hint">
                {format!("At least {SHORTEST_PASSWORD} characters. A few words are easy to keep.")}
            </p>
            <label for="again">"New password again"</label>
            <input id="again" node_ref=again type="password" autocomplete="new-password" required />
            <Problem text=problem />
            <button type="submit" class="primary" disabled=busy>
                {move || if busy.get() { "Saving…" } else { "Save and continue" }}
            </button>
        </form>
    }
}

fn explain_change(error: &ApiError) -> String {
    match error {
        ApiError::Forbidden => "The password you were given does not match.".to_owned(),
        other => other.to_string(),
    }
}

/// What can be said against a new password without asking the server.
fn objection(current: &str, new: &str, again: &str) -> Option<String> {
    if new.chars().count() < SHORTEST_PASSWORD {
        return Some(format!("The new password needs at least {SHORTEST_PASSWORD} characters."));
    }
    if new == current {
        return Some("The new password is the one you were given. Choose another.".to_owned());
    }
    (new != again).then(|| "The two new passwords differ.".to_owned())
}

/// What went wrong, read out when it appears.
#[component]
fn Problem(text: RwSignal<Option<String>>) -> impl IntoView {
    view! {
        <div role="alert">
            {move || {
                text.get().map(|text| view! {
                    <p class="problem"><Icon name="warning" />{text}</p>
                })
            }}
        </div>
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_password_is_long_new_and_typed_twice() {
        assert!(objection("given", "short", "short").is_some());
        assert!(objection("given-password", "given-password", "given-password").is_some());
        assert!(objection("given", "long enough now", "long enough new").is_some());
        assert_eq!(objection("given", "long enough now", "long enough now"), None);
        // Counted as people count, not in bytes.
        assert!(objection("given", "žluťoučký", "žluťoučký").is_some());
    }
}
