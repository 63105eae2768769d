//! The nouns of Holm: ids, resources, roles, offers, tasks, agents, frameworks. Arithmetic and validation only.
//!
//! Everything here is plain data that any other crate may hold. Nothing here reads a clock, a file or a socket, and a
//! value that exists has passed the checks of its type.

mod agent;
mod agent_link;
mod amount;
mod batch;
mod confinement;
mod constraint;
mod demand;
mod digest;
mod executor;
mod framework;
mod id;
mod inverse;
mod name;
mod network;
mod offer;
mod operation;
mod origin;
mod policy;
mod portions;
mod portions_text;
mod principal;
mod quota;
mod ranges;
mod records;
mod resources;
mod resources_text;
mod role;
mod runner_link;
mod scheduler;
mod secret;
mod service;
mod status;
mod task;
mod time;
mod usages;

pub use agent::{AgentCondition, AgentInfo, Attributes, BootId, Capabilities, ConfiguredError, Incarnation};
pub use agent_link::{Registration, ToAgent, ToMaster};
pub use amount::{Amount, ParseAmountError, ResourceName};
pub use batch::{Launch, LaunchError, MAX_BATCH_TASKS, MAX_GROUP_LAUNCHES, TaskRange};
pub use confinement::{ConfinementLayer, Isolation, IsolationError};
pub use constraint::{Constraint, ConstraintError, Constraints, MAX_CONSTRAINT_BYTES, MAX_CONSTRAINTS, Subject, Test};
pub use demand::{
    Demand, DemandError, DemandId, DemandIdError, MAX_DEMAND_COUNT, MAX_DEMAND_DURATION, MAX_DEMAND_PORTS, MAX_DEMANDS,
    MAX_GANG_COUNT, ParsePlacementError, Placement, RoleOptions, RoleOptionsError,
};
pub use digest::{Digest, ParseDigestError};
pub use executor::{Executed, ExecutedError, MAX_EXECUTED_BYTES};
pub use framework::{FrameworkInfo, FrameworkInfoError, MAX_FAILOVER_TIMEOUT};
pub use id::{AgentId, ClusterId, Epoch, FrameworkId, GangId, InverseOfferId, OfferId, ParseIdError, RunnerId};
pub use inverse::{InverseOffer, InverseReason, MAX_GIVEN_SPANS, ParseInverseReasonError, TaskSpan};
pub use name::{BatchId, MAX_NAME_BYTES, NameError, TaskId};
pub use network::{
    HostName, HostPattern, ListenOn, MAX_NET_PATTERNS, NetPattern, Network, NetworkGrants, ParseNetworkError, PortSpan,
    PreparedNetwork, Reach, Transport,
};
pub use offer::{DEFAULT_REFUSE, MAX_REFUSE, Offer, Refusal};
pub use operation::{Conversion, Operation, OperationError, OperationStatus, Requested};
pub use origin::{IdTextError, Labels, OperationId, Origin, Reservation, ReservationError, Volume, VolumeId};
pub use policy::{
    MAX_POLICY_NAME_BYTES, MAX_POLICY_READS, MAX_POLICY_WRITES, PolicyColumn, PolicyCost, PolicyDescription,
    PolicyFailure, PolicyPatch, PolicyPhase, PolicyValues, PolicyView,
};
pub use portions::{Portions, PortionsError};
pub use portions_text::ParsePortionsError;
pub use principal::{Action, Principal};
pub use quota::{
    DEFAULT_WEIGHT, MAX_QUOTA_CHANGES, MAX_QUOTA_RESOURCES, MAX_WEIGHT, Quota, QuotaChange, QuotaFormError, RoleRecord,
    RoleUpdate, WeightError, parse_amounts, parse_weight, show_amounts, show_weight,
};
pub use ranges::Ranges;
pub use records::{AgentRecord, ClusterRecord, FrameworkRecord, ReservationRecord};
pub use resources::{Quantity, Resources, ResourcesError};
pub use resources_text::ParseResourcesError;
pub use role::{Role, RoleError};
pub use runner_link::{FromRunner, Prepared, PreparedDirectory, PreparedVolume, RunnerReport, ToRunner, WorkId};
pub use scheduler::{BatchReport, Call, MAX_MESSAGE_BYTES, MAX_OPERATIONS, SchedulerEvent, StatusRun, Subscribe};
pub use secret::{ParseSecretError, Secret, SecretHash};
pub use service::{MAX_CONCURRENCY, MAX_REQUEST_TIME, ServiceSpec};
pub use status::{Reason, Source, TaskState, TaskStatus, TransitionError, Update, Usage};
pub use task::{DirectoryGrant, InputFile, Limits, Metering, TaskKind, TaskSpec, TaskSpecError, VolumeMount};
pub use time::Time;
pub use usages::Usages;
