//! Who may do what: pure functions, one decision per request.
//!
//! A role is a set of permissions and a scope: which calls they are about. What lies outside of
//! a scope is, for whoever asks, not there: it is in no list and no count, and asking for it by
//! its id is answered as any unknown id is.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::attribution::{Address, Assignment, Group, Member, Term};
use crate::id::{GroupId, UserId};
use crate::time::WallTime;

/// A set of permissions under a name that people know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Role {
    Administrator,
    /// Hears the groups they manage.
    Supervisor,
    /// Hears their own calls.
    Agent,
    /// Reads everything, plays nothing.
    Auditor,
}

/// One thing that can be permitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Permission {
    /// See that a call exists, who was on it, and its metadata.
    View,
    /// Hear it.
    Play,
    /// Take its audio away as a file.
    Download,
    /// Take many calls away at once.
    Export,
    /// Write notes on it.
    Note,
    /// Tag it.
    Tag,
    /// Erase it before its time.
    Delete,
    /// Place and release legal holds.
    Hold,
    /// See calls in progress, listen to them and end their recording.
    Live,
    /// Stop keeping the audio of a call in progress for a while, and keep it again.
    Pause,
    /// See which keys were pressed: they may be a PIN or a card number.
    Digits,
    /// Add and change accounts and groups.
    Users,
    /// See and change what roles may do.
    Roles,
    /// Change recording rules and retention.
    Policies,
    /// Read who did what.
    Audit,
    /// See how the system is.
    System,
}

impl Permission {
    pub const ALL: [Self; 16] = [
        Self::View,
        Self::Play,
        Self::Download,
        Self::Export,
        Self::Note,
        Self::Tag,
        Self::Delete,
        Self::Hold,
        Self::Live,
        Self::Pause,
        Self::Digits,
        Self::Users,
        Self::Roles,
        Self::Policies,
        Self::Audit,
        Self::System,
    ];
}

/// Which calls a role's permissions are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Scope {
    /// Every call of the tenant.
    All,
    /// Calls of the groups that the user manages, and the user's own.
    Groups,
    /// The user's own calls.
    Own,
}

impl Permission {
    /// Whether it is about calls, so that a scope limits it.
    pub fn is_about_calls(self) -> bool {
        !matches!(self, Self::Users | Self::Roles | Self::Policies | Self::Audit | Self::System)
    }
}

impl Role {
    pub const ALL: [Self; 4] = [Self::Administrator, Self::Supervisor, Self::Agent, Self::Auditor];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Administrator => "administrator",
            Self::Supervisor => "supervisor",
            Self::Agent => "agent",
            Self::Auditor => "auditor",
        }
    }

    /// Accepts the name in any case.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str().eq_ignore_ascii_case(text))
    }

    pub fn scope(self) -> Scope {
        match self {
            Self::Administrator | Self::Auditor => Scope::All,
            Self::Supervisor => Scope::Groups,
            Self::Agent => Scope::Own,
        }
    }

    pub fn permissions(self) -> &'static [Permission] {
        use Permission::{Audit, Download, Export, Live, Note, Pause, Play, System, Tag, View};
        match self {
            Self::Administrator => &Permission::ALL,
            Self::Supervisor => &[View, Play, Download, Export, Note, Tag, Live, Pause],
            // Pausing is for whoever is about to hear a card number. Ending is not theirs: an
            // agent could end what is recorded to their disadvantage.
            Self::Agent => &[View, Play, Note, Pause],
            Self::Auditor => &[View, Audit, System],
        }
    }

    pub fn permits(self, permission: Permission) -> bool {
        self.permissions().contains(&permission)
    }
}

fn granted(by: &GrantedBy, assignments: &[Assignment], term: Term) -> impl Iterator<Item = Grant> {
    assignments.iter().filter_map(move |assignment| {
        let term = assignment.term.and(term)?;
        let assignment = Assignment { address: assignment.address.clone(), term };
        Some(Grant { by: by.clone(), assignment })
    })
}

