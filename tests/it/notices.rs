//! The outbox for notices on both stores, with receivers and a mail server on real sockets: D4 (a status change is told
//! at once, in the notification centre, by webhook and by mail) and I3 (alerts by mail and signed webhook).

use std::net::TcpListener;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use ledger::Nano;
use serde_json::json;
use tallygate::catalogue::Language;
use tallygate::clock::{Clock, ManualClock, SystemEntropy};
use tallygate::config::{Mail, MailTls};
use tallygate::directory::{
    Directory, DirectoryError, EndpointStatus, KeyStatus, NoticeEndpoint, NoticeTarget, StatusOrigin,
    StatusReason,
};
use tallygate::gateway::upstream::Tls;
use tallygate::id::{AccountId, KeyId, NoticeEndpointId, NoticeId};
use tallygate::notices::{
    ATTEMPTS_MAX, BACKOFF_MAX, Channel, Delivery, Event, Facts, Filter, LEASE, NewNotice, Notices, Sender,
    State,
};
use tallygate::secret::{Keyring, Secret};
use tallygate::store::Stores;

use crate::on_both_backends;
use crate::support::app::NOW_MS;
use crate::support::backend::Backend;
use crate::support::demo::wait_until;
use crate::support::port::Port;
use crate::support::receiver::{Receiver, Then, mail_server};

on_both_backends!(
    i3_a_webhook_is_signed_and_retried_until_it_is_accepted,
    i3_what_a_member_named_is_called_on_the_public_internet_alone,
    i3_a_redirect_is_no_delivery_and_a_long_answer_is_one,
    i3_an_endpoint_that_is_down_does_not_take_the_others_turns,
    i3_a_receiver_is_spoken_to_only_if_its_certificate_is_trusted,
    i3_a_notice_is_given_up_after_its_last_attempt_and_can_be_asked_for_again,
    d4_an_attempt_that_a_crash_cut_short_is_made_again_and_never_by_two_nodes,
    d4_a_stop_waits_for_the_attempt_under_way_and_a_start_goes_on,
    d4_a_status_change_is_told_by_mail_in_the_readers_language,
    i3_a_mail_is_never_sent_in_the_clear_where_encryption_is_asked_for,
    d4_everybody_is_told_what_is_theirs_and_what_they_asked_for,
);

pub const SECRET: &str = "whsec-of-the-tests-0123456789";
/// No receiver of a test is waited for longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// One node on a store.
pub struct Node {
    directory: Arc<Directory>,
    pub notices: Arc<Notices>,
    clock: Arc<ManualClock>,
    mail: Mail,
}

impl Node {
    pub fn new(stores: &Stores, clock: &Arc<ManualClock>, mail: Mail) -> Self {
        let master = Arc::new(Keyring::from_hex(&"5a".repeat(32)).unwrap());
        let (clock, entropy) = (Arc::clone(clock), Arc::new(SystemEntropy::new()));
        let directory = Directory::open(stores.directory.clone(), master, clock.clone(), entropy.clone());
        let directory = Arc::new(directory.unwrap());
        let notices =
            Notices::new(stores.directory.clone(), Arc::clone(&directory), clock.clone(), entropy, &mail);
        Node { directory, notices: Arc::new(notices), clock, mail }
    }

    fn account(&self, name: &'static str) -> AccountId {
        let edit = |account: &mut tallygate::directory::Account| {
            account.name = name.into();
            Ok(())
        };
        self.directory.create_account("test", &edit).unwrap().document.id
    }

    fn webhook(&self, account: Option<AccountId>, url: &str) -> NoticeEndpointId {
        self.webhook_with(account, url, &|_| {})
    }

