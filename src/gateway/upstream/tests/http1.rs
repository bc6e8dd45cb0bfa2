use super::*;

#[tokio::test]
async fn a_call_and_its_answer() {
    let (listener, target) = listen().await;
    let client = upstreams(Settings::default());
    let upstream = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        let request = read_request(&mut socket).await;
        socket.write_all(OK.as_bytes()).await.unwrap();
        (request, socket)
    };
    let (answer, (request, _socket)) =
        tokio::join!(client.send(post(&target, "/chat/completions")), upstream);
    let mut answer = answer.unwrap();
    assert!(request.starts_with("POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:"));
    assert!(request.ends_with(BODY));
    assert_eq!((answer.status.as_u16(), answer.reused, answer.protocol), (200, false, Protocol::Http1));
    assert_eq!(answer.body.size_hint(), Some(2));
    assert_eq!(answer.body.next().await.unwrap().unwrap(), "ok");
    assert!(answer.body.is_end(), "the end is known with the last byte");
    assert_eq!(answer.body.next().await.unwrap(), None);
    assert_eq!(client.connections(), (1, 0));
}

/// Answers every request of every connection, and counts both.
async fn serve(listener: &TcpListener, answer: &str, counts: &Cell<(u32, u32)>) {
    loop {
        let (mut socket, _) = listener.accept().await.unwrap();
        counts.set((counts.get().0 + 1, counts.get().1));
        while !read_request(&mut socket).await.is_empty() {
            counts.set((counts.get().0, counts.get().1 + 1));
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    }
}

/// Runs a client beside an upstream until the client is done.
async fn beside<T>(client: impl Future<Output = T>, upstream: impl Future<Output = ()>) -> T {
    tokio::select! {
        biased;
        done = client => done,
        () = upstream => panic!("the upstream ended first"),
    }
}

#[tokio::test]
async fn a_connection_serves_one_call_after_another() {
    let (listener, target) = listen().await;
    let client = upstreams(Settings::default());
    let counts = Cell::new((0, 0));
    let calls = async {
        for at in 0..20 {
            let answer = client.send(post(&target, "/chat/completions")).await.unwrap();
            assert_eq!(answer.reused, at > 0);
            assert_eq!(read_all(answer.body).await.unwrap(), "ok");
        }
    };
    beside(calls, serve(&listener, OK, &counts)).await;
    assert_eq!(counts.get(), (1, 20));
}

#[tokio::test]
async fn the_pool_is_bounded_and_forgets_what_is_old() {
    let (listener, target) = listen().await;
    let settings = Settings { idle_per_host_max: 2, idle_timeout: Duration::from_secs(30), ..quick() };
    let client = upstreams(settings);
    let upstream = async {
        let mut sockets = Vec::new();
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            read_request(&mut socket).await;
            socket.write_all(OK.as_bytes()).await.unwrap();
            sockets.push(socket);
        }
    };
    let calls = async {
        let mut answers = Vec::new();
        for _ in 0..4 {
            answers.push(client.send(post(&target, "/x")).await.unwrap());
        }
        for answer in answers {
            read_all(answer.body).await.unwrap();
        }
        assert_eq!(client.connections(), (2, 0));
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(31)).await;
        client.sweep();
        assert_eq!(client.connections(), (0, 0));
    };
    beside(calls, upstream).await;
}

#[tokio::test]
async fn a_kept_connection_that_the_upstream_closed_is_replaced_unseen() {
    let (listener, target) = listen().await;
    let client = upstreams(Settings::default());
    let upstream = async {
        for _ in 0..3 {
            let (mut socket, _) = listener.accept().await.unwrap();
            read_request(&mut socket).await;
            socket.write_all(OK.as_bytes()).await.unwrap();
            drop(socket);
        }
        std::future::pending().await
    };
    let calls = async {
        for _ in 0..3 {
            let answer = client.send(post(&target, "/x")).await.unwrap();
            assert!(!answer.reused);
            assert_eq!(read_all(answer.body).await.unwrap(), "ok");
            // The farewell arrives before the next call.
            tokio::task::yield_now().await;
        }
    };
    beside(calls, upstream).await;
}

/// The upstream takes a second request on a kept connection and goes away without an answer.
async fn second_request_unanswered(method: Method) -> (Result<Answer, ForwardError>, u32) {
    let (listener, target) = listen().await;
    let client = upstreams(Settings::default());
    let requests = Cell::new(0);
    let upstream = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        read_request(&mut socket).await;
        requests.set(1);
        socket.write_all(OK.as_bytes()).await.unwrap();
        read_request(&mut socket).await;
        requests.set(2);
        drop(socket);
        serve(&listener, OK, &Cell::default()).await;
    };
    let call = Call { method, ..post(&target, "/x") };
    let calls = async {
        read_all(client.send(call.clone()).await.unwrap().body).await.unwrap();
        client.send(call.clone()).await
    };
    let second = beside(calls, upstream).await;
    (second, requests.get())
}

