//! Everything the model can say arrives as it was said, through real bytes.

use std::collections::BTreeMap;

use holm_model::*;
use holm_proto::record::Stored;
use holm_proto::{ConvertError, FromAgent, FromFramework, Message, agent, pages, runner, scheduler, v1};

use crate::samples;

/// A message as the other side reads it.
fn sent<W: Message + Default>(message: &W) -> W {
    W::decode(message.encode_to_vec().as_slice()).unwrap()
}

/// Sends the pages of a message that fits one.
fn only<W: Message + Default>(pages: Vec<W>) -> W {
    assert_eq!(pages.len(), 1);
    sent(&pages[0])
}

#[test]
fn calls() {
    for call in samples::calls() {
        let read = FromFramework::try_from(only(pages::call(6, &call).unwrap())).unwrap();
        assert!(matches!(read, FromFramework::Call { framework_epoch: 6, call: got } if got == call), "{call:?}");
    }
}

#[test]
fn subscriptions() {
    let subscribe = samples::subscribe();
    let wire = scheduler::subscribe(&subscribe, "demo 1.0", Some(&samples::secret()));
    let FromFramework::Subscribe { subscribe: got, secret } = FromFramework::try_from(sent(&wire)).unwrap() else {
        panic!("not a subscription")
    };
    assert_eq!(got, subscribe);
    assert_eq!(secret.unwrap().expose(), samples::secret().expose());
    let first = Subscribe { id: None, ..subscribe };
    let wire = scheduler::subscribe(&first, "", None);
    let read = FromFramework::try_from(sent(&wire)).unwrap();
    assert!(matches!(read, FromFramework::Subscribe { subscribe: got, secret: None } if got == first));
}

#[test]
fn an_absent_refusal_is_the_usual_one() {
    let wire = v1::CallEnvelope {
        framework_epoch: 1,
        call: Some(v1::call_envelope::Call::Decline(v1::Decline { offer_ids: vec![], refuse_micros: None })),
    };
    let read = FromFramework::try_from(wire).unwrap();
    let refusal = Refusal::new(DEFAULT_REFUSE);
    assert!(matches!(read, FromFramework::Call { call: Call::Decline { refusal: got, .. }, .. } if got == refusal));
}

#[test]
fn events() {
    for event in samples::events() {
        let got = SchedulerEvent::try_from(only(pages::event(&event))).unwrap();
        assert_eq!(format!("{got:?}"), format!("{event:?}"));
        if let SchedulerEvent::Subscribed { secret: Some(secret), .. } = got {
            assert_eq!(secret.expose(), samples::secret().expose());
        }
    }
}

#[test]
fn messages_of_agents() {
    for message in samples::to_master() {
        let got = match FromAgent::try_from(only(pages::to_master(&message))).unwrap() {
            FromAgent::Register { registration, secret: None } => ToMaster::Register(registration),
            FromAgent::Register { secret: Some(_), .. } => panic!("a secret from nowhere"),
            FromAgent::Message(message) => message,
        };
        assert_eq!(format!("{got:?}"), format!("{message:?}"));
    }
    let wire = agent::register(&samples::registration(), Some(&samples::secret()));
    let FromAgent::Register { secret: Some(secret), .. } = FromAgent::try_from(sent(&wire)).unwrap() else {
        panic!("the secret is lost")
    };
    assert_eq!(secret.expose(), samples::secret().expose());
}

#[test]
fn messages_to_agents() {
    for message in samples::to_agent() {
        let got = ToAgent::try_from(sent(&v1::ToAgent::from(&message))).unwrap();
        assert_eq!(format!("{got:?}"), format!("{message:?}"));
    }
}

#[test]
fn the_runner_protocol() {
    for message in samples::to_runner() {
        let got = ToRunner::try_from(sent(&runner::v1::ToRunner::from(&message))).unwrap();
        assert_eq!(format!("{got:?}"), format!("{message:?}"));
    }
    for message in samples::from_runner() {
        let got = FromRunner::try_from(only(pages::from_runner(&message))).unwrap();
        assert_eq!(format!("{got:?}"), format!("{message:?}"));
    }
}

#[test]
fn parts_that_others_store() {
    for launch in samples::launches() {
        assert_eq!(Launch::try_from(sent(&v1::Launch::from(&launch))), Ok(launch));
    }
    for update in samples::updates() {
        assert_eq!(Update::try_from(sent(&v1::Update::from(&update))), Ok(update));
    }
    let report = samples::report();
    assert_eq!(BatchReport::try_from(sent(&v1::BatchReport::from(&report))), Ok(report));
    let offer = samples::offer();
    assert_eq!(Offer::try_from(sent(&v1::Offer::from(&offer))), Ok(offer));
}

