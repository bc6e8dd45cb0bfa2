//! L3, H2: the master key is bound to its data, turned to a new one while calls go on, and can be lost without the books,
//! the API keys and the codes being lost with it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tallygate::clock::{Clock, Entropy, ManualClock, SystemEntropy};
use tallygate::directory::{Channel, Directory, DirectoryError, Environment, KeyOrder, NoticeTarget};
use tallygate::id::{KeyId, RequestId};
use tallygate::idempotency::{Begun, Head, Idempotency, Known, Wish};
use tallygate::job::Ended;
use tallygate::master_key::{self, MasterKeys, OpenError, Parts, Source, TurnError};
use tallygate::secret::{Keyring, Secret};
use tallygate::store::Stores;
use tallygate::tasks::{CopyStore, Results, Thumbnails};
use tallygate::transcripts::{Transcripts, Writer};

use crate::on_both_backends;
use crate::support::app::NOW_MS;
use crate::support::backend::Backend;
use crate::support::demo::{Demo, wait_until};
use crate::support::http::Ask;
use crate::transcripts;

const CREDENTIALS: [&str; 2] = ["sk-first-of-the-tests", "sk-second-of-the-tests"];
const WEBHOOK: &str = "whsec-of-the-tests-0123456789";
const TRANSCRIPTS: std::ops::Range<u64> = 1..4;
const ANSWER: &[u8] = b"an answer that is kept";

on_both_backends!(
    l3_a_lost_or_another_master_key_is_refused_at_start,
    l3_data_of_an_earlier_version_is_bound_to_its_master_key,
    l3_a_turn_seals_everything_anew_and_keeps_api_keys_valid,
    l3_an_interrupted_turn_goes_on_with_whichever_key_is_there,
    l3_a_key_of_the_configuration_is_forgotten_once_the_new_one_is_configured,
    l3_a_node_takes_in_the_turn_of_another,
    l3_a_lost_master_key_costs_credentials_and_nothing_else,
);

/// What of a gateway has to do with the master key.
struct Node {
    keyring: Arc<Keyring>,
    directory: Arc<Directory>,
    idempotency: Arc<Idempotency>,
    transcripts: Arc<Transcripts>,
    keys: Arc<MasterKeys>,
}

fn start(stores: &Stores, folder: &Path, given: Option<&Secret>) -> Result<Node, OpenError> {
    start_beside(stores, folder, given, false)
}

fn start_beside(
    stores: &Stores,
    folder: &Path,
    given: Option<&Secret>,
    others: bool,
) -> Result<Node, OpenError> {
    let keyring = Arc::new(master_key::open(folder, given, &stores.directory)?);
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(NOW_MS));
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy::new());
    let directory = Directory::open(stores.directory.clone(), Arc::clone(&keyring), clock.clone(), entropy);
    let directory = Arc::new(directory.unwrap());
    let idempotency = Idempotency::new(stores.idempotency.clone(), Arc::clone(&keyring), clock.clone());
    let transcripts = Transcripts::new(stores.transcripts.clone(), Arc::clone(&keyring), clock.clone(), 30);
    let transcripts = Arc::new(transcripts);
    let parts = Parts {
        db: stores.directory.clone(),
        keyring: Arc::clone(&keyring),
        directory: Arc::clone(&directory),
        idempotency: Arc::clone(&idempotency),
        copies: CopyStore::new(stores.tasks.clone(), Arc::clone(&keyring)),
        results: Arc::new(Results::new(stores.tasks.clone(), Arc::clone(&keyring))),
        thumbnails: Arc::new(Thumbnails::new(stores.tasks.clone(), Arc::clone(&keyring))),
        transcripts: Arc::clone(&transcripts),
        clock,
    };
    let keys = MasterKeys::new(parts, Source::of(folder, given), given, others);
    Ok(Node { keyring, directory, idempotency, transcripts, keys: Arc::new(keys) })
}

/// What was made before the master key was touched.
struct Made {
    key: Secret,
    channel: Arc<Channel>,
}

