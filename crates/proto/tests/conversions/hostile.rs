//! What does not belong is refused with the field, the value and the limit; what is merely newer is not.

use holm_model::*;
use holm_proto::{ConvertError, FromAgent, FromFramework, Message, pages, runner, scheduler, status, unknown, v1};
use proptest::prelude::*;
use v1::call_envelope::Call as WireCall;

use crate::samples;

fn refused(call: WireCall) -> String {
    let wire = v1::CallEnvelope { framework_epoch: 1, call: Some(call) };
    FromFramework::try_from(wire).map(|_| ()).unwrap_err().to_string()
}

/// An accept with one launch, changed by `change`.
fn refused_launch(change: impl FnOnce(&mut v1::Launch)) -> String {
    let mut launch = v1::Launch::from(&samples::launches()[1]);
    change(&mut launch);
    let good = v1::Launch::from(&samples::launches()[0]);
    let accept = v1::Accept { offer_ids: vec![], launches: vec![good, launch], ..Default::default() };
    refused(WireCall::Accept(accept))
}

fn refused_template(change: impl FnOnce(&mut v1::TaskSpec)) -> String {
    refused_launch(|launch| {
        let mut spec = v1::TaskSpec::from(&samples::spec());
        change(&mut spec);
        launch.template = Some(spec);
    })
}

#[test]
fn a_bad_field_deep_in_a_call_is_named() {
    let digest = "is not a digest; expected sha256: and 64 lower-case hex digits";
    assert_eq!(
        refused_template(|spec| spec.files[0].digest = "md5:0".to_owned()),
        format!("accept.launches[1].template.files[0].digest: \"md5:0\" {digest}")
    );
    assert_eq!(refused_template(|spec| spec.module.clear()), "accept.launches[1].template.module: is required");
    assert_eq!(refused_launch(|launch| launch.template = None), "accept.launches[1].template: is required");
    assert!(
        refused_launch(|launch| launch.id = "a b".to_owned()).starts_with("accept.launches[1].id: task id \"a b\"")
    );
    assert_eq!(
        refused_launch(|launch| launch.array = Some(v1::TaskArray { first: 0, count: 0 })),
        "accept.launches[1].array.count: 0 tasks; it needs 1"
    );
    assert_eq!(
        refused_launch(|launch| launch.array = Some(v1::TaskArray { first: u32::MAX, count: 2 })),
        "accept.launches[1].array: 2 indices from 4294967295 exceed 32 bits"
    );
    assert_eq!(
        refused_template(|spec| spec.kind = 77),
        "accept.launches[1].template.kind: 77 is no kind of task known here"
    );
    assert_eq!(
        refused_template(|spec| spec.metering = 78),
        "accept.launches[1].template.metering: 78 is no metering known here"
    );
}

#[test]
fn an_invalid_launch_that_can_be_named_is_left_to_the_master() {
    let array = TaskRange::Array { first: 0, count: 5000 };
    let launch = Launch { tasks: array, slots: 0, ..samples::launches().remove(0) };
    let got = Launch::try_from(v1::Launch::from(&launch)).unwrap();
    assert_eq!(got.validate(), Err(LaunchError::Count(5000)));
}

#[test]
fn quantities_that_cannot_be_are_refused() {
    use v1::resource::Quantity;
    let with = |name: &str, quantity: Option<Quantity>| {
        let resource = v1::Resource { name: name.to_owned(), quantity };
        refused_template(|spec| spec.resources = vec![resource]).replace("accept.launches[1].template.", "")
    };
    let ranges = |begin, end| Some(Quantity::Ranges(v1::RangeList { ranges: vec![v1::Range { begin, end }] }));
    let set = |item: &str| Some(Quantity::Set(v1::ItemSet { items: vec![item.to_owned()] }));
    assert_eq!(with("mem", None), "resources[0].quantity: is required");
    assert_eq!(
        with("mem", Some(Quantity::Scalar(u64::MAX))),
        "resources[0].scalar: 18446744073709551615 is over the limit of 1125899906842624"
    );
    assert_eq!(
        with("gpus", Some(Quantity::Scalar(500))),
        "resources[0].scalar: 500 thousandths are not a whole number of gpus"
    );
    assert_eq!(with("ports", Some(Quantity::Scalar(1))), "resources[0].scalar: ports are ranges, not an amount");
    assert_eq!(with("ports", ranges(1, 65_536)), "resources[0].ranges[0].end: 65536 is over the limit of 65535");
    assert_eq!(with("ports", ranges(2, 1)), "resources[0].ranges[0]: the range begins at 2 and ends at 1");
    assert_eq!(with("cpus", ranges(1, 2)), "resources[0].ranges: cpus is an amount, not ranges");
    assert_eq!(with("ports", set("a")), "resources[0].set: ports is not a set");
    assert_eq!(with("x", set("a b")), "resources[0].set[0]: a set item is 1 to 64 of [A-Za-z0-9._-]");
    assert!(with("CPUs", Some(Quantity::Scalar(1))).starts_with("resources[0].name: resource name"));
    let twice = refused_template(|spec| spec.resources = [spec.resources.clone(), spec.resources.clone()].concat());
    assert!(twice.ends_with("is given twice"), "{twice}");
}