    pub fn webhook_with(
        &self,
        account: Option<AccountId>,
        url: &str,
        more: &dyn Fn(&mut NoticeEndpoint),
    ) -> NoticeEndpointId {
        let edit = |endpoint: &mut NoticeEndpoint| {
            endpoint.name = url.into();
            more(endpoint);
            Ok::<_, DirectoryError>(())
        };
        let (target, secret) = match url.starts_with("http") {
            true => (NoticeTarget::Webhook { url: url.into() }, Some(Secret::new(SECRET))),
            false => (NoticeTarget::Mail { address: url.into() }, None),
        };
        let made = self.directory.create_notice_endpoint("test", account, target, secret.as_ref(), &edit);
        made.unwrap().document.id
    }

    pub fn sender(&self) -> Sender {
        Sender::new(&Tls::new(None).unwrap(), &self.mail).unwrap()
    }

    /// The log of the deliveries that are sent somewhere.
    pub fn sent(&self, notice: NoticeId) -> Vec<Delivery> {
        let (_, mut deliveries) = self.notices.find(notice).unwrap().unwrap();
        let in_app = deliveries.remove(0);
        assert_eq!((in_app.channel, in_app.state), (Channel::InApp, State::Delivered));
        deliveries
    }

    fn advance(&self, by: Duration) {
        self.clock.advance_ms(by.as_millis().try_into().unwrap());
    }
}

fn no_mail() -> Mail {
    Mail::default()
}

pub fn frozen(account: Option<AccountId>) -> NewNotice {
    NewNotice {
        account,
        subject: KeyId::from_raw(7).into(),
        facts: Facts::KeyFrozen {
            name: "production".into(),
            origin: StatusOrigin::RiskPolicy,
            reason: StatusReason::HighFrequency,
            until: None,
        },
    }
}

pub fn low_balance(account: AccountId) -> NewNotice {
    let facts = Facts::LowBalance {
        available: Nano(1_500_000_000),
        threshold: Nano(5_000_000_000),
        currency: "USD".into(),
    };
    NewNotice { account: Some(account), subject: account.into(), facts }
}

fn now_s(clock: &ManualClock) -> i64 {
    clock.now_ms() / 1_000
}

/// A receiver that is down twice and then back: the same signed bytes each time, each attempt in the log.
fn i3_a_webhook_is_signed_and_retried_until_it_is_accepted(backend: Backend) {
    let (stores, clock) = (backend.open(), Arc::new(ManualClock::new(NOW_MS)));
    let node = Node::new(&stores, &clock, no_mail());
    let account = node.account("ann");
    let script = vec![Then::Answer("503 Busy"), Then::Close, Then::Answer("204 No Content")];
    let receiver = Receiver::start(script);
    node.webhook(Some(account), &receiver.url());
    let sender = node.sender();
    let notice = node.notices.post(frozen(Some(account))).unwrap();
    let waiting = node.sent(notice);
    assert_eq!((waiting[0].state, waiting[0].attempts), (State::Pending, 0));
    assert_eq!(waiting[0].target, format!("http://{}/hook", receiver.address), "a query may hold a secret");

    assert_eq!(node.notices.round(&sender).unwrap(), 1);
    let first = receiver.next();
    first.assert_signed(SECRET, now_s(&clock));
    assert_eq!(first.line, "POST /hook?token=of-the-receiver HTTP/1.1");
    assert_eq!(first.header("content-type"), "application/json");
    assert_eq!(first.header("tallygate-event"), "key_frozen");
    assert_eq!(
        first.json(),
        json!({
            "id": notice.to_string(),
            "event": "key_frozen",
            "at": "2026-11-22T08:00:00Z",
            "account": account.to_string(),
            "subject": "key_0000000000007",
            "facts": {"name": "production", "origin": "risk_policy", "reason": "high_frequency", "until": null},
            "language": "en",
            "title": "Key production was frozen",
            "text": first.json()["text"],
        })
    );
    let failed = node.sent(notice).remove(0);
    assert_eq!((failed.state, failed.attempts), (State::Failed, 1));
    assert_eq!(failed.last_error.as_deref(), Some("answered with HTTP 503"));
    let pause = failed.next_at_ms.unwrap() - NOW_MS;
    assert!((5_000..=10_000).contains(&pause), "{pause}");
    assert_eq!(node.notices.round(&sender).unwrap(), 0, "its time has not come");

    node.advance(Duration::from_secs(10));
    assert_eq!(node.notices.round(&sender).unwrap(), 1);
    let second = receiver.next();
    second.assert_signed(SECRET, now_s(&clock));
    assert_eq!(second.body, first.body);
    let failed = node.sent(notice).remove(0);
    assert_eq!((failed.state, failed.attempts), (State::Failed, 2));
    assert_eq!(failed.last_error.as_deref(), Some("the connection was closed without an answer"));

    node.advance(Duration::from_secs(20));
    assert_eq!(node.notices.round(&sender).unwrap(), 1);
    let third = receiver.next();
    third.assert_signed(SECRET, now_s(&clock));
    assert_eq!(third.body, first.body);
    let delivered = node.sent(notice).remove(0);
    assert_eq!((delivered.state, delivered.attempts, delivered.next_at_ms), (State::Delivered, 3, None));
    assert_eq!((delivered.last_error, delivered.delivered_at_ms), (None, Some(clock.now_ms())));
    node.advance(BACKOFF_MAX);
    assert_eq!(node.notices.round(&sender).unwrap(), 0, "what is delivered is not sent again");
}

