//! Peers that do not play by the rules: they are cut off, and nobody else notices.

use std::time::Duration;

use holm_proto::v1::{self, call_envelope::Call, event_envelope::Event};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;

use crate::harness::{Agent, Framework, Master, options, register, soon, subscribe};

#[tokio::test(flavor = "multi_thread")]
async fn a_flooder_that_never_reads_is_cut_off_and_others_get_offers() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    options.limits.outbound.messages = 200;
    let master = Master::start_with(options).await;
    let channel = master.endpoint().initial_stream_window_size(1024).connect().await.unwrap();
    let mut flooder = Framework::try_start(channel, subscribe("flood"), None).await.unwrap();
    let calls = flooder.calls();
    let framework_epoch = flooder.framework_epoch;
    let flood = tokio::spawn(async move {
        let kill = Call::Kill(v1::Kill { task_id: "x".repeat(128), grace_micros: None });
        let envelope = v1::CallEnvelope { framework_epoch, call: Some(kill) };
        while calls.send(envelope.clone()).await.is_ok() {}
    });

    let _agent = Agent::start(&master, "cpus:4;mem:4GiB").await;
    let mut honest = Framework::start(&master, "eng").await;
    honest.next_offer().await;
    // The flood ends because the master ends the stream, not because the flooder gives up.
    soon("the flooder is cut off", flood).await.unwrap();
    while flooder.next().await.is_ok() {}
    let unknown = v1::Kill { task_id: "nobody".to_owned(), grace_micros: None };
    assert!(honest.call(Call::Kill(unknown)).await);
    honest.next().await.unwrap();
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_that_still_reads_is_told_why_it_was_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    options.limits.outbound.messages = 200;
    options.limits.goodbye = crate::harness::PATIENCE;
    let master = Master::start_with(options).await;
    let channel = master.endpoint().initial_stream_window_size(1024).connect().await.unwrap();
    let mut slow = Framework::try_start(channel, subscribe("slow"), None).await.unwrap();
    let calls = slow.calls();
    let framework_epoch = slow.framework_epoch;
    let flood = tokio::spawn(async move {
        let kill = Call::Kill(v1::Kill { task_id: "x".repeat(128), grace_micros: None });
        let envelope = v1::CallEnvelope { framework_epoch, call: Some(kill) };
        while calls.send(envelope.clone()).await.is_ok() {}
    });
    let mut operator = master.operator().await;
    let state = |frameworks: Vec<v1::FrameworkSummary>| frameworks.first().map(v1::FrameworkSummary::state);
    loop {
        let listed = operator.list_frameworks(v1::ListFrameworksRequest::default()).await.unwrap().into_inner();
        if state(listed.frameworks) == Some(v1::FrameworkState::Disconnected) {
            break;
        }
    }
    let last = loop {
        if let Err(status) = slow.next().await {
            break status;
        }
    };
    assert_eq!(last.code(), Code::ResourceExhausted, "{last}");
    soon("the flood ends", flood).await.unwrap();
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_make_no_sense_are_answered_and_the_stream_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let master = Master::start(dir.path()).await;
    let mut framework = Framework::start(&master, "eng").await;
    let accept = v1::Accept { offer_ids: vec!["offer-x".to_owned()], ..Default::default() };
    assert!(framework.call(Call::Accept(accept)).await);
    let Event::Error(error) = framework.next().await.unwrap() else { panic!("expected an error") };
    assert!(error.message.starts_with("accept.offer_ids[0]"), "{}", error.message);
    assert!(!error.fatal);
    assert!(framework.call(Call::Subscribe(subscribe("eng"))).await);
    let Event::Error(error) = framework.next().await.unwrap() else { panic!("expected an error") };
    assert!(error.message.starts_with("subscribe"), "{}", error.message);
    let _agent = Agent::start(&master, "cpus:4;mem:4GiB").await;
    framework.next_offer().await;
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_does_not_say_who_it_is_is_ended() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    options.limits.first_message = Duration::from_millis(100);
    let master = Master::start_with(options).await;
    let mut scheduler = v1::scheduler_client::SchedulerClient::new(master.channel().await);
    let mut silent = scheduler.connect(tokio_stream::pending()).await.unwrap().into_inner();
    let status = soon("the silent stream ends", silent.message()).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);

    let hasty = v1::CallEnvelope { framework_epoch: 1, call: Some(Call::Teardown(v1::Teardown {})) };
    let stream = scheduler.connect(tokio_stream::iter([hasty])).await.unwrap().into_inner().message().await;
    assert_eq!(stream.unwrap_err().code(), Code::InvalidArgument);
    let mut bad = register("cpus:1;mem:1GiB");
    bad.info.as_mut().unwrap().resources[0].name = "CPU!".to_owned();
    let status = Agent::try_start(master.channel().await, bad).await.map(|_| ()).unwrap_err();
    assert!(status.message().contains("register.info.resources[0]"), "{status}");
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_and_silence_on_the_port_end_the_connection_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    options.limits.first_message = Duration::from_millis(200);
    let master = Master::start_with(options).await;
    let garbage: [&[u8]; 5] = [
        b"",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        b"GET / HTTP/1.1\r\nhost",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"PRI * HT",
    ];
    for bytes in garbage {
        let mut stream = TcpStream::connect(master.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        // An orderly end and a reset are both an end.
        soon("the connection ends", stream.read_to_end(&mut answer)).await.ok();
    }
    let mut random = TcpStream::connect(master.address).await.unwrap();
    let noise: Vec<u8> = (0..100_000u32).map(|n| u8::try_from(n.wrapping_mul(2_654_435_761) >> 24).unwrap()).collect();
    random.write_all(&noise).await.ok();
    let _agent = Agent::start(&master, "cpus:1;mem:1GiB").await;
    Framework::start(&master, "eng").await.next_offer().await;
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_and_streams_over_the_limit_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    options.limits.sessions = 1;
    options.limits.connections = 2;
    let master = Master::start_with(options).await;
    let channel = master.channel().await;
    let first = Framework::try_start(channel.clone(), subscribe("eng"), None).await.unwrap();
    let status = Framework::try_start(channel.clone(), subscribe("eng"), None).await.map(|_| ()).unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(status.message().contains('1'), "{status}");
    let _second = TcpStream::connect(master.address).await.unwrap();
    master
        .until("a third connection is closed at once", || async {
            let mut third = TcpStream::connect(master.address).await.ok()?;
            let mut byte = [0];
            let read = tokio::time::timeout(Duration::from_millis(200), third.read(&mut byte)).await;
            matches!(read, Ok(Ok(0) | Err(_))).then_some(())
        })
        .await;
    drop(first);
    master
        .until("the place is free again", || {
            let channel = channel.clone();
            async { Framework::try_start(channel, subscribe("eng"), None).await.ok() }
        })
        .await;
    master.stop().await;
}