#[test]
fn oversized_lists_are_refused_with_the_limit() {
    let offer_ids = vec!["offer-1-1".to_owned(); 1025];
    assert_eq!(
        refused(WireCall::Accept(v1::Accept { offer_ids: offer_ids.clone(), ..Default::default() })),
        "accept.offer_ids: 1025 entries are over the limit of 1024"
    );
    assert_eq!(
        refused(WireCall::Decline(v1::Decline { offer_ids, refuse_micros: None })),
        "decline.offer_ids: 1025 entries are over the limit of 1024"
    );
    let roles = vec!["a".to_owned(); 65];
    assert_eq!(
        refused(WireCall::Suppress(v1::Suppress { roles: roles.clone() })),
        "suppress.roles: 65 entries are over the limit of 64"
    );
    assert_eq!(refused(WireCall::Revive(v1::Revive { roles })), "revive.roles: 65 entries are over the limit of 64");
    let launches = vec![v1::Launch::default(); 1025];
    assert_eq!(
        refused(WireCall::Accept(v1::Accept { launches, ..Default::default() })),
        "accept.launches: 1025 entries are over the limit of 1024"
    );
    let message = v1::SendMessage { agent_id: "agent-1-1".into(), task_id: "a".into(), data: vec![0; 65_537].into() };
    assert_eq!(refused(WireCall::Message(message)), "message.data: 65537 bytes are over the limit of 65536");
    let ranges = vec![v1::Range { begin: 1, end: 1 }; 4097];
    let quantity = Some(v1::resource::Quantity::Ranges(v1::RangeList { ranges }));
    let resource = v1::Resource { name: "ports".to_owned(), quantity };
    assert_eq!(
        refused_template(|spec| spec.resources = vec![resource]),
        "accept.launches[1].template.resources[0].ranges: 4097 entries are over the limit of 4096"
    );
}

fn refused_subscribe(change: impl FnOnce(&mut v1::Subscribe)) -> ConvertError {
    let mut wire = scheduler::subscribe(&samples::subscribe(), "", None);
    let Some(WireCall::Subscribe(subscribe)) = &mut wire.call else { unreachable!() };
    change(subscribe);
    FromFramework::try_from(wire).map(|_| ()).unwrap_err()
}

#[test]
fn a_subscription_is_checked_whole() {
    assert_eq!(refused_subscribe(|it| it.hello = None).to_string(), "subscribe.hello: is required");
    assert_eq!(refused_subscribe(|it| it.info = None).to_string(), "subscribe.info: is required");
    let no_role = refused_subscribe(|it| it.info.as_mut().unwrap().roles.clear());
    assert_eq!(no_role.to_string(), "subscribe.info: framework has 0 roles; it needs 1 to 64");
    let role = refused_subscribe(|it| it.info.as_mut().unwrap().roles[1] = "a//b".to_owned());
    assert!(role.to_string().starts_with("subscribe.info.roles[1]: role \"a//b\" has the part"));
    let name = refused_subscribe(|it| it.info.as_mut().unwrap().name = "\u{1b}[2J".to_owned());
    assert!(name.to_string().contains("without control characters"));
    let many = refused_subscribe(|it| it.hello.as_mut().unwrap().capabilities = vec!["x".to_owned(); 65]);
    assert_eq!(many.to_string(), "subscribe.hello.capabilities: 65 entries are over the limit of 64");
}

#[test]
fn a_secret_is_not_repeated_by_its_refusal() {
    let error = refused_subscribe(|it| it.secret = "hunter2".to_owned());
    assert_eq!(error.to_string(), "subscribe.secret: secret is malformed; expected 64 lower-case hex digits");
}