impl Node {
    /// A key, a channel with two credentials, a webhook, some kept answers and transcripts.
    fn furnish(&self) -> Made {
        let named = |it: &mut Channel| -> Result<(), DirectoryError> {
            it.name = "upstream".into();
            it.base_url = "http://127.0.0.1:9/v1".into();
            it.models.insert("m".into(), "m".into());
            Ok(())
        };
        let model = self.directory.create_model("test", &|model| {
            model.name = "m".into();
            Ok(())
        });
        model.unwrap();
        let account = self.directory.create_account("test", &|account| {
            account.name = "Ann".into();
            Ok(())
        });
        let order = KeyOrder { account: account.unwrap().document.id, environment: Environment::Live };
        let key = self.directory.create_key("test", order, None, &|key| {
            key.name = "key".into();
            Ok(())
        });
        let channel = self.directory.create_channel("test", &CREDENTIALS.map(Secret::new), &named);
        let hook = NoticeTarget::Webhook { url: "https://hooks.example.com/x".into() };
        let secret = Secret::new(WEBHOOK);
        let endpoint =
            self.directory.create_notice_endpoint("test", None, hook, Some(&secret), &|endpoint| {
                endpoint.name = "hook".into();
                Ok(())
            });
        endpoint.unwrap();
        for n in 1..=40 {
            let Begun::First(claim) = self.begin(n) else { panic!("{n} is new") };
            claim.keep(&Head { status: 200, headers: Vec::new(), role: None }, Some(ANSWER)).unwrap();
        }
        let writer = Writer::start(&self.transcripts).unwrap();
        for n in TRANSCRIPTS {
            self.transcripts.keep(transcripts::transcript(n, NOW_MS), self.transcripts.share());
        }
        drop(writer);
        Made { key: key.unwrap().text, channel: channel.unwrap().document }
    }

    fn begin(&self, n: u64) -> Begun {
        let wish = Wish::of_key(KeyId::from_raw(7), &n.to_be_bytes(), ["chat/completions", "m"], |said| {
            said.rest(b"{}")
        });
        self.idempotency.begin(wish, RequestId::from_raw(u128::from(n)), |_| Known::Charged).unwrap()
    }

    /// Everything is as it was made.
    #[track_caller]
    fn has_all(&self, made: &Made) {
        self.knows(made);
        assert_eq!(self.directory.unreadable(), []);
        let channel = self.directory.snapshot().channel(made.channel.id).unwrap().clone();
        let read = self.directory.credentials(&channel).unwrap();
        assert_eq!(read.iter().map(Secret::expose).collect::<Vec<_>>(), CREDENTIALS);
        let endpoint = self.directory.snapshot().notice_endpoints().next().unwrap().clone();
        assert_eq!(self.directory.webhook_secret(&endpoint).unwrap().expose(), WEBHOOK);
        assert_eq!(self.answers(), 40);
        assert_eq!(self.transcripts(), 3);
    }

    #[track_caller]
    fn knows(&self, made: &Made) {
        assert!(self.directory.find_key(made.key.expose().as_bytes()).is_some(), "the API key is known");
    }

    /// Answers that can be given again.
    fn answers(&self) -> usize {
        let is_there = |n: &u64| match self.begin(*n) {
            Begun::Answered { answer: Some(answer), .. } => answer.body == ANSWER,
            _ => false,
        };
        (1..=40).filter(is_there).count()
    }

    /// Transcripts that can be read.
    fn transcripts(&self) -> usize {
        let is_there = |n: &u64| {
            let read = self.transcripts.read(RequestId::from_raw(u128::from(*n))).unwrap();
            read.is_some_and(|read| read == transcripts::transcript(*n, NOW_MS))
        };
        TRANSCRIPTS.filter(is_there).count()
    }

    /// Values that the key which seals now has not sealed.
    fn sealed_before(&self) -> usize {
        let snapshot = self.directory.snapshot_owned();
        let current = self.keyring.held().current.id();
        let by = |sealed: &str| {
            tallygate::secret::sealed_by(&tallygate::hex::decode_vec(sealed).unwrap()) != Some(current)
        };
        snapshot.sealed().flat_map(|(_, _, sealed)| sealed).filter(|sealed| by(sealed)).count()
    }

