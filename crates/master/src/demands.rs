//! What frameworks say they want: demands, and which offers they take in a role.

use std::collections::BTreeMap;

use holm_allocator::check_patterns;
use holm_model::{Demand, FrameworkId, FrameworkInfo, MAX_DEMANDS, Role, RoleOptions};

use crate::Master;
use crate::accept::strangers;

impl Master {
    /// Takes note of everything that a framework wants in a role, in place of what it wanted before.
    pub(crate) fn demand(&mut self, id: FrameworkId, role: Role, demands: Vec<Demand>) {
        match self.check_demands(id, &role, &demands) {
            Ok(()) => {
                let Some(framework) = self.frameworks.get_mut(&id) else { return };
                framework.demands.insert(role, demands);
                self.watch_waiting();
                self.out.roles = true;
            }
            Err(message) => self.complain(id, format!("demands in role {role} are refused: {message}")),
        }
    }

    fn check_demands(&self, id: FrameworkId, role: &Role, demands: &[Demand]) -> Result<(), String> {
        let Some(framework) = self.frameworks.get(&id) else { return Ok(()) };
        if strangers(&framework.info.roles, std::slice::from_ref(role)).is_some() {
            return Err("the framework is not subscribed to it".to_owned());
        }
        Demand::validate_all(demands).map_err(|error| error.to_string())?;
        let elsewhere = framework.demands.iter().filter(|(of, _)| *of != role);
        let count = demands.len() + elsewhere.map(|(_, demands)| demands.len()).sum::<usize>();
        if count > MAX_DEMANDS {
            return Err(format!("the framework would have {count} demands; the limit is {MAX_DEMANDS}"));
        }
        let options = framework.role_options.get(role).cloned().unwrap_or_default();
        for demand in demands {
            let both = demand.constraints.and(&options.constraints);
            both.map_err(|error| format!("demand {} together with its role: {error}", demand.id))?;
        }
        check_patterns(demands.iter().map(|demand| &demand.constraints)).map_err(|error| error.to_string())
    }

    /// Replaces which offers a framework takes. Offers that are out stay out.
    pub(crate) fn set_role_options(&mut self, id: FrameworkId, options: BTreeMap<Role, RoleOptions>) {
        let Some(framework) = self.frameworks.get(&id) else { return };
        let info = FrameworkInfo { role_options: options, ..(*framework.info).clone() };
        let valid = info.validate().map_err(|error| crate::accept::explain(&error));
        let patterns = info.role_options.values().map(|options| &options.constraints);
        let checked = valid.and_then(|()| check_patterns(patterns).map_err(|error| error.to_string()));
        if let Err(message) = checked {
            return self.complain(id, format!("the options of the roles are refused: {message}"));
        }
        if let Some(framework) = self.frameworks.get_mut(&id) {
            framework.role_options = info.role_options;
            self.subscribe_to_roles(id);
        }
        self.out.roles = true;
    }
}
