//! The operator's objects as JSON, for `/state.json` and `/watch`. Field names are those of `operator.proto`, states
//! are in capitals, resources are text.

use holm_proto::v1::{self, watch_event::Change};
use serde_json::{Value, json};

fn text(view: Option<&v1::ResourceView>) -> &str {
    view.map_or("", |view| &view.text)
}

fn counts(counts: Option<&v1::TaskCounts>) -> Value {
    let v1::TaskCounts { staging, running, unreachable, finished, failed } = counts.copied().unwrap_or_default();
    json!({ "staging": staging, "running": running, "unreachable": unreachable, "finished": finished, "failed": failed })
}

/// An enum's name without the name of its type before it.
fn short<'a>(name: &'a str, prefix: &str) -> &'a str {
    name.strip_prefix(prefix).unwrap_or(name)
}

pub(crate) fn cluster(reply: &v1::GetClusterReply) -> Value {
    json!({
        "cluster_id": reply.cluster_id,
        "epoch": reply.epoch,
        "version": reply.version,
        "uptime_micros": reply.uptime_micros,
        "address": reply.address,
        "active_agents": reply.active_agents,
        "connected_frameworks": reply.connected_frameworks,
        "tasks": counts(reply.tasks.as_ref()),
        "total": text(reply.total.as_ref()),
        "allocated": text(reply.allocated.as_ref()),
        "offered": text(reply.offered.as_ref()),
        "policy": reply.policy.as_ref().map(policy),
    })
}

fn policy(policy: &v1::PolicySummary) -> Value {
    let why = Some(&policy.why).filter(|why| !why.is_empty());
    json!({
        "name": policy.name,
        "state": short(policy.state().as_str_name(), "POLICY_STATE_"),
        "why": why,
        "retry_after_micros": policy.retry_after_micros,
        "calls": policy.calls,
        "failures": policy.failures,
        "last_call_micros": policy.last_call_micros,
        "last_call_fuel": policy.last_call_fuel,
        "reads": policy.reads,
        "writes": policy.writes,
    })
}

fn condition(condition: &v1::AgentCondition) -> Value {
    let v1::AgentCondition { reserve_bytes, overhead_bytes, held_back } = condition;
    let held_back = Some(held_back).filter(|why| !why.is_empty());
    json!({ "reserve_bytes": reserve_bytes, "overhead_bytes": overhead_bytes, "held_back": held_back })
}

pub(crate) fn agent(agent: &v1::AgentSummary) -> Value {
    json!({
        "id": agent.id,
        "hostname": agent.hostname,
        "state": short(agent.state().as_str_name(), "AGENT_STATE_"),
        "total": text(agent.total.as_ref()),
        "offered": text(agent.offered.as_ref()),
        "allocated": text(agent.allocated.as_ref()),
        "attributes": agent.attributes,
        "version": agent.version,
        "tasks": counts(agent.tasks.as_ref()),
        "isolation": agent.isolation,
        "confinement": agent.confinement.iter().map(layer).collect::<Vec<_>>(),
        "condition": agent.condition.as_ref().map(condition),
        "portions": agent.portions_text,
        "volumes": agent.volumes.iter().map(volume).collect::<Vec<_>>(),
        "revocable": text(agent.revocable.as_ref()),
        "lent": text(agent.lent.as_ref()),
    })
}

fn volume(volume: &v1::Volume) -> Value {
    json!({ "volume": volume.volume_id, "role": volume.role, "bytes": volume.bytes })
}

fn layer(layer: &v1::ConfinementLayer) -> Value {
    json!({ "name": layer.name, "active": layer.active, "detail": layer.detail })
}

pub(crate) fn framework(framework: &v1::FrameworkSummary) -> Value {
    json!({
        "id": framework.id,
        "name": framework.name,
        "state": short(framework.state().as_str_name(), "FRAMEWORK_STATE_"),
        "roles": framework.roles,
        "suppressed_roles": framework.suppressed_roles,
        "failover_timeout_micros": framework.failover_timeout_micros,
        "labels": framework.labels,
        "allocated": text(framework.allocated.as_ref()),
        "offered": text(framework.offered.as_ref()),
        "tasks": counts(framework.tasks.as_ref()),
        "registered_unix_micros": framework.registered_unix_micros,
        "offer_count": framework.offer_count,
    })
}

