//! What a message may hold. The `.proto` comments name the same numbers; a refusal names the one it is about.

/// Largest message that a master accepts, in bytes.
pub const MAX_TO_MASTER_BYTES: usize = 4 << 20;

/// Largest message that agents, frameworks and operators accept from a master, in bytes. Twice as much as the master
/// accepts: what it passes on (a launch, an agent's resources) may grow by the words around it.
pub const MAX_FROM_MASTER_BYTES: usize = 8 << 20;

/// Size in bytes at which a list is continued in the next message.
pub const PAGE_BYTES: usize = 1 << 20;

/// Most offers of an accept or a decline.
pub const MAX_OFFERS_PER_CALL: usize = 1024;

/// Most launches of an accept.
pub const MAX_LAUNCHES: usize = 1024;

/// Most offers, rescinded offers, launches or updates of one message.
pub const MAX_ITEMS: usize = 8192;

/// Most roles of a framework or a call.
pub const MAX_ROLES: usize = 64;

/// Most agents that a subscription waits for, and most launches that a runner holds.
pub const MAX_PENDING: usize = 65_536;

/// Most capabilities of a hello.
pub const MAX_CAPABILITIES: usize = 64;

/// Longest capability, in bytes.
pub const MAX_CAPABILITY_BYTES: usize = 64;

/// Longest software version, host name and attribute, in bytes.
pub const MAX_WORD_BYTES: usize = 256;

/// Longest boot id, in bytes.
pub const MAX_BOOT_ID_BYTES: usize = 128;

/// Most attributes of an agent.
pub const MAX_ATTRIBUTES: usize = 128;

/// Most layers of confinement that an agent speaks of.
pub const MAX_LAYERS: usize = 32;

/// Longest name of a layer of confinement, in bytes.
pub const MAX_LAYER_NAME_BYTES: usize = 64;

/// Most labels of a framework.
pub const MAX_LABELS: usize = 64;

/// Longest label of a framework, each side, in bytes.
pub const MAX_LABEL_BYTES: usize = 1024;

/// Most resources of a bundle.
pub const MAX_RESOURCES: usize = 64;

/// Most portions of a list.
pub const MAX_PORTIONS: usize = 1024;

/// Most ranges or set items of one resource.
pub const MAX_RESOURCE_ITEMS: usize = 4096;

/// Longest set item, in bytes.
pub const MAX_RESOURCE_ITEM_BYTES: usize = 64;

/// Highest port.
pub const MAX_PORT: u64 = 65_535;

/// Most arguments, variables, files, directories or labels of a task that are read at all. What a task may really have is
/// less and up to [`holm_model::TaskSpec::validate`], so that one bad task of a call is refused alone.
pub const MAX_TASK_ENTRIES: usize = 8192;

/// Text for people (a status, an error) is cut here, in bytes; it is never a reason to lose what it explains.
pub const MAX_EXPLANATION_BYTES: usize = 4096;

/// Text of a status in a report that would otherwise exceed [`PAGE_BYTES`] is cut here, in bytes.
pub const SHORT_EXPLANATION_BYTES: usize = 128;

/// Longest path on an agent's host, in bytes.
pub const MAX_PATH_BYTES: usize = 4096;

/// Most outbound patterns of a task that are read at all; what it may really have is up to its validation.
pub const MAX_NETWORK_PATTERNS: usize = 1024;

/// Most endpoints of the cluster that a runner is told.
pub const MAX_CLUSTER_ENDPOINTS: usize = 256;

/// Most host directories of a prepared launch.
pub const MAX_DIRECTORIES: usize = 64;
