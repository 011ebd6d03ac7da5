//! The browser application: search calls, play them, watch those in progress.
//!
//! - Pages fetch, components draw: what is below `components` can be given anything to show.
//! - What the API writes, `model::api` reads: there is no second definition of a body.
//! - What can be decided without a browser stands in modules that use none of it (`search`,
//!   `text`, `rows`, `peaks`, `timeline`) and is tested on the host.
//! - Nothing here writes HTML from data. Names of callers come from outside and only ever become
//!   text nodes. Styles are set through the object model, because the content security policy
//!   forbids inline ones.

mod api;
mod app;
mod components;
mod keys;
mod listen;
mod listing;
mod pages;
mod peaks;
mod player;
mod rows;
mod screen;
mod search;
mod session;
mod settings;
mod text;
mod when;

fn main() {
    // Without it a panic is "unreachable" in the browser's console, and nobody can tell us more.
    std::panic::set_hook(Box::new(|panic| leptos::logging::error!("{panic}")));
    // The page comes with a static shell, so that something stands there while the module loads.
    if let Some(shell) = leptos::prelude::document().get_element_by_id("starting") {
        shell.remove();
    }
    leptos::mount::mount_to_body(app::App);
}
