//! A call as its readers see it: records that can be read again, what they come to, and the
//! samples of any part of it.

use std::ops::{Deref, Range};
use std::sync::Arc;

use model::call::CallFacts;
use model::{Position, RecordingId, SessionId};
use segment::{Opener, SealError, SessionRecord};
use sha2::{Digest as _, Sha256};

use crate::manifest;
use crate::mix::Selection;
use crate::peaks::{Peaks, PeaksBuilder};
use crate::plan::Plan;
use crate::render::{LATEST_NS, PRE_ROLL_NS, Renderer, axis_of};
use crate::survey::Survey;
use crate::wav::BLOCK;

const SECOND_NS: i64 = 1_000_000_000;

/// Why a call cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The wrong tenant key, erased keys, or an old release: building on would give silence.
    #[error("the records do not open")]
    Sealed(#[source] SealError),
    /// What holds the records failed.
    #[error("the records cannot be read")]
    Records(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A session's records in order of position, from somewhere on.
pub type RecordIter<'a> = Box<dyn Iterator<Item = Result<SessionRecord, ReadError>> + Send + 'a>;

/// The records of one session, which can be read more than once: in memory, or in a file where
/// they are too many.
pub trait Records: Send + Sync {
    /// Those at `position` and after it. It may begin earlier.
    fn from(&self, position: Position) -> RecordIter<'_>;
}

impl Records for Vec<SessionRecord> {
    fn from(&self, position: Position) -> RecordIter<'_> {
        let index = self.partition_point(|record| record.position < position);
        Box::new(self[index..].iter().cloned().map(Ok))
    }
}

/// A call, ready to be rendered. Everything about it but the sound is its [`Plan`].
pub struct Call {
    pub plan: Plan,
    survey: Arc<Survey>,
    records: Box<dyn Records>,
    opener: Arc<Opener>,
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call").field("plan", &self.plan).finish_non_exhaustive()
    }
}

impl Deref for Call {
    type Target = Plan;

    fn deref(&self) -> &Plan {
        &self.plan
    }
}

impl Call {
    /// Reads the records of a session once and lays one of its recordings onto call time.
    pub fn read(
        records: Box<dyn Records>,
        opener: Arc<Opener>,
        session: SessionId,
        recording: RecordingId,
        facts: &CallFacts,
    ) -> Result<Self, ReadError> {
        let mut survey = Survey::new(session, recording);
        for record in records.from(Position(0)) {
            survey.take(&record?, &opener).map_err(ReadError::Sealed)?;
        }
        Ok(Self::surveyed(Arc::new(survey), records, opener, facts))
    }

    /// A call whose records were read already, as they came.
    pub fn surveyed(
        survey: Arc<Survey>,
        records: Box<dyn Records>,
        opener: Arc<Opener>,
        facts: &CallFacts,
    ) -> Self {
        Self { plan: survey.plan(facts), survey, records, opener }
    }

    /// Every sample of every lane, silence included.
    pub fn samples(&self) -> Samples<'_> {
        self.part(0..self.plan.samples)
    }

    /// The samples of a part, which may end past the end of the call: silence follows.
    pub fn part(&self, part: Range<u64>) -> Samples<'_> {
        let left = part.end.saturating_sub(part.start);
        let (position, renderer) = Renderer::new(&self.plan, &self.survey, &self.opener, part);
        Samples {
            records: Some(self.records.from(position)),
            renderer,
            left,
            lanes: self.plan.lanes.len(),
        }
    }

    /// A name for all that decides how a part sounds: the same name, the same sound. `None` while
    /// the call lasts and records of the part may still come.
    pub fn fingerprint(&self, selection: Selection, part: Range<u64>) -> Option<String> {
        // Encoders settle on what lies before, and that needs a pre-roll of its own.
        let begin = axis_of(&self.plan, part.start).saturating_sub(2 * PRE_ROLL_NS);
        let end = axis_of(&self.plan, part.end).saturating_add(LATEST_NS);
        let mut digest = Sha256::new();
        digest.update(manifest::SOFTWARE);
        digest.update(self.plan.sample_rate.to_le_bytes());
        digest.update(format!("{selection:?} {}", part.end - part.start));
        for records in self.survey.digests(begin, end)? {
            digest.update(records);
        }
        for lane in &self.plan.lanes {
            digest.update(format!("{} {:?}", lane.stream, lane.channel));
            for (number, run) in lane.runs.iter().enumerate() {
                let Some(run) = run.as_ref().filter(|run| run.from <= end && run.to >= begin)
                else {
                    continue;
                };
                digest.update(number.to_le_bytes());
                let mut at = begin;
                while at < end {
                    let offset = run.place.offset_at(at).saturating_sub(self.plan.zero);
                    digest.update(offset.to_le_bytes());
                    at += SECOND_NS;
                }
            }
        }
        Some(digest.finalize()[..12].iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The waveform of the whole call.
    pub fn peaks(&self) -> Result<Peaks, ReadError> {
        let mut peaks = PeaksBuilder::new(&self.plan, 0..self.plan.samples);
        let mut blocks = vec![Vec::new(); self.plan.lanes.len()];
        let mut samples = self.samples();
        while samples.read(BLOCK, &mut blocks)? > 0 {
            peaks.take(&blocks);
        }
        Ok(peaks.finish())
    }

    /// All samples of one lane, in memory.
    pub fn lane(&self, lane: usize) -> Result<Vec<i16>, ReadError> {
        let mut blocks = vec![Vec::new(); self.plan.lanes.len()];
        let mut all = Vec::new();
        let mut samples = self.samples();
        while samples.read(BLOCK, &mut blocks)? > 0 {
            all.extend_from_slice(blocks.get(lane).map_or(&[], Vec::as_slice));
        }
        Ok(all)
    }
}

/// Reads samples from the first to the last.
pub struct Samples<'a> {
    renderer: Renderer<'a>,
    /// `None`: all were read.
    records: Option<RecordIter<'a>>,
    left: u64,
    lanes: usize,
}

impl Samples<'_> {
    /// The next samples of every lane, into one block each: as many as `at_most` and the part
    /// allow. Returns how many, 0 at the end.
    pub fn read(&mut self, at_most: usize, blocks: &mut [Vec<i16>]) -> Result<usize, ReadError> {
        let count = usize::try_from(self.left).unwrap_or(usize::MAX).min(at_most);
        while let Some(records) = &mut self.records
            && self.renderer.ready() < count
        {
            match records.next() {
                Some(record) => self.renderer.take(&record?).map_err(ReadError::Sealed)?,
                None => {
                    self.renderer.finish();
                    self.records = None;
                }
            }
        }
        self.left -= count as u64;
        for (lane, block) in blocks.iter_mut().enumerate().take(self.lanes) {
            block.resize(count, 0);
            self.renderer.read(lane, block);
        }
        Ok(count)
    }
}