pub(crate) fn role(role: &v1::RoleSummary) -> Value {
    json!({
        "role": role.role,
        "weight_thousandths": role.weight_thousandths,
        "framework_ids": role.framework_ids,
        "dominant_share_ppm": role.dominant_share_ppm,
        "dominant_resource": role.dominant_resource,
        "allocated": text(role.allocated.as_ref()),
        "offered": text(role.offered.as_ref()),
        "used": text(role.used.as_ref()),
        "guarantee": role.guarantee.as_ref().map(|amounts| &amounts.text),
        "limit": role.limit.as_ref().map(|amounts| &amounts.text),
        "deserved_share_ppm": role.deserved_share_ppm,
        "wanting": role.wanting,
    })
}

pub(crate) fn offer(summary: &v1::OfferSummary) -> Value {
    let offer = summary.offer.clone().unwrap_or_default();
    json!({
        "id": offer.id,
        "framework_id": offer.framework_id,
        "framework_name": summary.framework_name,
        "role": offer.role,
        "agent_id": offer.agent_id,
        "hostname": offer.hostname,
        "resources": summary.resources_text,
        "age_micros": summary.age_micros,
    })
}

pub(crate) fn task(task: &v1::TaskSummary) -> Value {
    let status = task.status.clone().unwrap_or_default();
    let usage = status.usage.unwrap_or_default();
    let reason = match status.reason() {
        v1::Reason::Unspecified => Value::Null,
        reason => Value::from(short(reason.as_str_name(), "REASON_")),
    };
    json!({
        "framework_id": task.framework_id,
        "framework_name": task.framework_name,
        "task_id": task.task_id,
        "role": task.role,
        "agent_id": task.agent_id,
        "state": short(status.state().as_str_name(), "TASK_STATE_"),
        "reason": reason,
        "message": status.message,
        "exit_code": status.exit_code,
        "attempt": status.attempt,
        "cpu_micros": usage.cpu_micros,
        "fuel": usage.fuel,
        "peak_memory_bytes": usage.peak_memory_bytes,
        "peak_disk_bytes": usage.peak_disk_bytes,
        "queued_micros": usage.queued_micros,
        "run_micros": usage.run_micros,
        "network_refusals": usage.network_refusals,
        "requests": usage.requests,
        "failed_requests": usage.failed_requests,
        "module": task.module,
        "resources": text(task.resources.as_ref()),
        "launched_unix_micros": task.launched_unix_micros,
        "started_unix_micros": task.started_unix_micros,
        "ended_unix_micros": task.ended_unix_micros,
    })
}

/// A line of `/watch`: the name of what changed, and the object.
pub(crate) fn event(event: &v1::WatchEvent) -> Value {
    let (name, object) = match &event.change {
        Some(Change::SnapshotBegin(begin)) => {
            ("snapshot_begin", json!({ "cluster_id": begin.cluster_id, "epoch": begin.epoch }))
        }
        Some(Change::SnapshotEnd(_)) => ("snapshot_end", json!({})),
        Some(Change::Agent(summary)) => ("agent", agent(summary)),
        Some(Change::AgentRemoved(id)) => ("agent_removed", json!(id)),
        Some(Change::Framework(summary)) => ("framework", framework(summary)),
        Some(Change::FrameworkRemoved(id)) => ("framework_removed", json!(id)),
        Some(Change::Task(summary)) => ("task", task(summary)),
        Some(Change::Role(summary)) => ("role", role(summary)),
        Some(Change::Offer(summary)) => ("offer", offer(summary)),
        Some(Change::OfferRemoved(id)) => ("offer_removed", json!(id)),
        None => ("unknown", Value::Null),
    };
    json!({ "resume_token": event.resume_token, name: object })
}
