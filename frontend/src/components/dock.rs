//! The player beneath the list: somebody listens and goes on looking.

use leptos::prelude::*;

use crate::components::icon::Icon;
use crate::components::seek::SeekSlider;
use crate::components::transport::{PlayControls, PlayerProblem, Position, SpeedSelect};
use crate::player::Player;
use crate::text;

#[component]
pub fn Dock() -> impl IntoView {
    let player = Player::expect();
    let who = move || player.loaded.with(|it| it.as_ref().map(text::parties)).unwrap_or_default();
    let address =
        move || player.loaded_id().map(|id| format!("/recordings/{id}")).unwrap_or_default();
    view! {
        <Show when=move || player.loaded.with(Option::is_some)>
            <section class="dock" aria-label="Player">
                <PlayControls />
                <a class="dock-who" href=address>{who}</a>
                <SeekSlider />
                <Position />
                <SpeedSelect />
                <button
                    type="button"
                    class="quiet"
                    aria-label="Close the player"
                    on:click=move |_| player.close()
                >
                    <Icon name="close" />
                </button>
                <PlayerProblem />
            </section>
        </Show>
    }
}
