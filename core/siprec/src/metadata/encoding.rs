//! Makes text of a metadata document (RFC 7865 §5.1, RFC 7303 §3).
//!
//! UTF-8 must be accepted; a byte order mark, UTF-16 and Latin-1 are met too. A byte order mark
//! beats the MIME `charset`, which beats the XML declaration. Whatever else is declared, bytes
//! that are no UTF-8 are taken for Latin-1: a misspelt name is better than none.

use super::multipart;

/// The text of a document, without byte order mark, XML declaration, and junk around the markup.
///
/// The declaration is removed because the text it describes is no longer encoded that way.
pub fn decode(content_type: &str, bytes: &[u8]) -> String {
    let text = match bytes {
        [0xef, 0xbb, 0xbf, rest @ ..] => utf8_or_latin_1(rest),
        [0xff, 0xfe, rest @ ..] => utf_16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf_16(rest, u16::from_be_bytes),
        // UTF-16 without a mark: the first letter of a document is `<`.
        [b'<', 0, ..] => utf_16(bytes, u16::from_le_bytes),
        [0, b'<', ..] => utf_16(bytes, u16::from_be_bytes),
        _ => {
            let charset = multipart::parameter(content_type, "charset");
            match charset.or_else(|| declared(bytes)) {
                Some(charset) if is_latin_1(&charset) => latin_1(bytes),
                _ => utf8_or_latin_1(bytes),
            }
        }
    };
    markup_only(&text).chars().map(legal).collect()
}

fn utf8_or_latin_1(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| latin_1(bytes), str::to_owned)
}

fn is_latin_1(charset: &str) -> bool {
    let charset = charset.to_ascii_lowercase();
    ["iso-8859-1", "iso8859-1", "iso_8859-1", "latin1", "latin-1", "windows-1252", "cp1252"]
        .contains(&charset.as_str())
}

/// The `encoding` of the XML declaration, which is ASCII in every encoding that gets here.
fn declared(bytes: &[u8]) -> Option<String> {
    let start = bytes.iter().position(|&byte| byte == b'<')?;
    let end = bytes.iter().position(|&byte| byte == b'>')?;
    let declaration = std::str::from_utf8(bytes.get(start..end)?).ok()?;
    let value = declaration.strip_prefix("<?xml")?.split_once("encoding")?.1;
    let value = value.trim_start().strip_prefix('=')?.trim_start();
    let quote = value.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
    value[1..].split_once(quote).map(|(name, _)| name.to_owned())
}

/// Windows-1252, whose additions to Latin-1 are what a sender of those bytes means.
fn latin_1(bytes: &[u8]) -> String {
    const FROM_0X80: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž',
        '\u{8f}', '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}',
        'ž', 'Ÿ',
    ];
    bytes
        .iter()
        .map(|&byte| match byte {
            0x80..=0x9f => FROM_0X80[usize::from(byte - 0x80)],
            _ => char::from(byte),
        })
        .collect()
}

fn utf_16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> String {
    let units = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
    char::decode_utf16(units).map(|letter| letter.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

/// From the first `<` to the last `>`, without the XML declaration. A delimiter line or padding
/// of NUL bytes is left behind by SRCs that count their own Content-Length wrong.
fn markup_only(text: &str) -> &str {
    let start = text.find('<').unwrap_or(text.len());
    let end = text.rfind('>').map_or(text.len(), |at| at + 1);
    let markup = text.get(start..end).unwrap_or_default();
    match markup.strip_prefix("<?xml ").and_then(|rest| rest.split_once("?>")) {
        Some((_, rest)) => rest.trim_start(),
        None => markup,
    }
}

/// Characters that XML forbids (XML 1.0 §2.2) become spaces.
fn legal(letter: char) -> char {
    match letter {
        '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'.. => letter,
        _ => ' ',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "<name>José Ž</name>";

    fn utf_16_bytes(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(bytes).collect()
    }

    #[test]
    fn every_encoding_gives_the_same_text() {
        let le = utf_16_bytes(NAME, u16::to_le_bytes);
        let be = utf_16_bytes(NAME, u16::to_be_bytes);
        let latin: &[u8] = b"<name>Jos\xe9 \x8e</name>";
        let declared = [b"<?xml version='1.0' encoding = 'ISO-8859-1'?>\n", latin].concat();
        for (content_type, bytes) in [
            ("application/rs-metadata+xml", NAME.as_bytes().to_vec()),
            ("", [b"\xef\xbb\xbf", NAME.as_bytes()].concat()),
            ("", [b"\xff\xfe", le.as_slice()].concat()),
            ("", [b"\xfe\xff", be.as_slice()].concat()),
            ("", le),
            ("", be),
            ("x/y; charset=\"windows-1252\"", latin.to_vec()),
            ("", declared),
            // Declared as UTF-8, which it is not.
            ("x/y; charset=utf-8", latin.to_vec()),
        ] {
            assert_eq!(decode(content_type, &bytes), NAME, "{content_type} {bytes:?}");
        }
    }

    #[test]
    fn the_mime_charset_beats_the_declaration() {
        let bytes = "<?xml version=\"1.0\" encoding=\"iso-8859-1\"?><name>José</name>".as_bytes();
        assert_eq!(decode("x/y;charset=UTF-8", bytes), "<name>José</name>");
        assert_eq!(decode("x/y", bytes), "<name>JosÃ©</name>");
    }

    #[test]
    fn junk_around_the_markup_and_illegal_characters_are_removed() {
        assert_eq!(decode("", b"\r\n\0 <a>x\x01y</a>\0\0\r\n--b"), "<a>x y</a>");
        assert_eq!(decode("", b"no markup"), "");
        assert_eq!(decode("", b"> <"), "");
        assert_eq!(decode("", b""), "");
    }
}
