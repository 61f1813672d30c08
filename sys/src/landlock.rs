//! Landlock: what a process may reach of others beside files.

use std::io;

use landlock::{
    CompatLevel, Compatible as _, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetError,
    RulesetStatus, Scope,
};

use crate::error::{FsError, Result};

/// Puts the abstract Unix sockets of all other processes out of reach of this one and those that come
/// from it (`LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET`). Needs `CAP_SYS_ADMIN` or `no_new_privs`. False where
/// the kernel cannot do that: before 6.12, or without Landlock.
///
/// # Errors
/// The kernel can and did not, as where it has nested 16 such restrictions already.
pub fn leave_abstract_sockets() -> Result<bool> {
    let enforce = || -> std::result::Result<bool, RulesetError> {
        let rules = Ruleset::default().scope(Scope::AbstractUnixSocket)?;
        // Programs of a step may rely on set-user-id files.
        let status = rules.create()?.no_new_privs(false).restrict_self()?;
        Ok(status.ruleset == RulesetStatus::FullyEnforced)
    };
    enforce()
        .map_err(|e| FsError::new("keep from abstract sockets", "process", io::Error::other(e)))
}

/// Whether the kernel can do what [`leave_abstract_sockets`] asks for.
pub fn can_leave_abstract_sockets() -> bool {
    let rules = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    let rules = rules.scope(Scope::AbstractUnixSocket);
    rules.and_then(Ruleset::create).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_to_be_possible_is_done() {
        // A thread has restrictions of its own, which end with it. Who is not root may only have more
        // of them where no program can give back what they take.
        let restrict = || {
            rustix::thread::set_no_new_privs(true).unwrap();
            leave_abstract_sockets()
        };
        let done = std::thread::spawn(restrict).join().unwrap();
        assert_eq!(done.unwrap(), can_leave_abstract_sockets());
    }
}