    fn reseal(&self) -> Value {
        self.keys.start_resealing("test").unwrap();
        wait_until("everything is sealed anew", || !self.keys.resealing.standing().running);
        match self.keys.resealing.standing().ended {
            Some(Ended::Done(report)) => report,
            other => panic!("{other:?}"),
        }
    }
}

fn digits(fill: u8) -> Secret {
    Secret::new(format!("{fill:02x}").repeat(32))
}

#[track_caller]
fn refused(opened: Result<Node, OpenError>) -> String {
    match opened {
        Err(why @ OpenError::Refused(_)) => why.to_string(),
        Err(why) => panic!("{why}"),
        Ok(_) => panic!("a start with this key is no start"),
    }
}

#[track_caller]
fn not_now(done: Result<(), TurnError>, why: &str) {
    match done {
        Err(TurnError::Refused(refused)) => assert!(refused.reason.contains(why), "{}", refused.reason),
        other => panic!("{other:?}"),
    }
}

fn l3_a_lost_or_another_master_key_is_refused_at_start(backend: Backend) {
    let (stores, folder) = (backend.open(), backend.folder());
    let node = start(&stores, folder, None).unwrap();
    let made = node.furnish();
    start(&stores, folder, None).unwrap().has_all(&made);
    let file = master_key::file(folder);
    let own = Secret::new(std::fs::read_to_string(&file).unwrap());
    std::fs::remove_file(&file).unwrap();
    let told = refused(start(&stores, folder, None));
    assert!(told.contains("is gone") && told.contains(&file.display().to_string()), "{told}");
    assert!(!file.exists(), "no new key is made for old data");
    for expected in [
        "Works without it: accounts, balances, the books, prices, API keys, access tokens and redemption codes",
        "the credentials of channel \"upstream\"",
        "the secret of webhook \"hook\"",
        "tallygate channels renounce-master-key",
    ] {
        assert!(told.contains(expected), "{told}");
    }
    assert!(!told.contains(own.expose()) && !told.contains("sk-first"), "{told}");
    let told = refused(start(&stores, folder, Some(&digits(7))));
    assert!(told.contains("is not the one"), "{told}");
    start(&stores, folder, Some(&own)).unwrap().has_all(&made);
}

/// Earlier versions kept neither a check value nor the hash keys.
fn l3_data_of_an_earlier_version_is_bound_to_its_master_key(backend: Backend) {
    let (stores, folder) = (backend.open(), backend.folder());
    let made = start(&stores, folder, Some(&digits(1))).unwrap().furnish();
    stores.directory.execute("DELETE FROM directory_meta", &[]).unwrap();
    let told = refused(start(&stores, folder, Some(&digits(2))));
    assert!(told.contains("they must be issued anew"), "{told}");
    let told = refused(start(&stores, folder, None));
    assert!(told.contains("is gone"), "no key is made for data of any version: {told}");
    let node = start(&stores, folder, Some(&digits(1))).unwrap();
    node.has_all(&made);
    node.keys.begin(Some(&digits(2)), "test").unwrap();
    node.reseal();
    node.has_all(&made);
}

fn l3_a_turn_seals_everything_anew_and_keeps_api_keys_valid(backend: Backend) {
    let (stores, folder) = (backend.open(), backend.folder());
    let node = start(&stores, folder, None).unwrap();
    let made = node.furnish();
    let old = Secret::new(std::fs::read_to_string(master_key::file(folder)).unwrap());
    let old_channel = node.directory.snapshot().channel(made.channel.id).unwrap().clone();

    node.keys.begin(None, "test").unwrap();
    assert_eq!(node.sealed_before(), 3);
    node.has_all(&made);
    let report = node.reseal();
    assert_eq!(report, json!({"sealed_anew": 45, "old_key_forgotten": true}));
    assert_eq!(node.sealed_before(), 0);
    node.has_all(&made);
    assert!(node.directory.credentials(&old_channel).is_err(), "the old key opens nothing any more");
    assert_ne!(std::fs::read_to_string(master_key::file(folder)).unwrap(), old.expose());

    let started = start(&stores, folder, None).unwrap();
    started.has_all(&made);
    assert!(started.keys.turn().unwrap().is_none());
    assert!(refused(start(&stores, folder, Some(&old))).contains("is not the one"));
    let notes = started.directory.snapshot().version() - node.directory.snapshot().version();
    assert_eq!(notes, 0, "a start writes nothing");
}

