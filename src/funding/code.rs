//! Redemption codes (兑换码): batches, codes, and where a code stands.

use ledger::{CreditSource, LotKind, Nano, Reference};

use crate::id::{AccountId, CodeBatchId, CodeId, LotId};

/// Where a code stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CodeState {
    Unused,
    /// Given to an account; the ledger is about to be credited.
    Processing,
    Redeemed,
    /// Alone or with its batch.
    Disabled,
    /// Its time is over. Not the end of the credit that it would have given.
    Expired,
}

impl CodeState {
    pub const ALL: [CodeState; 5] = [
        CodeState::Unused,
        CodeState::Processing,
        CodeState::Redeemed,
        CodeState::Disabled,
        CodeState::Expired,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            CodeState::Unused => "unused",
            CodeState::Processing => "processing",
            CodeState::Redeemed => "redeemed",
            CodeState::Disabled => "disabled",
            CodeState::Expired => "expired",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// Until when the credit can be spent that a code gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreditEnd {
    Never,
    /// Milliseconds since 1970.
    At(i64),
    /// So many days from the redemption on.
    Days(u32),
}

const DAY_MS: i64 = 86_400_000;

impl CreditEnd {
    /// The end of a credit that begins now.
    pub fn from(self, now_ms: i64) -> Option<i64> {
        match self {
            CreditEnd::Never => None,
            CreditEnd::At(end_ms) => Some(end_ms),
            CreditEnd::Days(days) => Some(now_ms.saturating_add(i64::from(days).saturating_mul(DAY_MS))),
        }
    }
}

/// Who took a batch or a code out of use, when and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disabled {
    pub at_ms: i64,
    pub by: Box<str>,
    pub reason: Box<str>,
}

/// Codes that were made together and are worth the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeBatch {
    pub id: CodeBatchId,
    /// What each credits, in the ledger currency.
    pub value: Nano,
    pub count: u32,
    pub kind: LotKind,
    /// Lower is spent first, among lots of a kind.
    pub priority: u8,
    /// From then on its codes cannot be redeemed.
    pub expires_ms: Option<i64>,
    pub credit_end: CreditEnd,
    /// Codes of it that one account can redeem.
    pub per_account_max: Option<u32>,
    pub note: Box<str>,
    pub disabled: Option<Disabled>,
    pub created_by: Box<str>,
    pub created_ms: i64,
    pub version: u64,
}

impl CodeBatch {
    /// The other side of the double entry: what is purchased was paid for where the code was sold.
    pub fn source(&self) -> CreditSource {
        match self.kind {
            LotKind::Purchased => CreditSource::Payment,
            LotKind::Granted | LotKind::Overdraft => CreditSource::Promotion,
        }
    }

    pub fn is_expired(&self, now_ms: i64) -> bool {
        self.expires_ms.is_some_and(|end_ms| end_ms <= now_ms)
    }
}

/// One code. Its text is nowhere: it is found by a keyed hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedemptionCode {
    pub id: CodeId,
    pub batch: CodeBatchId,
    pub masked: Box<str>,
    /// As it is stored: never `Expired`, and not `Disabled` for its batch's sake.
    pub stored: CodeState,
    /// Whose it became (兑换码账号).
    pub account: Option<AccountId>,
    /// Who redeemed it.
    pub redeemed_by: Option<Box<str>>,
    /// The lot that its credit opens.
    pub lot: Option<LotId>,
    /// Of its credit, frozen when it was redeemed.
    pub credit_expires_ms: Option<i64>,
    /// When it was given to the account, and when the ledger was credited.
    pub marked_ms: Option<i64>,
    pub redeemed_ms: Option<i64>,
    pub disabled: Option<Disabled>,
    pub version: u64,
}

impl RedemptionCode {
    /// The name under which the ledger credits it once for ever.
    pub fn reference(&self) -> Reference {
        Reference::new(format!("code:{}", self.id))
    }

    /// Where it stands now.
    pub fn state(&self, batch: &CodeBatch, now_ms: i64) -> CodeState {
        match self.stored {
            CodeState::Unused if batch.disabled.is_some() => CodeState::Disabled,
            CodeState::Unused if batch.is_expired(now_ms) => CodeState::Expired,
            stored => stored,
        }
    }
}