#[test]
fn a_resource_view_has_both_forms() -> Result<(), ConvertError> {
    let view = sent(&v1::ResourceView::from(&samples::resources()));
    assert_eq!(view.text.parse(), Ok(samples::resources()));
    assert_eq!(holm_proto::resources::from_wire(view.resources)?, samples::resources());
    Ok(())
}

#[test]
fn registry_records() {
    let cluster = ClusterRecord { cluster: ClusterId(u128::MAX), epoch: Epoch(1 << 20) };
    assert_eq!(ClusterRecord::from_bytes(&cluster.to_bytes()), Ok(cluster));
    let (id, secret) = (samples::agent(), SecretHash([3; 32]));
    let agent = AgentRecord { id, secret, info: samples::agent_info(), unreachable: true };
    assert_eq!(AgentRecord::from_bytes(&agent.to_bytes()), Ok(agent));
    let id = samples::framework();
    let framework = FrameworkRecord { id, secret, info: samples::framework_info(), completed: true };
    assert_eq!(FrameworkRecord::from_bytes(&framework.to_bytes()), Ok(framework));

    let quota =
        Quota { guarantee: "cpus:2.5;mem:1GiB".parse().unwrap(), limit: parse_amounts("cpus:4;gpus:0").unwrap() };
    let role = RoleRecord { role: "eng/backend".parse().unwrap(), weight: MAX_WEIGHT, quota };
    assert_eq!(RoleRecord::from_bytes(&role.to_bytes()), Ok(role));
}

#[test]
fn a_damaged_record_says_what_is_wrong_with_it() {
    use std::error::Error;
    let error = AgentRecord::from_bytes(&[0xff; 9]).unwrap_err();
    assert_eq!(error.to_string(), "agent record is damaged");
    let id = samples::agent();
    let record = AgentRecord { id, secret: SecretHash([3; 32]), info: samples::agent_info(), unreachable: false };
    let cut = v1::AgentRecord { secret_hash: vec![1; 31].into(), ..v1::AgentRecord::from(&record) };
    let error = AgentRecord::from_bytes(&cut.encode_to_vec()).unwrap_err();
    assert_eq!(error.source().unwrap().to_string(), "secret_hash: 31 bytes; a hash has 32");
}

#[test]
fn updates_of_roles_keep_what_is_absent_apart_from_what_is_empty() {
    let role: Role = "eng".parse().unwrap();
    let limit = Some(parse_amounts("gpus:0").unwrap());
    for update in [
        RoleUpdate::of(role.clone()),
        RoleUpdate { weight: Some(DEFAULT_WEIGHT), limit, ..RoleUpdate::of(role.clone()) },
        RoleUpdate { guarantee: Some(Resources::EMPTY), limit: Some(BTreeMap::new()), ..RoleUpdate::of(role) },
    ] {
        assert_eq!(RoleUpdate::try_from(v1::RoleUpdate::from(&update)), Ok(update));
    }
}

#[test]
fn updates_of_roles_name_what_is_wrong_with_them() {
    let amount = |name: &str, amount| v1::ScalarAmount { name: name.to_owned(), amount };
    let limit = |amounts| Some(v1::Amounts { amounts, text: String::new() });
    let of = |role: &str| v1::RoleUpdate { role: role.to_owned(), ..v1::RoleUpdate::default() };
    for (update, part) in [
        (of(""), "updates[0].role"),
        (of("a//b"), "updates[0].role"),
        (of("a/../a"), "updates[0].role"),
        (v1::RoleUpdate { weight_thousandths: Some(0), ..of("a") }, "weight_thousandths"),
        (v1::RoleUpdate { weight_thousandths: Some(1_000_001), ..of("a") }, "limit of 1000000"),
        (v1::RoleUpdate { limit: limit(vec![amount("ports", 1)]), ..of("a") }, "ports are ranges"),
        (v1::RoleUpdate { limit: limit(vec![amount("gpus", 1)]), ..of("a") }, "whole number of gpus"),
        (v1::RoleUpdate { limit: limit(vec![amount("cpus", 1 << 51)]), ..of("a") }, "limit.amounts[0].amount"),
        (v1::RoleUpdate { limit: limit(vec![amount("cpus", 1), amount("cpus", 2)]), ..of("a") }, "twice"),
        (v1::RoleUpdate { guarantee: limit(vec![amount("x", 1); 65]), ..of("a") }, "limit of 64"),
    ] {
        let error = holm_proto::roles::updates_from_wire(vec![update]).unwrap_err().to_string();
        assert!(error.contains(part), "{part}: {error}");
    }
    let many = vec![of("a"); MAX_QUOTA_CHANGES + 1];
    assert!(holm_proto::roles::updates_from_wire(many).unwrap_err().to_string().contains("limit of 10000"));
}
