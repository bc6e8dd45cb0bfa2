//! The hash chain over the journal (invariant I9).
//!
//! `hash = SHA-256(version ‖ shard ‖ epoch ‖ n ‖ at ‖ prev_hash ‖ len ‖ effects ‖ SHA-256(facts))`,
//! integers little-endian in their own width (u8, u32, u64, u64, i64), `len` the number of bytes of
//! `effects` as u64. The facts are in the chain by their hash alone: they can be purged or erased and
//! the chain still proves the money. The first batch of a shard has n = 1 and a `prev_hash` of zeros.
//!
//! Pure: no I/O, no clock.

use super::journal::Batch;
use ring::digest::{Context, SHA256, digest};
use std::fmt;

/// Version of the formula above; part of what is hashed.
pub const CHAIN_VERSION: u8 = 1;

/// The `prev_hash` of the first batch.
pub const GENESIS: [u8; 32] = [0; 32];

/// The place of a batch in its chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub shard: u32,
    /// Epoch of the owner that wrote it; never falls along the chain.
    pub epoch: u64,
    /// Number in the shard, from 1, without gaps.
    pub n: u64,
    /// Ledger time in milliseconds since the Unix epoch.
    pub at_ms: i64,
    pub prev_hash: [u8; 32],
}

/// SHA-256 of anything.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    to_array(digest(&SHA256, bytes))
}

fn to_array(digest: ring::digest::Digest) -> [u8; 32] {
    let mut out = [0; 32];
    for (to, from) in out.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    out
}

/// The hash of a batch from its header, its effects and the hash of its facts.
pub fn link_hash(header: &Header, effects: &[u8], facts_hash: &[u8; 32]) -> [u8; 32] {
    let mut head = [0u8; 69];
    let parts: [&[u8]; 7] = [
        &[CHAIN_VERSION],
        &header.shard.to_le_bytes(),
        &header.epoch.to_le_bytes(),
        &header.n.to_le_bytes(),
        &header.at_ms.to_le_bytes(),
        &header.prev_hash,
        &(effects.len() as u64).to_le_bytes(),
    ];
    for (to, from) in head.iter_mut().zip(parts.into_iter().flatten()) {
        *to = *from;
    }
    let mut context = Context::new(&SHA256);
    context.update(&head);
    context.update(effects);
    context.update(facts_hash);
    to_array(context.finish())
}

/// Makes a batch out of its parts, hashes computed.
pub fn seal(header: Header, effects: Vec<u8>, facts: Vec<u8>) -> Batch {
    let facts_hash = sha256(&facts);
    let hash = link_hash(&header, &effects, &facts_hash);
    let Header { shard, epoch, n, at_ms, prev_hash } = header;
    Batch { shard, epoch, n, at_ms, prev_hash, hash, facts_hash, effects, facts: Some(facts) }
}

/// The last link that was checked: what the next one must continue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    pub n: u64,
    pub hash: [u8; 32],
    pub epoch: u64,
}

impl Link {
    /// What stands before the first batch.
    pub const START: Link = Link { n: 0, hash: GENESIS, epoch: 0 };
}

impl From<&Batch> for Link {
    fn from(batch: &Batch) -> Self {
        Link { n: batch.n, hash: batch.hash, epoch: batch.epoch }
    }
}

/// How a batch breaks the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChainError {
    /// The number after `expected - 1` is not `expected`: a batch is missing or doubled.
    Gap { expected: u64, found: u64 },
    /// `prev_hash` is not the hash of the batch before.
    Unlinked { n: u64 },
    /// An owner wrote after a later one had taken over.
    EpochFell { n: u64, before: u64, found: u64 },
    /// The facts are there and are not those that were hashed.
    FactsChanged { n: u64 },
    /// Header or effects are not those that were hashed.
    Changed { n: u64 },
}

impl fmt::Display for ChainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gap { expected, found } => {
                write!(f, "journal: batch {expected} expected, {found} found")
            }
            Self::Unlinked { n } => write!(f, "journal: batch {n} does not continue the batch before it"),
            Self::EpochFell { n, before, found } => {
                write!(f, "journal: batch {n} is of epoch {found} after one of epoch {before}")
            }
            Self::FactsChanged { n } => write!(f, "journal: the facts of batch {n} were changed"),
            Self::Changed { n } => write!(f, "journal: batch {n} was changed"),
        }
    }
}

impl std::error::Error for ChainError {}

/// Checks that `batch` continues `prev` and that nothing of it was changed. Purged facts are fine.
pub fn verify_link(prev: &Link, batch: &Batch) -> Result<Link, ChainError> {
    let n = batch.n;
    let expected = prev.n.wrapping_add(1);
    if n != expected {
        return Err(ChainError::Gap { expected, found: n });
    }
    if batch.prev_hash != prev.hash {
        return Err(ChainError::Unlinked { n });
    }
    if batch.epoch < prev.epoch {
        return Err(ChainError::EpochFell { n, before: prev.epoch, found: batch.epoch });
    }
    if batch.facts.as_deref().is_some_and(|facts| sha256(facts) != batch.facts_hash) {
        return Err(ChainError::FactsChanged { n });
    }
    if link_hash(&batch.header(), &batch.effects, &batch.facts_hash) != batch.hash {
        return Err(ChainError::Changed { n });
    }
    Ok(Link::from(batch))
}