/// Wherever a turn stops, both keys lead on: the old one before its file or setting is replaced, and the new one.
fn l3_an_interrupted_turn_goes_on_with_whichever_key_is_there(backend: Backend) {
    let (stores, folder) = (backend.open(), backend.folder());
    let made = start(&stores, folder, Some(&digits(1))).unwrap().furnish();
    let (mut old, mut next) = (1, 2);
    for round in 0..6 {
        let node = start(&stores, folder, Some(&digits(old))).unwrap();
        node.keys.begin(Some(&digits(next)), "test").unwrap();
        if round % 3 > 0 {
            // Something is sealed anew, the rest is not.
            let first = node.directory.snapshot_owned().sealed().next().unwrap().0;
            assert!(node.directory.reseal("test", first).unwrap());
        }
        if round % 3 > 1 {
            node.reseal();
        }
        drop(node);
        let given = digits(if round < 3 { old } else { next });
        let node = start(&stores, folder, Some(&given)).unwrap();
        node.has_all(&made);
        not_now(node.keys.begin(Some(&digits(9)), "test"), "under way");
        node.keys.begin(Some(&digits(next)), "test").unwrap();
        node.keys.resume().unwrap();
        wait_until("the turn has gone on", || !node.keys.resealing.standing().running);
        assert!(node.keys.turn().unwrap().is_none_or(|turn| turn.resealed_ms.is_some()));
        assert_eq!(node.sealed_before(), 0, "round {round}");
        let node = start(&stores, folder, Some(&digits(next))).unwrap();
        node.keys.resume().unwrap();
        wait_until("the old key is forgotten", || node.keys.turn().unwrap().is_none());
        wait_until("the run has ended", || !node.keys.resealing.standing().running);
        node.has_all(&made);
        refused(start(&stores, folder, Some(&digits(old))));
        (old, next) = (next, next + 1);
    }
}

fn l3_a_key_of_the_configuration_is_forgotten_once_the_new_one_is_configured(backend: Backend) {
    let (stores, folder) = (backend.open(), backend.folder());
    let node = start(&stores, folder, Some(&digits(1))).unwrap();
    let made = node.furnish();
    not_now(node.keys.begin(None, "test"), "the configuration names the master key");
    not_now(node.keys.begin(Some(&Secret::new("00")), "test"), "64 hexadecimal digits");
    not_now(node.keys.begin(Some(&digits(1)), "test"), "is the master key already");
    not_now(node.keys.finish("test"), "none is under way");
    node.keys.begin(Some(&digits(2)), "test").unwrap();
    not_now(node.keys.finish("test"), "not everything is sealed anew");
    assert_eq!(node.reseal()["old_key_forgotten"], false);
    not_now(node.keys.finish("test"), "the configuration still names the old key");
    // A start with the old setting still works, and knows that it is old.
    let late = start(&stores, folder, Some(&digits(1))).unwrap();
    late.has_all(&made);
    assert!(!late.keys.is_given_current());
    let node = start(&stores, folder, Some(&digits(2))).unwrap();
    node.keys.finish("test").unwrap();
    node.has_all(&made);
    refused(start(&stores, folder, Some(&digits(1))));
}

fn l3_a_node_takes_in_the_turn_of_another(backend: Backend) {
    let (stores, folders) = (backend.open(), [(); 2].map(|()| tempfile::tempdir().unwrap()));
    let one = start_beside(&stores, folders[0].path(), Some(&digits(1)), true).unwrap();
    let made = one.furnish();
    let other = start_beside(&stores, folders[1].path(), Some(&digits(1)), true).unwrap();
    one.keys.begin(Some(&digits(2)), "test").unwrap();
    assert_eq!(one.reseal()["old_key_forgotten"], false, "another node may need it");
    other.keys.refresh().unwrap();
    other.directory.refresh().unwrap();
    other.has_all(&made);
    // Each has its new setting before the old key is forgotten.
    let one = start_beside(&stores, folders[0].path(), Some(&digits(2)), true).unwrap();
    one.keys.finish("test").unwrap();
    assert!(other.keyring.held().previous.is_some());
    other.keys.refresh().unwrap();
    assert!(other.keyring.held().previous.is_none());
    other.has_all(&made);
}

