//! Takes a SIP body apart: SDP, metadata and whatever else came along (RFC 2046 §5.1, RFC 5621).
//!
//! SBCs assemble these bodies by hand, and it shows. Here a body is split also when
//!
//! - the closing delimiter is missing (Sonus), or text follows it;
//! - the delimiter is not the declared one: then the first line that looks like one is it;
//! - lines end in LF, headers have no space after the colon (BroadWorks) or a delimiter carries
//!   trailing spaces;
//! - the blank line between headers and content is missing.

/// How deep multiparts may lie in each other.
const LIMIT_DEPTH: usize = 4;

/// SIPREC needs two parts, CUBE sends three. Further ones are ignored.
const LIMIT_PARTS: usize = 64;

/// One part that is not itself a multipart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// With its parameters, as written. `text/plain` when there is none (RFC 2045 §5.2).
    pub content_type: String,
    /// With its parameters, as written.
    pub disposition: Option<String>,
    pub body: &'a [u8],
}

/// The parts of a body in their order. A body that is no multipart is its own only part.
pub fn split<'a>(content_type: &str, body: &'a [u8]) -> Vec<Part<'a>> {
    let mut parts = Vec::new();
    let whole = Part { content_type: content_type.trim().to_owned(), disposition: None, body };
    split_into(&mut parts, whole, 0);
    parts
}

fn split_into<'a>(parts: &mut Vec<Part<'a>>, part: Part<'a>, depth: usize) {
    if parts.len() >= LIMIT_PARTS {
        return;
    }
    if depth >= LIMIT_DEPTH || !is_multipart(&part.content_type) {
        parts.push(part);
        return;
    }
    let declared = parameter(&part.content_type, "boundary").filter(|text| !text.is_empty());
    let chunks = declared
        .map(|boundary| chunks(part.body, boundary.as_bytes()))
        .filter(|chunks| !chunks.is_empty())
        .or_else(|| Some(chunks_of_guess(part.body)))
        .unwrap_or_default();
    for chunk in chunks {
        split_into(parts, read_part(chunk), depth + 1);
    }
}

fn is_multipart(content_type: &str) -> bool {
    content_type
        .trim_start()
        .get(..10)
        .is_some_and(|start| start.eq_ignore_ascii_case("multipart/"))
}

/// The value of a parameter of a `Content-Type`, `charset` or `boundary`, unquoted.
pub fn parameter(content_type: &str, name: &str) -> Option<String> {
    let mut rest = content_type.split_once(';')?.1;
    loop {
        let (key, value) = rest.split_once('=')?;
        // A parameter without a value may stand before the one that has this value.
        let key = key.rsplit(';').next().unwrap_or_default().trim();
        let value = value.trim_start();
        let (value, after) = match value.strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => {
                let end = value.find(';').unwrap_or(value.len());
                (value[..end].trim().to_owned(), &value[end..])
            }
        };
        if key.eq_ignore_ascii_case(name) {
            return Some(value);
        }
        rest = after.split_once(';')?.1;
    }
}

/// The content of a quoted string whose opening quote is consumed, and what follows it.
fn unquote(text: &str) -> (String, &str) {
    let mut content = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return (content, &text[at + 1..]),
            '\\' => content.extend(letters.next().map(|(_, escaped)| escaped)),
            other => content.push(other),
        }
    }
    (content, "")
}

/// What lies between the delimiters; empty when there is none.
fn chunks<'a>(body: &'a [u8], boundary: &[u8]) -> Vec<&'a [u8]> {
    let mut chunks = Vec::new();
    let mut open: Option<usize> = None;
    for (start, end, next) in lines(body) {
        let Some(closing) = delimiter(&body[start..end], boundary) else { continue };
        if let Some(from) = open.take() {
            chunks.push(without_last_line_break(&body[from..start.max(from)]));
        }
        if closing {
            return chunks;
        }
        open = Some(next);
        if chunks.len() >= LIMIT_PARTS {
            return chunks;
        }
    }
    // No closing delimiter: the last part goes to the end.
    if let Some(from) = open.filter(|from| *from < body.len()) {
        chunks.push(&body[from..]);
    }
    chunks
}

/// For a body in which the declared boundary does not occur, or for which none is declared.
fn chunks_of_guess(body: &[u8]) -> Vec<&[u8]> {
    let guess = lines(body).map(|(start, end, _)| &body[start..end]).find_map(|line| {
        let boundary = line.strip_prefix(b"--")?.trim_ascii_end();
        (!boundary.is_empty() && !boundary.contains(&b' ')).then_some(boundary)
    });
    guess.map(|boundary| chunks(body, boundary)).unwrap_or_default()
}

