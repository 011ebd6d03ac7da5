//! The sheet of keys.

use leptos::html;
use leptos::prelude::*;

use crate::settings::Settings;

const SHEET: [(&str, &[(&str, &str)]); 3] = [
    (
        "Anywhere",
        &[
            ("/", "Search"),
            ("g r", "Recordings"),
            ("g l", "Live"),
            ("?", "This sheet"),
            ("Esc", "Close, or back"),
        ],
    ),
    (
        "List",
        &[
            ("j k ↓ ↑", "Next and previous row"),
            ("PgDn PgUp Home End", "Further"),
            ("Enter", "Open the call"),
            ("Space", "Play or pause it"),
            (".", "Show new calls"),
        ],
    ),
    (
        "Call",
        &[
            ("Space k", "Play or pause"),
            ("j l", "5 seconds back or on"),
            ("← →", "1 second; with Shift 15"),
            (", .", "Previous and next mark"),
            ("< >", "Slower and faster"),
            ("m", "Mute"),
            ("0", "From the start"),
            ("y", "Copy a link to this second"),
            ("[ ]", "Previous and next call of the list"),
        ],
    ),
];

#[component]
pub fn HelpDialog(open: RwSignal<bool>) -> impl IntoView {
    let dialog = NodeRef::<html::Dialog>::new();
    let settings = Settings::expect();
    Effect::new(move || {
        let Some(dialog) = dialog.get() else { return };
        if open.get() && !dialog.open() {
            // Only fails for a dialog that is open already or not in the document.
            let _ = dialog.show_modal();
        } else if !open.get() {
            dialog.close();
        }
    });
    view! {
        <dialog
            class="wide"
            node_ref=dialog
            aria-labelledby="help-title"
            on:close=move |_| open.set(false)
        >
            <header class="dialog-head">
                <h2 id="help-title">"Keys"</h2>
                <button type="button" class="quiet" on:click=move |_| open.set(false)>
                    "Close"
                </button>
            </header>
            <div class="sheet">
                {SHEET.map(|(place, keys)| view! {
                    <section>
                        <h3>{place}</h3>
                        <dl>
                            {keys.iter().map(|&(key, does)| view! {
                                <div>
                                    <dt>
                                        {key.split(' ')
                                            .map(|key| view! { <kbd>{key}</kbd> })
                                            .collect_view()}
                                    </dt>
                                    <dd>{does}</dd>
                                </div>
                            }).collect_view()}
                        </dl>
                    </section>
                })}
            </div>
            <label class="check">
                <input
                    type="checkbox"
                    prop:checked=settings.single_keys
                    on:change=move |event| settings.single_keys.set(event_target_checked(&event))
                />
                "Use shortcuts of a single character"
            </label>
        </dialog>
    }
}
