//! The database commands and the migrations: one suite, both backends.

use crate::support::backend::Backend;
use crate::support::child::{child, given};
use std::ops::ControlFlow;
use std::sync::Barrier;
use tallygate::secret::Secret;
use tallygate::store::migrate::PARTS;
use tallygate::store::{
    self, MovementRow, ProjectedRows, RequestRow, RequestsOf, StoreConfig, StoreError, StoreErrorKind, Value,
};
use tallygate::store_params;

crate::on_both_backends!(
    values_come_back_as_they_were_written,
    a_wrong_kind_of_column_is_an_error,
    a_taken_unique_name_is_a_conflict_and_changes_nothing,
    a_failed_transaction_leaves_nothing,
    concurrent_transactions_behave_as_one_after_the_other,
    a_query_inside_a_query_works,
    rows_stream_until_the_reader_stops,
    opening_again_applies_no_migration_twice,
    a_changed_old_migration_is_refused,
    a_schema_newer_than_the_program_is_refused,
    projected_rows_and_cursor_are_read_back,
    projecting_again_replaces_rows,
    requests_are_listed_newest_first,
    no_error_shows_a_parameter,
);

fn put(db: &store::Db, name: &str, body: &[u8]) -> Result<u64, StoreError> {
    db.execute("INSERT INTO directory_meta (name, body) VALUES (?1, ?2)", store_params![name, body])
}

fn count(db: &store::Db) -> i64 {
    db.query("SELECT COUNT(*) FROM directory_meta", &[]).unwrap()[0].int(0).unwrap()
}

fn values_come_back_as_they_were_written(backend: Backend) {
    let db = backend.open().directory;
    let sql =
        "INSERT INTO directory_log (version, kind, id, body, actor, at_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let body: Vec<u8> = (0..=255).collect();
    db.execute(sql, store_params![1, "key", u64::MAX, body.clone(), "it's ?1 – 余额", i64::MIN]).unwrap();
    let row = db.query_one("SELECT kind, id, body, actor, at_ms FROM directory_log", &[]).unwrap().unwrap();
    assert_eq!(row.text(0).unwrap(), "key");
    assert_eq!(row.id(1).unwrap(), u64::MAX);
    assert_eq!(row.blob(2).unwrap(), body);
    assert_eq!(row.text(3).unwrap(), "it's ?1 – 余额");
    assert_eq!(row.int(4).unwrap(), i64::MIN);
    assert_eq!(row.column("actor").unwrap(), 3);
    let quoted =
        db.query_one("SELECT actor FROM directory_log WHERE actor = 'it''s ?1 – 余额'", &[]).unwrap();
    assert!(quoted.is_some(), "a question mark inside quotes is no placeholder");
    let sum = "SELECT CAST(SUM(id) AS BIGINT), CAST(NULL AS BIGINT) FROM directory_log WHERE version = ?1";
    let row = db.query_one(sum, store_params![1]).unwrap().unwrap();
    assert_eq!(row.int(0).unwrap(), -1);
    assert_eq!(row.maybe(1, store::Row::int).unwrap(), None);
}

fn a_wrong_kind_of_column_is_an_error(backend: Backend) {
    let db = backend.open().directory;
    put(&db, "a", b"bytes").unwrap();
    let row = db.query_one("SELECT name, body FROM directory_meta", &[]).unwrap().unwrap();
    assert_eq!(row.int(0).unwrap_err().kind(), StoreErrorKind::Corrupt);
    assert_eq!(row.bytes::<32>(1).unwrap_err().to_string(), "column body has 5 bytes, expected 32");
    assert!(row.text(2).is_err() && row.column("none").is_err());
    let bad = db.execute("INSERT INTO directory_meta (name, body) VALUES (?1, ?2)", store_params!["b", 7]);
    assert_eq!(bad.unwrap_err().kind(), StoreErrorKind::Other, "an integer is not bytes");
    assert_eq!(count(&db), 1);
}

