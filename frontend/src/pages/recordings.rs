//! The home page: find a call, and hear it without leaving the list.

use leptos::prelude::*;
use leptos_router::NavigateOptions;
use leptos_router::components::A;
use leptos_router::hooks::{use_navigate, use_query_map};
use model::access::Permission;

use crate::api::{self, ApiError};
use crate::components::dock::Dock;
use crate::components::filters::FilterBar;
use crate::components::icon::Icon;
use crate::components::recording_table::RecordingTable;
use crate::listing::{Listing, Progress};
use crate::screen::set_title;
use crate::search::{Filter, Since};
use crate::session::Session;
use crate::text;

#[component]
pub fn RecordingsPage() -> impl IntoView {
    set_title("Recordings");
    let session = Session::expect();
    let listing = Listing::expect();
    let query = use_query_map();
    let filter = Memo::new(move |_| query.with(|query| Filter::read(|name| query.get(name))));
    Effect::new(move || listing.show(filter.get()));
    listing.keep_fresh();

    let can_play = Signal::derive(move || session.permits(Permission::Play));
    let is_empty = Memo::new(move |_| listing.rows.with(Vec::is_empty));
    let searching = Memo::new(move |_| listing.progress.get() == Progress::Searching);
    view! {
        <div class="page recordings" class:refining=move || searching.get() && !is_empty.get()>
            <div class="page-head">
                <h1>"Recordings"</h1>
                <p role="status" class="count">{move || count(listing)}</p>
                <Freshness listing />
                <Arrived listing />
            </div>
            <FilterBar filter />
            <Problems listing />
            {move || match (is_empty.get(), listing.progress.get()) {
                (false, _) => None,
                (true, Progress::Idle) => {
                    Some(view! { <Nothing filter=filter.get() /> }.into_any())
                }
                (true, Progress::Searching | Progress::Continuing) => {
                    Some(view! { <Skeleton /> }.into_any())
                }
                (true, Progress::Failed(_) | Progress::Refused(_)) => None,
            }}
            <Show when=move || !is_empty.get()>
                <RecordingTable listing can_play />
            </Show>
            <Dock />
        </div>
    }
}

/// `342 calls`, or `100+ calls` while there is more: counting them all would cost as much as
/// reading them all.
fn count(listing: Listing) -> String {
    let number = listing.rows.with(Vec::len) as u64;
    match listing.progress.get() {
        Progress::Searching => "Searching…".to_owned(),
        Progress::Failed(_) | Progress::Refused(_) => String::new(),
        Progress::Idle | Progress::Continuing if listing.has_more() => {
            format!("{}+ calls", text::grouped(number))
        }
        Progress::Idle | Progress::Continuing => text::count(number, "call"),
    }
}

/// Whether what is shown is what is.
#[component]
fn Freshness(listing: Listing) -> impl IntoView {
    let fresh = listing.fresh;
    let says = move || if fresh.get() { "Up to date" } else { "Not up to date: no answer" };
    view! {
        <span class="freshness" class:stale=move || !fresh.get() title=says>
            <Icon name=Signal::derive(move || if fresh.get() { "dot" } else { "warning" }) />
            <span class="hidden">{says}</span>
        </span>
    }
}

#[component]
fn Problems(listing: Listing) -> impl IntoView {
    view! {
        <div role="alert">
            {move || match listing.progress.get() {
                Progress::Failed(error) => Some(view! {
                    <p class="banner">
                        <Icon name="warning" />
                        <span>{error.to_string()}</span>
                        <button type="button" on:click=move |_| listing.search_again()>
                            "Retry"
                        </button>
                    </p>
                }.into_any()),
                Progress::Refused(why) => Some(view! {
                    <p class="banner">
                        <Icon name="warning" />
                        <span>{why}</span>
                    </p>
                }.into_any()),
                Progress::Idle | Progress::Searching | Progress::Continuing => None,
            }}
        </div>
    }
}