/// What the name resolves to when it is called counts, not what it looked like when it was saved.
fn i3_what_a_member_named_is_called_on_the_public_internet_alone(backend: Backend) {
    let stores = backend.open();
    let node = Node::new(&stores, &Arc::new(ManualClock::new(NOW_MS)), no_mail());
    let account = node.account("ann");
    let receiver = Receiver::start(vec![Then::Answer("200 OK")]);
    let by_name = receiver.url().replace("127.0.0.1", "localhost");
    let of_members = [receiver.url(), by_name]
        .map(|url| node.webhook_with(Some(account), &url, &|endpoint| endpoint.by_member = true));
    let notice = node.notices.post(frozen(Some(account))).unwrap();
    assert_eq!(node.notices.round(&node.sender()).unwrap(), 2);
    for delivery in node.sent(notice) {
        assert_eq!((delivery.state, delivery.attempts), (State::Failed, 1));
        assert!(delivery.last_error.unwrap().contains("not on the public internet"));
    }
    // The only answer is for the operator's choice of the same address.
    let trust = |endpoint: &mut NoticeEndpoint| {
        endpoint.by_member = false;
        Ok::<_, DirectoryError>(())
    };
    node.directory.edit("test", of_members[0].raw(), None, &trust).unwrap();
    node.advance(BACKOFF_MAX);
    node.notices.round(&node.sender()).unwrap();
    assert_eq!(receiver.next().json()["id"], notice.to_string());
    let delivered: Vec<_> =
        node.sent(notice).into_iter().filter(|delivery| delivery.state == State::Delivered).collect();
    assert_eq!(delivered.len(), 1);
    assert_eq!(delivered[0].endpoint, Some(of_members[0]));
}

fn i3_a_redirect_is_no_delivery_and_a_long_answer_is_one(backend: Backend) {
    let (stores, clock) = (backend.open(), Arc::new(ManualClock::new(NOW_MS)));
    let node = Node::new(&stores, &clock, no_mail());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let elsewhere: &'static str =
        format!("307 Elsewhere\r\nlocation: http://{}/other", listener.local_addr().unwrap()).leak();
    let script = vec![Then::Answer(elsewhere), Then::AnswerLong("200 OK", 100_000)];
    let receiver = Receiver::start_on(listener, script);
    node.webhook(None, &receiver.url());
    let sender = node.sender();
    let notice = node.notices.post(frozen(None)).unwrap();
    node.notices.round(&sender).unwrap();
    let failed = node.sent(notice).remove(0);
    assert_eq!(failed.last_error.as_deref(), Some("answered with HTTP 307"));
    receiver.next();
    assert!(receiver.requests.try_recv().is_err(), "nobody went where the answer pointed to");
    node.advance(BACKOFF_MAX);
    node.notices.round(&sender).unwrap();
    assert_eq!(node.sent(notice)[0].state, State::Delivered);
    assert_eq!(receiver.next().line, "POST /hook?token=of-the-receiver HTTP/1.1");
}

