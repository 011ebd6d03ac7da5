//! What can be asked of the list of recordings, and how its pages are joined.

use serde::{Deserialize, Serialize};

use crate::attribution::Assignment;
use crate::id::RecordingId;
use crate::recording::Status;
use crate::time::WallTime;

/// Rows per page when the client does not say.
pub const DEFAULT_LIMIT: usize = 100;
/// The most rows a page may have.
pub const MAX_LIMIT: usize = 1_000;

/// One question; all conditions hold together. Newest recordings come first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchQuery {
    /// Started at or after.
    pub from: Option<WallTime>,
    /// Started before.
    pub to: Option<WallTime>,
    /// Free text: every word must be found, folded ([`fold`]), in names, numbers, ids or flags.
    pub q: Option<String>,
    pub status: Option<Status>,
    /// Part of a participant's name or address, folded.
    pub party: Option<String>,
    /// Calls of this user.
    pub user: Option<String>,
    /// Calls of this group.
    pub group: Option<String>,
    /// Only calls that one of these covers: what whoever asks may see. Nothing for an empty list.
    pub scope: Option<Vec<Assignment>>,
    /// At least this long.
    pub min_seconds: Option<u32>,
    /// 1 to [`MAX_LIMIT`].
    pub limit: usize,
    pub after: Option<Cursor>,
}

impl Default for SearchQuery {
    fn default() -> Self {
        Self {
            from: None,
            to: None,
            q: None,
            status: None,
            party: None,
            user: None,
            group: None,
            scope: None,
            min_seconds: None,
            limit: DEFAULT_LIMIT,
            after: None,
        }
    }
}

/// One page and where the next begins; no total, because counting costs as much as reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub next: Option<Cursor>,
}

/// The last row of a page. Stable while rows are added: it names a row, not an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    pub started_at: WallTime,
    pub id: RecordingId,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a cursor of this API: pass `next` of the page before, unchanged")]
pub struct InvalidCursor(pub String);

impl Cursor {
    pub fn encode(&self) -> String {
        format!("1.{:x}.{}", self.started_at.unix_ms(), self.id.0.simple())
    }

    pub fn decode(text: &str) -> Result<Self, InvalidCursor> {
        let parse = || {
            let (time, id) = text.strip_prefix("1.")?.split_once('.')?;
            let started_at = WallTime::from_unix_ms(i64::from_str_radix(time, 16).ok()?);
            Some(Self { started_at, id: id.parse().ok()? })
        };
        parse().ok_or_else(|| InvalidCursor(text.chars().take(80).collect()))
    }
}

/// Folds text for searching: lower case, and Latin letters without their accents, so that
/// `novak` finds `Eva Novák`.
pub fn fold(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).flat_map(fold_char).collect()
}

/// The base letters of an accented Latin letter. Covers Latin-1, Latin Extended-A and combining
/// marks, which is what SRCs send in display names.
fn fold_char(c: char) -> impl Iterator<Item = char> {
    let folded = match c {
        'à'..='å' | 'ā' | 'ă' | 'ą' => "a",
        'æ' => "ae",
        'ç' | 'ć' | 'ĉ' | 'ċ' | 'č' => "c",
        'ď' | 'đ' | 'ð' => "d",
        'è'..='ë' | 'ē' | 'ĕ' | 'ė' | 'ę' | 'ě' => "e",
        'ĝ' | 'ğ' | 'ġ' | 'ģ' => "g",
        'ĥ' | 'ħ' => "h",
        'ì'..='ï' | 'ĩ' | 'ī' | 'ĭ' | 'į' | 'ı' => "i",
        'ĵ' => "j",
        'ķ' => "k",
        'ĺ' | 'ļ' | 'ľ' | 'ŀ' | 'ł' => "l",
        'ñ' | 'ń' | 'ņ' | 'ň' => "n",
        'ò'..='ö' | 'ø' | 'ō' | 'ŏ' | 'ő' => "o",
        'œ' => "oe",
        'ŕ' | 'ŗ' | 'ř' => "r",
        'ś' | 'ŝ' | 'ş' | 'š' | 'ș' => "s",
        'ß' => "ss",
        'ţ' | 'ť' | 'ŧ' | 'ț' => "t",
        'ù'..='ü' | 'ũ' | 'ū' | 'ŭ' | 'ů' | 'ű' | 'ų' => "u",
        'ŵ' => "w",
        'ý' | 'ÿ' | 'ŷ' => "y",
        'ź' | 'ż' | 'ž' => "z",
        '\u{300}'..='\u{36f}' => "",
        _ => return Folded::Same(std::iter::once(c)),
    };
    Folded::Other(folded.chars())
}

enum Folded {
    Same(std::iter::Once<char>),
    Other(std::str::Chars<'static>),
}

impl Iterator for Folded {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        match self {
            Self::Same(one) => one.next(),
            Self::Other(chars) => chars.next(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_accent_does_not_hide_a_name() {
        assert_eq!(fold("Eva Novák"), "eva novak");
        assert_eq!(fold("STRAẞE Øst"), "strasse ost");
        assert_eq!(fold("Nova\u{301}k"), "novak");
    }

    #[test]
    fn a_cursor_survives_its_text_and_nothing_else_is_one() {
        let cursor = Cursor {
            started_at: WallTime::from_unix_ms(1_700_000_000_123),
            id: RecordingId::at(1_700_000_000_123, [3; 10]),
        };
        assert_eq!(Cursor::decode(&cursor.encode()), Ok(cursor));
        for bad in ["", "1.", "1.zz.x", "2.18bcfe5680b.00", "ünïcode", "1.-.-"] {
            assert!(Cursor::decode(bad).is_err(), "{bad:?}");
        }
    }
}