fn a_taken_unique_name_is_a_conflict_and_changes_nothing(backend: Backend) {
    let db = backend.open().directory;
    put(&db, "same", b"first").unwrap();
    assert!(put(&db, "same", b"second").unwrap_err().is_conflict());
    let in_transaction = db.transaction(|tx| {
        let sql = "INSERT INTO directory_meta (name, body) VALUES (?1, ?2)";
        tx.execute(sql, store_params!["other", b"x"])?;
        tx.execute(sql, store_params!["same", b"third"])
    });
    assert!(in_transaction.unwrap_err().is_conflict());
    let rows = db.query("SELECT name, body FROM directory_meta", &[]).unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].blob(1).unwrap(), b"first");
}

fn a_failed_transaction_leaves_nothing(backend: Backend) {
    let db = backend.open().directory;
    let failed: Result<(), StoreError> = db.transaction(|tx| {
        tx.execute("INSERT INTO directory_meta (name, body) VALUES (?1, ?2)", store_params!["a", b"x"])?;
        Err(StoreError::other("changed my mind"))
    });
    assert_eq!(failed.unwrap_err().to_string(), "changed my mind");
    assert_eq!(count(&db), 0);
    put(&db, "a", b"x").unwrap();
    assert_eq!(count(&db), 1);
}

/// A read, a decision and a write, from eight threads: none is lost (S4's cause at its root).
fn concurrent_transactions_behave_as_one_after_the_other(backend: Backend) {
    const THREADS: usize = 4;
    const TURNS: i64 = 10;
    let db = backend.open().directory;
    put(&db, "counter", &0i64.to_le_bytes()).unwrap();
    let start = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                start.wait();
                for _ in 0..TURNS {
                    while let Err(error) = add_one(&db) {
                        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
                    }
                }
            });
        }
    });
    let row = db.query_one("SELECT body FROM directory_meta WHERE name = 'counter'", &[]).unwrap().unwrap();
    assert_eq!(i64::from_le_bytes(row.bytes(0).unwrap()), THREADS as i64 * TURNS);
}

fn add_one(db: &store::Db) -> Result<(), StoreError> {
    db.transaction(|tx| {
        let row =
            tx.query_one("SELECT body FROM directory_meta WHERE name = ?1", store_params!["counter"])?;
        let value = i64::from_le_bytes(row.unwrap().bytes(0)?);
        let next = (value + 1).to_le_bytes();
        tx.execute("UPDATE directory_meta SET body = ?2 WHERE name = ?1", store_params!["counter", next])?;
        Ok(())
    })
}

fn a_query_inside_a_query_works(backend: Backend) {
    let db = backend.open().directory;
    for name in ["a", "b", "c"] {
        put(&db, name, name.as_bytes()).unwrap();
    }
    let mut seen = Vec::new();
    db.query_each("SELECT name FROM directory_meta ORDER BY name", &[], |row| {
        let name = row.text(0)?;
        let inner = db.query_one("SELECT body FROM directory_meta WHERE name = ?1", store_params![name])?;
        seen.push(inner.unwrap().blob(0)?.to_vec());
        Ok(ControlFlow::Continue(()))
    })
    .unwrap();
    assert_eq!(seen, [b"a", b"b", b"c"]);
}