fn i3_an_endpoint_that_is_down_does_not_take_the_others_turns(backend: Backend) {
    let (stores, clock) = (backend.open(), Arc::new(ManualClock::new(NOW_MS)));
    let node = Node::new(&stores, &clock, no_mail());
    let account = node.account("ann");
    // Port 9 is "discard", which nobody offers any more.
    node.webhook(Some(account), "http://127.0.0.1:9/hook");
    let receiver = Receiver::start(vec![Then::Answer("200 OK")]);
    node.webhook(None, &receiver.url());
    let waiting: Vec<_> = (0..40).map(|_| node.notices.post(low_balance(account)).unwrap()).collect();
    node.advance(Duration::from_millis(1));
    let sender = node.sender();
    let behind = node.notices.post(frozen(None)).unwrap();
    assert_eq!(node.notices.round(&sender).unwrap(), 16);
    assert_eq!(node.notices.round(&sender).unwrap(), 1, "the rest waits with those that failed");
    assert_eq!(node.sent(behind)[0].state, State::Delivered);
    assert_eq!(receiver.next().json()["id"], behind.to_string());
    let attempts = waiting.iter().map(|notice| node.sent(*notice)[0].attempts);
    assert_eq!(attempts.sum::<u32>(), 16);
}

fn i3_a_receiver_is_spoken_to_only_if_its_certificate_is_trusted(backend: Backend) {
    let (stores, clock) = (backend.open(), Arc::new(ManualClock::new(NOW_MS)));
    let node = Node::new(&stores, &clock, no_mail());
    let (receiver, certificate) = Receiver::start_tls(vec![Then::Answer("200 OK"), Then::Answer("200 OK")]);
    node.webhook(None, &format!("https://localhost:{}/hook", receiver.address.port()));
    let notice = node.notices.post(frozen(None)).unwrap();
    node.notices.round(&node.sender()).unwrap();
    let failed = node.sent(notice).remove(0);
    assert!(failed.last_error.as_deref().unwrap().starts_with("TLS failed"), "{failed:?}");
    assert!(receiver.requests.try_recv().is_err());
    node.advance(BACKOFF_MAX);
    let trusting = Sender::new(&Tls::with_roots(vec![certificate]).unwrap(), &node.mail).unwrap();
    node.notices.round(&trusting).unwrap();
    receiver.next().assert_signed(SECRET, now_s(&clock));
    assert_eq!(node.sent(notice)[0].state, State::Delivered);
}

fn i3_a_notice_is_given_up_after_its_last_attempt_and_can_be_asked_for_again(backend: Backend) {
    let (stores, clock) = (backend.open(), Arc::new(ManualClock::new(NOW_MS)));
    let node = Node::new(&stores, &clock, no_mail());
    let account = node.account("ann");
    // A port that nobody listens on, but that is kept for the test.
    let kept = Port::reserve();
    let address = kept.address;
    node.webhook(Some(account), &format!("http://{address}/hook"));
    let sender = node.sender();
    let notice = node.notices.post(low_balance(account)).unwrap();
    for attempt in 1..=ATTEMPTS_MAX {
        assert_eq!(node.notices.round(&sender).unwrap(), 1, "attempt {attempt}");
        node.advance(BACKOFF_MAX);
    }
    let dead = node.sent(notice).remove(0);
    assert_eq!((dead.state, dead.attempts, dead.next_at_ms), (State::Dead, ATTEMPTS_MAX, None));
    assert!(dead.last_error.as_deref().unwrap().starts_with("no connection"), "{dead:?}");
    assert_eq!(node.notices.round(&sender).unwrap(), 0);
    let dead_letters = Filter { state: Some(State::Dead), ..Filter::default() };
    assert_eq!(node.notices.page(&dead_letters, 10).unwrap()[0].0.id, notice);

    let receiver = Receiver::start_on(kept.listen(), vec![Then::Answer("200 OK")]);
    assert_eq!(node.notices.retry(notice).unwrap(), 1);
    assert_eq!(node.notices.round(&sender).unwrap(), 1);
    receiver.next().assert_signed(SECRET, now_s(&clock));
    let delivered = node.sent(notice).remove(0);
    assert_eq!((delivered.state, delivered.attempts), (State::Delivered, 1));
    assert!(node.notices.page(&dead_letters, 10).unwrap().is_empty());
    assert_eq!(node.notices.retry(notice).unwrap(), 0, "what was delivered is not sent again");
}

