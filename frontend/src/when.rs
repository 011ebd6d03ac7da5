//! Times as people read them: in the browser's language and zone, by its own `Intl`.

use js_sys::{Date, Function, Intl, Object, Reflect};
use leptos::prelude::window;
use model::WallTime;
use wasm_bindgen::{JsCast, JsValue};

use crate::search::Now;

/// How much of a time is written.
#[derive(Clone, Copy)]
pub enum Style {
    /// `22 Nov 14:03:27`: a row of the list.
    Row,
    /// `Sunday, 22 November 2026, 14:03:27 CET`: a heading.
    Full,
    /// `14:03:27`
    Clock,
}

thread_local! {
    /// Making a formatter costs more than using it a thousand times.
    static FORMATTERS: [Function; 4] = [
        formatter(&[("day", "2-digit"), ("month", "short")], true),
        formatter(
            &[
                ("weekday", "long"),
                ("day", "numeric"),
                ("month", "long"),
                ("year", "numeric"),
                ("timeZoneName", "short"),
            ],
            true,
        ),
        formatter(&[], true),
        formatter(&[("day", "2-digit"), ("month", "short"), ("year", "numeric")], true),
    ];
}

fn formatter(options: &[(&str, &str)], with_clock: bool) -> Function {
    let bag = Object::new();
    let clock = [("hour", "2-digit"), ("minute", "2-digit"), ("second", "2-digit")];
    let clock = if with_clock { &clock[..] } else { &[] };
    for (name, value) in options.iter().chain(clock) {
        let _ = Reflect::set(&bag, &(*name).into(), &(*value).into());
    }
    // 24 hours in any language: the time is compared with logs.
    let _ = Reflect::set(&bag, &"hourCycle".into(), &"h23".into());
    let locales = window().navigator().languages();
    Intl::DateTimeFormat::new(&locales, &bag).format()
}

pub fn text(time: WallTime, style: Style) -> String {
    let date = Date::new(&JsValue::from_f64(time.unix_ms() as f64));
    let number = match style {
        Style::Row if date.get_full_year() != Date::new_0().get_full_year() => 3,
        Style::Row => 0,
        Style::Full => 1,
        Style::Clock => 2,
    };
    FORMATTERS.with(|formatters| {
        formatters[number]
            .call1(&JsValue::UNDEFINED, &date)
            .ok()
            .and_then(|text| text.as_string())
            // A browser without Intl still tells the time, in UTC.
            .unwrap_or_else(|| time.to_string())
    })
}

/// The name of the zone that times are shown in: `Europe/Prague`.
pub fn zone() -> String {
    let options =
        Intl::DateTimeFormat::new(&js_sys::Array::new(), &Object::new()).resolved_options();
    Reflect::get(&options, &"timeZone".into())
        .ok()
        .and_then(|zone| zone.as_string())
        .unwrap_or_else(|| "local time".to_owned())
}

pub fn now() -> Now {
    let date = Date::new_0();
    let unix_ms = date.get_time() as i64;
    date.set_hours(0);
    date.set_minutes(0);
    date.set_seconds(0);
    date.set_milliseconds(0);
    Now { unix_ms, midnight_ms: date.get_time() as i64 }
}

/// What `<input type="datetime-local">` holds, as a time; it has no zone, so it is the browser's.
pub fn from_local_input(text: &str) -> Option<WallTime> {
    let ms = Date::new(&text.into()).get_time();
    (!text.is_empty() && ms.is_finite()).then(|| WallTime::from_unix_ms(ms as i64))
}

/// The reverse: `2026-11-22T14:03`.
pub fn to_local_input(time: WallTime) -> String {
    let date = Date::new(&JsValue::from_f64(time.unix_ms() as f64));
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}",
        date.get_full_year(),
        date.get_month() + 1,
        date.get_date(),
        date.get_hours(),
        date.get_minutes()
    )
}

/// A clock that only goes forward, in milliseconds; for what is measured and not shown.
pub fn monotonic_ms() -> f64 {
    Reflect::get(&window(), &"performance".into())
        .ok()
        .and_then(|performance| performance.dyn_into::<web_sys::Performance>().ok())
        .map_or_else(Date::now, |performance| performance.now())
}
