//! What operators ask for.

use holm_model::{Action, FrameworkId, Principal, TaskId};

use crate::authorize::{Object, authorize};
use crate::calls::KillError;
use crate::frameworks::{Ending, FrameworkState};
use crate::options::MAX_WAITING_KILLS;
use crate::{Answer, Master, OperatorCall, OperatorError, RequestId};

/// Most operators that may wait for the end of one framework.
const MAX_WAITING: usize = 64;

impl Master {
    pub(crate) fn operator(&mut self, request: RequestId, principal: &Principal, call: OperatorCall) {
        let answer = match call {
            OperatorCall::Kill { framework, task, grace } => {
                Some(self.kill_for_operator(principal, framework, &task, grace).map(|()| Answer::Done))
            }
            OperatorCall::Explain(question) => Some(self.explain(principal, &question)),
            OperatorCall::UpdateRoles(update) => {
                self.update_roles(request, principal, update);
                None
            }
            OperatorCall::Operate { agent, operation } => {
                self.operate_for_operator(request, principal, agent, operation).err().map(Err)
            }
            OperatorCall::Teardown { framework } => self.teardown(request, principal, framework).err().map(Err),
        };
        if let Some(result) = answer {
            self.answer(request, result);
        }
    }

    fn kill_for_operator(
        &mut self,
        principal: &Principal,
        framework: FrameworkId,
        task: &TaskId,
        grace: Option<std::time::Duration>,
    ) -> Result<(), OperatorError> {
        authorize(principal, Action::KillTask, Object::Framework(framework))?;
        if !self.frameworks.contains_key(&framework) {
            return Err(OperatorError::UnknownFramework(framework));
        }
        self.kill(framework, task, grace).map_err(|error| match error {
            KillError::Unknown => OperatorError::UnknownTask { framework, task: task.clone() },
            KillError::Full(count) => OperatorError::TooManyKills { count, limit: MAX_WAITING_KILLS },
        })
    }

    /// Begins a teardown, or joins one that has begun. The answer comes when it is durable.
    fn teardown(&mut self, request: RequestId, principal: &Principal, id: FrameworkId) -> Result<(), OperatorError> {
        authorize(principal, Action::Teardown, Object::Framework(id))?;
        let framework = self.frameworks.get_mut(&id).ok_or(OperatorError::UnknownFramework(id))?;
        let phase = framework.state.phase();
        match &mut framework.state {
            FrameworkState::Completing(ending) if ending.requests.len() < MAX_WAITING => {
                ending.requests.push(request);
                Ok(())
            }
            FrameworkState::Connected(_) | FrameworkState::Disconnected => {
                let session = framework.session();
                let why = "torn down by an operator".into();
                self.complete(id, Ending { session, why, requests: vec![request] });
                Ok(())
            }
            _ => Err(OperatorError::Phase { framework: id, phase }),
        }
    }
}
