//! Addresses and URIs in headers (RFC 3261 §20.10, §19.1), read tolerantly.

/// A `name-addr` or `addr-spec` with its header parameters: From, To, Contact, Route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Without the angle brackets.
    pub uri: String,
    pub params: Params,
}

/// Why an address cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("a quoted string does not end")]
    OpenQuote,
    #[error("a bracket does not close")]
    OpenBracket,
    #[error("there is no URI")]
    NoUri,
}

/// Parameters in order; names in lower case, quotes removed from values.
pub type Params = Vec<(String, Option<String>)>;

/// The value of a parameter, `Some("")` for one without value.
pub fn param<'a>(params: &'a Params, name: &str) -> Option<&'a str> {
    params.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_deref().unwrap_or(""))
}

impl Address {
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let text = text.trim();
        let after_name = match text.strip_prefix('"') {
            Some(quoted) => &quoted[quote_end(quoted).ok_or(AddressError::OpenQuote)?..],
            None => text,
        };
        let (uri, rest) = match after_name.split_once('<') {
            Some((_, bracketed)) => bracketed.split_once('>').ok_or(AddressError::OpenBracket)?,
            // Without brackets the parameters belong to the header (RFC 3261 §20).
            None => after_name.split_at(after_name.find(';').unwrap_or(after_name.len())),
        };
        let uri = uri.trim();
        if uri.is_empty() || uri.contains(char::is_whitespace) || uri.contains('"') {
            return Err(AddressError::NoUri);
        }
        Ok(Self { uri: uri.to_owned(), params: parse_params(rest) })
    }

    pub fn tag(&self) -> Option<&str> {
        param(&self.params, "tag").filter(|tag| !tag.is_empty())
    }
}

/// A `sip:` or `sips:` URI. Other schemes have no host that we could use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SipUri {
    pub secure: bool,
    /// Without the brackets of an IPv6 address.
    pub host: String,
    pub port: Option<u16>,
    pub params: Params,
}

impl SipUri {
    pub fn parse(uri: &str) -> Option<Self> {
        let (scheme, rest) = uri.split_once(':')?;
        let secure = scheme.eq_ignore_ascii_case("sips");
        if !secure && !scheme.eq_ignore_ascii_case("sip") {
            return None;
        }
        // The user part may contain `;` and `?`; an `@` inside it must be escaped.
        let rest = rest.split_once('@').map_or(rest, |(_, host)| host);
        let rest = &rest[..rest.find('?').unwrap_or(rest.len())];
        let (host_port, params) = rest.split_at(rest.find(';').unwrap_or(rest.len()));
        let (host, port) = parse_host_port(host_port)?;
        Some(Self { secure, host, port, params: parse_params(params) })
    }
}

/// `host[:port]`, the host without the brackets of an IPv6 address. Blanks are tolerated.
pub fn parse_host_port(text: &str) -> Option<(String, Option<u16>)> {
    let text = text.trim();
    let (host, rest) = match text.strip_prefix('[') {
        Some(v6) => v6.split_once(']')?,
        None if text.matches(':').count() > 1 => (text, ""),
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let (host, rest) = (host.trim(), rest.trim());
    if host.is_empty() || host.contains(char::is_whitespace) {
        return None;
    }
    match rest.strip_prefix(':') {
        Some(port) => Some((host.to_owned(), Some(port.trim().parse().ok()?))),
        None => rest.is_empty().then(|| (host.to_owned(), None)),
    }
}

/// `;name=value;name` with quoted values.
pub fn parse_params(text: &str) -> Params {
    split_outside_quotes(text, ';', false)
        .into_iter()
        .filter(|param| !param.is_empty())
        .map(|param| match param.split_once('=') {
            Some((name, value)) => (name.trim().to_ascii_lowercase(), Some(unquote(value.trim()))),
            None => (param.to_ascii_lowercase(), None),
        })
        .collect()
}

/// The elements of a comma-separated header value. Commas in quotes and in `<…>` are text.
pub fn split_list(text: &str) -> Vec<&str> {
    split_outside_quotes(text, ',', true)
}

fn split_outside_quotes(text: &str, separator: char, brackets: bool) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut quoted, mut escaped, mut bracketed) = (0, false, false, false);
    for (at, c) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if quoted {
            escaped = c == '\\';
            quoted = c != '"';
        } else if c == '"' {
            quoted = true;
        } else if brackets && (c == '<' || c == '>') {
            bracketed = c == '<';
        } else if c == separator && !bracketed {
            parts.push(text[start..at].trim());
            start = at + c.len_utf8();
        }
    }
    parts.push(text[start..].trim());
    parts
}

/// Where a quoted string whose opening quote is consumed ends, after the closing quote.
fn quote_end(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

fn unquote(text: &str) -> String {
    let Some(quoted) = text.strip_prefix('"') else { return text.to_owned() };
    let inside = quote_end(quoted).map_or(quoted, |end| &quoted[..end - 1]);
    let mut plain = String::with_capacity(inside.len());
    let mut chars = inside.chars();
    while let Some(c) = chars.next() {
        plain.push(if c == '\\' { chars.next().unwrap_or(c) } else { c });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_in_a_display_name_are_text() {
        let text = r#""a \"<sip:no>; tag=x, b" <sip:alice@host;lr>;tag=1928;x="a;b""#;
        let address = Address::parse(text).unwrap();
        assert_eq!(address.uri, "sip:alice@host;lr");
        assert_eq!(address.tag(), Some("1928"));
        assert_eq!(param(&address.params, "x"), Some("a;b"));
        assert_eq!(split_list(&format!("{text}, <sip:b,c>")), [text, "<sip:b,c>"]);
    }

    #[test]
    fn without_brackets_parameters_belong_to_the_header() {
        let address = Address::parse("sip:alice@host;tag=7").unwrap();
        assert_eq!((address.uri.as_str(), address.tag()), ("sip:alice@host", Some("7")));
    }

    #[test]
    fn broken_addresses_are_errors() {
        for text in ["", "\"open <sip:a>", "<sip:a", "<>", "Alice", "<sip:a b>"] {
            let parsed = Address::parse(text);
            assert!(parsed.is_err() || text == "Alice", "{text}: {parsed:?}");
        }
    }

    #[test]
    fn hosts_may_be_ipv6_and_users_may_have_separators() {
        let uri =
            SipUri::parse("sips:user;par=u%40x?y@[2001:db8::10]:5061;transport=tls?h=v").unwrap();
        assert!(uri.secure);
        assert_eq!((uri.host.as_str(), uri.port), ("2001:db8::10", Some(5061)));
        assert_eq!(param(&uri.params, "transport"), Some("tls"));
        assert_eq!(SipUri::parse("sip:host").unwrap().port, None);
        assert_eq!(SipUri::parse("tel:+1234"), None);
        assert_eq!(SipUri::parse("sip:host:99999"), None);
    }
}
