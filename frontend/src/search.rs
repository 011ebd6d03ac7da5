//! The question behind the list, as it stands in the address and as it is put to the API.
//!
//! The address is the state: copying it is how a search is shared. It leaves out what is at its
//! default and keeps a relative range relative, so that `from=now-7d` is still the last seven
//! days tomorrow.

use std::fmt;

use model::{Status, WallTime};

/// What the address says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Free text and typed terms, as typed.
    pub q: String,
    pub from: Since,
    pub to: Option<WallTime>,
    pub status: Option<Status>,
}

/// The begin of the range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    Minutes(u32),
    /// Since midnight where the person is.
    Today,
    At(WallTime),
}

/// The ranges that are one press away, and what they are called.
pub const PRESETS: [(Since, &str); 5] = [
    (Since::Minutes(15), "15 min"),
    (Since::Minutes(60), "1 hour"),
    (Since::Today, "Today"),
    (Since::DEFAULT, "7 days"),
    (Since::Minutes(30 * 24 * 60), "30 days"),
];

/// The time of the person, passed in because what it is good for is tested without a browser.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub unix_ms: i64,
    pub midnight_ms: i64,
}

impl Since {
    pub const DEFAULT: Self = Self::Minutes(7 * 24 * 60);

    fn parse(text: &str) -> Option<Self> {
        if text == "today" {
            return Some(Self::Today);
        }
        let Some(ago) = text.strip_prefix("now-") else {
            return WallTime::parse(text).ok().map(Self::At);
        };
        let unit = match ago.chars().last()? {
            'm' => 1,
            'h' => 60,
            'd' => 24 * 60,
            _ => return None,
        };
        // The unit is one byte long.
        let number: u32 = ago[..ago.len() - 1].parse().ok()?;
        number.checked_mul(unit).map(Self::Minutes)
    }

    fn resolve(self, now: Now) -> WallTime {
        match self {
            Self::Minutes(minutes) => {
                WallTime::from_unix_ms(now.unix_ms.saturating_sub(i64::from(minutes) * 60_000))
            }
            Self::Today => WallTime::from_unix_ms(now.midnight_ms),
            Self::At(time) => time,
        }
    }
}

impl fmt::Display for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Minutes(minutes) if minutes % (24 * 60) == 0 => {
                write!(f, "now-{}d", minutes / (24 * 60))
            }
            Self::Minutes(minutes) if minutes % 60 == 0 => write!(f, "now-{}h", minutes / 60),
            Self::Minutes(minutes) => write!(f, "now-{minutes}m"),
            Self::Today => f.write_str("today"),
            Self::At(time) => time.fmt(f),
        }
    }
}

impl Default for Filter {
    fn default() -> Self {
        Self { q: String::new(), from: Since::DEFAULT, to: None, status: None }
    }
}

impl Filter {
    /// Reads the address; what it cannot read is as if it were not there.
    pub fn read(parameter: impl Fn(&str) -> Option<String>) -> Self {
        Self {
            q: parameter("q").unwrap_or_default(),
            from: parameter("from").and_then(|text| Since::parse(&text)).unwrap_or(Since::DEFAULT),
            to: parameter("to").and_then(|text| WallTime::parse(&text).ok()),
            status: parameter("status").and_then(|text| Status::parse(&text)),
        }
    }

    /// The address of the list with this filter.
    pub fn address(&self) -> String {
        let mut pairs = Vec::new();
        if !self.q.trim().is_empty() {
            pairs.push(("q", self.q.clone()));
        }
        if self.from != Since::DEFAULT {
            pairs.push(("from", self.from.to_string()));
        }
        if let Some(to) = self.to {
            pairs.push(("to", to.to_string()));
        }
        if let Some(status) = self.status {
            pairs.push(("status", status.as_str().to_owned()));
        }
        if pairs.is_empty() {
            "/recordings".to_owned()
        } else {
            format!("/recordings?{}", encode_pairs(&pairs))
        }
    }

    /// Whether the range is all that narrows the list.
    pub fn is_only_a_range(&self) -> bool {
        self.q.trim().is_empty() && self.status.is_none()
    }

    /// What to ask the API for.
    pub fn request(&self, now: Now) -> Result<Request, TermError> {
        let mut request = Request {
            from: self.from.resolve(now),
            to: self.to,
            status: self.status,
            words: Vec::new(),
            party: None,
            user: None,
            group: None,
            min_seconds: None,
        };
        for term in terms(&self.q) {
            request.add(term)?;
        }
        Ok(request)
    }
}

/// One question to the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    from: WallTime,
    to: Option<WallTime>,
    status: Option<Status>,
    words: Vec<String>,
    party: Option<String>,
    user: Option<String>,
    group: Option<String>,
    min_seconds: Option<u32>,
}

/// A typed term that means nothing. Said instead of searched: an empty list would be a lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TermError {
    UnknownKey(String),
    NotALength(String),
    NotAState(String),
}

impl fmt::Display for TermError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKey(key) => write!(
                f,
                "“{key}:” is not a filter. There are party:, user:, group:, dur: and state:. \
                 To search for the text itself, put it in quotes."
            ),
            Self::NotALength(text) => {
                write!(f, "“dur:{text}” is not a length. Write dur:>120 for calls over 2 minutes.")
            }
            Self::NotAState(text) => {
                let known = Status::ALL.map(Status::as_str).join(", ");
                write!(f, "“state:{text}” is not a state. There are {known}.")
            }
        }
    }
}

