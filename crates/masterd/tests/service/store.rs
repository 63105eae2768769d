//! The data directory and the port.

use holm_masterd::{Service, StartError};
use holm_proto::v1;

use crate::harness::{Agent, Framework, Master, options, register, subscribe};

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_master_knows_everybody_and_has_a_higher_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let master = Master::start(dir.path()).await;
    let agent = Agent::start(&master, "cpus:1;mem:1GiB").await;
    let framework = Framework::start(&master, "eng").await;
    master.stop().await;

    let master = Master::start(dir.path()).await;
    let back = v1::Register {
        agent_id: agent.id.clone(),
        secret: agent.secret.clone(),
        cluster_id: agent.cluster.clone(),
        highest_epoch: agent.epoch,
        ..register("cpus:1;mem:1GiB")
    };
    let returned = Agent::try_start(master.channel().await, back).await.unwrap();
    assert_eq!((&returned.id, &returned.cluster), (&agent.id, &agent.cluster));
    assert_eq!(returned.epoch, agent.epoch + 1);
    let back = v1::Subscribe {
        framework_id: framework.id.clone(),
        secret: framework.secret.clone(),
        highest_epoch: framework.epoch,
        ..subscribe("eng")
    };
    let mut returned = Framework::try_start(master.channel().await, back, None).await.unwrap();
    assert_eq!((&returned.id, returned.epoch), (&framework.id, framework.epoch + 1));
    returned.next_offer().await;
    let newcomer = Agent::start(&master, "cpus:1;mem:1GiB").await;
    assert_ne!(newcomer.id, agent.id);
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_and_a_port_serve_one_master() {
    let dir = tempfile::tempdir().unwrap();
    let master = Master::start(dir.path()).await;
    let error = Service::bind(options(dir.path())).await.unwrap_err();
    assert!(matches!(error, StartError::Dir(_)), "{error}");
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");

    let mut elsewhere = options(&dir.path().join("other"));
    elsewhere.listen = master.address;
    let error = Service::bind(elsewhere).await.unwrap_err();
    assert!(matches!(error, StartError::Listen { .. }), "{error}");
    assert!(error.to_string().contains(&master.address.to_string()), "{error}");
    assert!(!dir.path().join("other").exists(), "a master that could not listen touched its store");
    master.stop().await;
    Master::start(dir.path()).await.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_directory_is_refused_until_it_is_adopted() {
    let dir = tempfile::tempdir().unwrap();
    let master = Master::start(dir.path()).await;
    let epoch = Framework::start(&master, "eng").await.epoch;
    master.stop().await;
    let copy = dir.path().join("copy/store");
    std::fs::create_dir_all(&copy).unwrap();
    for file in ["stamp", "registry.redb"] {
        std::fs::copy(dir.path().join("store").join(file), copy.join(file)).unwrap();
    }
    let error = Service::bind(options(&dir.path().join("copy"))).await.unwrap_err();
    assert!(error.to_string().contains("--adopt"), "{error}");
    let mut adopting = options(&dir.path().join("copy"));
    adopting.adopt = true;
    let master = Master::start_with(adopting).await;
    let framework = Framework::start(&master, "eng").await;
    assert!(framework.epoch > epoch + (1 << 20), "epoch {} does not outrun the original's", framework.epoch);
    master.stop().await;
}
