//! What the journal knows of itself: a fold over its records.
//!
//! The writer folds every record once it is synced and writes the result at the head of each
//! file; recovery reads one such snapshot and folds what follows. Both use [`State::fold`], so
//! that a start after a crash knows exactly what the writer knew.

use std::collections::BTreeMap;

use model::{Position, RecordingId, SessionId, TenantId, WallTime};
use serde::{Deserialize, Serialize};

use super::record::{self, Announced, ClockBody, Cut, Kind, Record, SessionBody, Stored};

/// How far something got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    pub position: Position,
    /// When the newest packet up to there arrived; absent before the first packet.
    pub newest_packet: Option<WallTime>,
}

/// A session that is still recorded, as the snapshot has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveEntry {
    pub tenant: TenantId,
    /// Recordings that began and did not end.
    pub recordings: BTreeMap<RecordingId, LiveRecording>,
    /// Sealed under the local key; empty when none was journaled.
    pub dialog: Vec<u8>,
    /// The session's newest record, and when that happened.
    pub last_position: Position,
    pub last_wall: WallTime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveRecording {
    pub started_at: WallTime,
    pub started_boot_ns: u64,
}

/// Everything of [`State`] but the live sessions, which have a record each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The newest record folded.
    pub last: Position,
    pub newest_packet: Option<WallTime>,
    /// The slice that was cut and is not stored.
    pub open_cut: Option<Cut>,
    /// End of the newest cut.
    pub cut_through: Position,
    pub stored: Reached,
    pub events_through: Position,
    pub announced: Reached,
    /// The newest record that a segment must carry.
    pub newest_of_session: Position,
    /// The newest record that has to be told to the queue.
    pub newest_event: Position,
    pub clock: Option<ClockBody>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub head: Head,
    pub live: BTreeMap<SessionId, LiveEntry>,
}

impl State {
    /// Takes over one synced record. A body that cannot be read changes nothing but `last`: its
    /// checksum was right, so a newer release wrote it.
    pub fn fold(&mut self, record: &Record) {
        self.fold_parts(record.kind, record.position, &record.body);
    }

    pub fn fold_parts(&mut self, kind: Kind, position: Position, body: &[u8]) {
        let head = &mut self.head;
        head.last = head.last.max(position);
        match kind {
            Kind::Clock => head.clock = ClockBody::parse(body).or(head.clock),
            Kind::Event => head.newest_event = position,
            Kind::Cut => {
                if let Some(cut) = record::from_body::<Cut>(body) {
                    head.cut_through = head.cut_through.max(cut.last);
                    head.open_cut = Some(cut);
                }
            }
            Kind::Stored => {
                if let Some(stored) = record::from_body::<Stored>(body) {
                    head.stored.position = head.stored.position.max(stored.through);
                    head.stored.newest_packet = head.stored.newest_packet.max(stored.newest_packet);
                    head.open_cut = head.open_cut.filter(|cut| cut.last > stored.through);
                    head.newest_event = position;
                }
            }
            Kind::Announced => {
                if let Some(announced) = record::from_body::<Announced>(body) {
                    head.events_through = head.events_through.max(announced.events_through);
                    head.announced.position = head.announced.position.max(announced.stored_through);
                    head.announced.newest_packet =
                        head.announced.newest_packet.max(announced.newest_packet);
                }
            }
            Kind::SnapshotHead | Kind::SnapshotSession => {}
            Kind::Dialog => {
                if let Some(body) = SessionBody::parse(body) {
                    self.fold_session(kind, position, &body);
                }
            }
            Kind::Key
            | Kind::Packets
            | Kind::Metadata
            | Kind::Streams
            | Kind::Mark
            | Kind::Started
            | Kind::Ended => {
                head.newest_of_session = position;
                if let Some(body) = SessionBody::parse(body) {
                    if !body.event.is_empty() {
                        head.newest_event = position;
                    }
                    if kind == Kind::Packets {
                        head.newest_packet = head.newest_packet.max(Some(body.wall));
                    }
                    self.fold_session(kind, position, &body);
                }
            }
        }
    }

    fn fold_session(&mut self, kind: Kind, position: Position, body: &SessionBody<'_>) {
        if body.session_over {
            self.live.remove(&body.session);
            return;
        }
        // A record after the end of its session (a late packet) does not bring it back.
        if kind != Kind::Started && !self.live.contains_key(&body.session) {
            return;
        }
        let entry = self.live.entry(body.session).or_insert_with(|| LiveEntry {
            tenant: body.tenant.clone(),
            recordings: BTreeMap::new(),
            dialog: Vec::new(),
            last_position: position,
            last_wall: body.wall,
        });
        entry.last_position = position;
        entry.last_wall = entry.last_wall.max(body.wall);
        match kind {
            Kind::Started => {
                // A resumed session says again that it started; the first time stands.
                entry.recordings.entry(body.recording).or_insert(LiveRecording {
                    started_at: body.wall,
                    started_boot_ns: body.boot_ns,
                });
            }
            Kind::Ended => {
                entry.recordings.remove(&body.recording);
            }
            Kind::Dialog => entry.dialog = body.payload.to_vec(),
            _ => {}
        }
    }

    /// Up to where the object store has everything that has to go there.
    pub fn stored_through(&self) -> Position {
        if self.head.newest_of_session <= self.head.stored.position {
            self.head.last
        } else {
            self.head.stored.position
        }
    }

    /// Up to where nothing of this journal is needed any more: a file that ends here may be used
    /// again. What is left behind the last call (clocks, the journal's own notes) needs nobody.
    pub fn announced_through(&self) -> Position {
        let media = if self.head.newest_of_session <= self.head.announced.position {
            self.head.last
        } else {
            self.head.announced.position
        };
        let events = if self.head.newest_event <= self.head.events_through {
            self.head.last
        } else {
            self.head.events_through
        };
        media.min(events)
    }
}