impl Request {
    fn add(&mut self, term: Term) -> Result<(), TermError> {
        let Some(key) = term.key else {
            self.words.push(term.value);
            return Ok(());
        };
        match key.as_str() {
            "party" => self.party = Some(term.value),
            "user" | "agent" => self.user = Some(term.value),
            "group" => self.group = Some(term.value),
            "dur" => {
                let digits = term.value.trim_start_matches(['>', '=']);
                let seconds = digits.parse().map_err(|_| TermError::NotALength(term.value))?;
                self.min_seconds = Some(seconds);
            }
            "state" | "status" => {
                let status = Status::parse(&term.value).ok_or(TermError::NotAState(term.value))?;
                self.status = Some(status);
            }
            _ => return Err(TermError::UnknownKey(key)),
        }
        Ok(())
    }

    /// The query of `GET /v1/recordings`.
    pub fn query_string(&self, cursor: Option<&str>) -> String {
        let mut pairs = vec![("from", self.from.to_string())];
        let mut add = |name, value: Option<String>| pairs.extend(value.map(|value| (name, value)));
        add("to", self.to.map(|to| to.to_string()));
        add("q", (!self.words.is_empty()).then(|| self.words.join(" ")));
        add("status", self.status.map(|status| status.as_str().to_owned()));
        add("party", self.party.clone());
        add("user", self.user.clone());
        add("group", self.group.clone());
        add("min_seconds", self.min_seconds.map(|seconds| seconds.to_string()));
        add("limit", Some(model::search::DEFAULT_LIMIT.to_string()));
        add("cursor", cursor.map(str::to_owned));
        encode_pairs(&pairs)
    }
}

struct Term {
    key: Option<String>,
    value: String,
}

/// Schemes of the addresses that people paste: `sip:ana@example.com` is no typed term.
const SCHEMES: [&str; 4] = ["sip", "sips", "tel", "urn"];

/// Splits at spaces; what stands in quotes is one word and never a typed term.
fn terms(q: &str) -> Vec<Term> {
    let mut terms = Vec::new();
    for (number, part) in q.split('"').enumerate() {
        if number % 2 == 1 {
            if !part.trim().is_empty() {
                terms.push(Term { key: None, value: part.trim().to_owned() });
            }
            continue;
        }
        for word in part.split_whitespace() {
            let typed = word.split_once(':').filter(|(key, value)| {
                let is_word = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphabetic());
                is_word && !value.is_empty() && !SCHEMES.contains(key)
            });
            terms.push(match typed {
                Some((key, value)) => {
                    Term { key: Some(key.to_ascii_lowercase()), value: value.to_owned() }
                }
                None => Term { key: None, value: word.to_owned() },
            });
        }
    }
    terms
}

fn encode_pairs(pairs: &[(&str, String)]) -> String {
    let pairs: Vec<String> =
        pairs.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
    pairs.join("&")
}

/// Percent-encoding for a query (RFC 3986 §3.4), leaving what is readable there readable.
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => encoded.push(char::from(byte)),
            b'-' | b'.' | b'_' | b'~' | b':' | b'@' | b'/' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Now = Now { unix_ms: 1_795_000_000_000, midnight_ms: 1_794_960_000_000 };

    fn read(pairs: &[(&str, &str)]) -> Filter {
        Filter::read(|name| pairs.iter().find(|pair| pair.0 == name).map(|pair| pair.1.to_owned()))
    }

    #[test]
    fn an_address_leaves_out_what_is_at_its_default() {
        assert_eq!(read(&[]).address(), "/recordings");
        assert_eq!(read(&[("from", "now-7d"), ("q", " ")]).address(), "/recordings");
        assert_eq!(read(&[("from", "nonsense"), ("status", "odd")]), Filter::default());
    }

    #[test]
    fn a_filter_survives_its_address() {
        let filter = read(&[("q", "ana +1 & \"x\""), ("from", "now-1h"), ("status", "partial")]);
        assert_eq!(
            filter.address(),
            "/recordings?q=ana%20%2B1%20%26%20%22x%22&from=now-1h&status=partial"
        );
        for text in ["now-15m", "now-36h", "now-30d", "today", "2026-11-22T14:00:00.000Z"] {
            assert_eq!(read(&[("from", text)]).from.to_string(), text);
        }
        assert_eq!(Since::parse("now-ü"), None);
        assert_eq!(Since::parse("now-99999999d"), None);
    }

    #[test]
    fn a_relative_range_is_resolved_when_it_is_asked() {
        let request = read(&[("from", "now-15m")]).request(NOW).unwrap();
        assert_eq!(request.from.unix_ms(), NOW.unix_ms - 15 * 60_000);
        let today = read(&[("from", "today")]).request(NOW).unwrap();
        assert_eq!(today.from.unix_ms(), NOW.midnight_ms);
    }

    #[test]
    fn typed_terms_become_parameters_and_the_rest_is_searched() {
        let filter = read(&[("q", "nova party:+1415 dur:>120 state:partial sip:ana@x \"a:b c\"")]);
        let query = filter.request(NOW).unwrap().query_string(Some("1.a.b"));
        for part in [
            "q=nova%20sip:ana@x%20a:b%20c",
            "party=%2B1415",
            "min_seconds=120",
            "status=partial",
            "limit=100",
            "cursor=1.a.b",
        ] {
            assert!(query.split('&').any(|pair| pair == part), "{part} in {query}");
        }
    }

    #[test]
    fn a_misspelt_key_is_said_and_not_searched() {
        let error = read(&[("q", "agnet:ana")]).request(NOW).unwrap_err();
        assert_eq!(error, TermError::UnknownKey("agnet".to_owned()));
        assert!(read(&[("q", "dur:long")]).request(NOW).is_err());
        assert!(read(&[("q", "state:gone")]).request(NOW).is_err());
        // An id with a colon in it, and a term that is still being typed.
        assert!(read(&[("q", "10.0.0.1:5060 party:")]).request(NOW).is_ok());
    }
}
