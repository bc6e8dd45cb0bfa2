//! The directory on both stores: what is written is seen, by this process and by others.

use std::sync::Arc;
use std::time::Duration;

use ledger::Nano;
use tallygate::clock::{ManualClock, SystemEntropy};
use tallygate::directory::audit::{Action, AuditFilter};
use tallygate::directory::documents::{REPLACED_TEXTS_MAX, Window};
use tallygate::directory::{
    Account, Directory, DirectoryError, Environment, Key, KeyOrder, Kind, Limit, ObjectId, Origin, Rotation,
};
use tallygate::secret::{Keyring, Secret};
use tallygate::store::Db;
use tallygate::store_params;

use crate::on_both_backends;
use crate::support::app::NOW_MS;
use crate::support::backend::Backend;
use crate::support::memory;

on_both_backends!(
    a_change_is_seen_by_every_node,
    two_nodes_never_give_one_name_or_one_version_twice,
    the_directory_can_be_read_as_it_was,
    a_note_is_kept_and_changes_nothing,
    a_credential_opens_for_its_own_channel_alone,
    the_audit_log_shows_changes_and_its_own_damage,
    a_large_directory_is_loaded_whole,
    a_damaged_document_is_named,
    a_rotated_key_is_found_by_all_its_texts,
    a_rotation_forgets_no_text_that_works,
);

fn open(db: &Db) -> Directory {
    let master = Keyring::from_hex(&"5a".repeat(32)).unwrap();
    let clock = Arc::new(ManualClock::new(NOW_MS));
    Directory::open(db.clone(), Arc::new(master), clock, Arc::new(SystemEntropy::new())).unwrap()
}

fn named(name: &'static str) -> impl Fn(&mut Account) -> Result<(), DirectoryError> {
    move |account: &mut Account| {
        account.name = name.into();
        account.email = Some(format!("{name}@example.com").into());
        Ok(())
    }
}

fn key_with(limit: i64) -> impl Fn(&mut Key) -> Result<(), DirectoryError> {
    move |key: &mut Key| {
        key.name = "key".into();
        key.limits = vec![Limit::spend(Window::Day, Nano(limit), Origin::Owner)];
        Ok(())
    }
}

fn a_change_is_seen_by_every_node(backend: Backend) {
    let stores = backend.open();
    let (one, other) = (open(&stores.directory), open(&stores.directory));
    let account = one.create_account("test", &named("ann")).unwrap();
    let id = account.document.id;
    assert!(one.snapshot().account(id).is_some());
    assert!(other.snapshot().account(id).is_none());
    // Its first project is made with it.
    assert_eq!(other.refresh().unwrap(), account.version + 1);
    assert_eq!(other.snapshot().account(id).unwrap().account.name, "ann".into());
    // A change made elsewhere is not overwritten unknowingly.
    one.edit("test", id.raw(), Some(account.version), &named("anna")).unwrap();
    let late = other.edit("test", id.raw(), Some(account.version), &named("annie"));
    assert!(matches!(late, Err(DirectoryError::EditConflict { kind: Kind::Account, .. })), "{late:?}");
    assert_eq!(other.snapshot().account(id).unwrap().account.name, "anna".into());
    let history = one.history(Kind::Account, id.raw(), 10).unwrap();
    assert_eq!(history.iter().map(|row| row.actor.as_str()).collect::<Vec<_>>(), ["test", "test"]);
}

