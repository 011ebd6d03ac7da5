//! The list of calls as loaded so far. It outlives its page, so that coming back from a call
//! shows the same rows at the same place.

use std::time::Duration;

use leptos::prelude::*;
use leptos::task::spawn_local;
use model::api::Recordings;
use model::{Recording, RecordingId};

use crate::api::{self, ApiError};
use crate::search::{Filter, Request};
use crate::session::Session;
use crate::when;

/// How often the newest page is asked again while somebody looks, and while nobody does.
const REFRESH_MS: f64 = 2_000.0;
const REFRESH_HIDDEN_MS: f64 = 30_000.0;

/// One row. A signal of its own, so that a change of state redraws this row alone.
#[derive(Clone)]
pub struct Row {
    pub id: RecordingId,
    pub recording: ArcRwSignal<Recording>,
}

impl Row {
    fn new(recording: Recording) -> Self {
        Self { id: recording.id, recording: ArcRwSignal::new(recording) }
    }
}

/// What the list is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    Idle,
    /// The first page of a new question; the rows there are those of the question before.
    Searching,
    /// A further page.
    Continuing,
    Failed(ApiError),
    /// The question itself cannot be asked.
    Refused(String),
}

#[derive(Clone, Copy)]
pub struct Listing {
    session: Session,
    /// The question that the rows answer.
    filter: RwSignal<Option<Filter>>,
    /// The question with its range resolved. Kept for all pages: a range that moved between
    /// two of them would lose rows.
    request: StoredValue<Option<Request>>,
    pub rows: RwSignal<Vec<Row>>,
    next: RwSignal<Option<String>>,
    pub progress: RwSignal<Progress>,
    /// Newer calls that are not in the list yet, because inserting them would move what
    /// somebody is about to press.
    pub arrived: RwSignal<Vec<Recording>>,
    /// When the server last answered, on [`when::monotonic_ms`]; whether it did at last.
    pub fresh: RwSignal<bool>,
    /// The row with the keyboard focus.
    pub current: RwSignal<usize>,
    pub scroll_top: RwSignal<f64>,
    /// A call was opened from the current row, which gets the focus back.
    pub opened: StoredValue<bool>,
    /// Answers to a question that is no longer asked are thrown away.
    generation: StoredValue<u64>,
    refreshed_ms: StoredValue<f64>,
    refreshing: StoredValue<bool>,
}

impl Listing {
    pub fn provide(session: Session) -> Self {
        let listing = Self {
            session,
            filter: RwSignal::new(None),
            request: StoredValue::new(None),
            rows: RwSignal::new(Vec::new()),
            next: RwSignal::new(None),
            progress: RwSignal::new(Progress::Idle),
            arrived: RwSignal::new(Vec::new()),
            fresh: RwSignal::new(true),
            current: RwSignal::new(0),
            scroll_top: RwSignal::new(0.0),
            opened: StoredValue::new(false),
            generation: StoredValue::new(0),
            refreshed_ms: StoredValue::new(0.0),
            refreshing: StoredValue::new(false),
        };
        provide_context(listing);
        listing
    }

    pub fn expect() -> Self {
        expect_context()
    }

    /// Whether there is more than what is loaded.
    pub fn has_more(self) -> bool {
        self.next.with(Option::is_some)
    }

    /// The address of the list as it was last shown.
    pub fn address(self) -> String {
        self.filter.with_untracked(|filter| filter.clone().unwrap_or_default().address())
    }

    /// Asks, unless the rows already answer this question.
    pub fn show(self, filter: Filter) {
        if self.filter.with_untracked(|shown| shown.as_ref() == Some(&filter)) {
            return;
        }
        self.search(filter);
    }

    pub fn search_again(self) {
        if let Some(filter) = self.filter.get_untracked() {
            self.search(filter);
        }
    }

    fn search(self, filter: Filter) {
        let generation = self.generation.get_value() + 1;
        self.generation.set_value(generation);
        let request = filter.request(when::now());
        self.filter.set(Some(filter));
        let request = match request {
            Ok(request) => request,
            Err(error) => {
                self.progress.set(Progress::Refused(error.to_string()));
                return;
            }
        };
        self.request.set_value(Some(request.clone()));
        self.progress.set(Progress::Searching);
        spawn_local(async move {
            let answer = self.session.checked(api::recordings(&request, None)).await;
            if self.generation.try_get_value() != Some(generation) {
                return;
            }
            match answer {
                Ok(page) => {
                    self.arrived.set(Vec::new());
                    self.current.set(0);
                    self.scroll_top.set(0.0);
                    self.next.set(page.next);
                    self.rows.set(page.recordings.into_iter().map(Row::new).collect());
                    self.refreshed_ms.set_value(when::monotonic_ms());
                    self.fresh.set(true);
                    self.progress.set(Progress::Idle);
                }
                Err(error) => {
                    self.refreshed_ms.set_value(when::monotonic_ms());
                    self.progress.set(Progress::Failed(error));
                }
            }
        });
    }

