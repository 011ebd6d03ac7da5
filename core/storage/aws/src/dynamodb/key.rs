//! Keys of the one table: the only place where they are put together.
//!
//! ```text
//! pk              sk             what
//! C#tenant#id     A              a recording: the folds of its events
//!                 D#position     a metadata document as received
//!                 X#word         leads to it: a word of a name, a flag       gsi2
//!                 I#id           an id of the call, exactly                  gsi2
//!                 U#user         a user who took part                        gsi2
//!                 N#digits       a number, from its beginning and its end    gsi2, gsi1
//! DAYS#tenant     yyyy-mm-dd     a day that has recordings, and its shards
//! WORDS#tenant#…  suffix#word    words that exist, by every suffix
//! J#journal       A              what is known of a journal
//!                 LIVE           calls in progress at its newest beat
//!                 CMD#command    the outcome of a command
//! USERS           login          an account
//! GROUPS#tenant   name           a group of users
//! S#token         A              a sign-in; and under SU#login, token
//!
//! gsi1  T#tenant#D#day#shard   start#id         recordings of a day
//!       T#tenant#R#last4       reversed#start#id
//! gsi2  T#tenant#X#word        start#id         (and I#, U#)
//!       T#tenant#N#first5      digits#start#id
//!       J#journal              L#… E#end#… T#mark#… P#…     what waits for its journal
//! gsi3  W#LIVE#tenant          start#id         calls in progress
//!       W#EXP#tenant#shard     start#id         recordings that are over and not held
//!       W#PURGE#tenant         start#id         purges that were begun and not ended
//!       W#JOURNALS             journal
//! ```
//!
//! `start` is the start in milliseconds in 15 digits, so that texts sort as times do.

use model::{JournalId, Position, RecordingId, TenantId, WallTime};

/// Sort key of the one item that stands for a whole partition.
pub const SELF: &str = "A";
pub const LIVE: &str = "LIVE";
pub const USERS: &str = "USERS";
pub const JOURNALS: &str = "W#JOURNALS";

/// Leading digits of a number that its partition is named by.
const NUMBER_PREFIX: usize = 5;
/// Final digits of a number that its partition is named by.
const NUMBER_SUFFIX: usize = 4;
/// Letters of a word that its entry in the dictionary is filed under; shorter words are not in it.
pub const WORD_PREFIX: usize = 3;
/// A key may have 1,024 bytes, with everything around it. What differs only after that many
/// bytes is filed together, and told apart when the recording is read.
const MAX_TEXT_BYTES: usize = 400;
/// Over how many partitions recordings that are over are spread. The same for all times, so that
/// what is due is found without knowing the days there were; each takes about 250 calls a second.
pub const EXPIRY_SHARDS: u8 = 16;
/// Milliseconds from the year 0, the first that a time can be of, to 1970.
const YEAR_0_MS: i64 = 62_167_219_200_000;

pub fn recording(tenant: &TenantId, id: RecordingId) -> String {
    format!("C#{tenant}#{}", id.0.simple())
}

pub fn document(position: Position) -> String {
    format!("D#{:020}", position.0)
}

pub fn position_of_document(sk: &str) -> Option<Position> {
    sk.strip_prefix("D#")?.parse().ok().map(Position)
}

pub fn journal(journal: JournalId) -> String {
    format!("J#{}", journal.0.simple())
}

pub fn session(token_sha256: &[u8; 32]) -> String {
    format!("S#{}", hex(token_sha256))
}

pub fn sessions_of(login: &model::UserId) -> String {
    format!("SU#{login}")
}

pub fn groups(tenant: &TenantId) -> String {
    format!("GROUPS#{tenant}")
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn start(at: WallTime) -> String {
    format!("{:015}", at.unix_ms() + YEAR_0_MS)
}

/// Where a recording stands in order of time, among those of one tenant.
pub fn entry(at: WallTime, id: RecordingId) -> String {
    format!("{}#{}", start(at), id.0.simple())
}

pub fn parse_entry(entry: &str) -> Option<(WallTime, RecordingId)> {
    let (start, id) = entry.split_once('#')?;
    Some((parse_start(start)?, id.parse().ok()?))
}

pub fn parse_start(start: &str) -> Option<WallTime> {
    Some(WallTime::from_unix_ms(start.parse::<i64>().ok()? - YEAR_0_MS))
}

/// The date of a time, in UTC.
pub fn day(at: WallTime) -> String {
    let mut text = at.to_string();
    text.truncate("yyyy-mm-dd".len());
    text
}

pub fn days(tenant: &TenantId) -> String {
    format!("DAYS#{tenant}")
}

pub fn list(tenant: &TenantId, day: &str, shard: u8) -> String {
    format!("T#{tenant}#D#{day}#{shard}")
}

/// The shard of a recording, the same wherever it is computed. The last byte of an id is random.
pub fn shard(id: RecordingId, shards: u8) -> u8 {
    id.0.as_bytes()[15] % shards.max(1)
}

pub fn live(tenant: &TenantId) -> String {
    format!("W#LIVE#{tenant}")
}

pub fn purging(tenant: &TenantId) -> String {
    format!("W#PURGE#{tenant}")
}

pub fn expiry(tenant: &TenantId, shard: u8) -> String {
    format!("W#EXP#{tenant}#{shard}")
}

/// Ways to look a recording up, one text each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    Word,
    Id,
    User,
}

