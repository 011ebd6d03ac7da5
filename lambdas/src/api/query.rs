//! Reads the query of `GET /v1/recordings`. What is not understood is refused by name: a typing
//! error in a filter must not quietly list every call.

use model::WallTime;
use model::recording::Status;
use model::search::{Cursor, MAX_LIMIT, SearchQuery};

use super::error::ApiError;

/// Longer texts are no search of a person.
const MAX_TEXT_CHARS: usize = 200;

/// The parameters, in the order in which the documentation lists them.
const NAMES: [&str; 10] =
    ["from", "to", "q", "status", "party", "user", "group", "min_seconds", "limit", "cursor"];

pub fn search_query(pairs: &[(String, String)]) -> Result<SearchQuery, ApiError> {
    known_once(pairs, &NAMES)?;
    let mut query = SearchQuery::default();
    for (name, value) in pairs {
        let bad =
            |what_is_right: &dyn std::fmt::Display| ApiError::bad_parameter(name, what_is_right);
        match name.as_str() {
            "from" => query.from = Some(WallTime::parse(value).map_err(|error| bad(&error))?),
            "to" => query.to = Some(WallTime::parse(value).map_err(|error| bad(&error))?),
            "q" => query.q = text(name, value)?,
            "status" => query.status = Some(status(value)?),
            "party" => query.party = text(name, value)?,
            "user" => query.user = text(name, value)?,
            "group" => query.group = text(name, value)?,
            "min_seconds" => {
                let parsed = value.parse();
                query.min_seconds =
                    Some(parsed.map_err(|_| bad(&"write whole seconds, such as 120"))?);
            }
            "limit" => {
                let parsed = value.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
                let limits = format!("write a number from 1 to {MAX_LIMIT}");
                query.limit = parsed.ok_or_else(|| bad(&limits))?;
            }
            _cursor => {
                query.after = Some(Cursor::decode(value).map_err(|error| {
                    let mut error = bad(&error);
                    error.code = "bad_cursor";
                    error
                })?);
            }
        }
    }
    if let (Some(from), Some(to)) = (query.from, query.to)
        && from > to
    {
        return Err(ApiError::bad_parameter("from", format!("{from} is after `to`, {to}")));
    }
    Ok(query)
}

/// Refuses names that are not in `known`, and a name that comes twice.
pub fn known_once(pairs: &[(String, String)], known: &[&str]) -> Result<(), ApiError> {
    for (at, (name, _)) in pairs.iter().enumerate() {
        let shown: String = name.chars().take(40).collect();
        if !known.contains(&name.as_str()) {
            let right = if known.is_empty() {
                "there is no such parameter; this path takes none".to_owned()
            } else {
                format!("there is no such parameter; there are {}", known.join(", "))
            };
            return Err(ApiError::bad_parameter(&shown, right));
        }
        if pairs[..at].iter().any(|(earlier, _)| earlier == name) {
            return Err(ApiError::bad_parameter(&shown, "give it once"));
        }
    }
    Ok(())
}

/// An empty text asks for nothing, as a form with an empty field does.
fn text(name: &str, value: &str) -> Result<Option<String>, ApiError> {
    if value.chars().count() > MAX_TEXT_CHARS {
        let right = format!("write at most {MAX_TEXT_CHARS} characters");
        return Err(ApiError::bad_parameter(name, right));
    }
    let trimmed = value.trim();
    Ok((!trimmed.is_empty()).then(|| trimmed.to_owned()))
}

fn status(value: &str) -> Result<Status, ApiError> {
    Status::parse(value).ok_or_else(|| {
        let all = Status::ALL.map(Status::as_str).join(", ");
        ApiError::bad_parameter("status", format!("there are {all}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<SearchQuery, ApiError> {
        let pairs: Vec<_> =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        search_query(&pairs)
    }

    #[test]
    fn every_parameter_reaches_the_search() {
        let query = read(&[
            ("from", "2026-11-22T00:00:00Z"),
            ("to", "2026-11-23T00:00:00+01:00"),
            ("q", " novak "),
            ("status", "partial"),
            ("party", "+1415"),
            ("user", "ana"),
            ("group", "sales"),
            ("min_seconds", "120"),
            ("limit", "1000"),
        ])
        .unwrap();
        assert_eq!(query.from, WallTime::parse("2026-11-22T00:00:00Z").ok());
        assert_eq!(query.to, WallTime::parse("2026-11-22T23:00:00Z").ok());
        assert_eq!(query.q.as_deref(), Some("novak"));
        assert_eq!(query.status, Some(Status::Partial));
        assert_eq!(query.party.as_deref(), Some("+1415"));
        assert_eq!(query.user.as_deref(), Some("ana"));
        assert_eq!(query.group.as_deref(), Some("sales"));
        assert_eq!((query.min_seconds, query.limit), (Some(120), 1000));
    }

    #[test]
    fn what_is_wrong_is_named_with_what_is_right() {
        for (pairs, named) in [
            (&[("from", "yesterday")][..], "2026-11-22T14:00:00Z"),
            (&[("status", "Stored")], "recording, finalizing, stored, partial"),
            (&[("status", "")], "recording, finalizing"),
            (&[("limit", "0")], "1 to 1000"),
            (&[("limit", "1001")], "1 to 1000"),
            (&[("limit", "-1")], "1 to 1000"),
            (&[("min_seconds", "1.5")], "whole seconds"),
            (&[("min_seconds", "99999999999")], "whole seconds"),
            (&[("cursor", "")], "pass `next`"),
            (&[("colour", "red")], "`colour`"),
            (&[("q", "a"), ("q", "b")], "once"),
            (&[("from", "2026-11-23T00:00:00Z"), ("to", "2026-11-22T00:00:00Z")], "after `to`"),
        ] {
            let error = read(pairs).unwrap_err();
            assert_eq!(error.status.as_u16(), 400);
            assert!(error.message.contains(named), "{pairs:?}: {}", error.message);
            let (last, _) = pairs[0];
            assert!(error.message.contains(last), "{pairs:?}: {}", error.message);
        }
        assert_eq!(read(&[("cursor", "1.zz.x")]).unwrap_err().code, "bad_cursor");
    }
}
