//! What is known about a call besides its sound.

use leptos::prelude::*;
use model::api::Metadata;
use model::{Participant, Recording};

use crate::api::ApiError;
use crate::components::copy::CopyButton;
use crate::components::icon::Icon;
use crate::components::recording_table::Time;
use crate::text;
use crate::when::Style;

/// Everything odd about the call, each with what it means.
#[component]
pub fn Flags(#[prop(into)] recording: Signal<Recording>) -> impl IntoView {
    view! {
        <Show when=move || recording.with(|it| !it.flags.is_empty())>
            <section class="block" aria-labelledby="flags-title">
                <h2 id="flags-title">"What was odd"</h2>
                <ul class="flags">
                    {move || {
                        recording.with(|it| {
                            it.flags
                                .iter()
                                .map(|flag| view! {
                                    <li>
                                        <Icon name="warning" />
                                        <span>{text::flag_sentence(flag)}</span>
                                    </li>
                                })
                                .collect_view()
                        })
                    }}
                </ul>
            </section>
        </Show>
    }
}

#[component]
pub fn Participants(#[prop(into)] recording: Signal<Recording>) -> impl IntoView {
    let row = |participant: &Participant| {
        let aor = participant.aor.as_ref().map(|aor| aor.reveal().clone()).unwrap_or_default();
        let role = participant.role.clone().unwrap_or_else(|| "–".to_owned());
        view! {
            <tr>
                <th scope="row">{text::name(participant)}</th>
                <td class="mono address">{if aor.is_empty() { "–".to_owned() } else { aor }}</td>
                <td>{role}</td>
            </tr>
        }
    };
    view! {
        <section class="block">
            <h2 id="participants-title">"Participants"</h2>
            <Show
                when=move || recording.with(|it| !it.participants.is_empty())
                fallback=|| view! { <p class="muted">"The client named nobody."</p> }
            >
                <div
                    class="scroll-x"
                    tabindex="0"
                    role="region"
                    aria-labelledby="participants-title"
                >
                    <table class="facts">
                        <thead>
                            <tr>
                                <th scope="col">"Name"</th>
                                <th scope="col">"Address"</th>
                                <th scope="col">"Role"</th>
                            </tr>
                        </thead>
                        <tbody>
                            {move || recording.with(|it| {
                                it.participants.iter().map(row).collect_view()
                            })}
                        </tbody>
                    </table>
                </div>
            </Show>
        </section>
    }
}

/// How well each stream was received.
#[component]
pub fn Quality(#[prop(into)] recording: Signal<Recording>) -> impl IntoView {
    view! {
        <Show when=move || recording.with(|it| !it.tracks.is_empty())>
            <section class="block">
                <h2 id="tracks-title">"Tracks"</h2>
                <div class="scroll-x" tabindex="0" role="region" aria-labelledby="tracks-title">
                    <table class="facts">
                        <thead>
                            <tr>
                                <th scope="col">"Heard"</th>
                                <th scope="col">"Label"</th>
                                <th scope="col">"Codec"</th>
                                <th scope="col" class="number">"Length"</th>
                                <th scope="col" class="number">"Packets"</th>
                                <th scope="col" class="number">"Lost"</th>
                            </tr>
                        </thead>
                        <tbody>{move || recording.with(track_rows)}</tbody>
                    </table>
                </div>
            </section>
        </Show>
    }
}

fn track_rows(recording: &Recording) -> impl IntoView + use<> {
    recording
        .tracks
        .iter()
        .enumerate()
        .map(|(number, track)| {
            let label = if track.label.is_empty() { "–" } else { &track.label };
            view! {
                <tr>
                    <th scope="row">{text::track_name(recording, number, track)}</th>
                    <td class="mono">{label.to_owned()}</td>
                    <td>{track.codec.clone()}</td>
                    <td class="number">{text::clock(track.duration_ms as f64 / 1_000.0)}</td>
                    <td class="number">{text::grouped(track.packets_received)}</td>
                    <td class="number">{text::loss(track)}</td>
                </tr>
            }
        })
        .collect_view()
}

/// The ids by which others know this call, and the checksum by which it can be proved.
#[component]
pub fn Identity(#[prop(into)] recording: Signal<Recording>) -> impl IntoView {
    let id = move || recording.with(|it| it.id.to_string());
    let call_ids = Memo::new(move |_| recording.with(|it| it.call_ids.clone()));
    let sha256 = Memo::new(move |_| recording.with(|it| it.sha256.clone()));
    view! {
        <section class="block" aria-labelledby="ids-title">
            <h2 id="ids-title">"Identity and integrity"</h2>
            <dl class="pairs">
                <dt>"Recording"</dt>
                <dd>
                    <code>{id}</code>
                    <CopyButton what="recording id" text=Signal::derive(id) />
                </dd>
                <dt>"Call ids"</dt>
                <dd>
                    <ul class="ids">
                        {move || call_ids.get().into_iter().map(|id| view! {
                            <li>
                                <code>{id.clone()}</code>
                                <CopyButton what="call id" text=Signal::stored(id) />
                            </li>
                        }).collect_view()}
                    </ul>
                </dd>
                <dt>"Recorder"</dt>
                <dd>{move || recording.with(|it| it.edge.to_string())}</dd>
                <dt>"SHA-256 of the manifest"</dt>
                <dd>
                    {move || match sha256.get() {
                        Some(sum) => view! {
                            <code class="sum">{sum.clone()}</code>
                            <CopyButton what="checksum" text=Signal::stored(sum) />
                            <p class="hint">
                                "The manifest names every part with its own checksum. "
                                <code>{format!("linekeeper verify {}", id())}</code>
                                " reads it all again."
                            </p>
                        }.into_any(),
                        None => view! {
                            <span class="muted">"Known once the call is stored."</span>
                        }.into_any(),
                    }}
                </dd>
            </dl>
        </section>
    }
}

/// The documents as the client sent them.
#[component]
pub fn RawMetadata(answer: Result<Metadata, ApiError>) -> impl IntoView {
    let metadata = match answer {
        Ok(metadata) => metadata,
        Err(error) => {
            return view! { <p role="alert" class="problem">{error.to_string()}</p> }.into_any();
        }
    };
    if metadata.documents.is_empty() {
        return view! { <p class="muted">"The client sent no metadata."</p> }.into_any();
    }
    let documents = metadata.documents.into_iter().enumerate().map(|(number, document)| {
        let (text, note) = match (document.text, document.base64) {
            (Some(text), _) => (text, ""),
            (None, Some(base64)) => (base64, " (not text; shown as base64)"),
            (None, None) => (String::new(), " (empty)"),
        };
        view! {
            <article class="document">
                <header>
                    <h3>
                        {format!("Document {}, received ", number + 1)}
                        <Time time=document.received_at style=Style::Clock />
                    </h3>
                    <span class="muted">{document.content_type}{note}</span>
                    <CopyButton what="document" text=Signal::stored(text.clone()) />
                </header>
                <pre tabindex="0">{text}</pre>
            </article>
        }
    });
    documents.collect_view().into_any()
}
