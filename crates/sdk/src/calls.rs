//! What a scheduler asks for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use holm_model::{
    AgentId, Call, Demand, InverseOfferId, Launch, OfferId, Refusal, Requested, Role, RoleOptions, TaskId, TaskSpan,
};

/// One thing that a scheduler wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Intent {
    /// Something of the master.
    Call(Call),
    /// An [`Event::Timer`](crate::Event::Timer) later.
    SetTimer {
        /// Names the timer; setting it again replaces it.
        token: u64,
        /// When.
        after: Duration,
    },
    /// An [`Event::Error`](crate::Event::Error) with this message, because something that was wanted makes no sense.
    Refuse {
        /// What, and why.
        message: String,
    },
    /// The end: the work is done.
    Finish {
        /// The exit code of the program that runs the scheduler.
        code: u8,
        /// What came of it.
        report: Vec<u8>,
    },
    /// The end: the scheduler cannot go on.
    Abort {
        /// Why.
        message: String,
    },
}

/// Collects what a scheduler wants. Nothing happens before [`Scheduler::handle`](crate::Scheduler::handle) has returned;
/// what cannot be done comes back as an event.
#[derive(Debug, Default)]
pub struct Calls {
    intents: Vec<Intent>,
}

impl Calls {
    /// Nothing yet.
    pub fn new() -> Calls {
        Calls::default()
    }

    /// Launches tasks on offers, all of which are of one agent and one role. What is left over is refused for
    /// `refusal`.
    pub fn accept(&mut self, offers: impl IntoIterator<Item = OfferId>, launches: Vec<Launch>, refusal: Refusal) {
        self.call(Call::Accept { offers: offers.into_iter().collect(), launches, refusal });
    }

    /// Reserves, unreserves, makes and ends volumes on offers, and then launches tasks on what they are after that. Offers and
    /// refusal are as for [`Calls::accept`]; each operation is answered in an
    /// [`Event::Operations`](crate::Event::Operations), and what it made is offered again at once.
    pub fn operate(
        &mut self,
        offers: impl IntoIterator<Item = OfferId>,
        operations: Vec<Requested>,
        launches: Vec<Launch>,
        refusal: Refusal,
    ) {
        self.call(Call::Operate { offers: offers.into_iter().collect(), operations, launches, refusal });
    }

    /// Launches tasks on offers, all together or not at all. Offers and refusal are as for [`Calls::accept`]; what
    /// becomes of a group is told in [`Call::LaunchGroup`].
    pub fn launch_group(&mut self, offers: impl IntoIterator<Item = OfferId>, launches: Vec<Launch>, refusal: Refusal) {
        self.call(Call::LaunchGroup { offers: offers.into_iter().collect(), launches, refusal });
    }

    /// Gives offers back; without a refusal for the usual 5 seconds.
    pub fn decline(&mut self, offers: impl IntoIterator<Item = OfferId>, refusal: Option<Refusal>) {
        let refusal = refusal.unwrap_or_default();
        self.call(Call::Decline { offers: offers.into_iter().collect(), refusal });
    }

    /// No more offers in these roles (all, when empty). Offers that are out stay out.
    pub fn suppress(&mut self, roles: impl IntoIterator<Item = Role>) {
        self.call(Call::Suppress { roles: roles.into_iter().collect() });
    }

    /// Offers again in these roles (all, when empty), and forget what was refused.
    pub fn revive(&mut self, roles: impl IntoIterator<Item = Role>) {
        self.call(Call::Revive { roles: roles.into_iter().collect() });
    }

    /// States what is wanted in a role, in place of what was said before: multiples of these shapes are offered and nothing
    /// else, for as long as the framework stays registered. To be stated again at every
    /// [`Event::Registered`](crate::Event::Registered), with what is still wanted then; a role whose options say `by_demand`
    /// is offered nothing until it is.
    pub fn demand(&mut self, role: Role, demands: impl IntoIterator<Item = Demand>) {
        self.call(Call::Demand { role, demands: demands.into_iter().collect() });
    }

    /// Replaces which offers are taken; a role that is absent has the defaults from now on.
    pub fn set_role_options(&mut self, options: BTreeMap<Role, RoleOptions>) {
        self.call(Call::SetRoleOptions { options });
    }

    /// Stops a task, or every task of a launch. Asked for without a master, it is done as soon as there is one.
    pub fn kill(&mut self, task: TaskId, grace: Option<Duration>) {
        self.call(Call::Kill { task, grace });
    }

    /// Gives back what an inverse offer asks for: the master ends these tasks at once, those that run with this much time
    /// to end by themselves. Without tasks it is a promise to end some otherwise.
    pub fn accept_inverse(&mut self, offer: InverseOfferId, tasks: Vec<TaskSpan>, grace: Option<Duration>) {
        self.call(Call::AcceptInverse { offer, tasks, grace });
    }

    /// Leaves it to the master to choose.
    pub fn decline_inverse(&mut self, offers: impl IntoIterator<Item = InverseOfferId>) {
        self.call(Call::DeclineInverse { offers: offers.into_iter().collect() });
    }

    /// Sends bytes to a running task, best effort.
    pub fn message(&mut self, agent: AgentId, task: TaskId, data: impl Into<Arc<[u8]>>) {
        self.call(Call::Message { agent, task, data: data.into() });
    }

    /// Asks for an [`Event::Timer`](crate::Event::Timer) with this token.
    pub fn set_timer(&mut self, token: u64, after: Duration) {
        self.intents.push(Intent::SetTimer { token, after });
    }

    /// Ends the framework: its tasks are killed and its registration is forgotten, unless the program that runs it
    /// chose otherwise. The last call; nothing is handled after it.
    pub fn finish(&mut self, code: u8, report: impl Into<Vec<u8>>) {
        self.intents.push(Intent::Finish { code, report: report.into() });
    }

    /// Stops with an error and leaves the tasks to the framework's failover timeout. The last call.
    pub fn abort(&mut self, message: impl Into<String>) {
        self.intents.push(Intent::Abort { message: message.into() });
    }

    /// Adds an intent as it is.
    pub fn push(&mut self, intent: Intent) {
        self.intents.push(intent);
    }

    /// What was asked for so far, in order; afterwards there is nothing.
    pub fn take(&mut self) -> Vec<Intent> {
        std::mem::take(&mut self.intents)
    }

    fn call(&mut self, call: Call) {
        self.intents.push(Intent::Call(call));
    }
}
