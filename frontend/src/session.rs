//! Who is signed in. Every answer of the API passes here, because any of them can be the one that
//! says that the session has ended.

use std::future::Future;

use leptos::prelude::*;
use leptos::task::spawn_local;
use model::access::Permission;
use model::api::User;

use crate::api::{self, ApiError};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// The page has just been opened and the server not yet answered.
    Asking,
    Unreachable,
    SignedOut,
    SignedIn(User),
    /// Was signed in and is not any more; the page stays as it is beneath an overlay.
    Expired(User),
}

/// What to show, so that a page is not built anew when only details of the session change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    Asking,
    Unreachable,
    SignIn,
    NewPassword,
    Inside,
}

impl SessionState {
    fn gate(&self) -> Gate {
        match self {
            Self::Asking => Gate::Asking,
            Self::Unreachable => Gate::Unreachable,
            Self::SignedOut => Gate::SignIn,
            Self::SignedIn(user) if user.must_change_password => Gate::NewPassword,
            Self::SignedIn(_) | Self::Expired(_) => Gate::Inside,
        }
    }

    fn user(&self) -> Option<&User> {
        match self {
            Self::SignedIn(user) | Self::Expired(user) => Some(user),
            Self::Asking | Self::Unreachable | Self::SignedOut => None,
        }
    }

    /// The state after an answer that said that nobody is signed in.
    fn after_signed_out(&self) -> Self {
        match self {
            Self::SignedIn(user) if !user.must_change_password => Self::Expired(user.clone()),
            Self::Expired(user) => Self::Expired(user.clone()),
            Self::SignedIn(_) | Self::Asking | Self::Unreachable | Self::SignedOut => {
                Self::SignedOut
            }
        }
    }
}

#[derive(Clone, Copy)]
pub struct Session {
    state: RwSignal<SessionState>,
    pub gate: Memo<Gate>,
}

impl Session {
    /// Makes the session, asks the server who is signed in, and offers it to all below.
    pub fn provide() -> Self {
        let state = RwSignal::new(SessionState::Asking);
        let gate = Memo::new(move |_| state.with(SessionState::gate));
        let session = Self { state, gate };
        provide_context(session);
        session.ask();
        session
    }

    pub fn expect() -> Self {
        expect_context()
    }

    pub fn ask(self) {
        self.state.set(SessionState::Asking);
        spawn_local(async move {
            self.state.set(match api::current_session().await {
                Ok(answer) => SessionState::SignedIn(answer.user),
                Err(ApiError::Unreachable) => SessionState::Unreachable,
                Err(_) => SessionState::SignedOut,
            });
        });
    }

    /// Waits for an answer, and notices when it says that the session has ended.
    pub async fn checked<T>(
        self,
        answer: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T, ApiError> {
        let answer = answer.await;
        if matches!(answer, Err(ApiError::SignedOut)) {
            self.state.try_update(|state| *state = state.after_signed_out());
        }
        answer
    }

    pub fn signed_in(self, user: User) {
        let before = self.state.with_untracked(|state| match state {
            SessionState::Expired(before) => Some(before.login.clone()),
            _ => None,
        });
        if before.is_some_and(|before| before != user.login) {
            // Somebody else: what the page beneath shows is not theirs.
            let _ = window().location().reload();
            return;
        }
        self.state.set(SessionState::SignedIn(user));
    }

    pub fn password_changed(self) {
        self.state.update(|state| {
            if let SessionState::SignedIn(user) = state {
                user.must_change_password = false;
            }
        });
    }

    pub fn sign_out(self) {
        spawn_local(async move {
            // Leaving must work without a network too; the server forgets the session by itself.
            let _ = api::sign_out().await;
            self.state.set(SessionState::SignedOut);
        });
    }

    pub fn has_expired(self) -> bool {
        self.state.with(|state| matches!(state, SessionState::Expired(_)))
    }

    pub fn user(self) -> Option<User> {
        self.state.with(|state| state.user().cloned())
    }

    pub fn permits(self, permission: Permission) -> bool {
        self.state.with(|state| state.user().is_some_and(|user| user.role.permits(permission)))
    }
}

#[cfg(test)]
mod tests {
    use model::UserId;
    use model::access::Role;

    use super::*;

    fn user(must_change_password: bool) -> User {
        User { login: UserId::new("ana").unwrap(), role: Role::Supervisor, must_change_password }
    }

    #[test]
    fn an_expired_session_keeps_the_page_and_a_missing_one_does_not() {
        let expired = SessionState::SignedIn(user(false)).after_signed_out();
        assert_eq!(expired.gate(), Gate::Inside);
        assert_eq!(expired.after_signed_out(), expired);
        assert_eq!(SessionState::Asking.after_signed_out().gate(), Gate::SignIn);
    }

    #[test]
    fn a_given_out_password_opens_nothing() {
        let signed_in = SessionState::SignedIn(user(true));
        assert_eq!(signed_in.gate(), Gate::NewPassword);
        assert_eq!(signed_in.after_signed_out().gate(), Gate::SignIn);
    }
}