/// The attempt is written down before it is made. While it is under way no other node makes one; if its process dies
/// the next one makes it again after the lease.
fn d4_an_attempt_that_a_crash_cut_short_is_made_again_and_never_by_two_nodes(backend: Backend) {
    let (stores, clock) = (backend.open(), Arc::new(ManualClock::new(NOW_MS)));
    let node = Node::new(&stores, &clock, no_mail());
    let (tell, told) = mpsc::channel();
    let receiver = Receiver::start(vec![Then::AnswerWhenTold(told), Then::Answer("200 OK")]);
    node.webhook(None, &receiver.url());
    let notice = node.notices.post(frozen(None)).unwrap();
    let other = Node::new(&stores, &clock, no_mail());
    std::thread::scope(|scope| {
        let first = scope.spawn(|| node.notices.round(&node.sender()).unwrap());
        let request = receiver.next();
        let under_way = node.sent(notice).remove(0);
        assert_eq!((under_way.state, under_way.attempts), (State::Pending, 1));
        assert_eq!(under_way.next_at_ms, Some(NOW_MS + i64::try_from(LEASE.as_millis()).unwrap()));
        let sender = other.sender();
        assert_eq!(other.notices.round(&sender).unwrap(), 0);
        // As if the first process had died here: nobody finishes its attempt.
        other.advance(LEASE);
        assert_eq!(other.notices.round(&sender).unwrap(), 1);
        tell.send(()).unwrap();
        assert_eq!(first.join().unwrap(), 1);
        request.assert_signed(SECRET, NOW_MS / 1_000);
    });
    receiver.next().assert_signed(SECRET, now_s(&clock));
    let delivered = node.sent(notice).remove(0);
    assert_eq!((delivered.state, delivered.attempts), (State::Delivered, 2));
}

/// The thread as `serve` runs it. What came too late for it is delivered by the next process.
fn d4_a_stop_waits_for_the_attempt_under_way_and_a_start_goes_on(backend: Backend) {
    let (stores, clock) = (backend.open(), Arc::new(ManualClock::new(NOW_MS)));
    let node = Node::new(&stores, &clock, no_mail());
    let (tell, told) = mpsc::channel();
    let receiver = Receiver::start(vec![Then::AnswerWhenTold(told), Then::Answer("200 OK")]);
    node.webhook(None, &receiver.url());
    let worker = node.notices.start(&node.mail).unwrap();
    let first = node.notices.post(frozen(None)).unwrap();
    receiver.next();
    let late = node.notices.post(frozen(None)).unwrap();
    worker.ask_to_stop();
    tell.send(()).unwrap();
    worker.stop_blocking();
    assert_eq!(node.sent(first)[0].state, State::Delivered);
    assert_eq!((node.sent(late)[0].state, node.sent(late)[0].attempts), (State::Pending, 0));
    drop(node);

    let next = Node::new(&stores, &clock, no_mail());
    let worker = next.notices.start(&next.mail).unwrap();
    assert_eq!(receiver.next().json()["id"], late.to_string());
    wait_until("the late notice is delivered", || next.sent(late)[0].state == State::Delivered);
    worker.stop_blocking();
}