#[tokio::test]
async fn a_call_that_the_upstream_may_have_done_is_not_sent_twice() {
    let (second, requests) = second_request_unanswered(Method::POST).await;
    let error = second.unwrap_err();
    assert!(matches!(error, ForwardError::Closed { sent: true }), "{error:?}");
    assert!(error.sent());
    assert_eq!(requests, 2);
}

#[tokio::test]
async fn an_idempotent_call_is_sent_again_on_a_new_connection() {
    let (second, _) = second_request_unanswered(Method::GET).await;
    let answer = second.unwrap();
    assert!(!answer.reused);
}

#[tokio::test]
async fn a_new_connection_that_fails_is_not_tried_again() {
    let (listener, target) = listen().await;
    let client = upstreams(Settings::default());
    let accepted = Cell::new(0);
    let upstream = async {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            accepted.set(accepted.get() + 1);
            read_request(&mut socket).await;
        }
    };
    let error = beside(client.send(get(&target)), upstream).await.unwrap_err();
    assert!(matches!(error, ForwardError::Closed { sent: true }), "{error:?}");
    assert_eq!(accepted.get(), 1);
}

#[tokio::test]
async fn dropping_an_answer_before_its_end_closes_its_connection() {
    let (listener, target) = listen().await;
    let client = upstreams(Settings::default());
    let calls = async {
        let mut answer = client.send(post(&target, "/x")).await.unwrap();
        assert_eq!(answer.body.next().await.unwrap().unwrap(), "begun");
        assert!(!answer.body.is_end());
        drop(answer);
        assert_eq!(client.connections(), (0, 0));
    };
    let upstream = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        read_request(&mut socket).await;
        let begun = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nbegun\r\n";
        socket.write_all(begun.as_bytes()).await.unwrap();
        assert_eq!(read_request(&mut socket).await, "", "the connection was closed");
    };
    tokio::join!(calls, upstream);
}

#[tokio::test]
async fn a_stream_that_is_left_at_its_last_event_keeps_its_connection_if_its_end_has_come() {
    for (end, kept) in [("0\r\n\r\n", 1), ("4\r\nmore\r\n", 0), ("0\r\n", 0), ("0\r\n\r\nHTTP", 0)] {
        let (listener, target) = listen().await;
        let client = upstreams(Settings::default());
        let (read, ended) = (tokio::sync::Notify::new(), tokio::sync::Notify::new());
        let calls = async {
            let mut answer = client.send(post(&target, "/x")).await.unwrap();
            assert_eq!(answer.body.next().await.unwrap().unwrap(), "data: [DONE]\n\n");
            read.notify_one();
            ended.notified().await;
            // The runtime hears of what has arrived.
            tokio::task::yield_now().await;
            drop(answer);
            assert_eq!(client.connections(), (kept, 0), "{end:?}");
        };
        let upstream = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            read_request(&mut socket).await;
            let begun = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nE\r\ndata: [DONE]\n\n\r\n";
            socket.write_all(begun.as_bytes()).await.unwrap();
            read.notified().await;
            socket.write_all(end.as_bytes()).await.unwrap();
            ended.notify_one();
            std::future::pending().await
        };
        beside(calls, upstream).await;
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_an_error_and_stays_one() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let (listener, target) = listen().await;
        let client = upstreams(Settings::default());
        let upstream = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            read_request(&mut socket).await;
            socket.write_all(answer.as_bytes()).await.unwrap();
        };
        let (answer, ()) = tokio::join!(client.send(post(&target, "/x")), upstream);
        let mut answer = answer.unwrap();
        assert_eq!(answer.body.next().await.unwrap().unwrap(), "half");
        assert!(matches!(answer.body.next().await, Err(ForwardError::Closed { sent: true })));
        assert!(answer.body.next().await.is_err());
        assert!(!answer.body.is_end());
    }
}

#[tokio::test]
async fn a_body_can_be_collected_up_to_a_limit() {
    let long = "x".repeat(300_000);
    let told = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{long}", long.len());
    let chunked = format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{long}\r\n0\r\n\r\n",
        long.len()
    );
    for recorded in [told, chunked] {
        let (listener, target) = listen().await;
        let client = upstreams(Settings::default());
        let counts = Cell::new((0, 0));
        let calls = async {
            let mut answer = client.send(post(&target, "/x")).await.unwrap();
            assert_eq!(answer.body.collect(300_000).await.unwrap(), Collected::Whole(long.clone().into()));
            assert!(answer.body.is_end());
            let mut answer = client.send(post(&target, "/x")).await.unwrap();
            let Collected::Begun(begun) = answer.body.collect(100_000).await.unwrap() else {
                panic!("more than the limit is not whole");
            };
            assert!(begun.len() > 100_000);
            assert_eq!(begun.len() + read_all(answer.body).await.unwrap().len(), long.len());
            assert_eq!(client.connections(), (1, 0));
        };
        beside(calls, serve(&listener, &recorded, &counts)).await;
        assert_eq!(counts.get(), (1, 2));
    }
}

