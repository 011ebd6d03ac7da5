//! The list of calls: a native table of which only the rows in view are in the document.
//!
//! The row with the keyboard focus stays in the document however far the list is scrolled (see
//! [`rows`]). Only its link can be reached with Tab; from there the keys of a list apply.

use leptos::html;
use leptos::prelude::*;
use leptos_router::NavigateOptions;
use leptos_router::hooks::use_navigate;
use model::recording::MarkKind;
use model::{Participant, Recording, RecordingId, WallTime};
use wasm_bindgen::JsCast;
use web_sys::{Element, FocusOptions, HtmlElement};

use crate::components::icon::{Icon, State};
use crate::keys::on_shortcut;
use crate::listing::{Listing, Row};
use crate::player::Player;
use crate::rows::{self, Slot};
use crate::screen::Screen;
use crate::settings::Settings;
use crate::{text, when};

/// Height of a row, and of one with two lines on a narrow screen; the style sheet has the same.
const ROW_PX: f64 = 36.0;
const NARROW_ROW_PX: f64 = 60.0;

/// The sticky head of the table, which covers what is scrolled beneath it.
const HEAD_PX: f64 = 33.0;

/// The next page is fetched when this many rows are left below the view.
const ROWS_AHEAD: usize = 60;

/// Chips in a row; what is beyond is counted.
const MOST_CHIPS: usize = 2;

#[component]
pub fn RecordingTable(listing: Listing, #[prop(into)] can_play: Signal<bool>) -> impl IntoView {
    let screen = Screen::expect();
    let scroller = NodeRef::<html::Div>::new();
    let view_px = RwSignal::new(800.0);
    let row_px = Signal::derive(move || if screen.narrow.get() { NARROW_ROW_PX } else { ROW_PX });
    let total = move || listing.rows.with(Vec::len);
    let shown = Memo::new(move |_| {
        rows::in_view(total(), row_px.get(), listing.scroll_top.get(), view_px.get())
    });

    Effect::new(move || {
        screen.resized.track();
        if let Some(scroller) = scroller.get() {
            view_px.set(f64::from(scroller.client_height()));
        }
    });
    // The list remembers where it was; the element follows, after a search to the top.
    Effect::new(move || {
        let top = listing.scroll_top.get();
        if let Some(scroller) = scroller.get()
            && (f64::from(scroller.scroll_top()) - top).abs() > 1.0
        {
            scroller.set_scroll_top(top as i32);
        }
    });
    Effect::new(move || {
        listing.progress.track();
        if listing.has_more() && shown.get().1 + ROWS_AHEAD >= total() {
            listing.load_more();
        }
    });
    Effect::new(move || {
        if scroller.get().is_some() && listing.opened.get_value() {
            listing.opened.set_value(false);
            let row_px = row_px.get_untracked();
            let current = listing.current.get_untracked();
            // After the effect above has scrolled to where the list was.
            request_animation_frame(move || focus_row(listing, scroller, row_px, current));
        }
    });
    use_list_keys(listing, scroller, row_px, can_play);

    let slots = move || {
        let slots = rows::slots(total(), shown.get(), Some(listing.current.get()));
        listing.rows.with(|rows| {
            slots
                .into_iter()
                .map(|slot| match slot {
                    Slot::Row(at) => (slot, rows.get(at).cloned()),
                    Slot::Blank { .. } => (slot, None),
                })
                .collect::<Vec<_>>()
        })
    };
    let row_count =
        move || if listing.has_more() { "-1".to_owned() } else { (total() + 1).to_string() };
    view! {
        <div
            class="list"
            node_ref=scroller
            on:scroll=move |_| {
                if let Some(scroller) = scroller.get_untracked() {
                    listing.scroll_top.set(f64::from(scroller.scroll_top()));
                }
            }
        >
            <table aria-rowcount=row_count>
                <caption class="hidden">"Recorded calls, newest first"</caption>
                <thead>
                    <tr aria-rowindex="1">
                        <th scope="col" class="c-play"><span class="hidden">"Play"</span></th>
                        <th scope="col" class="c-state">"State"</th>
                        <th scope="col" class="c-when" aria-sort="descending">"Started"</th>
                        <th scope="col" class="c-party">"Participant"</th>
                        <th scope="col" class="c-party">"Participant"</th>
                        <th scope="col" class="c-length">"Length"</th>
                        <th scope="col" class="c-notes">"Notes"</th>
                        <th scope="col" class="c-edge">"Recorder"</th>
                    </tr>
                </thead>
                <tbody>
                    <For
                        each=slots
                        key=|(slot, row)| (*slot, row.as_ref().map(|row| row.id))
                        children=move |(slot, row)| match (slot, row) {
                            (Slot::Row(at), Some(row)) => {
                                view! { <CallRow at row listing can_play /> }.into_any()
                            }
                            (Slot::Blank { rows, .. }, _) => {
                                let height =
                                    move || format!("{}px", rows as f64 * row_px.get());
                                view! {
                                    <tr class="blank" aria-hidden="true">
                                        <td colspan="8" style:height=height></td>
                                    </tr>
                                }
                                .into_any()
                            }
                            (Slot::Row(_), None) => ().into_any(),
                        }
                    />
                </tbody>
            </table>
        </div>
    }
}

