//! Who called whom. RFC 7865 leaves roles to extensions (§6.5.1), and each vendor has its own.
//!
//! - Oracle marks each participant with `callingParty`, `true` or `false`.
//! - NetSapiens, BroadWorks and Ribbon name the calling and the called number, which is then
//!   looked for among the participants.
//!
//! Without such a sign nobody gets a role: the order of participants says nothing.

use super::document::{Document, Extension, Participant, Role, Scope};

pub(super) fn infer(document: &mut Document) {
    let Document { participants, extensions, .. } = document;
    for extension in extensions.iter() {
        if let Scope::Participant(id) = &extension.scope
            && let Some(role) = stated(extension)
            && let Some(participant) = participants.iter_mut().find(|p| p.id == *id)
        {
            participant.role = Some(role);
        }
    }
    for extension in extensions.iter() {
        let Some(role) = named(extension) else { continue };
        let Some(number) = user(&extension.text) else { continue };
        let mut matching =
            participants.iter_mut().filter(|participant| has_user(participant, &number));
        // Two participants with one number: it tells nothing about either.
        if let (Some(participant), None) = (matching.next(), matching.next()) {
            participant.role.get_or_insert(role);
        }
    }
    // With two on the call, the role of one is the role of the other.
    if let [first, second] = participants.as_mut_slice() {
        first.role = first.role.or(second.role.map(opposite));
        second.role = second.role.or(first.role.map(opposite));
    }
}

fn opposite(role: Role) -> Role {
    match role {
        Role::Caller => Role::Callee,
        Role::Callee => Role::Caller,
    }
}

/// The role that an extension of a participant gives to this participant.
fn stated(extension: &Extension) -> Option<Role> {
    let name = extension.name().to_ascii_lowercase();
    let value = extension.text.to_ascii_lowercase();
    match (name.as_str(), value.as_str()) {
        ("callingparty", "true") => Some(Role::Caller),
        ("callingparty", "false") => Some(Role::Callee),
        ("role" | "participantrole", "caller" | "calling") => Some(Role::Caller),
        ("role" | "participantrole", "callee" | "called") => Some(Role::Callee),
        _ => None,
    }
}

/// The role of the number in an extension, judged by the names around it.
fn named(extension: &Extension) -> Option<Role> {
    extension.element.split('/').rev().find_map(|name| {
        let name = name.to_ascii_lowercase();
        match name.as_str() {
            "fromhdr" | "caller" | "callingnumber" => Some(Role::Caller),
            "tohdr" | "callee" | "callednumber" | "dialeddigits" => Some(Role::Callee),
            _ if name.starts_with("callingparty") => Some(Role::Caller),
            _ if name.starts_with("calledparty") => Some(Role::Callee),
            _ => None,
        }
    })
}

fn has_user(participant: &Participant, number: &str) -> bool {
    participant
        .names
        .iter()
        .any(|entry| entry.aor.as_deref().and_then(user).is_some_and(|user| user == number))
}

/// The user part of a URI or header, or a bare number, in a form that compares: `+1 555-0100`,
/// `tel:+15550100` and `"Ana" <sip:15550100@host>;tag=x` are the same.
fn user(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let start = ["sips:", "sip:", "tel:"]
        .iter()
        .find_map(|scheme| lower.find(scheme).map(|at| at + scheme.len()));
    let rest = &lower[start.unwrap_or(0)..];
    let end = rest.find(['@', ';', '>']).unwrap_or(rest.len());
    let user = rest[..end].trim();
    let is_number = |letter: char| letter.is_ascii_digit() || "+-. ()".contains(letter);
    let user = if user.chars().all(is_number) {
        user.chars().filter(char::is_ascii_digit).collect()
    } else {
        user.to_owned()
    };
    (!user.is_empty() && user != "true" && user != "false").then_some(user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_is_recognised_in_all_its_spellings() {
        for text in
            ["+1 555-0100", "tel:+15550100", "\"Ana\" <sip:15550100@host:5060>;tag=x", "15550100"]
        {
            assert_eq!(user(text).as_deref(), Some("15550100"), "{text}");
        }
        assert_eq!(user("sip:Ana@host").as_deref(), Some("ana"));
        assert_eq!(user("sip:@host"), None);
        assert_eq!(user(""), None);
    }
}
