//! What stands before the XML parser: limits, and two repairs.
//!
//! The input is hostile until shown otherwise. Depth and attributes are limited before the parser
//! sees them, since a parser that keeps namespaces in scope takes time and memory that grow with
//! the product of the two.
//!
//! The repairs are for an `&` that starts no reference, and for a prefix that is not declared.
//! Either would cost every name on the call, and neither leaves any doubt what was meant.

use roxmltree::Error;

use super::MetadataError;

const LIMIT_DEPTH: usize = 32;
const LIMIT_ATTRIBUTES: usize = 64;

/// Refuses what would be expensive to parse. Reads tags only, so it cannot be expensive itself.
pub(super) fn check_shape(text: &str) -> Result<(), MetadataError> {
    let mut depth = 0_usize;
    let mut rest = text;
    while let Some(start) = rest.find('<') {
        rest = &rest[start..];
        let skipped = [("<!--", "-->"), ("<![CDATA[", "]]>"), ("<?", "?>")];
        if let Some((open, close)) = skipped.iter().find(|(open, _)| rest.starts_with(open)) {
            // Unclosed: the parser will say so.
            let Some(end) = rest[open.len()..].find(close) else { break };
            rest = &rest[open.len() + end + close.len()..];
            continue;
        }
        let (tag, attributes) = tag(rest);
        if attributes > LIMIT_ATTRIBUTES {
            return Err(MetadataError::NotXml { problem: "too many attributes".to_owned() });
        }
        if tag.starts_with("</") {
            depth = depth.saturating_sub(1);
        } else if !tag.ends_with("/>") {
            depth += 1;
        }
        if depth > LIMIT_DEPTH {
            return Err(MetadataError::TooDeep { limit: LIMIT_DEPTH });
        }
        rest = &rest[tag.len()..];
    }
    Ok(())
}

/// The tag at the start of `text`, and how many attributes it has. A `>` may stand in a quoted
/// attribute value.
fn tag(text: &str) -> (&str, usize) {
    let mut quote = None;
    let mut attributes = 0;
    for (at, byte) in text.bytes().enumerate() {
        match (quote, byte) {
            (None, b'"' | b'\'') => quote = Some(byte),
            (None, b'=') => attributes += 1,
            (None, b'>') => return (&text[..=at], attributes),
            (Some(open), _) if open == byte => quote = None,
            _ => {}
        }
    }
    (text, attributes)
}

/// The text without the mistake that `error` names, where we know how.
pub(super) fn repaired(text: &str, error: &Error) -> Option<String> {
    match error {
        Error::UnknownNamespace(prefix, _) => {
            let root = text.find('<')?;
            let name_end = root
                + 1
                + text[root + 1..].find(|c: char| c.is_whitespace() || "/>".contains(c))?;
            let (before, after) = text.split_at(name_end);
            Some(format!("{before} xmlns:{prefix}=\"urn:undeclared:{prefix}\"{after}"))
        }
        Error::UnknownEntityReference(..) | Error::MalformedEntityReference(_) => {
            let escaped = with_references_escaped(text);
            (escaped != text).then_some(escaped)
        }
        _ => None,
    }
}

/// Every `&` that does not start a reference known without a DTD becomes `&amp;`.
fn with_references_escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 64);
    for (index, piece) in text.split('&').enumerate() {
        if index > 0 {
            escaped.push_str(if starts_as_reference(piece) { "&" } else { "&amp;" });
        }
        escaped.push_str(piece);
    }
    escaped
}

fn starts_as_reference(text: &str) -> bool {
    let Some((name, _)) = text.split_once(';') else { return false };
    match name.strip_prefix('#') {
        Some(number) => {
            let digits = number.strip_prefix('x').unwrap_or(number);
            !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        }
        None => ["amp", "lt", "gt", "quot", "apos"].contains(&name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_counted_by_elements_alone() {
        let nested = |levels: usize| "<a>".repeat(levels) + &"</a>".repeat(levels);
        assert_eq!(check_shape(&nested(LIMIT_DEPTH)), Ok(()));
        let too_deep = Err(MetadataError::TooDeep { limit: LIMIT_DEPTH });
        assert_eq!(check_shape(&nested(LIMIT_DEPTH + 1)), too_deep);
        assert_eq!(check_shape(&"<a/>".repeat(100)), Ok(()));
        assert_eq!(check_shape(&"<!-- <a> -->".repeat(100)), Ok(()));
        assert_eq!(check_shape(&"<![CDATA[<a>]]>".repeat(100)), Ok(()));
        assert_eq!(check_shape(&"<a b='>/>'>".repeat(40)), too_deep);
    }

    #[test]
    fn attributes_of_one_element_are_limited() {
        let element = |count: usize| format!("<a{}/>", " b='='".repeat(count));
        assert_eq!(check_shape(&element(LIMIT_ATTRIBUTES)), Ok(()));
        assert!(check_shape(&element(LIMIT_ATTRIBUTES + 1)).is_err());
    }

    #[test]
    fn unclosed_markup_is_left_to_the_parser() {
        for text in ["<", "<!--", "<![CDATA[x", "<a b='", "<?x", "</", "é<é"] {
            assert_eq!(check_shape(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn only_an_ampersand_that_starts_no_reference_is_escaped() {
        assert_eq!(
            with_references_escaped("A&B &amp; &#233;&#xe9; &nbsp; &; &"),
            "A&amp;B &amp; &#233;&#xe9; &amp;nbsp; &amp;; &amp;"
        );
    }
}
