//! Range and state of the list. Every change is a new address, and nothing else.

use leptos::prelude::*;
use leptos_router::NavigateOptions;
use leptos_router::hooks::use_navigate;
use model::Status;

use crate::search::{Filter, PRESETS, Since};
use crate::when;

#[component]
pub fn FilterBar(filter: Memo<Filter>) -> impl IntoView {
    let navigate = use_navigate();
    let go = Callback::new(move |filter: Filter| {
        let options = NavigateOptions { scroll: false, ..Default::default() };
        navigate(&filter.address(), options);
    });
    let is_custom = move || {
        filter.with(|it| it.to.is_some() || PRESETS.iter().all(|(since, _)| *since != it.from))
    };
    let custom_open = RwSignal::new(is_custom());
    view! {
        <div class="filters">
            <div role="group" aria-label="Time range" class="presets">
                {PRESETS.map(|(since, label)| {
                    let pressed =
                        move || filter.with(|it| it.from == since && it.to.is_none());
                    view! {
                        <button
                            type="button"
                            aria-pressed=move || pressed().to_string()
                            on:click=move |_| {
                                custom_open.set(false);
                                go.run(Filter { from: since, to: None, ..filter.get() });
                            }
                        >
                            {label}
                        </button>
                    }
                })}
                <button
                    type="button"
                    aria-expanded=move || custom_open.get().to_string()
                    aria-pressed=move || is_custom().to_string()
                    on:click=move |_| custom_open.update(|open| *open = !*open)
                >
                    "Custom…"
                </button>
            </div>
            <select
                aria-label="State of the call"
                on:change=move |event| {
                    let status = Status::parse(&event_target_value(&event));
                    go.run(Filter { status, ..filter.get() });
                }
                prop:value=move || filter.with(|it| it.status.map_or("", Status::as_str))
            >
                <option value="">"Any state"</option>
                {STATES.map(|(status, label)| view! {
                    <option
                        value=status.as_str()
                        selected=move || filter.with(|it| it.status == Some(status))
                    >
                        {label}
                    </option>
                })}
            </select>
        </div>
        <Show when=move || custom_open.get()>
            <CustomRange filter=filter go=go />
        </Show>
    }
}

const STATES: [(Status, &str); 5] = [
    (Status::Recording, "Recording"),
    (Status::Finalizing, "Finalising"),
    (Status::Stored, "Stored"),
    (Status::Partial, "Partial"),
    (Status::Deleted, "Deleted"),
];

/// A range with fixed ends.
#[component]
fn CustomRange(filter: Memo<Filter>, go: Callback<Filter>) -> impl IntoView {
    let from = RwSignal::new(filter.with_untracked(|it| match it.from {
        Since::At(time) => when::to_local_input(time),
        Since::Minutes(_) | Since::Today => String::new(),
    }));
    let to = RwSignal::new(
        filter.with_untracked(|it| it.to.map(when::to_local_input).unwrap_or_default()),
    );
    let problem = RwSignal::new("");
    let apply = move |event: leptos::ev::SubmitEvent| {
        event.prevent_default();
        let (begin, end) = (from.get(), to.get());
        match (when::from_local_input(&begin), when::from_local_input(&end)) {
            (None, _) => problem.set("Say from when."),
            (Some(begin), Some(end)) if end <= begin => {
                problem.set("The end lies before the beginning.");
            }
            (Some(begin), end) => {
                problem.set("");
                go.run(Filter { from: Since::At(begin), to: end, ..filter.get() });
            }
        }
    };
    view! {
        <form class="custom-range" on:submit=apply>
            <label>
                "From"
                <input
                    type="datetime-local"
                    prop:value=from
                    on:input=move |event| from.set(event_target_value(&event))
                />
            </label>
            <label>
                "To"
                <input
                    type="datetime-local"
                    prop:value=to
                    on:input=move |event| to.set(event_target_value(&event))
                />
            </label>
            <button type="submit">"Apply"</button>
            <span role="alert" class="problem">{problem}</span>
        </form>
    }
}