impl Group {
    /// The addresses whose calls are the group's: its own, and those of its members while they
    /// are members.
    pub fn grants(&self, addresses_of: impl Fn(&UserId) -> Vec<Assignment>) -> Vec<Grant> {
        let by = GrantedBy::GroupAddress { group: self.name.clone() };
        let mut grants: Vec<Grant> = granted(&by, &self.addresses, Term::default()).collect();
        for Member { login, term } in &self.members {
            let by = GrantedBy::GroupMember { group: self.name.clone(), member: login.clone() };
            grants.extend(granted(&by, &addresses_of(login), *term));
        }
        grants
    }
}

/// What two lists of assignments have in common: the addresses of both, while both hold.
pub fn common(one: &[Assignment], other: &[Assignment]) -> Vec<Assignment> {
    let pairs = one.iter().flat_map(|a| other.iter().map(move |b| (a, b)));
    pairs
        .filter(|(a, b)| a.address == b.address)
        .filter_map(|(a, b)| {
            Some(Assignment { address: a.address.clone(), term: a.term.and(b.term)? })
        })
        .collect()
}

/// Which calls somebody may see: the scope of their role, with the names filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    All,
    Owned(Vec<Grant>),
}

/// An address whose calls somebody may see, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub by: GrantedBy,
    pub assignment: Assignment,
}

/// Why a call is in somebody's scope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum GrantedBy {
    /// The role reaches every call.
    Role,
    /// An address of the call was the user's own.
    OwnAddress,
    /// An address of the call was the group's.
    GroupAddress { group: GroupId },
    /// An address of the call was a member's.
    GroupMember { group: GroupId, member: UserId },
}

impl Reach {
    /// The reach of a user with this role and these addresses, given the groups of the tenant
    /// and a way to read the addresses of their members. Only a role with [`Scope::Groups`]
    /// looks at the groups.
    pub fn of(
        role: Role,
        login: &UserId,
        own: &[Assignment],
        groups: &[Group],
        addresses_of: impl Fn(&UserId) -> Vec<Assignment>,
    ) -> Self {
        if role.scope() == Scope::All {
            return Self::All;
        }
        let mut grants: Vec<Grant> =
            granted(&GrantedBy::OwnAddress, own, Term::default()).collect();
        if role.scope() == Scope::Groups {
            for group in groups.iter().filter(|group| group.managers.contains(login)) {
                grants.extend(group.grants(&addresses_of));
            }
        }
        Self::Owned(grants)
    }

    /// Why a call that started then, with these addresses, is in reach; `None`: it is not.
    pub fn covers(&self, addresses: &BTreeSet<Address>, started_at: WallTime) -> Option<GrantedBy> {
        match self {
            Self::All => Some(GrantedBy::Role),
            Self::Owned(grants) => {
                let grant =
                    grants.iter().find(|grant| grant.assignment.covers(addresses, started_at));
                grant.map(|grant| grant.by.clone())
            }
        }
    }

    /// What a search has to be limited to; `None`: nothing.
    pub fn assignments(&self) -> Option<Vec<Assignment>> {
        match self {
            Self::All => None,
            Self::Owned(grants) => {
                Some(grants.iter().map(|grant| grant.assignment.clone()).collect())
            }
        }
    }
}

/// The answer to "may they do this with this call?", and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Decision {
    Allowed(GrantedBy),
    /// The role does not permit it, whichever call it is about.
    NotPermitted,
    /// The role permits it, and this call is not in its scope.
    OutOfScope,
    /// They cannot sign in.
    Disabled,
}

