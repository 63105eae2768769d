//! The offer cycle, and what operators see of it.

use holm_proto::v1::{self, call_envelope::Call, event_envelope::Event, to_agent, watch_event::Change};

use crate::harness::{Agent, Framework, Master, soon, update};

#[tokio::test(flavor = "multi_thread")]
async fn a_task_goes_from_offer_to_end_and_operators_can_see_it() {
    let dir = tempfile::tempdir().unwrap();
    let master = Master::start(dir.path()).await;
    let mut agent = Agent::start(&master, "cpus:4;mem:4GiB").await;
    let mut framework = Framework::start(&master, "eng").await;
    let launch = framework.launch(&mut agent, "job").await;
    assert_eq!((launch.sequence, launch.framework_id.as_str()), (1, framework.id.as_str()));

    agent.report(&framework.id, update(1, "job", v1::TaskState::Running)).await;
    let running = framework.next_update().await;
    assert_eq!(running.status.unwrap().state(), v1::TaskState::Running);
    let mut operator = master.operator().await;
    let request = v1::ListTasksRequest { states: vec![v1::TaskState::Running.into()], ..Default::default() };
    let tasks = master
        .until("the running task is listed", || {
            let (mut operator, request) = (operator.clone(), request.clone());
            async move {
                let tasks = operator.list_tasks(request).await.unwrap().into_inner().tasks;
                (!tasks.is_empty()).then_some(tasks)
            }
        })
        .await;
    assert_eq!((tasks[0].task_id.as_str(), tasks[0].role.as_str()), ("job", "eng"));
    assert_eq!(tasks[0].agent_id, agent.id);
    let agents = operator.list_agents(v1::ListAgentsRequest::default()).await.unwrap().into_inner().agents;
    assert_eq!(agents[0].allocated.as_ref().unwrap().text, "cpus:1;mem:64MiB");

    agent.report(&framework.id, update(2, "job", v1::TaskState::Finished)).await;
    let ended = framework.next_update().await;
    assert_eq!(ended.status.unwrap().state(), v1::TaskState::Finished);
    let acknowledge = v1::Acknowledge { agent_id: agent.id.clone(), incarnation: 1, sequence: 2 };
    assert!(framework.call(Call::Acknowledge(acknowledge)).await);
    loop {
        if let to_agent::Message::Acknowledge(acknowledge) = agent.next().await.unwrap() {
            assert_eq!((acknowledge.framework_id, acknowledge.sequence), (framework.id.clone(), 2));
            break;
        }
    }
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_kill_tasks_and_end_frameworks() {
    let dir = tempfile::tempdir().unwrap();
    let master = Master::start(dir.path()).await;
    let mut agent = Agent::start(&master, "cpus:4;mem:4GiB").await;
    let mut framework = Framework::start(&master, "eng").await;
    framework.launch(&mut agent, "job").await;
    agent.report(&framework.id, update(1, "job", v1::TaskState::Running)).await;
    framework.next_update().await;

    let mut operator = master.operator().await;
    let kill = |task: &str| v1::KillTaskRequest { task_id: task.to_owned(), ..Default::default() };
    let unknown = operator.kill_task(kill("other")).await.unwrap_err();
    assert_eq!(unknown.code(), tonic::Code::NotFound);
    let told = operator.kill_task(kill("job")).await.unwrap().into_inner();
    assert_eq!(told.framework_id, framework.id);
    let to_agent::Message::Kill(killed) = agent.next().await.unwrap() else { panic!("expected a kill") };
    assert_eq!(killed.task_id, "job");

    let request = v1::TeardownFrameworkRequest { framework_id: framework.id.clone() };
    let reply = operator.teardown_framework(request).await.unwrap().into_inner();
    assert_eq!(reply.killed_tasks, 1);
    loop {
        match agent.next().await.unwrap() {
            to_agent::Message::Remove(remove) => break assert_eq!(remove.framework_id, framework.id),
            to_agent::Message::Kill(_) => {}
            other => panic!("expected the framework's removal, got {other:?}"),
        }
    }
    let mut fatal = false;
    while let Ok(event) = framework.next().await {
        fatal |= matches!(event, Event::Error(error) if error.fatal);
    }
    assert!(fatal, "the framework's stream ended without a fatal error");
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_sees_everything_and_then_every_change_and_can_resume() {
    let dir = tempfile::tempdir().unwrap();
    let master = Master::start(dir.path()).await;
    let agent = Agent::start(&master, "cpus:4;mem:4GiB").await;
    let mut operator = master.operator().await;
    let mut watch = operator.watch(v1::WatchRequest::default()).await.unwrap().into_inner();
    let mut seen_agent = false;
    let token = loop {
        let event = soon("the snapshot's end", watch.message()).await.unwrap().unwrap();
        match event.change.unwrap() {
            Change::SnapshotEnd(_) => break event.resume_token,
            Change::Agent(summary) => seen_agent |= summary.id == agent.id,
            _ => {}
        }
    };
    // The read model may be a moment behind; then the agent comes as a change.
    while !seen_agent {
        let event = soon("the agent", watch.message()).await.unwrap().unwrap();
        seen_agent = matches!(event.change, Some(Change::Agent(summary)) if summary.id == agent.id);
    }
    let framework = Framework::start(&master, "eng").await;
    let mut resumed = operator.watch(v1::WatchRequest { resume_token: token }).await.unwrap().into_inner();
    for watch in [&mut watch, &mut resumed] {
        loop {
            let event = soon("the framework", watch.message()).await.unwrap().unwrap();
            match event.change.unwrap() {
                Change::Framework(summary) if summary.id == framework.id => break,
                Change::SnapshotBegin(_) => panic!("the watch began anew"),
                _ => {}
            }
        }
    }
    let request = v1::WatchRequest { resume_token: "x".to_owned() };
    let mut malformed = operator.watch(request).await.unwrap().into_inner();
    assert_eq!(malformed.message().await.unwrap_err().code(), tonic::Code::InvalidArgument);
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_stop_tells_every_stream() {
    let dir = tempfile::tempdir().unwrap();
    let master = Master::start(dir.path()).await;
    let mut agent = Agent::start(&master, "cpus:4;mem:4GiB").await;
    let mut framework = Framework::start(&master, "eng").await;
    framework.next_offer().await;
    let mut watch = master.operator().await.watch(v1::WatchRequest::default()).await.unwrap().into_inner();
    master.stop().await;
    while let Ok(event) = soon("the watch's last words", watch.message()).await {
        assert!(event.is_some(), "the watch ended without a word");
    }
    let told = loop {
        if let Err(status) = framework.next().await {
            break status;
        }
    };
    assert_eq!(told.code(), tonic::Code::Unavailable, "{told}");
    assert_eq!(agent.next().await.unwrap_err().code(), tonic::Code::Unavailable);
}