/// Start, end and start of the next of each line; CRLF and LF end one.
fn lines(body: &[u8]) -> impl Iterator<Item = (usize, usize, usize)> + '_ {
    let mut start = 0;
    std::iter::from_fn(move || {
        if start >= body.len() {
            return None;
        }
        let rest = &body[start..];
        let (length, next) = match rest.iter().position(|&byte| byte == b'\n') {
            Some(at) => (at, start + at + 1),
            None => (rest.len(), body.len()),
        };
        let end = if rest[..length].ends_with(b"\r") { start + length - 1 } else { start + length };
        let line = (start, end, next);
        start = next;
        Some(line)
    })
}

/// Whether a line is a delimiter of this boundary, and then whether it is the closing one.
fn delimiter(line: &[u8], boundary: &[u8]) -> Option<bool> {
    let rest = line.strip_prefix(b"--")?.strip_prefix(boundary)?;
    let (closing, padding) = match rest.strip_prefix(b"--") {
        Some(padding) => (true, padding),
        None => (false, rest),
    };
    padding.trim_ascii().is_empty().then_some(closing)
}

/// The line break before a delimiter belongs to the delimiter (RFC 2046 §5.1.1).
fn without_last_line_break(chunk: &[u8]) -> &[u8] {
    let chunk = chunk.strip_suffix(b"\n").unwrap_or(chunk);
    chunk.strip_suffix(b"\r").unwrap_or(chunk)
}

/// Takes the headers off a part.
fn read_part(chunk: &[u8]) -> Part<'_> {
    let mut headers: Vec<(String, String)> = Vec::new();
    let mut body = &chunk[chunk.len()..];
    for (start, end, next) in lines(chunk) {
        let line = &chunk[start..end];
        if line.trim_ascii().is_empty() {
            body = &chunk[next..];
            break;
        }
        let text = String::from_utf8_lossy(line);
        if text.starts_with([' ', '\t']) && !headers.is_empty() {
            // A folded header goes on (RFC 5322 §2.2.3).
            let (_, value) = headers.last_mut().expect("checked to be non-empty");
            value.push(' ');
            value.push_str(text.trim());
            continue;
        }
        let Some((name, value)) = header(&text) else {
            // Content at once, without a blank line.
            body = &chunk[start..];
            break;
        };
        headers.push((name, value));
    }
    let find = |name: &str| {
        headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.clone())
    };
    if let Some(length) = find("Content-Length").and_then(|length| length.parse::<usize>().ok()) {
        // Only ever cuts what follows a last part without a delimiter behind it: the region up
        // to a delimiter can be shorter or longer than a hand-counted length says.
        if body.get(length..).is_some_and(|rest| rest.trim_ascii().is_empty()) {
            body = &body[..length];
        }
    }
    Part {
        content_type: find("Content-Type").unwrap_or_else(|| "text/plain".to_owned()),
        disposition: find("Content-Disposition"),
        body,
    }
}

