//! Many models, prices and channels in one transaction: all of them or none.
//!
//! Each row is checked against the directory as the rows before it left it, so that one file can make a model, its
//! price and the channel that serves it.

use std::cell::Cell;
use std::sync::Arc;

use jiff::Timestamp;

use crate::id::{ChannelId, ModelId, PriceId};
use crate::secret::Secret;

use super::commands::{Directory, Edit};
use super::documents::{Channel, Model, Price};
use super::error::{DirectoryError, FieldError};
use super::rules::Document;
use super::snapshot::{Change, Snapshot};
use super::stored::Writer;

/// Takes the rows of an import, one after the other. A row that is refused leaves nothing.
pub struct Importer<'i, 'w, 't> {
    directory: &'i Directory,
    writer: &'i mut Writer<'w, 't>,
    /// The directory with the rows before.
    view: Snapshot,
    changes: Vec<Change>,
    now: Timestamp,
}

impl Directory {
    /// Makes what `work` asks for. It says whether to keep it; whatever it says, its answer comes back.
    pub fn import<T>(
        &self,
        actor: &str,
        mut work: impl FnMut(&mut Importer<'_, '_, '_>) -> (bool, T),
    ) -> Result<T, DirectoryError> {
        let now = self.now()?;
        let (mut answer, given_up) = (None, Cell::new(false));
        let done = self.commit(actor, |writer, snapshot| {
            let (view, changes) = (Snapshot::clone(snapshot), Vec::new());
            let mut importer = Importer { directory: self, writer, view, changes, now };
            let (keep, told) = work(&mut importer);
            answer = Some(told);
            given_up.set(!keep);
            match keep {
                true => Ok((importer.changes, ())),
                // Takes back what the transaction wrote.
                false => Err(DirectoryError::invalid("import", "is not kept")),
            }
        });
        match (done, answer) {
            (Ok(()), Some(answer)) => Ok(answer),
            (Err(_), Some(answer)) if given_up.get() => Ok(answer),
            (Err(why), _) => Err(why),
            (Ok(()), None) => Err(DirectoryError::invalid("import", "was not run")),
        }
    }
}

impl Importer<'_, '_, '_> {
    pub fn model(&mut self, edit: Edit<'_, Model>) -> Result<(), DirectoryError> {
        let view = &self.view;
        let id = self.directory.fresh(ModelId::new, |_, id| view.model_by_id(id).is_some());
        let blank = Directory::blank_model(id, self.now);
        self.put(blank, edit)
    }

    /// The next version of the price of a model, by its name.
    pub fn price(&mut self, model: &str, edit: Edit<'_, Price>) -> Result<(), DirectoryError> {
        let missing = || FieldError::new("model", format!("there is no model `{model}`"));
        let entry = self.view.model(model).ok_or_else(missing)?;
        let newest = entry.prices.iter().map(|price| price.version).max().unwrap_or(0);
        let view = &self.view;
        let taken =
            |_: &Snapshot, id| view.models().flat_map(|entry| &entry.prices).any(|price| price.id == id);
        let id = self.directory.fresh(PriceId::new, taken);
        let blank = Price { version: newest + 1, ..Directory::blank_price(id, entry.model.id, self.now) };
        self.put(blank, edit)
    }

    pub fn channel(&mut self, credentials: &[Secret], edit: Edit<'_, Channel>) -> Result<(), DirectoryError> {
        let view = &self.view;
        let id = self.directory.fresh(ChannelId::new, |_, id| view.channel(id).is_some());
        let blank = Directory::blank_channel(id, self.directory.seal_all(id, credentials)?, self.now);
        self.put(blank, edit)
    }

    fn put<D: Document>(&mut self, mut document: D, edit: Edit<'_, D>) -> Result<(), DirectoryError> {
        edit(&mut document)?;
        document.check(None, &self.view, self.now)?;
        let written = self.writer.put(None, Arc::new(document))?;
        self.view.apply([written.change()]);
        self.changes.push(written.change());
        Ok(())
    }
}
