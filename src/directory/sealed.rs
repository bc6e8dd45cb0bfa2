//! What the directory keeps sealed: the providers' keys of channels and the secrets of webhooks.
//!
//! Promises: a sealed value opens for its own object alone; sealing anew after a change of the master key writes each
//! object's next version like every change, and is not held up by one that cannot be opened. Older versions stay as they
//! are, and cannot be opened once their master key is forgotten.
//! Must never: show a secret in an error.

use std::sync::Arc;

use crate::hex;
use crate::id::{ChannelId, NoticeEndpointId};
use crate::secret::{MasterKeyError, Secret};

use super::commands::Directory;
use super::documents::Channel;
use super::error::{DirectoryError, Kind};
use super::notice_endpoint::NoticeEndpoint;
use super::rules::Document;
use super::snapshot::{Change, Snapshot};
use super::stored::Writer;

/// A signature is worth as much as its secret is hard to guess.
const WEBHOOK_SECRET_BYTES_MIN: usize = 16;

/// Credentials of one channel.
const CREDENTIALS_MAX: usize = 32;

/// An object with something sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealedObject {
    Channel(ChannelId),
    NoticeEndpoint(NoticeEndpointId),
}

impl SealedObject {
    pub fn kind(self) -> Kind {
        match self {
            SealedObject::Channel(_) => Kind::Channel,
            SealedObject::NoticeEndpoint(_) => Kind::NoticeEndpoint,
        }
    }

    pub fn id_text(self) -> String {
        match self {
            SealedObject::Channel(id) => id.to_string(),
            SealedObject::NoticeEndpoint(id) => id.to_string(),
        }
    }
}

impl Snapshot {
    /// Every object with something sealed, with its name and what is sealed.
    pub fn sealed(&self) -> impl Iterator<Item = (SealedObject, &str, &[Box<str>])> {
        let channels = self.channels().map(|channel| {
            (SealedObject::Channel(channel.id), &*channel.name, channel.credentials.as_slice())
        });
        let endpoints = self.notice_endpoints().filter_map(|endpoint| {
            let secret = endpoint.secret.as_ref()?;
            Some((SealedObject::NoticeEndpoint(endpoint.id), &*endpoint.name, std::slice::from_ref(secret)))
        });
        channels.chain(endpoints)
    }
}

impl Directory {
    /// A channel's credentials, in their order.
    pub(super) fn seal_all(
        &self,
        id: ChannelId,
        credentials: &[Secret],
    ) -> Result<Vec<Box<str>>, DirectoryError> {
        if credentials.is_empty() || credentials.len() > CREDENTIALS_MAX {
            return Err(DirectoryError::invalid("credentials", "must be from 1 to 32"));
        }
        let seal = |(at, credential): (usize, &Secret)| {
            let field =
                if credentials.len() == 1 { "credential".to_owned() } else { format!("credentials[{at}]") };
            // An empty one is a variable that holds nothing: every call would be refused.
            if credential.expose().is_empty() {
                return Err(DirectoryError::invalid(&field, "must not be empty"));
            }
            if credentials.iter().take(at).any(|other| other.expose() == credential.expose()) {
                return Err(DirectoryError::invalid(&field, "stands twice"));
            }
            self.seal_for(&sealing_purpose(id), &field, credential)
        };
        credentials.iter().enumerate().map(seal).collect()
    }

    pub(super) fn seal_webhook_secret(
        &self,
        id: NoticeEndpointId,
        secret: &Secret,
    ) -> Result<Box<str>, DirectoryError> {
        if secret.expose().len() < WEBHOOK_SECRET_BYTES_MIN {
            return Err(DirectoryError::invalid("secret", "must have at least 16 characters"));
        }
        self.seal_for(&webhook_purpose(id), "secret", secret)
    }

    fn seal_for(&self, purpose: &str, field: &str, secret: &Secret) -> Result<Box<str>, DirectoryError> {
        if secret.expose().chars().any(|c| !c.is_ascii_graphic()) {
            return Err(DirectoryError::invalid(field, "must be visible ASCII without blanks"));
        }
        let sealed = self.keyring.seal(purpose, secret.expose().as_bytes());
        Ok(hex::encode(&sealed.map_err(DirectoryError::Sealing)?).into())
    }