fn rows_stream_until_the_reader_stops(backend: Backend) {
    let db = backend.open().directory;
    // A million rows that nobody should have to wait for.
    let endless = "WITH RECURSIVE numbers (n) AS (SELECT CAST(1 AS BIGINT) UNION ALL \
                   SELECT n + 1 FROM numbers WHERE n < 1000000) SELECT n FROM numbers";
    let mut last = 0;
    db.query_each(endless, &[], |row| {
        last = row.int(0)?;
        Ok(if last == 10 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })
    .unwrap();
    assert_eq!(last, 10);
    assert_eq!(count(&db), 0, "the connection is in order afterwards");
}

fn opening_again_applies_no_migration_twice(backend: Backend) {
    let first = backend.open();
    put(&first.directory, "kept", b"x").unwrap();
    drop(first);
    assert_eq!(count(&backend.open().directory), 1);
}

fn a_changed_old_migration_is_refused(backend: Backend) {
    let db = backend.open().directory;
    db.execute(
        "UPDATE schema_migrations SET checksum = ?1 WHERE part = 'directory'",
        store_params![[7u8; 32]],
    )
    .unwrap();
    drop(db);
    let error = store::open(&backend.config()).err().expect("the changed migration is noticed");
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
    assert!(error.to_string().contains("0001_directory was applied with another text"), "{error}");
}

fn a_schema_newer_than_the_program_is_refused(backend: Backend) {
    let db = backend.open().directory;
    let sql = "INSERT INTO schema_migrations (part, number, name, checksum) VALUES (?1, ?2, ?3, ?4)";
    db.execute(sql, store_params!["directory", 99, "0099_future", [0u8; 32]]).unwrap();
    drop(db);
    let error = store::open(&backend.config()).err().expect("the newer schema is noticed");
    assert!(error.to_string().contains("0099_future, which this program does not know"), "{error}");
}

fn request(id: u128, account: u64, at_ms: i64) -> RequestRow {
    RequestRow {
        id,
        account,
        key: account + 1,
        at_ms,
        status: 200,
        code: 0,
        state: 1,
        charge: -1,
        facts: vec![1, 2, 3],
        money: vec![],
    }
}

fn movement(account: u64, seq: u64) -> MovementRow {
    MovementRow {
        account,
        seq,
        at_ms: 5,
        kind: 1,
        amount: i64::MAX,
        reference: format!("order:{seq}"),
        body: vec![9],
    }
}

fn projected(requests: &[RequestRow], movements: &[MovementRow]) -> ProjectedRows {
    let (requests, movements) = (requests.to_vec(), movements.to_vec());
    ProjectedRows { requests, movements, ..ProjectedRows::default() }
}

fn projected_rows_and_cursor_are_read_back(backend: Backend) {
    let projections = backend.open().projections;
    assert_eq!(projections.cursor(0).unwrap(), 0);
    let rows = [request(u128::MAX, 7, 10), request(1, 7, 20)];
    let moves = [movement(7, 1), movement(7, 2), movement(8, 1)];
    projections.write_batch(0, 5, &projected(&rows, &moves)).unwrap();
    assert_eq!(projections.cursor(0).unwrap(), 5);
    assert_eq!(projections.request(u128::MAX).unwrap().as_ref(), Some(&rows[0]));
    assert_eq!(projections.request(2).unwrap(), None);
    assert_eq!(projections.movements(7, u64::MAX >> 1, 10).unwrap(), [moves[1].clone(), moves[0].clone()]);
    projections.save_checkpoint("books", 5, b"state".to_vec()).unwrap();
    projections.save_checkpoint("books", 6, b"state 2".to_vec()).unwrap();
    assert_eq!(projections.checkpoint("books").unwrap(), Some((6, b"state 2".to_vec())));
    projections.clear().unwrap();
    assert_eq!((projections.cursor(0).unwrap(), projections.request(1).unwrap()), (0, None));
    assert_eq!(projections.checkpoint("books").unwrap(), None);
}

fn projecting_again_replaces_rows(backend: Backend) {
    let projections = backend.open().projections;
    let held = request(1, 7, 10);
    let settled = RequestRow { state: 2, charge: 42, money: vec![4], ..held.clone() };
    projections.write_batch(0, 1, &projected(std::slice::from_ref(&held), &[movement(7, 1)])).unwrap();
    for _ in 0..2 {
        let rows = projected(&[held.clone(), settled.clone()], &[movement(7, 1)]);
        projections.write_batch(0, 2, &rows).unwrap();
        assert_eq!(projections.request(1).unwrap().as_ref(), Some(&settled));
    }
    assert_eq!(projections.movements(7, 100, 10).unwrap().len(), 1);
}

fn requests_are_listed_newest_first(backend: Backend) {
    let projections = backend.open().projections;
    let rows: Vec<_> = (1..=6).map(|n| request(n, 7 + (n % 2) as u64, n as i64 * 10)).collect();
    projections.write_batch(0, 1, &projected(&rows, &[])).unwrap();
    let ids = |of, before, limit| -> Vec<u128> {
        projections.requests(of, before, limit).unwrap().iter().map(|row| row.id).collect()
    };
    assert_eq!(ids(RequestsOf::Account(7), i64::MAX, 10), [6, 4, 2]);
    assert_eq!(ids(RequestsOf::Account(7), 60, 1), [4]);
    assert_eq!(ids(RequestsOf::Key { account: 8, key: 9 }, i64::MAX, 10), [5, 3, 1]);
    assert!(ids(RequestsOf::Key { account: 8, key: 8 }, i64::MAX, 10).is_empty());
}

fn no_error_shows_a_parameter(backend: Backend) {
    let db = backend.open().directory;
    put(&db, "tg-live-secret", b"tg-live-secret").unwrap();
    let error = put(&db, "tg-live-secret", b"tg-live-secret").unwrap_err();
    let params = store_params!["tg-live-secret", Value::Null];
    let other = db.execute("INSERT INTO directory_meta (name, body) VALUES (?1, ?2)", params).unwrap_err();
    for shown in [format!("{error} {other}"), format!("{params:?}")] {
        assert!(!shown.contains("tg-live-secret"), "{shown}");
    }
}

/// Two nodes that start at once on one empty database: both come up, each change applied once.
#[test]
fn two_processes_migrate_at_once() {
    let backend = Backend::postgres();
    let url = backend.url().unwrap();
    let processes: Vec<_> = (0..3)
        .map(|_| {
            let mut command = child("store::child_opens_the_store");
            command.env("STORE_URL", url.expose()).stdout(std::process::Stdio::piped());
            command.spawn().unwrap()
        })
        .collect();
    for process in processes {
        let done = process.wait_with_output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
    }
    let rows = backend.open().directory.query("SELECT part, number FROM schema_migrations", &[]).unwrap();
    let known = PARTS.map(|part| part.migrations.len());
    assert_eq!(rows.len(), known.iter().sum::<usize>());
}

#[test]
#[ignore = "run by two_processes_migrate_at_once"]
fn child_opens_the_store() {
    let folder = tempfile::tempdir().unwrap();
    store::open(&StoreConfig::postgres(folder.path(), Secret::new(given("STORE_URL")))).unwrap();
}

#[test]
fn a_data_directory_has_one_owner_and_says_who_it_is() {
    let backend = Backend::embedded();
    let stores = backend.open();
    let error = store::open(&backend.config()).err().expect("the second owner is refused");
    assert_eq!(error.kind(), StoreErrorKind::Taken);
    assert!(error.to_string().ends_with(&format!("is in use by process {}", std::process::id())), "{error}");
    drop(stores);
    backend.open();
}

#[test]
fn files_are_readable_by_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let backend = Backend::embedded();
    let stores = backend.open();
    put(&stores.directory, "a", b"x").unwrap();
    stores.projections.write_batch(0, 1, &projected(&[request(1, 1, 1)], &[])).unwrap();
    let files: Vec<_> = std::fs::read_dir(backend.folder()).unwrap().map(Result::unwrap).collect();
    assert!(files.len() >= 6, "{files:?}");
    for file in files {
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", file.path().display());
    }
}

#[test]
fn an_unreachable_server_is_unavailable_and_the_password_is_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let url = Secret::new("postgres://tallygate:hunter2@127.0.0.1:1/none");
    let error = store::open(&StoreConfig::postgres(folder.path(), url)).err().expect("nobody listens there");
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}
