//! Offers, and what agents and frameworks say of themselves.

use std::sync::Arc;
use std::time::Duration;

use holm_model::{AgentInfo, Capabilities, ConfinementLayer, FrameworkInfo, Offer, Portions, Resources};

use super::demand::{role_options, role_options_to_wire};
use super::error::At;
use super::field::{bounded, list, micros, optional, pairs, pairs_to_wire, parsed, parsed_list, text_or_empty, texts};
use super::{ConvertError, Decode, portions, resources};
use crate::limits::{
    MAX_ATTRIBUTES, MAX_LABEL_BYTES, MAX_LABELS, MAX_LAYER_NAME_BYTES, MAX_LAYERS, MAX_ROLES, MAX_WORD_BYTES,
};
use crate::v1 as wire;

impl From<&Offer> for wire::Offer {
    fn from(offer: &Offer) -> wire::Offer {
        wire::Offer {
            id: offer.id.to_string(),
            framework_id: offer.framework.to_string(),
            role: offer.role.to_string(),
            agent_id: offer.agent.to_string(),
            hostname: offer.hostname.to_string(),
            resources: resources::to_wire(&offer.resources),
            portions: portions::tied(&offer.portions),
            attributes: pairs_to_wire(&offer.attributes),
            demand_id: text_or_empty(offer.demand.as_ref()),
            gang_id: text_or_empty(offer.gang.as_ref()),
        }
    }
}

impl Decode<wire::Offer> for Offer {
    fn decode(wire: wire::Offer, at: &At<'_>) -> Result<Offer, ConvertError> {
        let resources = Resources::decode(wire.resources, &at.field("resources"))?;
        Ok(Offer {
            portions: portions::untied(wire.portions, &resources, &at.field("portions"))?,
            id: parsed(&wire.id, &at.field("id"))?,
            framework: parsed(&wire.framework_id, &at.field("framework_id"))?,
            role: parsed(&wire.role, &at.field("role"))?,
            agent: parsed(&wire.agent_id, &at.field("agent_id"))?,
            hostname: bounded(wire.hostname, MAX_WORD_BYTES, &at.field("hostname"))?,
            resources,
            attributes: pairs(wire.attributes, MAX_ATTRIBUTES, MAX_WORD_BYTES, &at.field("attributes"))?,
            demand: optional(&wire.demand_id, &at.field("demand_id"))?,
            gang: optional(&wire.gang_id, &at.field("gang_id"))?,
        })
    }
}

impl From<&AgentInfo> for wire::AgentInfo {
    /// The version and the capabilities travel in the hello.
    fn from(info: &AgentInfo) -> wire::AgentInfo {
        wire::AgentInfo {
            hostname: info.hostname.to_string(),
            resources: resources::to_wire(&info.resources),
            reserved: portions::to_wire(&info.reserved),
            attributes: pairs_to_wire(&info.attributes),
            confinement: info.confinement.iter().map(wire::ConfinementLayer::from).collect(),
            isolation: info.isolation.to_string(),
        }
    }
}

impl From<&ConfinementLayer> for wire::ConfinementLayer {
    fn from(layer: &ConfinementLayer) -> wire::ConfinementLayer {
        let ConfinementLayer { name, active, detail } = layer;
        wire::ConfinementLayer { name: name.to_string(), active: *active, detail: detail.to_string() }
    }
}

impl Decode<wire::ConfinementLayer> for ConfinementLayer {
    fn decode(wire: wire::ConfinementLayer, at: &At<'_>) -> Result<ConfinementLayer, ConvertError> {
        Ok(ConfinementLayer {
            name: bounded(wire.name, MAX_LAYER_NAME_BYTES, &at.field("name"))?,
            active: wire.active,
            detail: bounded(wire.detail, MAX_WORD_BYTES, &at.field("detail"))?,
        })
    }
}

/// What the agent said together with what its software said.
pub(super) fn agent_info(
    wire: wire::AgentInfo,
    (version, capabilities): (Arc<str>, Capabilities),
    at: &At<'_>,
) -> Result<AgentInfo, ConvertError> {
    Ok(AgentInfo {
        hostname: bounded(wire.hostname, MAX_WORD_BYTES, &at.field("hostname"))?,
        resources: Resources::decode(wire.resources, &at.field("resources"))?,
        reserved: Portions::decode(wire.reserved, &at.field("reserved"))?,
        attributes: pairs(wire.attributes, MAX_ATTRIBUTES, MAX_WORD_BYTES, &at.field("attributes"))?,
        capabilities,
        version,
        confinement: list(wire.confinement, MAX_LAYERS, &at.field("confinement"))?,
        isolation: optional(&wire.isolation, &at.field("isolation"))?.unwrap_or_default(),
    })
}

impl From<&FrameworkInfo> for wire::FrameworkInfo {
    /// The capabilities travel in the hello.
    fn from(info: &FrameworkInfo) -> wire::FrameworkInfo {
        wire::FrameworkInfo {
            name: info.name.to_string(),
            roles: texts(&info.roles),
            role_options: role_options_to_wire(&info.role_options),
            failover_timeout_micros: micros(info.failover_timeout),
            labels: pairs_to_wire(&info.labels),
        }
    }
}

/// What the framework said together with what its software can do.
pub(super) fn framework_info(
    wire: wire::FrameworkInfo,
    capabilities: Capabilities,
    at: &At<'_>,
) -> Result<FrameworkInfo, ConvertError> {
    let info = FrameworkInfo {
        name: wire.name.into(),
        roles: parsed_list(&wire.roles, MAX_ROLES, &at.field("roles"))?,
        role_options: role_options(wire.role_options, &at.field("role_options"))?,
        failover_timeout: Duration::from_micros(wire.failover_timeout_micros),
        capabilities,
        labels: pairs(wire.labels, MAX_LABELS, MAX_LABEL_BYTES, &at.field("labels"))?,
    };
    info.validate().map_err(|error| at.invalid(error))?;
    Ok(info)
}