fn two_nodes_never_give_one_name_or_one_version_twice(backend: Backend) {
    let stores = backend.open();
    let nodes = [open(&stores.directory), open(&stores.directory)];
    let made: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = nodes
            .iter()
            .map(|node| {
                scope.spawn(move || {
                    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
                    names.map(|name| node.create_account("test", &named(name)))
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    let mut versions: Vec<_> = made.iter().filter_map(|result| Some(result.as_ref().ok()?.version)).collect();
    assert_eq!(versions.len(), 8, "every name is given once: {made:?}");
    versions.sort_unstable();
    versions.dedup();
    assert_eq!(versions.len(), 8);
    for result in made.iter().filter_map(|result| result.as_ref().err()) {
        assert!(matches!(result, DirectoryError::NameTaken { field: "email", .. }), "{result}");
    }
    for node in &nodes {
        node.refresh().unwrap();
        assert_eq!(node.snapshot().accounts().count(), 8);
    }
}

fn the_directory_can_be_read_as_it_was(backend: Backend) {
    let stores = backend.open();
    let directory = open(&stores.directory);
    let account = directory.create_account("test", &named("ann")).unwrap().document.id;
    let order = KeyOrder { account, environment: Environment::Live };
    let made = directory.create_key("test", order, None, &key_with(5)).unwrap();
    let key = made.key.document.id;
    let changed = directory.edit("test", key.raw(), None, &key_with(9)).unwrap();
    assert!(changed.version > made.key.version);
    let limit_at = |version: u64| {
        let snapshot = directory.as_of(version, &[ObjectId::Account(account), ObjectId::Key(key)]).unwrap();
        snapshot.key(key).map(|key| key.limits[0].value)
    };
    assert_eq!(limit_at(made.key.version), Some(Nano(5)));
    assert_eq!(limit_at(changed.version), Some(Nano(9)));
    assert_eq!(limit_at(made.key.version - 1), None);
    // A change that changes nothing writes nothing.
    assert_eq!(directory.edit("test", key.raw(), None, &key_with(9)).unwrap().version, changed.version);
    // Opened again, everything is there, and the key is found by its text.
    drop(directory);
    let again = open(&stores.directory);
    assert_eq!(again.find_key(made.text.expose().as_bytes()).unwrap().limits[0].value, Nano(9));
}

fn a_note_is_kept_and_changes_nothing(backend: Backend) {
    let stores = backend.open();
    let directory = open(&stores.directory);
    let account = directory.create_account("test", &named("ann")).unwrap();
    let note = serde_json::json!({"reason": "a bank transfer"});
    directory.note("finance", "credit_note", 1, &note).unwrap();
    assert_eq!(directory.snapshot().version(), account.version + 2);
    let again = open(&stores.directory);
    assert_eq!(again.snapshot().version(), account.version + 2);
    assert_eq!(again.create_account("test", &named("bob")).unwrap().version, account.version + 3);
}

fn a_credential_opens_for_its_own_channel_alone(backend: Backend) {
    let stores = backend.open();
    let directory = open(&stores.directory);
    let model = |model: &mut tallygate::directory::Model| {
        model.name = "m".into();
        Ok(())
    };
    directory.create_model("test", &model).unwrap();
    let channel = |name: &'static str| {
        move |channel: &mut tallygate::directory::Channel| {
            channel.name = name.into();
            channel.base_url = "https://upstream.example/v1".into();
            channel.models = std::iter::once(("m".into(), "m".into())).collect();
            Ok(())
        }
    };
    let secret = Secret::new("sk-the-providers-key");
    let one =
        directory.create_channel("test", std::slice::from_ref(&secret), &channel("one")).unwrap().document;
    let other =
        directory.create_channel("test", std::slice::from_ref(&secret), &channel("other")).unwrap().document;
    assert_eq!(directory.credentials(&one).unwrap(), [secret]);
    let stored = serde_json::to_string(&*one).unwrap();
    assert!(!stored.contains("providers-key"), "{stored}");
    let mut moved = tallygate::directory::Channel::clone(&one);
    moved.credentials = other.credentials.clone();
    assert!(matches!(directory.credentials(&moved), Err(DirectoryError::Sealing(_))));
}

/// More than are decoded at once, on several threads: nothing is lost, and the order of the versions is kept.
fn a_large_directory_is_loaded_whole(backend: Backend) {
    const KEYS: u32 = 3_000;
    let stores = backend.open();
    let directory = open(&stores.directory);
    let account = directory.create_account("test", &named("ann")).unwrap().document.id;
    let order = KeyOrder { account, environment: Environment::Live };
    let texts = directory.create_keys("test", order, KEYS, &key_with(5)).unwrap();
    let last = directory.find_key(texts.last().unwrap().expose().as_bytes()).unwrap();
    let changed = directory.edit("test", last.id.raw(), None, &key_with(9)).unwrap().version;
    drop(directory);
    let again = open(&stores.directory);
    let snapshot = again.snapshot_owned();
    assert_eq!((snapshot.version(), snapshot.keys().count()), (changed, KEYS as usize));
    for text in &texts {
        let key = again.find_key(text.expose().as_bytes()).unwrap();
        assert_eq!(snapshot.key(key.id).unwrap(), &key);
        assert_eq!(key.limits[0].value, Nano(if key.id == last.id { 9 } else { 5 }));
        assert_eq!(key.limits.capacity(), 1, "a loaded key has no spare room");
    }
}

/// No directory is opened with a part of it missing.
fn a_damaged_document_is_named(backend: Backend) {
    let stores = backend.open();
    let directory = open(&stores.directory);
    let account = directory.create_account("test", &named("ann")).unwrap().document.id;
    let order = KeyOrder { account, environment: Environment::Live };
    directory.create_keys("test", order, 10, &key_with(5)).unwrap();
    drop(directory);
    let damage = "UPDATE directory_current SET body = ?1 WHERE version = ?2";
    stores.directory.execute(damage, store_params![b"{}", 7_u64]).unwrap();
    let master = Arc::new(Keyring::from_hex(&"5a".repeat(32)).unwrap());
    let clock = Arc::new(ManualClock::new(NOW_MS));
    let opened = Directory::open(stores.directory.clone(), master, clock, Arc::new(SystemEntropy::new()));
    let why = opened.err().expect("a damaged directory was opened");
    assert!(matches!(why, DirectoryError::Corrupt { kind: Kind::Key, version: 7, .. }), "{why}");
}

/// D6, S29: by the new text, and by every old one to the end of its own overlap and as replaced then; also after a start.
fn a_rotated_key_is_found_by_all_its_texts(backend: Backend) {
    let stores = backend.open();
    let directory = open(&stores.directory);
    let account = directory.create_account("test", &named("ann")).unwrap().document.id;
    let order = KeyOrder { account, environment: Environment::Live };
    let made = directory.create_key("test", order, None, &key_with(5)).unwrap();
    let id = made.key.document.id;
    let rotate = |overlap_s: u32| {
        let rotation = Rotation { overlap_s, end_older: false };
        directory.rotate_key("test", id, None, rotation).unwrap().text
    };
    let second = rotate(60);
    let found = |directory: &Directory, text: &Secret, after_s: i64| {
        let key = directory.match_key(text.expose().as_bytes(), NOW_MS + after_s * 1_000)?;
        assert_eq!(key.key.id, id);
        Some(key.is_replaced)
    };
    for node in [&directory, &open(&stores.directory)] {
        assert_eq!(found(node, &made.text, 59), Some(false), "the overlap has not ended");
        assert_eq!(found(node, &made.text, 60), Some(true));
        assert_eq!(found(node, &second, 60), Some(false));
    }
    // A change of something else leads to the key as it is then, by either text.
    directory.edit("test", id.raw(), None, &key_with(9)).unwrap();
    for text in [&made.text, &second] {
        assert_eq!(directory.find_key(text.expose().as_bytes()).unwrap().limits[0].value, Nano(9));
    }
    let (third, fourth) = (rotate(0), rotate(3_600));
    for node in [&directory, &open(&stores.directory)] {
        assert_eq!(
            found(node, &made.text, 59),
            Some(false),
            "a later rotation takes nothing from its overlap"
        );
        assert_eq!(found(node, &made.text, 60), Some(true), "and it is known again behind it");
        assert_eq!(found(node, &second, 0), Some(true), "replaced without an overlap");
        assert_eq!(found(node, &third, 3_599), Some(false));
        assert_eq!(found(node, &fourth, 3_600), Some(false));
    }
}

/// D6: so many texts are remembered; none is forgotten that still works.
fn a_rotation_forgets_no_text_that_works(backend: Backend) {
    let stores = backend.open();
    let directory = open(&stores.directory);
    let account = directory.create_account("test", &named("ann")).unwrap().document.id;
    let order = KeyOrder { account, environment: Environment::Live };
    let made = directory.create_key("test", order, None, &key_with(5)).unwrap();
    let id = made.key.document.id;
    let rotate = |overlap_s: u32, end_older: bool| {
        directory.rotate_key("test", id, None, Rotation { overlap_s, end_older })
    };
    let mut texts = vec![made.text];
    for at in 0..REPLACED_TEXTS_MAX {
        // The second and the third replaced text end at once.
        let overlap_s = if (1..3).contains(&at) { 0 } else { 3_600 };
        texts.push(rotate(overlap_s, false).unwrap().text);
    }
    let found = |node: &Directory, at: usize| {
        let text: &Secret = &texts[at];
        Some(node.match_key(text.expose().as_bytes(), NOW_MS)?.is_replaced)
    };
    assert_eq!((found(&directory, 1), found(&directory, 2)), (Some(true), Some(true)));
    // What ended first makes room, and what works stays.
    for _ in 0..2 {
        rotate(3_600, false).unwrap();
    }
    for node in [&directory, &open(&stores.directory)] {
        let known: Vec<_> = (0..=REPLACED_TEXTS_MAX).map(|at| found(node, at)).collect();
        let works = |at: usize| if (1..3).contains(&at) { None } else { Some(false) };
        assert_eq!(known, (0..=REPLACED_TEXTS_MAX).map(works).collect::<Vec<_>>());
    }
    let full = rotate(3_600, false).unwrap_err();
    assert!(matches!(&full, DirectoryError::Invalid(why) if why.field == "end_older"), "{full}");
    rotate(3_600, true).unwrap();
    assert_eq!((found(&directory, 0), found(&directory, 3)), (None, Some(true)));
}

/// Seconds and bytes that a directory of a million keys may take.
const LOAD_MAX: Duration = Duration::from_secs(5);
const KEY_BYTES_MAX: i64 = 600;

/// Made in one transaction each 100,000, then loaded as at a start. `cargo nextest run --release
/// --run-ignored only --no-capture a_million_keys` prints the time, and the bytes of a key in memory.
#[test]
#[ignore = "takes minutes; a measurement"]
fn a_million_keys_are_loaded_within_five_seconds() {
    load_a_million_keys(&Backend::embedded());
}

#[test]
#[ignore = "takes minutes; a measurement"]
fn a_million_keys_are_loaded_within_five_seconds_from_postgres() {
    load_a_million_keys(&Backend::postgres());
}

#[expect(clippy::print_stderr, reason = "a measurement says what it measured")]
fn load_a_million_keys(backend: &Backend) {
    const KEYS: u32 = 1_000_000;
    let stores = backend.open();
    let directory = open(&stores.directory);
    let account = directory.create_account("test", &named("ann")).unwrap().document.id;
    let order = KeyOrder { account, environment: Environment::Live };
    for _ in 0..10 {
        directory.create_keys("test", order, KEYS / 10, &key_with(5)).unwrap();
    }
    drop(directory);
    let (before, start) = (memory::bytes(), std::time::Instant::now());
    let directory = open(&stores.directory);
    let took = start.elapsed();
    let key_bytes = (memory::bytes() - before) / i64::from(KEYS);
    assert_eq!(directory.snapshot().keys().count(), KEYS as usize);
    eprintln!("a million keys: loaded in {took:?}, {key_bytes} bytes a key");
    assert!(took <= LOAD_MAX, "{took:?}");
    assert!(key_bytes <= KEY_BYTES_MAX, "{key_bytes} bytes a key");
}

/// The audit log is the versions themselves: what was changed, by whom, and a chain that shows when somebody changes it.
fn the_audit_log_shows_changes_and_its_own_damage(backend: Backend) {
    let stores = backend.open();
    let directory = open(&stores.directory);
    let account = directory.create_account("ann", &named("ann")).unwrap().document.id;
    let rename = |account: &mut Account| {
        account.name = "renamed".into();
        Ok(())
    };
    directory.edit("bob", account.raw(), None, &rename).unwrap();
    directory.note("bob", "credit_note", account.raw(), &serde_json::json!({"reason": "a test"})).unwrap();
    let rows = directory.audit(&AuditFilter::default(), 10).unwrap();
    let told: Vec<_> = rows.iter().map(|row| (row.actor.as_str(), row.action)).collect();
    let made = ("ann", Action::Created);
    assert_eq!(told, [("bob", Action::Noted), ("bob", Action::Changed), made, made]);
    let change = &rows[1].changes;
    assert_eq!(change.len(), 1);
    assert_eq!((&change[0].before, &change[0].after), (&"ann".into(), &"renamed".into()));
    let only_ann = AuditFilter { actor: Some("ann".to_owned()), ..AuditFilter::default() };
    assert_eq!(directory.audit(&only_ann, 10).unwrap().len(), 2);
    assert_eq!(directory.verify_audit().unwrap(), (4, Vec::new()));
    let damages = [
        "UPDATE directory_log SET actor = 'eve' WHERE version = 2",
        "DELETE FROM directory_log WHERE version = 2",
        "DELETE FROM directory_log WHERE version >= 2",
    ];
    for damage in damages {
        stores.directory.execute(damage, &[]).unwrap();
        let (_, faults) = directory.verify_audit().unwrap();
        assert!(!faults.is_empty(), "{damage}");
    }
}