#[test]
fn another_protocol_version_is_told_apart_from_garbage() {
    let error = refused_subscribe(|it| it.hello.as_mut().unwrap().protocol = 2);
    assert_eq!(error.to_string(), "subscribe.hello: protocol version 2 is not supported; this side speaks 1");
    assert_eq!(tonic::Status::from(error).code(), tonic::Code::FailedPrecondition);
    let error = refused_subscribe(|it| it.framework_id = "agent-1-1".to_owned());
    assert_eq!(tonic::Status::from(error).code(), tonic::Code::InvalidArgument);
}

#[test]
fn an_agent_cannot_report_tasks_that_no_launch_can_have() {
    let refused = |update: v1::Update| {
        let updates = v1::AgentUpdates { framework_id: "framework-1-1".into(), incarnation: 1, updates: vec![update] };
        let wire = v1::ToMaster { message: Some(v1::to_master::Message::Updates(updates)) };
        FromAgent::try_from(wire).map(|_| ()).unwrap_err().to_string()
    };
    let good = v1::Update::from(&samples::updates()[0]);
    assert_eq!(
        refused(v1::Update { first: 1, count: u32::MAX, ..good.clone() }),
        "updates.updates[0].count: 4294967296 is over the limit of 4096"
    );
    assert_eq!(refused(v1::Update { count: 0, ..good.clone() }), "updates.updates[0].count: 0 tasks; it needs 1");
    assert_eq!(refused(v1::Update { status: None, ..good.clone() }), "updates.updates[0].status: is required");
    let usages = v1::Usages { fuel: vec![1, 2], ..Default::default() };
    assert_eq!(
        refused(v1::Update { usages: Some(usages), ..good }),
        "updates.updates[0].usages.fuel: 2 numbers for 3 tasks; it needs none, 1 or 3"
    );
}

#[test]
fn a_report_covers_its_tasks_exactly() {
    let refused = |change: fn(&mut v1::BatchReport)| {
        let mut report = v1::BatchReport::from(&samples::report());
        change(&mut report);
        BatchReport::try_from(report).unwrap_err().to_string()
    };
    assert_eq!(refused(|it| it.runs[0].count = 11), "runs: statuses of 101 tasks for 100");
    assert_eq!(refused(|it| it.runs.clear()), "runs: statuses of 0 tasks for 100");
    assert_eq!(refused(|it| it.slots = 101), "slots: 101 slots; it needs 1 to 100");
    assert_eq!(refused(|it| it.array.as_mut().unwrap().count = 4097), "array.count: 4097 is over the limit of 4096");
}

#[test]
fn a_runner_cannot_report_tasks_that_no_launch_can_have() {
    let mut report = runner::v1::Report { sequence: 1, work: 1, first: 4096, count: 1, status: None, usages: None };
    report.status = Some((&samples::statuses()[0]).into());
    let reports = runner::v1::Reports { reports: vec![report] };
    let wire = runner::v1::FromRunner { message: Some(runner::v1::from_runner::Message::Reports(reports)) };
    let error = FromRunner::try_from(wire).unwrap_err();
    assert_eq!(error.to_string(), "reports.reports[0].count: 4097 is over the limit of 4096");
}

#[test]
fn a_variant_from_the_future_is_ignored_and_counted() {
    let before = unknown::variants();
    // Field 100, as a message of length 0.
    let future = [0xa2, 0x06, 0x00];
    let call = FromFramework::try_from(v1::CallEnvelope::decode(&future[..]).unwrap()).unwrap_err();
    let event = SchedulerEvent::try_from(v1::EventEnvelope::decode(&future[..]).unwrap()).unwrap_err();
    let from_agent = FromAgent::try_from(v1::ToMaster::decode(&future[..]).unwrap()).unwrap_err();
    let to_agent = ToAgent::try_from(v1::ToAgent::decode(&future[..]).unwrap()).unwrap_err();
    let to_runner = ToRunner::try_from(runner::v1::ToRunner::decode(&future[..]).unwrap()).unwrap_err();
    let from_runner = FromRunner::try_from(runner::v1::FromRunner::decode(&future[..]).unwrap()).unwrap_err();
    for error in [call, event, from_agent, to_agent, to_runner, from_runner] {
        assert!(error.is_unknown(), "{error}");
    }
    assert!(unknown::variants() >= before + 6);
}

