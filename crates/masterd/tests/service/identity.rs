//! Secrets, tokens and ids.

use holm_proto::v1;
use tonic::{Code, Request};

use crate::harness::{Agent, Framework, Master, hello, options, register, subscribe};

#[tokio::test(flavor = "multi_thread")]
async fn an_id_is_only_given_back_to_whoever_has_its_secret() {
    let dir = tempfile::tempdir().unwrap();
    let master = Master::start(dir.path()).await;
    let agent = Agent::start(&master, "cpus:1;mem:1GiB").await;
    let framework = Framework::start(&master, "eng").await;
    assert_eq!((agent.secret.len(), framework.secret.len()), (64, 64));

    let forged = v1::Register { agent_id: agent.id.clone(), secret: "0".repeat(64), ..register("cpus:1;mem:1GiB") };
    assert!(Agent::try_start(master.channel().await, forged).await.is_err());
    let forged = v1::Subscribe { framework_id: framework.id.clone(), secret: "0".repeat(64), ..subscribe("eng") };
    assert!(Framework::try_start(master.channel().await, forged, None).await.is_err());

    let back = v1::Register {
        agent_id: agent.id.clone(),
        secret: agent.secret.clone(),
        cluster_id: agent.cluster.clone(),
        ..register("cpus:1;mem:1GiB")
    };
    let returned = Agent::try_start(master.channel().await, back).await.unwrap();
    assert_eq!(returned.id, agent.id);
    let back =
        v1::Subscribe { framework_id: framework.id.clone(), secret: framework.secret.clone(), ..subscribe("eng") };
    let returned = Framework::try_start(master.channel().await, back, None).await.unwrap();
    assert_eq!(returned.id, framework.id);
    assert!(returned.framework_epoch > framework.framework_epoch);
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_with_a_token_asks_newcomers_and_operators_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "open-sesame\n").unwrap();
    let mut options = options(dir.path());
    options.token_file = Some(token);
    let master = Master::start_with(options).await;

    let refused = |status: tonic::Status| assert_eq!(status.code(), Code::Unauthenticated, "{status}");
    let channel = master.channel().await;
    refused(Agent::try_start(channel.clone(), register("cpus:1;mem:1GiB")).await.map(|_| ()).unwrap_err());
    refused(Framework::try_start(channel.clone(), subscribe("eng"), None).await.map(|_| ()).unwrap_err());
    refused(Framework::try_start(channel.clone(), subscribe("eng"), Some("guess")).await.map(|_| ()).unwrap_err());
    let mut operator = master.operator().await;
    refused(operator.list_agents(v1::ListAgentsRequest::default()).await.unwrap_err());
    let mut blobs = v1::blobs_client::BlobsClient::new(channel.clone());
    refused(blobs.stat(v1::StatRequest::default()).await.unwrap_err());

    let framework = Framework::try_start(channel.clone(), subscribe("eng"), Some("open-sesame")).await.unwrap();
    master
        .until("the framework is listed", || {
            let mut operator = operator.clone();
            let mut request = Request::new(v1::ListFrameworksRequest::default());
            request.metadata_mut().insert("authorization", "Bearer open-sesame".parse().unwrap());
            let id = framework.id.clone();
            async move {
                let frameworks = operator.list_frameworks(request).await.unwrap().into_inner().frameworks;
                frameworks.iter().any(|framework| framework.id == id).then_some(())
            }
        })
        .await;
    // Its own secret is enough to come back.
    let back =
        v1::Subscribe { framework_id: framework.id.clone(), secret: framework.secret.clone(), ..subscribe("eng") };
    assert_eq!(Framework::try_start(channel, back, None).await.unwrap().id, framework.id);
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_of_another_protocol_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let master = Master::start(dir.path()).await;
    let future = v1::Hello { protocol: 99, ..hello() };
    let request = v1::Subscribe { hello: Some(future.clone()), ..subscribe("eng") };
    let status = Framework::try_start(master.channel().await, request, None).await.map(|_| ()).unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    let request = v1::Register { hello: Some(future), ..register("cpus:1;mem:1GiB") };
    let status = Agent::try_start(master.channel().await, request).await.map(|_| ()).unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    let nameless = v1::FrameworkInfo { name: String::new(), ..subscribe("eng").info.unwrap() };
    let request = v1::Subscribe { info: Some(nameless), ..subscribe("eng") };
    let status = Framework::try_start(master.channel().await, request, None).await.map(|_| ()).unwrap_err();
    assert!(status.message().contains("name"), "{status}");
    master.stop().await;
}