fn l3_a_lost_master_key_costs_credentials_and_nothing_else(backend: Backend) {
    let (stores, folder) = (backend.open(), backend.folder());
    let made = start(&stores, folder, None).unwrap().furnish();
    let right = master_key::renounce(folder, None, &stores.directory, false);
    assert!(right.is_err(), "nothing is given up that is not lost");
    std::fs::remove_file(master_key::file(folder)).unwrap();
    let would = master_key::renounce(folder, None, &stores.directory, true).unwrap();
    assert!(!would.done && !would.hashes_lost && !master_key::file(folder).exists());
    let names = |things: &[master_key::SealedThing]| -> Vec<String> {
        things.iter().map(|thing| thing.name.clone()).collect()
    };
    assert_eq!(names(&would.sealed), ["upstream", "hook"]);
    assert!(master_key::renounce(folder, None, &stores.directory, false).unwrap().done);

    let node = start(&stores, folder, None).unwrap();
    node.knows(&made);
    let names: Vec<_> = node.directory.unreadable().into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["upstream", "hook"]);
    assert!(node.directory.credentials(&made.channel).is_err());
    assert_eq!(node.answers(), 0, "those have their receipt");
    assert_eq!(node.transcripts(), 0);
    let anew = [Secret::new("sk-entered-anew")];
    node.directory.edit_channel("test", made.channel.id, None, Some(&anew), &|_| Ok(())).unwrap();
    let endpoint = node.directory.snapshot().notice_endpoints().next().unwrap().id;
    let secret = Secret::new(WEBHOOK);
    node.directory.edit_notice_endpoint("test", endpoint, None, Some(&secret), &|_| Ok(())).unwrap();
    assert_eq!(node.directory.unreadable(), []);
    // What cannot be opened does not hold up a turn either.
    node.keys.begin(None, "test").unwrap();
    assert_eq!(node.reseal(), json!({"sealed_anew": 2, "old_key_forgotten": true}));
}

/// Calls go on while the key is turned, and a process that is killed in the middle finds both keys again.
#[test]
fn l3_calls_go_on_while_the_master_key_is_turned() {
    let mut demo = Demo::start();
    let key = demo.key("healthy");
    let file = demo.dir().join("master.key");
    let named =
        |n: u32| Ask::chat(&key, "gpt-5-mini", "Hello").header("idempotency-key", format!("name {n}"));
    let kept: Vec<_> = (0..20).map(|n| demo.ask(&named(n)).body).collect();
    let old = std::fs::read_to_string(&file).unwrap();
    let stop = AtomicBool::new(false);
    let answered = std::thread::scope(|scope| {
        let caller = scope.spawn(|| {
            let mut answered = 0;
            while !stop.load(Ordering::Relaxed) {
                demo.chat(&key, "gpt-5-mini", "Hello").ok();
                answered += 1;
            }
            answered
        });
        for _ in 0..3 {
            demo.admin_post("/api/master-key/rotation", &json!({}));
            wait_until("the turn has ended", || {
                let shown = demo.admin("/api/master-key");
                assert_eq!(shown["unreadable"], json!([]), "{shown:#}");
                shown["turn"].is_null() && demo.admin("/api/master-key/rotation")["state"] == "done"
            });
        }
        stop.store(true, Ordering::Relaxed);
        caller.join().unwrap()
    });
    assert!(answered > 0);
    assert_ne!(std::fs::read_to_string(&file).unwrap(), old);
    demo.admin_post("/api/master-key/rotation", &json!({}));
    demo.kill();
    demo.restart();
    wait_until("the turn has ended", || demo.admin("/api/master-key")["turn"].is_null());
    for (n, body) in (0..).zip(&kept) {
        assert_eq!(&demo.ask(&named(n)).body, body, "the kept answer {n}");
    }
    demo.chat(&key, "gpt-5-mini", "Hello").ok();
}