#[test]
fn values_from_the_future_have_a_documented_meaning() {
    let before = unknown::enum_values();
    assert_eq!(status::state(9), Ok(TaskState::Running));
    assert_eq!(status::state(99), Ok(TaskState::Failed));
    assert_eq!(status::reason(99), None);
    assert!(unknown::enum_values() >= before + 3);
    assert_eq!(status::state(0).unwrap_err().to_string(), "state: is required");
    assert_eq!(status::state(-1).unwrap_err().to_string(), "state: -1 is no state");
    let mut wire = v1::Update::from(&samples::updates()[0]);
    wire.status.as_mut().unwrap().reason = 99;
    assert_eq!(Update::try_from(wire).unwrap().status.reason, None);
}

#[test]
fn a_source_from_the_future_is_never_acknowledged() {
    let updates = v1::Updates { agent_id: "agent-1-1".to_owned(), incarnation: 1, source: 99, updates: Vec::new() };
    let wire = v1::EventEnvelope { event: Some(v1::event_envelope::Event::Updates(updates)) };
    let event = SchedulerEvent::try_from(wire).unwrap();
    assert!(matches!(event, SchedulerEvent::Updates { source: Source::Master, .. }));
}

#[test]
fn a_long_explanation_is_cut_and_not_lost() {
    let status =
        v1::TaskStatus { state: v1::TaskState::Failed.into(), message: "é".repeat(4000), ..v1::TaskStatus::default() };
    let got = TaskStatus::try_from(status).unwrap();
    assert_eq!(&*got.message, "é".repeat(2048));
}

/// Every message that a peer may send, as bytes.
fn corpus() -> Vec<Vec<u8>> {
    let calls = samples::calls();
    let calls = calls.iter().flat_map(|call| pages::call(1, call).unwrap()).map(|it| it.encode_to_vec());
    let events = samples::events();
    let events = events.iter().flat_map(pages::event).map(|it| it.encode_to_vec());
    let to_master = samples::to_master();
    let to_master = to_master.iter().flat_map(pages::to_master).map(|it| it.encode_to_vec());
    let to_agent = samples::to_agent();
    let to_agent = to_agent.iter().map(|it| v1::ToAgent::from(it).encode_to_vec());
    calls.chain(events).chain(to_master).chain(to_agent).collect()
}

/// Reads bytes as everything that reads bytes from outside would.
fn read_as_everything(bytes: &[u8]) {
    let _ = v1::CallEnvelope::decode(bytes).map(FromFramework::try_from);
    let _ = v1::EventEnvelope::decode(bytes).map(SchedulerEvent::try_from);
    let _ = v1::ToMaster::decode(bytes).map(FromAgent::try_from);
    let _ = v1::ToAgent::decode(bytes).map(ToAgent::try_from);
    let _ = runner::v1::ToRunner::decode(bytes).map(ToRunner::try_from);
    let _ = runner::v1::FromRunner::decode(bytes).map(FromRunner::try_from);
}

proptest! {
    #[test]
    fn garbage_is_refused_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        read_as_everything(&bytes);
    }

    #[test]
    fn damaged_messages_are_refused_or_read_but_never_a_panic(
        which in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let corpus = corpus();
        let mut bytes = which.get(&corpus).clone();
        for (at, byte) in damage {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        read_as_everything(&bytes);
    }

    #[test]
    fn what_a_launch_accounts_for_survives_the_wire(
        first in any::<u32>(),
        count in 1..=MAX_BATCH_TASKS,
        slots in any::<u32>(),
        cpus in 0..=Amount::MAX.0,
        ports in prop::collection::vec((0u64..65_536, 0u64..100), 0..20),
        args in prop::collection::vec(".*", 0..4),
    ) {
        prop_assume!(first.checked_add(count).is_some());
        let ranges = Ranges::new(ports.into_iter().map(|(begin, extra)| (begin, (begin + extra).min(65_535))));
        let scalars = [(ResourceName::Cpus, Quantity::Scalar(Amount(cpus)))];
        let resources = scalars.into_iter().chain([(ResourceName::Ports, Quantity::Ranges(ranges))]).collect();
        let args = args.into_iter().map(std::sync::Arc::from).collect();
        let spec = TaskSpec { resources, args, ..TaskSpec::default() };
        let tasks = TaskRange::Array { first, count };
        let launch = Launch { id: "p".parse().unwrap(), tasks, slots, spec: spec.into() };
        let bytes = v1::Launch::from(&launch).encode_to_vec();
        prop_assert_eq!(Launch::try_from(v1::Launch::decode(bytes.as_slice()).unwrap()), Ok(launch));
    }
}