/// `Name: value`, where the name is one that a part can have. Anything else is content, such as
/// `v=0` or `<?xml version="1.0"?>`.
fn header(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(':')?;
    let name = name.trim_end();
    let is_token = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    (!name.is_empty() && name.chars().all(is_token))
        .then(|| (name.to_owned(), value.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SDP: &str = "v=0\r\nm=audio 4000 RTP/AVP 0\r\n";
    const XML: &str = "<?xml version=\"1.0\"?>\r\n<recording xmlns:a='b:c'/>";

    fn bodies<'a>(parts: &'a [Part<'_>]) -> Vec<(&'a str, &'a str)> {
        parts
            .iter()
            .map(|part| (part.content_type.as_str(), std::str::from_utf8(part.body).unwrap()))
            .collect()
    }

    fn assert_sdp_and_metadata(content_type: &str, body: &str) {
        let parts = split(content_type, body.as_bytes());
        let found: Vec<_> = bodies(&parts).iter().map(|(t, b)| (*t, b.trim())).collect();
        assert_eq!(
            found,
            [("application/sdp", SDP.trim()), ("application/rs-metadata+xml", XML)],
            "{body}"
        );
    }

    #[test]
    fn a_body_by_the_book_is_split_exactly() {
        let body = format!(
            "preamble\r\n--foobar\r\nContent-Type: application/sdp\r\n\r\n{SDP}\r\n--foobar\r\n\
             Content-Type: application/rs-metadata+xml\r\nContent-Disposition: recording-session\r\n\
             \r\n{XML}\r\n--foobar--\r\nepilogue"
        );
        let parts = split("multipart/mixed; boundary=foobar", body.as_bytes());
        assert_eq!(
            bodies(&parts),
            [("application/sdp", SDP), ("application/rs-metadata+xml", XML)]
        );
        assert_eq!(parts[0].disposition, None);
        assert_eq!(parts[1].disposition.as_deref(), Some("recording-session"));
    }

    #[test]
    fn a_missing_closing_delimiter_costs_nothing() {
        assert_sdp_and_metadata(
            "multipart/mixed;boundary=sonus-content-delim",
            &format!(
                "--sonus-content-delim\r\nContent-Type: application/sdp\r\n\r\n{SDP}\r\n\
                 --sonus-content-delim\r\nContent-Type: application/rs-metadata+xml\r\n\
                 Content-Disposition: recording-session\r\n\r\n{XML}\r\n"
            ),
        );
    }

    #[test]
    fn part_headers_without_spaces_and_with_a_length_are_read() {
        let body = format!(
            "--UniqueBroadWorksBoundary\r\nContent-Type:application/sdp\r\nContent-Length:{}\r\n\r\n\
             {SDP}\r\n--UniqueBroadWorksBoundary\r\nContent-Type:application/rs-metadata+xml\r\n\
             Content-Disposition:recording-session\r\nContent-Length:{}\r\n\r\n{XML}\r\n\
             --UniqueBroadWorksBoundary--",
            SDP.len(),
            XML.len()
        );
        assert_sdp_and_metadata("multipart/mixed; boundary=UniqueBroadWorksBoundary", &body);
    }

    #[test]
    fn a_length_that_is_wrong_is_ignored() {
        for length in [0, 3, 9999] {
            assert_sdp_and_metadata(
                "multipart/mixed; boundary=b",
                &format!(
                    "--b\r\nContent-Type: application/sdp\r\nContent-Length: {length}\r\n\r\n{SDP}\r\n\
                     --b\r\nContent-Type: application/rs-metadata+xml\r\n\r\n{XML}\r\n--b--\r\n"
                ),
            );
        }
    }

    #[test]
    fn bare_line_feeds_quotes_and_trailing_spaces_do_no_harm() {
        let body = format!(
            "\n--a b' \nContent-Type: application/sdp\n\n{SDP}\n--a b'\t\n\
             Content-Type: application/rs-metadata+xml\n\n{XML}\n--a b'-- \n"
        );
        assert_sdp_and_metadata("Multipart/Mixed ; x; Boundary=\"a b'\" ; y=z", &body);
    }

    #[test]
    fn a_boundary_that_is_not_the_declared_one_is_found() {
        for content_type in ["multipart/mixed; boundary=declared", "multipart/mixed"] {
            assert_sdp_and_metadata(
                content_type,
                &format!(
                    "--actual\r\nContent-Type: application/sdp\r\n\r\n{SDP}\r\n--actual\r\n\
                     Content-Type: application/rs-metadata+xml\r\n\r\n{XML}\r\n--actual--\r\n"
                ),
            );
        }
    }

    #[test]
    fn a_boundary_that_begins_like_another_is_not_that_other() {
        let parts = split("multipart/mixed; boundary=b", b"--b\r\n\r\nx\r\n--bb\r\ny\r\n--b--");
        assert_eq!(bodies(&parts), [("text/plain", "x\r\n--bb\r\ny")]);
    }

    #[test]
    fn content_that_follows_its_headers_at_once_is_content() {
        assert_sdp_and_metadata(
            "multipart/mixed; boundary=b",
            &format!(
                "--b\r\nContent-Type: application/sdp\r\n{SDP}\r\n--b\r\n\
                 Content-Type: application/rs-metadata+xml\r\n{XML}\r\n--b--\r\n"
            ),
        );
    }

    #[test]
    fn a_multipart_inside_a_multipart_is_split_too() {
        let body = format!(
            "--o\r\nContent-Type: multipart/alternative;\r\n boundary=i\r\n\r\n--i\r\n\
             Content-Type: application/sdp\r\n\r\n{SDP}\r\n--i--\r\n\r\n--o\r\n\
             Content-Type: application/rs-metadata+xml\r\n\r\n{XML}\r\n--o--\r\n"
        );
        assert_sdp_and_metadata("multipart/mixed; boundary=o", &body);
    }

    #[test]
    fn a_plain_body_is_its_own_only_part() {
        let parts = split(" application/sdp ", SDP.as_bytes());
        assert_eq!(bodies(&parts), [("application/sdp", SDP)]);
    }

    #[test]
    fn an_empty_part_and_a_body_of_delimiters_are_harmless() {
        assert!(split("multipart/mixed; boundary=b", b"").is_empty());
        assert!(split("multipart/mixed; boundary=b", b"no delimiter").is_empty());
        let parts = split("multipart/mixed; boundary=b", b"--b\r\n--b\r\n--b--");
        assert_eq!(bodies(&parts), [("text/plain", ""), ("text/plain", "")]);
    }

    #[test]
    fn nesting_and_the_number_of_parts_are_limited() {
        let mut body = b"--b\r\nContent-Type: multipart/mixed;boundary=b\r\n\r\n".repeat(1000);
        body.extend_from_slice(&b"--b\r\n\r\nx\r\n".repeat(1000));
        assert!(split("multipart/mixed; boundary=b", &body).len() <= LIMIT_PARTS);
    }
}
