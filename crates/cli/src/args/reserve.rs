//! `holm reserve`, `holm unreserve`, `holm volume`.

use std::sync::Arc;

use clap::{Args, Subcommand};
use holm_model::{AgentId, Amount, Labels, Reservation, ReservationError, Resources, Role, VolumeId};

use super::OutputArgs;
use crate::values;

const RESERVE_EXAMPLES: &str = "\
Examples:
  holm reserve agent-1-1 --role eng \"cpus:2;mem:1GiB\"
  holm reserve agent-1-1 --role eng \"disk:20GiB\" --label rack=a
  holm reserve agent-1-1 --role eng/db --from eng \"cpus:1\"      # of what is reserved for eng

What is reserved is offered to the role and the roles below it only, and counts as theirs when it is used. Offers that are \
in the way are rescinded; what tasks use is not taken from them: then nothing changes, and the command says how much is free.";

const UNRESERVE_EXAMPLES: &str = "\
Examples:
  holm unreserve agent-1-1 --role eng \"cpus:2\"
  holm unreserve agent-1-1 --role eng/db --from eng \"cpus:1\"    # for eng again, not for everybody

What is in use, or cut into volumes, cannot be unreserved; neither can what the agent's own configuration reserves.";

/// Arguments of `holm reserve`.
#[derive(Clone, Debug, Args)]
#[command(after_help = RESERVE_EXAMPLES)]
pub(crate) struct ReserveArgs {
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

/// Arguments of `holm unreserve`.
#[derive(Clone, Debug, Args)]
#[command(after_help = UNRESERVE_EXAMPLES)]
pub(crate) struct UnreserveArgs {
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

/// What is reserved, or not any more.
#[derive(Clone, Debug, Args)]
pub(crate) struct ChangeArgs {
    /// The agent
    pub(crate) agent: AgentId,
    /// How much, such as "cpus:2;mem:1GiB"
    pub(crate) resources: Resources,
    #[command(flatten)]
    pub(crate) of: ReservationArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Which reservation.
#[derive(Clone, Debug, Args)]
pub(crate) struct ReservationArgs {
    /// The role that it is for
    #[arg(long, value_name = "ROLE")]
    pub(crate) role: Role,
    /// The reservation that it refines, such as "eng", "eng,rack=a" or "eng,static"
    #[arg(long, value_name = "RESERVATION")]
    pub(crate) from: Option<Reservation>,
    /// What keeps it apart from other reservations for the role; may be repeated
    #[arg(long, value_name = "K=V", value_parser = values::key_value)]
    pub(crate) label: Vec<(String, String)>,
}

impl ReservationArgs {
    /// The reservation; `fixed` when it is one of the agent's configuration.
    pub(crate) fn reservation(&self, fixed: bool) -> Result<Arc<Reservation>, ReservationError> {
        let label = |(key, value): &(String, String)| (key.as_str().into(), value.as_str().into());
        let (role, labels): (_, Labels) = (self.role.clone(), self.label.iter().map(label).collect());
        let reservation = match &self.from {
            Some(below) => Reservation::refining(Arc::new(below.clone()), role, labels),
            None if fixed => Reservation::fixed(role, labels),
            None => Reservation::new(role, labels),
        };
        reservation.map(Arc::new)
    }
}

/// Arguments of `holm volume`.
#[derive(Clone, Debug, Args)]
pub(crate) struct VolumeArgs {
    #[command(subcommand)]
    pub(crate) command: VolumeCommand,
}

const CREATE_EXAMPLES: &str = "\
Examples:
  holm reserve agent-1-1 --role eng \"disk:20GiB\"
  holm volume create agent-1-1 data 10GiB --role eng
  holm run --role eng import.wasm --volume data:/db

A volume is cut from disk that is reserved for the role, and is offered to the role and those below it only. It outlives \
tasks, runners and the agent's restart. One task at a time has it.";

const DESTROY_EXAMPLES: &str = "\
Example:
  holm volume destroy agent-1-1 data --role eng

The data is removed for good; the disk stays reserved. A volume that a task has cannot be destroyed.";

/// What to do with volumes.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum VolumeCommand {
    /// Make a volume of reserved disk
    #[command(after_help = CREATE_EXAMPLES)]
    Create {
        /// The agent
        agent: AgentId,
        /// What to call it
        id: VolumeId,
        /// Its size, such as 10GiB
        #[arg(value_parser = values::disk)]
        size: Amount,
        #[command(flatten)]
        of: ReservationArgs,
        /// The disk is reserved by the agent's configuration
        #[arg(long = "static", conflicts_with = "from")]
        fixed: bool,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Remove a volume and its data
    #[command(after_help = DESTROY_EXAMPLES)]
    Destroy {
        /// The agent
        agent: AgentId,
        /// Which volume
        id: VolumeId,
        /// The role that its disk is reserved for
        #[arg(long, value_name = "ROLE")]
        role: Role,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// List volumes
    #[command(after_help = "Examples:\n  holm volume ls\n  holm volume ls --role eng --output json | jq .")]
    Ls {
        /// Only of this role
        #[arg(long, value_name = "ROLE")]
        role: Option<Role>,
        #[command(flatten)]
        output: OutputArgs,
    },
}
