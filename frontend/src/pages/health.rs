//! Whether calls are being recorded, and how far behind each step is.

use std::collections::BTreeMap;
use std::time::Duration;

use leptos::prelude::*;
use leptos::task::spawn_local;
use model::api::{EdgeHealth, Health, QueueHealth};

use crate::api::{self, ApiError};
use crate::components::icon::Icon;
use crate::components::recording_table::Time;
use crate::screen::set_title;
use crate::session::Session;
use crate::text;
use crate::when::Style;

const POLL: Duration = Duration::from_secs(2);

#[component]
pub fn HealthPage() -> impl IntoView {
    set_title("Health");
    let session = Session::expect();
    let health = RwSignal::new(None::<Result<Health, ApiError>>);
    let fetch = move || {
        spawn_local(async move {
            let answer = session.checked(api::health()).await;
            health.try_set(Some(answer));
        });
    };
    fetch();
    let poll = move || {
        if !document().hidden() && !session.has_expired() {
            fetch();
        }
    };
    if let Ok(timer) = set_interval_with_handle(poll, POLL) {
        on_cleanup(move || timer.clear());
    }
    view! {
        <div class="page health">
            <div class="page-head"><h1>"Health"</h1></div>
            {move || match health.get() {
                None => view! { <p role="status">"Loading…"</p> }.into_any(),
                Some(Ok(health)) => view! { <HealthView health /> }.into_any(),
                Some(Err(error)) => view! {
                    <p role="alert" class="banner">
                        <Icon name="warning" />
                        <span>{error.to_string()}</span>
                    </p>
                }.into_any(),
            }}
        </div>
    }
}

#[component]
fn HealthView(health: Health) -> impl IntoView {
    let verdict = if health.ok { "verdict ok" } else { "verdict bad" };
    let icon = if health.ok { "ok" } else { "warning" };
    view! {
        <p class=verdict><Icon name=icon />{health.summary}</p>
        <section class="block">
            <h2 id="edges-title">"Recorders"</h2>
            <div class="scroll-x" tabindex="0" role="region" aria-labelledby="edges-title">
                <table class="facts">
                    <thead>
                        <tr>
                            <th scope="col">"Recorder"</th>
                            <th scope="col">"State"</th>
                            <th scope="col" class="number">"Calls"</th>
                            <th scope="col">"Last seen"</th>
                            <th scope="col" class="number">"Behind"</th>
                        </tr>
                    </thead>
                    <tbody>{health.edges.into_iter().map(edge_row).collect_view()}</tbody>
                </table>
            </div>
        </section>
        <OddCalls odd=health.odd_calls />
        <section class="block">
            <h2 id="queues-title">"Queues"</h2>
            <div class="scroll-x" tabindex="0" role="region" aria-labelledby="queues-title">
                <table class="facts">
                    <thead>
                        <tr>
                            <th scope="col">"Queue"</th>
                            <th scope="col" class="number">"Waiting"</th>
                            <th scope="col" class="number">"Oldest"</th>
                            <th scope="col" class="number">"Given up"</th>
                        </tr>
                    </thead>
                    <tbody>{health.queues.into_iter().map(queue_row).collect_view()}</tbody>
                </table>
            </div>
        </section>
    }
}

/// Calls in progress that may not sound as they should.
#[component]
fn OddCalls(odd: BTreeMap<String, usize>) -> impl IntoView {
    (!odd.is_empty()).then(|| {
        let rows = odd.into_iter().map(|(flag, calls)| {
            view! {
                <tr>
                    <th scope="row">{text::flag_label(&flag)}</th>
                    <td class="number">{calls.to_string()}</td>
                    <td>{text::flag_sentence(&flag)}</td>
                </tr>
            }
        });
        view! {
            <section class="block">
                <h2 id="odd-title">"Calls in progress to look after"</h2>
                <div class="scroll-x" tabindex="0" role="region" aria-labelledby="odd-title">
                    <table class="facts"><tbody>{rows.collect_view()}</tbody></table>
                </div>
            </section>
        }
    })
}

fn edge_row(edge: EdgeHealth) -> impl IntoView {
    let (class, icon, says) = if edge.alive {
        ("state state-stored", "ok", "Recording calls")
    } else {
        ("state state-partial", "warning", "Not heard from")
    };
    view! {
        <tr>
            <th scope="row">{edge.edge.to_string()}</th>
            <td><span class=class><Icon name=icon />{says}</span></td>
            <td class="number">{edge.calls.to_string()}</td>
            <td><Time time=edge.last_seen style=Style::Clock /></td>
            <td class="number">{lag(edge.index_lag_ms)}</td>
        </tr>
    }
}

fn queue_row(queue: QueueHealth) -> impl IntoView {
    view! {
        <tr>
            <th scope="row">{queue.queue}</th>
            <td class="number">{text::grouped(queue.waiting)}</td>
            <td class="number">{queue.oldest_ms.map_or_else(|| "–".to_owned(), lag)}</td>
            <td class="number">{text::grouped(queue.dead_letters)}</td>
        </tr>
    }
}

/// `120 ms`, `3.4 s`, `12:05`.
fn lag(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{:.1} s", ms as f64 / 1_000.0),
        _ => text::clock(ms as f64 / 1_000.0),
    }
}

#[test]
fn a_lag_is_told_in_the_unit_that_fits() {
    assert_eq!(lag(120), "120 ms");
    assert_eq!(lag(3_400), "3.4 s");
    assert_eq!(lag(725_000), "12:05");
}