/// Decides whether somebody may do something with a call.
pub fn decide(
    role: Role,
    reach: &Reach,
    permission: Permission,
    addresses: &BTreeSet<Address>,
    started_at: WallTime,
) -> Decision {
    if !role.permits(permission) {
        return Decision::NotPermitted;
    }
    match reach.covers(addresses, started_at) {
        Some(by) => Decision::Allowed(by),
        None => Decision::OutOfScope,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address::new(text).unwrap()
    }

    fn user(login: &str) -> UserId {
        UserId::new(login).unwrap()
    }

    fn assigned(text: &str, from: i64, until: i64) -> Assignment {
        let (from, until) = (WallTime::from_unix_ms(from), WallTime::from_unix_ms(until));
        Assignment { address: address(text), term: Term { from: Some(from), until: Some(until) } }
    }

    fn sales() -> Group {
        let term = assigned("x", 100, 200).term;
        Group {
            name: GroupId::new("sales").unwrap(),
            managers: BTreeSet::from([user("mia")]),
            members: vec![Member { login: user("ana"), term }],
            addresses: vec![assigned("hunt", 0, 1_000)],
        }
    }

    fn reach(role: Role, login: &str) -> Reach {
        let own = [assigned("7001", 0, 1_000)];
        Reach::of(role, &user(login), &own, &[sales()], |login| {
            if *login == user("ana") { vec![assigned("7002", 150, 900)] } else { Vec::new() }
        })
    }

    fn decision(role: Role, login: &str, called: &str, at: i64) -> Decision {
        let addresses = BTreeSet::from([address(called), address("+38612345678")]);
        let at = WallTime::from_unix_ms(at);
        decide(role, &reach(role, login), Permission::Play, &addresses, at)
    }

    #[test]
    fn an_auditor_reads_and_does_not_listen() {
        assert!(Role::Auditor.permits(Permission::View));
        assert_eq!(decision(Role::Auditor, "x", "7001", 1), Decision::NotPermitted);
        assert!(!Role::Supervisor.permits(Permission::Digits));
        assert!(Role::ALL.iter().all(|role| Role::parse(role.as_str()) == Some(*role)));
    }

    #[test]
    fn an_agent_hears_calls_of_an_address_while_it_is_theirs() {
        let own = Decision::Allowed(GrantedBy::OwnAddress);
        assert_eq!(decision(Role::Agent, "mia", "7001", 999), own);
        assert_eq!(decision(Role::Agent, "mia", "7001", 1_000), Decision::OutOfScope);
        // Managing a group changes nothing for a role that reaches no groups.
        assert_eq!(decision(Role::Agent, "mia", "hunt", 10), Decision::OutOfScope);
    }

    #[test]
    fn a_supervisor_hears_members_while_they_are_members_and_own_the_address() {
        let group = GroupId::new("sales").unwrap();
        let member = GrantedBy::GroupMember { group: group.clone(), member: user("ana") };
        assert_eq!(decision(Role::Supervisor, "mia", "7002", 150), Decision::Allowed(member));
        for outside in [149, 200, 899] {
            assert_eq!(decision(Role::Supervisor, "mia", "7002", outside), Decision::OutOfScope);
        }
        let shared = Decision::Allowed(GrantedBy::GroupAddress { group });
        assert_eq!(decision(Role::Supervisor, "mia", "hunt", 10), shared);
        assert_eq!(decision(Role::Supervisor, "leo", "hunt", 10), Decision::OutOfScope);
    }

    #[test]
    fn what_two_scopes_have_in_common_is_in_both() {
        let (one, other) = ([assigned("a", 0, 20), assigned("b", 0, 9)], [assigned("a", 10, 90)]);
        assert_eq!(common(&one, &other), [assigned("a", 10, 20)]);
        assert_eq!(common(&one, &[assigned("a", 20, 90)]), []);
    }

    #[test]
    fn a_role_for_everything_is_limited_to_nothing_and_nobody_s_addresses_to_nothing_at_all() {
        assert_eq!(reach(Role::Auditor, "x").assignments(), None);
        let nobody = Reach::of(Role::Agent, &user("x"), &[], &[], |_| Vec::new());
        assert_eq!(nobody.assignments(), Some(vec![]));
    }
}