pub fn mail_at(port: u16, tls: MailTls) -> Mail {
    Mail {
        host: Some("127.0.0.1".to_owned()),
        port,
        from: Some("Tallygate <no-reply@gateway.test>".to_owned()),
        tls,
        ..Mail::default()
    }
}

#[track_caller]
fn line_of(conversation: &[String], begin: &str) -> String {
    let found = conversation.iter().find(|line| line.starts_with(begin));
    found.unwrap_or_else(|| panic!("no {begin}: {conversation:#?}")).clone()
}

/// A server that puts the first mail off (greylisting), as many do.
fn d4_a_status_change_is_told_by_mail_in_the_readers_language(backend: Backend) {
    let (stores, clock) = (backend.open(), Arc::new(ManualClock::new(NOW_MS)));
    let (port, conversations) = mail_server(vec!["451 not now", "250 fine", "250 fine"]);
    let node = Node::new(&stores, &clock, mail_at(port, MailTls::None));
    let account = node.account("ann");
    node.webhook_with(Some(account), "ann@example.com", &|_| {});
    let sender = node.sender();
    let facts = Facts::KeyStatusChanged {
        name: "production".into(),
        from: KeyStatus::Enabled,
        to: KeyStatus::Disabled,
        origin: StatusOrigin::Operator,
        reason: StatusReason::LeakedKey,
        until: None,
    };
    let changed = NewNotice { account: Some(account), subject: KeyId::from_raw(7).into(), facts };
    let notice = node.notices.post(changed.clone()).unwrap();
    node.notices.round(&sender).unwrap();
    let failed = node.sent(notice).remove(0);
    assert_eq!((failed.channel, failed.state), (Channel::Mail, State::Failed));
    assert!(failed.last_error.as_deref().unwrap().contains("451"), "{failed:?}");
    let put_off = conversations.recv_timeout(PATIENCE).unwrap();
    assert!(!put_off.iter().any(|line| line == "DATA"), "{put_off:#?}");

    node.advance(Duration::from_secs(10));
    node.notices.round(&sender).unwrap();
    assert_eq!(node.sent(notice)[0].state, State::Delivered);
    let mail = conversations.recv_timeout(PATIENCE).unwrap();
    assert!(line_of(&mail, "MAIL FROM").contains("<no-reply@gateway.test>"), "{mail:#?}");
    assert!(line_of(&mail, "RCPT TO").contains("<ann@example.com>"), "{mail:#?}");
    assert_eq!(line_of(&mail, "Subject: "), "Subject: Key production is disabled now");
    assert_eq!(line_of(&mail, "Message-ID: "), format!("Message-ID: <{notice}@gateway.test>"));
    assert_eq!(line_of(&mail, "Date: "), "Date: Sun, 22 Nov 2026 08:00:00 +0000");
    line_of(&mail, "Auto-Submitted: auto-generated");
    let text = mail.join("\n").replace("=\n", "");
    assert!(text.contains("changed from enabled to disabled. By: the operator."), "{text}");
    assert!(text.contains("the key was made public"), "{text}");

    let endpoint = node.sent(notice)[0].endpoint.unwrap();
    let chinese = |endpoint: &mut NoticeEndpoint| {
        endpoint.language = Language::Zh;
        Ok(())
    };
    node.directory.edit_notice_endpoint("test", endpoint, None, None, &chinese).unwrap();
    let notice = node.notices.post(changed).unwrap();
    node.notices.round(&sender).unwrap();
    assert_eq!(node.sent(notice)[0].state, State::Delivered);
    let mail = conversations.recv_timeout(PATIENCE).unwrap();
    assert!(mail.iter().all(|line| line.is_ascii()), "{mail:#?}");
    let subject = line_of(&mail, "Subject: ");
    assert!(subject.starts_with("Subject: =?utf-8?b?"), "{subject}");
    assert_eq!(
        node.notices.find(notice).unwrap().unwrap().0.words(Language::Zh).title,
        "密钥 production 的状态变为已停用"
    );
}

