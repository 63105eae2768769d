//! What a scheduler says it wants.

use std::collections::BTreeMap;

use holm_model::{Call, Demand, FrameworkInfo, Role, RoleOptions};

use super::Subscription;

impl Subscription {
    /// Passes demands on. They hold for one subscription: without one there is nobody to tell, and with the next one the
    /// scheduler states what it wants then.
    pub(super) fn demand(&mut self, role: Role, demands: Vec<Demand>) {
        if !self.info.roles.contains(&role) {
            return self.refuse(format!("demands in role {role} are refused: it is not one of the framework's"));
        }
        match Demand::validate_all(&demands) {
            Ok(()) => self.send(Call::Demand { role, demands }),
            Err(error) => self.refuse(format!("demands in role {role} are refused: {error}")),
        }
    }

    /// Options become part of what the framework says of itself, so that they outlast the subscription.
    pub(super) fn set_role_options(&mut self, options: BTreeMap<Role, RoleOptions>) {
        let info = FrameworkInfo { role_options: options.clone(), ..self.info.clone() };
        match info.validate() {
            Ok(()) => {
                self.info = info;
                self.send(Call::SetRoleOptions { options });
            }
            Err(error) => self.refuse(super::with_sources(&error)),
        }
    }
}
