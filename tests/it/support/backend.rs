//! A store to test on: embedded or PostgreSQL, empty, gone afterwards.

use super::postgres::TestDatabase;
use tallygate::secret::Secret;
use tallygate::store::{self, StoreConfig, Stores};

/// Where one test keeps its data. It can be opened again and again.
pub struct Backend {
    folder: tempfile::TempDir,
    database: Option<TestDatabase>,
}

impl Backend {
    pub fn embedded() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), database: None }
    }

    pub fn postgres() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), database: Some(TestDatabase::new()) }
    }

    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Gives the folder away.
    pub fn into_folder(self) -> tempfile::TempDir {
        self.folder
    }

    pub fn url(&self) -> Option<Secret> {
        self.database.as_ref().map(TestDatabase::url)
    }

    pub fn config(&self) -> StoreConfig {
        StoreConfig { data_dir: self.folder.path().to_owned(), postgres_url: self.url() }
    }

    pub fn open(&self) -> Stores {
        store::open(&self.config()).unwrap()
    }
}

/// Runs every named function (`fn(Backend)`) as two tests: `embedded::name` and `postgres::name`.
#[macro_export]
macro_rules! on_both_backends {
    ($($name:ident),+ $(,)?) => {
        mod embedded {
            $(#[test]
            fn $name() {
                super::$name($crate::support::backend::Backend::embedded());
            })+
        }
        mod postgres {
            $(#[test]
            fn $name() {
                super::$name($crate::support::backend::Backend::postgres());
            })+
        }
    };
}