fn i3_a_mail_is_never_sent_in_the_clear_where_encryption_is_asked_for(backend: Backend) {
    let (stores, clock) = (backend.open(), Arc::new(ManualClock::new(NOW_MS)));
    let (port, conversations) = mail_server(vec!["250 fine"]);
    let node = Node::new(&stores, &clock, mail_at(port, MailTls::Starttls));
    node.webhook_with(None, "ops@example.com", &|_| {});
    let notice = node.notices.post(frozen(None)).unwrap();
    node.notices.round(&node.sender()).unwrap();
    assert_eq!(node.sent(notice)[0].state, State::Failed);
    let conversation = conversations.recv_timeout(PATIENCE).unwrap();
    assert!(!conversation.iter().any(|line| line.starts_with("MAIL")), "{conversation:#?}");
}

fn d4_everybody_is_told_what_is_theirs_and_what_they_asked_for(backend: Backend) {
    let (stores, clock) = (backend.open(), Arc::new(ManualClock::new(NOW_MS)));
    let node = Node::new(&stores, &clock, no_mail());
    let (ann, bob) = (node.account("ann"), node.account("bob"));
    let all = node.webhook(Some(ann), "https://all.example/hook");
    // Ids of one millisecond are in no order.
    node.advance(Duration::from_millis(1));
    let money = node.webhook_with(Some(ann), "https://money.example/hook", &|endpoint| {
        endpoint.events = vec![Event::LowBalance, Event::BudgetAlert];
    });
    node.webhook_with(Some(ann), "https://off.example/hook", &|endpoint| {
        endpoint.status = EndpointStatus::Disabled;
    });
    node.webhook_with(Some(ann), "ann@example.com", &|_| {});
    let operators = node.webhook(None, "https://operator.example/hook");
    let told = |notice: NewNotice| -> Vec<_> {
        let sent = node.sent(node.notices.post(notice).unwrap());
        sent.iter().map(|delivery| delivery.endpoint.unwrap()).collect()
    };
    assert_eq!(told(low_balance(ann)), [all, money], "and no mail, because none is configured");
    assert_eq!(told(frozen(Some(ann))), [all]);
    assert_eq!(told(frozen(Some(bob))), [] as [NoticeEndpointId; 0]);
    assert_eq!(told(frozen(None)), [operators]);
    let count = |filter: Filter| node.notices.page(&filter, 10).unwrap().len();
    assert_eq!(count(Filter::default()), 4);
    assert_eq!(count(Filter { account: Some(Some(ann)), ..Filter::default() }), 2);
    assert_eq!(count(Filter { account: Some(None), ..Filter::default() }), 1);
    assert_eq!(count(Filter { event: Some(Event::KeyFrozen), ..Filter::default() }), 3);
    let pending = Filter { account: Some(Some(bob)), state: Some(State::Pending), ..Filter::default() };
    assert_eq!(count(pending), 0);
    // What is on its way to an endpoint that was switched off since is given up, and says so.
    let off = |endpoint: &mut NoticeEndpoint| {
        endpoint.status = EndpointStatus::Disabled;
        Ok(())
    };
    for endpoint in [all, money, operators] {
        node.directory.edit("test", endpoint.raw(), None, &off).unwrap();
    }
    assert_eq!(node.notices.round(&node.sender()).unwrap(), 4);
    for (notice, deliveries) in node.notices.page(&Filter::default(), 10).unwrap() {
        for delivery in deliveries.iter().filter(|delivery| delivery.channel != Channel::InApp) {
            assert_eq!((delivery.state, delivery.attempts), (State::Dead, 0), "{}", notice.id);
            assert_eq!(delivery.last_error.as_deref(), Some("the endpoint is disabled"));
        }
    }
}