#[component]
fn CallRow(at: usize, row: Row, listing: Listing, can_play: Signal<bool>) -> impl IntoView {
    let id = row.id;
    let recording = RwSignal::from(row.recording);
    let navigate = use_navigate();
    let address = format!("/recordings/{id}");
    let open = {
        let address = address.clone();
        move |event: leptos::ev::MouseEvent| {
            let target = event.target().and_then(|it| it.dyn_into::<Element>().ok());
            let on_control =
                target.is_some_and(|it| it.closest("a, button").ok().flatten().is_some());
            if !on_control {
                listing.current.set(at);
                listing.opened.set_value(true);
                navigate(&address, NavigateOptions::default());
            }
        }
    };
    let is_current = move || listing.current.get() == at;
    let party = move |number: usize| recording.with(|it| party(&it.participants, number));
    view! {
        <tr
            aria-rowindex=(at + 2).to_string()
            class:current=is_current
            on:click=open
            on:focusin=move |_| listing.current.set(at)
        >
            <td class="c-play">
                <PlayButton id recording can_play />
            </td>
            <td class="c-state"><State recording /></td>
            <th scope="row" class="c-when">
                <a
                    id=link_id(id)
                    href=address
                    tabindex=move || if is_current() { "0" } else { "-1" }
                    on:click=move |_| listing.opened.set_value(true)
                >
                    <Time time=recording.with_untracked(|it| it.started_at) />
                </a>
            </th>
            <td class="c-party">{move || view! { <Party party=party(0) /> }}</td>
            <td class="c-party">{move || view! { <Party party=party(1) /> }}</td>
            <td class="c-length">
                {move || recording.with(|it| match it.duration_ms {
                    Some(ms) => text::clock(ms as f64 / 1_000.0),
                    None => "–".to_owned(),
                })}
            </td>
            <td class="c-notes">
                {move || {
                    let chips = recording.with(chips);
                    let more = chips.len().saturating_sub(MOST_CHIPS);
                    view! {
                        {chips
                            .into_iter()
                            .take(MOST_CHIPS)
                            .map(|chip| view! { <span class="chip">{chip}</span> })
                            .collect_view()}
                        {(more > 0).then(|| view! {
                            <span class="chip">{format!("+{more}")}</span>
                        })}
                    }
                }}
            </td>
            <td class="c-edge">{recording.with_untracked(|it| it.edge.to_string())}</td>
        </tr>
    }
}

/// Plays without leaving the list. Not in the tab order: Space on the row does the same.
#[component]
fn PlayButton(
    id: RecordingId,
    recording: RwSignal<Recording>,
    can_play: Signal<bool>,
) -> impl IntoView {
    let player = Player::expect();
    let plays = move || player.playing.get() && player.loaded_id() == Some(id);
    let label = move || {
        let verb = if plays() { "Pause" } else { "Play" };
        recording.with(|it| format!("{verb} {}", text::parties(it)))
    };
    view! {
        <Show when=move || can_play.get() && recording.with(|it| it.playable)>
            <button
                type="button"
                class="play"
                tabindex="-1"
                aria-label=label
                on:click=move |_| player.toggle_call(&recording.get_untracked())
            >
                <Icon name=Signal::derive(move || if plays() { "pause" } else { "play" }) />
            </button>
        </Show>
    }
}

/// A time in the person's zone; in UTC for machines and on hover.
#[component]
pub fn Time(
    time: WallTime,
    #[prop(default = when::Style::Row)] style: when::Style,
) -> impl IntoView {
    let utc = time.to_string();
    view! {
        <time datetime=utc.clone() title=utc>
            {when::text(time, style)}
        </time>
    }
}

#[component]
fn Party(party: Option<(String, Option<String>)>) -> impl IntoView {
    party.map(|(name, second)| {
        view! {
            <span class="name">{name}</span>
            {second.map(|second| view! { " " <span class="muted">{second}</span> })}
        }
    })
}

