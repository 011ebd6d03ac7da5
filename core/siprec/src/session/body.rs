//! What a request carries: SDP, metadata, other things (RFC 7866 §9.1, RFC 5621).

use crate::metadata::{self, Document, MetadataError, headers, multipart};
use crate::sip::message::Message;

/// A metadata document as received and as read.
#[derive(Debug)]
pub struct MetadataPart {
    pub content_type: String,
    pub bytes: Vec<u8>,
    pub document: Result<Document, MetadataError>,
}

/// The body of a request, taken apart.
#[derive(Debug, Default)]
pub struct Body {
    pub sdp: Option<Vec<u8>>,
    pub metadata: Vec<MetadataPart>,
    /// There is something that we cannot read and must (RFC 3261 §20.11: `handling`).
    pub has_unknown_required: bool,
}

impl Body {
    pub fn read(message: &Message) -> Self {
        let mut body = Self::default();
        if message.body.is_empty() {
            return body;
        }
        let content_type =
            message.text("content-type").unwrap_or_else(|| sniff(&message.body).into());
        let disposition = message.text("content-disposition").map(|text| text.into_owned());
        for part in multipart::split(&content_type, &message.body) {
            let disposition = part.disposition.or_else(|| disposition.clone());
            if is_type(&part.content_type, "application/sdp") {
                // A second description would be for something else, such as early media.
                body.sdp.get_or_insert_with(|| part.body.to_vec());
            } else if metadata::is_metadata_type(&part.content_type) {
                body.metadata.push(MetadataPart {
                    document: metadata::xml::read_as(&part.content_type, part.body),
                    bytes: part.body.to_vec(),
                    content_type: part.content_type,
                });
            } else if !is_optional(disposition.as_deref()) {
                body.has_unknown_required = true;
            }
        }
        body
    }
}

impl Body {
    /// The metadata; without any, what the headers of an INVITE tell in its place.
    pub fn metadata_or_headers(self, invite: &Message) -> Vec<MetadataPart> {
        if !self.metadata.is_empty() {
            return self.metadata;
        }
        let from_headers = headers::read(invite).map(|found| MetadataPart {
            content_type: headers::CONTENT_TYPE.to_owned(),
            bytes: found.bytes,
            document: Ok(found.document),
        });
        from_headers.into_iter().collect()
    }
}

/// The type of a body that comes without `Content-Type`, as some test tools send SDP.
fn sniff(body: &[u8]) -> &'static str {
    match body.trim_ascii_start() {
        [b'v', b'=', ..] => "application/sdp",
        [b'<', ..] => "application/rs-metadata+xml",
        _ => "application/octet-stream",
    }
}

fn is_type(content_type: &str, wanted: &str) -> bool {
    content_type.split(';').next().is_some_and(|t| t.trim().eq_ignore_ascii_case(wanted))
}

fn is_optional(disposition: Option<&str>) -> bool {
    disposition.is_some_and(|text| {
        text.split(';').any(|param| {
            let param: String = param.chars().filter(|c| !c.is_whitespace() && *c != '"').collect();
            param.eq_ignore_ascii_case("handling=optional")
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &str, body: &str) -> Body {
        let text = format!("INVITE sip:x SIP/2.0\r\n{headers}\r\n\r\n{body}");
        Body::read(&Message::from_datagram(text.as_bytes()).expect("a SIP message"))
    }

    #[test]
    fn sdp_and_metadata_are_found_in_any_order() {
        let body = read(
            "Content-Type: multipart/mixed;boundary=b",
            "--b\r\nContent-Type: application/rs-metadata\r\n\r\n<recording/>\r\n\
             --b\r\nContent-Type: application/gtd\r\n\r\nx\r\n\
             --b\r\nContent-Type: application/SDP\r\n\r\nv=0\r\n--b--\r\n",
        );
        assert_eq!(body.sdp.as_deref().map(<[u8]>::trim_ascii_end), Some(&b"v=0"[..]));
        assert_eq!(body.metadata.len(), 1);
        assert!(body.has_unknown_required);
    }

    #[test]
    fn an_unlabelled_body_is_known_by_its_first_line() {
        assert!(read("Subject: x", "v=0\r\n").sdp.is_some());
        assert_eq!(read("Subject: x", "<recording/>").metadata.len(), 1);
    }

    #[test]
    fn an_optional_body_may_be_unknown() {
        let optional = "c: text/x\r\nContent-Disposition: x; Handling = \"optional\"";
        assert!(!read(optional, "x").has_unknown_required);
        assert!(read("c: text/x", "x").has_unknown_required);
    }
}