/// New calls wait here, so that the list does not move under a finger.
#[component]
fn Arrived(listing: Listing) -> impl IntoView {
    let number = Memo::new(move |_| listing.arrived.with(Vec::len) as u64);
    view! {
        <div role="status" class="arrived">
            <Show when=move || number.get() != 0>
                <button type="button" on:click=move |_| listing.insert_arrived()>
                    {move || format!("Show {}", text::count(number.get(), "new call"))}
                </button>
            </Show>
        </div>
    }
}

/// Appears only after a moment (by the style sheet): a flash of grey is worse than nothing.
#[component]
fn Skeleton() -> impl IntoView {
    view! {
        <div class="skeleton" aria-hidden="true">
            {(0..8).map(|_| view! { <div></div> }).collect_view()}
        </div>
    }
}

/// Three different reasons for an empty list, with three different ways on.
#[component]
fn Nothing(filter: Filter) -> impl IntoView {
    let session = Session::expect();
    let narrows = !filter.is_only_a_range();
    let ever = LocalResource::new(move || session.checked(api::has_any_recording()));
    view! {
        {move || {
            let filter = filter.clone();
            ever.get().map(|ever| match ever {
                Err(ApiError::Forbidden) => view! { <NotForYou /> }.into_any(),
                Ok(false) if !narrows => view! { <FirstRun /> }.into_any(),
                _ => view! { <NoMatch filter /> }.into_any(),
            })
        }}
    }
}

#[component]
fn NotForYou() -> impl IntoView {
    view! {
        <div class="empty">
            <h2>"There are no calls that you may see"</h2>
            <p>"Your role shows you no recordings. An administrator can change that."</p>
        </div>
    }
}

#[component]
fn NoMatch(filter: Filter) -> impl IntoView {
    let navigate = use_navigate();
    let wider = Filter { from: Since::Minutes(30 * 24 * 60), to: None, ..filter.clone() };
    let unfiltered = Filter { q: String::new(), status: None, ..filter.clone() };
    let is_narrow = !filter.is_only_a_range();
    let is_widest = filter.from == wider.from && filter.to.is_none();
    let go = Callback::new(move |filter: Filter| {
        navigate(&filter.address(), NavigateOptions::default());
    });
    let term = filter.q.trim().to_owned();
    view! {
        <div class="empty">
            <h2>"No calls match"</h2>
            <p>
                {if term.is_empty() {
                    "Nothing was recorded in this range in this state.".to_owned()
                } else {
                    format!("Nothing in this range matches “{term}”.")
                }}
            </p>
            <p class="actions">
                {(!is_widest).then(|| view! {
                    <button type="button" on:click=move |_| go.run(wider.clone())>
                        "Widen to 30 days"
                    </button>
                })}
                {is_narrow.then(|| view! {
                    <button type="button" on:click=move |_| go.run(unfiltered.clone())>
                        "Clear search and state"
                    </button>
                })}
            </p>
        </div>
    }
}

/// What to do when nothing was ever recorded.
#[component]
fn FirstRun() -> impl IntoView {
    let host = window().location().hostname().unwrap_or_else(|_| "127.0.0.1".to_owned());
    view! {
        <div class="empty">
            <h2>"Nothing has been recorded yet"</h2>
            <p>
                "Point the session recording client (SRC) of your session border controller here, \
                 over UDP or TCP:"
            </p>
            <p><code class="address">{format!("sip:{host}:5060")}</code></p>
            <p class="muted">"(or the port that it was started with by --sip)"</p>
            <p>"Or place a test call with the client that comes with Linekeeper:"</p>
            <p><code class="address">"linekeeper call 127.0.0.1:5060"</code></p>
            <p class="muted">
                "The call appears here by itself, and under "
                <A href="/live">"Live"</A>
                " while it lasts."
            </p>
        </div>
    }
}