impl Lookup {
    fn letter(self) -> char {
        match self {
            Self::Word => 'X',
            Self::Id => 'I',
            Self::User => 'U',
        }
    }

    pub fn sk(self, text: &str) -> String {
        format!("{}#{}", self.letter(), cut(text))
    }

    pub fn partition(self, tenant: &TenantId, text: &str) -> String {
        format!("T#{tenant}#{}#{}", self.letter(), cut(text))
    }
}

pub fn number_sk(digits: &str) -> String {
    format!("N#{}", cut(digits))
}

/// Partition of the numbers that begin as this one does, of at least [`NUMBER_PREFIX`] digits.
pub fn number_prefix(tenant: &TenantId, digits: &str) -> Option<String> {
    let prefix = digits.get(..NUMBER_PREFIX)?;
    Some(format!("T#{tenant}#N#{prefix}"))
}

/// Partition of the numbers that end as this one does, of at least [`NUMBER_SUFFIX`] digits.
pub fn number_suffix(tenant: &TenantId, digits: &str) -> Option<String> {
    let suffix = digits.get(digits.len().checked_sub(NUMBER_SUFFIX)?..)?;
    Some(format!("T#{tenant}#R#{suffix}"))
}

/// Sort key in either of them.
pub fn number_entry(digits: &str, entry: &str) -> String {
    format!("{}#{entry}", cut(digits))
}

pub fn reversed(digits: &str) -> String {
    digits.chars().rev().collect()
}

/// Partition of the dictionary in which texts stand that begin as `text` does.
pub fn words(tenant: &TenantId, text: &str) -> Option<String> {
    let end = text.char_indices().nth(WORD_PREFIX - 1).map(|(at, c)| at + c.len_utf8())?;
    Some(format!("WORDS#{tenant}#{}", &text[..end]))
}

/// Every place in the dictionary that leads to `word`: its suffixes of three letters and more.
pub fn suffixes(word: &str) -> impl Iterator<Item = &str> {
    let word = cut(word);
    let letters = word.chars().count();
    let starts = word.char_indices().map(|(at, _)| at);
    starts.take((letters + 1).saturating_sub(WORD_PREFIX)).map(move |at| &word[at..])
}

/// Between a suffix and its word. No folded word has it: it separates words.
pub const BETWEEN: char = '\n';

/// At most [`MAX_TEXT_BYTES`] of a text, and never nothing: no key may be empty.
pub fn cut(text: &str) -> &str {
    let mut end = text.len().min(MAX_TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    if end == 0 { "-" } else { &text[..end] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_sort_as_times_do_and_read_back() {
        let id = RecordingId::at(1, [7; 10]);
        let times = [i64::MIN, -1, 0, 1, 1_795_334_400_123, i64::MAX];
        let entries: Vec<String> =
            times.iter().map(|ms| entry(WallTime::from_unix_ms(*ms), id)).collect();
        assert!(entries.is_sorted(), "{entries:?}");
        for (ms, text) in times.iter().zip(&entries) {
            assert_eq!(parse_entry(text), Some((WallTime::from_unix_ms(*ms), id)));
        }
        assert_eq!(day(WallTime::from_unix_ms(1_795_334_400_123)), "2026-11-22");
    }

    #[test]
    fn every_part_of_a_word_is_the_beginning_of_one_of_its_suffixes() {
        let of = |word| suffixes(word).collect::<Vec<_>>();
        assert_eq!(of("novak"), ["novak", "ovak", "vak"]);
        assert_eq!(of("李小龍"), ["李小龍"]);
        assert_eq!(of("ab"), [""; 0]);
        let tenant = TenantId::default();
        assert_eq!(words(&tenant, "李小龍x").as_deref(), Some("WORDS#default#李小龍"));
        assert_eq!(words(&tenant, "ab"), None);
    }

    #[test]
    fn no_key_is_empty_or_longer_than_dynamodb_takes() {
        assert_eq!(cut(""), "-");
        let long = "ž".repeat(5_000);
        let tenant = TenantId::new("t".repeat(64)).unwrap();
        assert!(Lookup::Word.partition(&tenant, &long).len() <= 2_048);
        assert!(Lookup::Word.sk(&long).len() <= 1_024);
        let both = format!("{}{BETWEEN}{}", suffixes(&long).next().unwrap(), cut(&long));
        assert!(both.len() <= 1_024);
    }

    #[test]
    fn a_number_is_filed_by_its_first_five_and_its_last_four_digits() {
        let tenant = TenantId::default();
        assert_eq!(number_prefix(&tenant, "38612345678").as_deref(), Some("T#default#N#38612"));
        assert_eq!(number_suffix(&tenant, "38612345678").as_deref(), Some("T#default#R#5678"));
        assert_eq!(number_prefix(&tenant, "7001"), None);
        assert_eq!(number_suffix(&tenant, "7001").as_deref(), Some("T#default#R#7001"));
        assert_eq!(number_suffix(&tenant, "701"), None);
    }
}