    /// Fetches the next page, if there is one and nothing else is being fetched.
    pub fn load_more(self) {
        let (Some(cursor), Some(request)) = (self.next.get_untracked(), self.request.get_value())
        else {
            return;
        };
        if self.progress.get_untracked() != Progress::Idle {
            return;
        }
        let generation = self.generation.get_value();
        self.progress.set(Progress::Continuing);
        spawn_local(async move {
            let answer = self.session.checked(api::recordings(&request, Some(&cursor))).await;
            if self.generation.try_get_value() != Some(generation) {
                return;
            }
            match answer {
                Ok(page) => {
                    self.next.set(page.next);
                    self.rows.update(|rows| {
                        let known: Vec<_> = rows.iter().map(|row| row.id).collect();
                        let new = page.recordings.into_iter().filter(|it| !known.contains(&it.id));
                        rows.extend(new.map(Row::new));
                    });
                    self.progress.set(Progress::Idle);
                }
                Err(error) => self.progress.set(Progress::Failed(error)),
            }
        });
    }

    /// Puts the calls that have arrived at the top.
    pub fn insert_arrived(self) {
        let arrived = self.arrived.get_untracked();
        self.arrived.set(Vec::new());
        self.rows.update(|rows| {
            rows.splice(0..0, arrived.into_iter().map(Row::new));
        });
        self.current.set(0);
        self.scroll_top.set(0.0);
    }

    /// Keeps the list true for as long as the calling component is shown.
    pub fn keep_fresh(self) {
        let tick = move || {
            let hidden = document().hidden();
            let due_ms = if hidden { REFRESH_HIDDEN_MS } else { REFRESH_MS };
            if when::monotonic_ms() - self.refreshed_ms.get_value() >= due_ms - 100.0 {
                self.refresh();
            }
        };
        if let Ok(timer) = set_interval_with_handle(tick, Duration::from_millis(1_000)) {
            on_cleanup(move || timer.clear());
        }
    }

    fn refresh(self) {
        if self.progress.get_untracked() == Progress::Failed(ApiError::Unreachable) {
            self.search_again();
            return;
        }
        let busy = self.progress.get_untracked() != Progress::Idle || self.refreshing.get_value();
        let Some(filter) = self.filter.get_untracked().filter(|_| !busy) else { return };
        let Ok(request) = filter.request(when::now()) else { return };
        if self.session.has_expired() {
            return;
        }
        self.refreshing.set_value(true);
        let generation = self.generation.get_value();
        spawn_local(async move {
            let answer = self.session.checked(api::recordings(&request, None)).await;
            self.refreshing.set_value(false);
            self.refreshed_ms.set_value(when::monotonic_ms());
            if self.generation.try_get_value() != Some(generation) {
                return;
            }
            self.fresh.set(answer.is_ok());
            if let Ok(page) = answer {
                self.merge(page);
            }
        });
    }

    /// Changes rows in place, and notes those that are new.
    fn merge(self, page: Recordings) {
        if self.rows.with_untracked(Vec::is_empty) {
            // Nobody is pointing at a row, so nothing can move away under them.
            if !page.recordings.is_empty() {
                self.next.set(page.next);
                self.rows.set(page.recordings.into_iter().map(Row::new).collect());
            }
            return;
        }
        let rows = self.rows.get_untracked();
        let newest = rows.first().map(|row| row.recording.with_untracked(|it| it.started_at));
        let mut arrived = Vec::new();
        for recording in page.recordings {
            match rows.iter().find(|row| row.id == recording.id) {
                Some(row) if row.recording.with_untracked(|old| *old != recording) => {
                    row.recording.set(recording);
                }
                Some(_) => {}
                None if Some(recording.started_at) >= newest => arrived.push(recording),
                // Below the newest row: it changed into what is searched for, and shows at the
                // next search.
                None => {}
            }
        }
        if self.arrived.with_untracked(|shown| *shown != arrived) {
            self.arrived.set(arrived);
        }
    }

    /// The call before (-1) or after (1) this one in the list.
    pub fn neighbour(self, id: RecordingId, step: isize) -> Option<RecordingId> {
        self.rows.with_untracked(|rows| {
            let at = rows.iter().position(|row| row.id == id)?;
            rows.get(at.checked_add_signed(step)?).map(|row| row.id)
        })
    }
}