    /// The provider's keys of a channel, for the one who calls it.
    pub fn credentials(&self, channel: &Channel) -> Result<Vec<Secret>, DirectoryError> {
        let purpose = sealing_purpose(channel.id);
        channel.credentials.iter().map(|sealed| self.open_sealed(&purpose, sealed)).collect()
    }

    /// What a webhook's notices are signed with.
    pub fn webhook_secret(&self, endpoint: &NoticeEndpoint) -> Result<Secret, DirectoryError> {
        let missing = || DirectoryError::invalid("secret", "is missing");
        self.open_sealed(&webhook_purpose(endpoint.id), endpoint.secret.as_ref().ok_or_else(missing)?)
    }

    fn open_sealed(&self, purpose: &str, sealed: &str) -> Result<Secret, DirectoryError> {
        let damaged = || DirectoryError::Sealing(MasterKeyError::Damaged);
        let sealed = hex::decode_vec(sealed).ok_or_else(damaged)?;
        let plain = self.keyring.open(purpose, &sealed).map_err(DirectoryError::Sealing)?;
        std::str::from_utf8(plain.expose()).map(Secret::new).map_err(|_| damaged())
    }

    /// Objects with something that no master key which is held can open.
    pub fn unreadable(&self) -> Vec<(SealedObject, String)> {
        let snapshot = self.snapshot_owned();
        let opens =
            |sealed: &str| hex::decode_vec(sealed).is_some_and(|sealed| self.keyring.can_open(&sealed));
        let unreadable =
            snapshot.sealed().filter(|(_, _, sealed)| !sealed.iter().all(|sealed| opens(sealed)));
        unreadable.map(|(object, name, _)| (object, name.to_owned())).collect()
    }

    /// Seals with the newest master key what another one sealed of this object. False: there was nothing to do, or
    /// nothing that could be done.
    pub fn reseal(&self, actor: &str, object: SealedObject) -> Result<bool, DirectoryError> {
        self.commit(actor, |writer, _| match object {
            SealedObject::Channel(id) => {
                let purpose = sealing_purpose(id);
                self.put_resealed::<Channel>(writer, id.raw(), &|channel| {
                    self.reseal_each(&purpose, channel.credentials.iter_mut())
                })
            }
            SealedObject::NoticeEndpoint(id) => {
                let purpose = webhook_purpose(id);
                self.put_resealed::<NoticeEndpoint>(writer, id.raw(), &|endpoint| {
                    self.reseal_each(&purpose, endpoint.secret.iter_mut())
                })
            }
        })
    }

    fn put_resealed<D: Document>(
        &self,
        writer: &mut Writer<'_, '_>,
        id: u64,
        reseal: &dyn Fn(&mut D) -> Result<bool, DirectoryError>,
    ) -> Result<(Vec<Change>, bool), DirectoryError> {
        let Some(before) = writer.current::<D>(id)? else { return Ok((Vec::new(), false)) };
        let mut after = D::clone(&before.document);
        if !reseal(&mut after)? {
            return Ok((Vec::new(), false));
        }
        let written = writer.put(Some(&*before.document), Arc::new(after))?;
        Ok((vec![written.change()], true))
    }

    /// Replaces what another master key sealed; tells whether there was any. What no key opens stays as it is.
    fn reseal_each<'s>(
        &self,
        purpose: &str,
        all: impl Iterator<Item = &'s mut Box<str>>,
    ) -> Result<bool, DirectoryError> {
        let mut changed = false;
        for sealed in all {
            let Some(bytes) = hex::decode_vec(sealed) else { continue };
            match self.keyring.reseal(purpose, &bytes) {
                Ok(None) | Err(MasterKeyError::Wrong | MasterKeyError::Damaged) => {}
                Ok(Some(anew)) => {
                    *sealed = hex::encode(&anew).into();
                    changed = true;
                }
                Err(why) => return Err(DirectoryError::Sealing(why)),
            }
        }
        Ok(changed)
    }
}

/// A sealed credential opens for its own channel alone.
fn sealing_purpose(id: ChannelId) -> String {
    format!("channel credential {id}")
}

fn webhook_purpose(id: NoticeEndpointId) -> String {
    format!("webhook secret {id}")
}
