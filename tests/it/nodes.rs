//! Several writers of one PostgreSQL store: what another one changes is in force at the running gateway soon.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tallygate::clock::{SystemClock, SystemEntropy};
use tallygate::directory::{Directory, Key, KeyStatus};
use tallygate::id::KeyId;
use tallygate::secret::Keyring;
use tallygate::store::{self, StoreConfig, Stores};

use crate::support::demo::{Demo, wait_until};
use crate::support::postgres::TestDatabase;

const MODEL: &str = "gpt-5-mini";
/// D4: within so much on every node.
const IN_FORCE: Duration = Duration::from_secs(1);

/// The directory as another node has it, with a data folder of its own.
struct Node {
    directory: Directory,
    _stores: Stores,
    _folder: tempfile::TempDir,
}

impl Node {
    fn new(database: &TestDatabase) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let stores = store::open(&StoreConfig::postgres(folder.path(), database.url())).unwrap();
        let master = Arc::new(Keyring::from_hex(&"5a".repeat(32)).unwrap());
        let (clock, entropy) = (Arc::new(SystemClock), Arc::new(SystemEntropy::new()));
        let directory = Directory::open(stores.directory.clone(), master, clock, entropy).unwrap();
        Node { directory, _stores: stores, _folder: folder }
    }

    fn set(&self, key: KeyId, status: KeyStatus) {
        let edit = |key: &mut Key| {
            key.status = status;
            Ok(())
        };
        self.directory.edit("another node", key.raw(), None, &edit).unwrap();
    }
}

/// D4: a key that another node stops is refused within a second, and served again as soon once it is enabled; the
/// gateway reads only what was changed. Of five changes the middle one counts: the machine may be busy.
#[test]
fn d4_a_change_of_another_node_is_in_force_within_a_second() {
    let database = TestDatabase::new();
    let demo = Demo::start_on(database.url().expose());
    let node = Node::new(&database);
    let key = demo.key("healthy");
    let id: KeyId = demo.own(&key, "/v1/key")["id"].as_str().unwrap().parse().unwrap();
    demo.chat(&key, MODEL, "Hello").ok();
    let statuses = [KeyStatus::Disabled, KeyStatus::Enabled].into_iter().cycle().take(5);
    let mut waits: Vec<_> = statuses
        .map(|status| {
            node.set(id, status);
            let changed = Instant::now();
            // When the last call was sent that was answered as before.
            let mut last = changed;
            wait_until("the change is in force", || {
                let sent = Instant::now();
                let reply = demo.chat(&key, MODEL, "Hello");
                let is_in_force = match status {
                    KeyStatus::Enabled => reply.head.status == 200,
                    _ => reply.head.status == 403 && reply.json()["error"]["code"] == "key_disabled",
                };
                last = if is_in_force { last } else { sent };
                is_in_force
            });
            last - changed
        })
        .collect();
    waits.sort_unstable();
    assert!(waits[2] < IN_FORCE, "{waits:?}");
}