/// Name and address of one of the two participants shown; the second stands for all others.
fn party(participants: &[Participant], number: usize) -> Option<(String, Option<String>)> {
    if participants.is_empty() && number == 0 {
        return Some((String::new(), Some("Unknown".to_owned())));
    }
    let participant = participants.get(number)?;
    let others = participants.len().saturating_sub(2);
    let name = text::name(participant);
    if number == 1 && others > 0 {
        return Some((format!("{name} +{others}"), text::second_line(participant)));
    }
    Some((name, text::second_line(participant)))
}

/// What is worth knowing before the call is opened.
fn chips(recording: &Recording) -> Vec<String> {
    let marks = |kind| recording.marks.iter().filter(|mark| mark.kind == kind).count();
    let mut chips = Vec::new();
    for (kind, one) in [
        (MarkKind::Gap, "gap"),
        (MarkKind::Pause, "paused"),
        (MarkKind::Hold, "hold"),
        (MarkKind::Dtmf, "keys"),
    ] {
        match marks(kind) {
            0 => {}
            1 => chips.push(one.to_owned()),
            n => chips.push(format!("{one} ×{n}")),
        }
    }
    chips.extend(recording.flags.iter().map(|flag| text::flag_label(flag)));
    chips
}

fn link_id(id: RecordingId) -> String {
    format!("call-{id}")
}

/// The keys of the list, for as long as it is shown.
fn use_list_keys(
    listing: Listing,
    scroller: NodeRef<html::Div>,
    row_px: Signal<f64>,
    can_play: Signal<bool>,
) {
    let player = Player::expect();
    on_shortcut(Settings::expect(), move |key, _| {
        let total = listing.rows.with_untracked(Vec::len);
        let at = listing.current.get_untracked();
        let page = scroller.get_untracked().map_or(10, |scroller| {
            (f64::from(scroller.client_height()) / row_px.get_untracked()) as usize
        });
        let to = match key {
            "j" | "ArrowDown" if focus_is_in_list() => at + 1,
            "k" | "ArrowUp" if focus_is_in_list() => at.saturating_sub(1),
            // The first key goes to the row that was current, not past it.
            "j" | "ArrowDown" | "k" | "ArrowUp" => at,
            "PageDown" => at + page,
            "PageUp" => at.saturating_sub(page),
            "Home" => 0,
            "End" => usize::MAX,
            " " => {
                let row = listing.rows.with_untracked(|rows| rows.get(at).cloned());
                let Some(row) = row.filter(|_| can_play.get_untracked()) else { return false };
                let recording = row.recording.get_untracked();
                if recording.playable {
                    player.toggle_call(&recording);
                }
                return true;
            }
            "." if !listing.arrived.with_untracked(Vec::is_empty) => {
                listing.insert_arrived();
                return true;
            }
            "Escape" if player.loaded.with_untracked(Option::is_some) => {
                player.close();
                return true;
            }
            _ => return false,
        };
        if total > 0 {
            focus_row(listing, scroller, row_px.get_untracked(), to.min(total - 1));
        }
        total > 0
    });
}

fn focus_is_in_list() -> bool {
    let focused = document().active_element();
    focused.is_some_and(|it| it.closest(".list tbody").ok().flatten().is_some())
}

/// Moves the focus to a row, scrolling no further than needed to show it.
fn focus_row(listing: Listing, scroller: NodeRef<html::Div>, row_px: f64, at: usize) {
    // A frame later the page may be gone.
    let Some(element) = scroller.try_get_untracked().flatten() else { return };
    let view_px = f64::from(element.client_height()) - HEAD_PX;
    let (top, end) = (at as f64 * row_px, (at + 1) as f64 * row_px);
    let scrolled = f64::from(element.scroll_top());
    if top < scrolled {
        element.set_scroll_top(top as i32);
    } else if end > scrolled + view_px {
        element.set_scroll_top((end - view_px).ceil() as i32);
    }
    listing.scroll_top.set(f64::from(element.scroll_top()));
    listing.current.set(at);
    let Some(id) = listing.rows.with_untracked(|rows| rows.get(at).map(|row| row.id)) else {
        return;
    };
    // The row may have to be put into the document first.
    request_animation_frame(move || {
        let link = document().get_element_by_id(&link_id(id));
        if let Some(link) = link.and_then(|link| link.dyn_into::<HtmlElement>().ok()) {
            let options = FocusOptions::new();
            options.set_prevent_scroll(true);
            let _ = link.focus_with_options(&options);
        }
    });
}