#[tokio::test]
async fn an_upstream_that_is_silent_is_given_up() {
    let (listener, target) = listen().await;
    let client = upstreams(Settings { header_timeout: Duration::from_secs(600), ..Settings::default() });
    let upstream = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        read_request(&mut socket).await;
        // From here on nothing happens but the passing of time.
        tokio::time::pause();
        read_request(&mut socket).await;
    };
    let (result, ()) = tokio::join!(client.send(post(&target, "/x")), upstream);
    let error = result.unwrap_err();
    assert!(matches!(error, ForwardError::Timeout { phase: Phase::Head }), "{error:?}");
    assert!(error.sent());
}

#[tokio::test]
async fn an_upstream_that_does_not_read_is_given_up() {
    let (listener, target) = listen().await;
    let client = upstreams(quick());
    let call = Call { body: Bytes::from(vec![b'x'; 32 << 20]), ..post(&target, "/x") };
    let upstream = async {
        let _socket = listener.accept().await.unwrap();
        std::future::pending().await
    };
    let error = beside(client.send(call), upstream).await.unwrap_err();
    assert!(matches!(error, ForwardError::Timeout { phase: Phase::Write }), "{error:?}");
    assert!(!error.sent());
}

#[tokio::test]
async fn a_refusal_that_comes_before_the_request_is_through_is_read() {
    let (listener, target) = listen().await;
    let client = upstreams(Settings::default());
    let call = Call { body: Bytes::from(vec![b'x'; 32 << 20]), ..post(&target, "/x") };
    let upstream = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.read_u8().await.unwrap();
        let refusal = "HTTP/1.1 413 Content Too Large\r\ncontent-length: 3\r\n\r\nbig";
        socket.write_all(refusal.as_bytes()).await.unwrap();
        std::future::pending().await
    };
    let calls = async {
        let answer = client.send(call).await.unwrap();
        assert_eq!(answer.status, 413);
        assert_eq!(read_all(answer.body).await.unwrap(), "big");
        assert_eq!(client.connections(), (0, 0), "the rest of the request was never sent");
    };
    beside(calls, upstream).await;
}

#[tokio::test]
async fn what_nobody_listens_to_is_a_failed_connection() {
    let (listener, target) = listen().await;
    drop(listener);
    let error = upstreams(Settings::default()).send(get(&target)).await.unwrap_err();
    assert!(matches!(error, ForwardError::Connect { .. }), "{error:?}");
    assert!(!error.sent());
    assert!(std::error::Error::source(&error).is_some());
}

#[tokio::test]
async fn an_answer_that_is_not_http_is_refused() {
    let (listener, target) = listen().await;
    let client = upstreams(Settings::default());
    let upstream = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        read_request(&mut socket).await;
        socket.write_all(b"220 mail.example ESMTP\r\n").await.unwrap();
        std::future::pending().await
    };
    let error = beside(client.send(post(&target, "/x")), upstream).await.unwrap_err();
    assert!(matches!(error, ForwardError::Protocol(_)), "{error:?}");
}

#[tokio::test]
async fn a_connection_is_not_used_when_the_upstream_is_about_to_close_it() {
    let (listener, target) = listen().await;
    let client = upstreams(Settings::default());
    let answer = "HTTP/1.1 200 OK\r\nkeep-alive: timeout=1\r\ncontent-length: 2\r\n\r\nok";
    let calls = async {
        read_all(client.send(post(&target, "/x")).await.unwrap().body).await.unwrap();
        assert_eq!(client.connections(), (0, 0));
    };
    beside(calls, serve(&listener, answer, &Cell::default())).await;
}

#[tokio::test]
async fn g1_what_is_for_the_public_internet_is_not_called_on_this_machine() {
    let (listener, target) = listen().await;
    let (client, counts) = (upstreams(quick()), Cell::new((0, 0)));
    beside(
        async {
            // A connection is kept to the same place.
            read_all(client.send(get(&target)).await.unwrap().body).await.unwrap();
            let public = target.clone().public_only();
            let refused = client.send(get(&public)).await.unwrap_err();
            assert!(!refused.sent() && refused.to_string().contains("public"), "{refused}");
            let name = Target::parse("http://localhost:9/v1").unwrap().public_only();
            assert!(!client.send(get(&name)).await.unwrap_err().sent(), "whatever its name resolves to");
        },
        serve(&listener, OK, &counts),
    )
    .await;
    assert_eq!(counts.get(), (1, 1));
}
