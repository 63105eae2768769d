//! Who may do what: the one place that decides.

use holm_model::{Action, AgentId, FrameworkId, Principal, Role};

/// What an action is done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object<'a> {
    /// The cluster as a whole.
    Cluster,
    /// A role.
    Role(&'a Role),
    /// An agent.
    Agent(AgentId),
    /// A framework and its tasks.
    Framework(FrameworkId),
}

/// The principal may not do this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{principal} may not do this: {action:?}")]
pub struct Denied {
    /// Who asked.
    pub principal: Principal,
    /// For what.
    pub action: Action,
}

/// Decides whether `principal` may do `action` to `object`. Every inbound event passes here. Identities are proved
/// before (secrets, the operator token), and nobody is restricted further for now.
///
/// # Errors
/// [`Denied`] when it may not.
pub fn authorize(principal: &Principal, action: Action, object: Object<'_>) -> Result<(), Denied> {
    let allowed = match (principal, action, object) {
        // A principal that has proved to be one framework or agent is not another one.
        (Principal::Framework(own), _, Object::Framework(other)) => *own == other,
        (Principal::Agent(own), Action::RegisterAgent | Action::Report, Object::Agent(other)) => *own == other,
        _ => true,
    };
    if allowed { Ok(()) } else { Err(Denied { principal: principal.clone(), action }) }
}
