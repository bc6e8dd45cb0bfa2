//! Redemption codes on the books of a running gateway: making, redeeming, disabling, finding them.
//!
//! The way of a code: it is given to one account on disk, then the ledger is credited under the reference `code:<id>`,
//! then the code says so. What a crash leaves in between is put right at the start.
//! Promises: of any number who redeem one code at once, in however many processes, one wins; a code credits once for
//! ever; its text leaves this module once, when it is made; what is told of a code says nothing of whose it became.
//! Must never: store the text of a code, or credit before the code is given away on disk.

use std::net::IpAddr;
use std::sync::Arc;

use ledger::{Command, LedgerError, LotKind, Nano, Timestamp};
use ring::hmac;

use super::code::{CodeBatch, CodeState, CreditEnd, Disabled, RedemptionCode};
use super::code_error::CodeError;
use super::code_guesses::{Guesses, HOUR_NS, Misses};
use super::code_store::{self as rows, CodeCounts, CodeOfBatch, CodeSearch};
use super::code_text::CodeText;
use super::orders::{SYSTEM, checked_reason};
use crate::books::{Books, BooksError};
use crate::clock::{Clock, Entropy};
use crate::directory::FieldError;
use crate::id::{AccountId, CodeBatchId, CodeId, LotId};
use crate::secret::Keyring;
use crate::store::{Db, StoreError};

pub const BATCH_CODES_MAX: u32 = 10_000;
const NOTE_BYTES_MAX: usize = 500;
const CREDIT_DAYS_MAX: u32 = 36_500;
/// Codes that are looked at in one go.
const PAGE: u32 = 500;
const NS_PER_MS: u64 = 1_000_000;

/// See the module. Every method blocks.
pub struct Codes {
    db: Db,
    books: Arc<Books>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    hash_key: hmac::Key,
    guesses: Guesses,
}

/// A batch as it is asked for.
#[derive(Clone, Debug)]
pub struct NewCodeBatch {
    pub value: Nano,
    pub count: u32,
    pub kind: LotKind,
    pub priority: u8,
    pub expires_ms: Option<i64>,
    pub credit_end: CreditEnd,
    pub per_account_max: Option<u32>,
    pub note: String,
    pub actor: String,
}

/// Who redeems a code, and for whom.
#[derive(Clone, Debug)]
pub struct Redeemer {
    pub account: AccountId,
    pub actor: String,
    pub address: Option<IpAddr>,
}

impl Codes {
    /// Opens the codes on the books. What a crash left is put right by [`Codes::repair`].
    pub fn new(
        db: Db,
        books: Arc<Books>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        keyring: &Keyring,
    ) -> Self {
        let hash_key = hmac::Key::new(hmac::HMAC_SHA256, keyring.hash_keys().code.expose());
        Codes { db, books, clock, entropy, hash_key, guesses: Guesses::default() }
    }

    /// Makes a batch. Its codes are in the answer, and nowhere else ever after.
    pub fn create(&self, new: &NewCodeBatch) -> Result<(CodeBatch, Vec<CodeText>), CodeError> {
        let now_ms = self.clock.now_ms();
        check(new, now_ms)?;
        let batch = CodeBatch {
            id: CodeBatchId::new(&*self.clock, &*self.entropy),
            value: new.value,
            count: new.count,
            kind: new.kind,
            priority: new.priority,
            expires_ms: new.expires_ms,
            credit_end: new.credit_end,
            per_account_max: new.per_account_max,
            note: new.note.as_str().into(),
            disabled: None,
            created_by: new.actor.as_str().into(),
            created_ms: now_ms,
            version: 1,
        };
        let texts: Vec<_> = (0..new.count).map(|_| CodeText::generate(&*self.entropy)).collect();
        // One behind the other: so many random ids of one moment would meet.
        let first = CodeId::new(&*self.clock, &*self.entropy).raw();
        self.db.transaction(|tx| -> Result<(), StoreError> {
            rows::insert_batch(tx, &batch)?;
            for (id, text) in (first..).zip(&texts) {
                let code = RedemptionCode {
                    id: CodeId::from_raw(id),
                    batch: batch.id,
                    masked: text.masked().into(),
                    stored: CodeState::Unused,
                    account: None,
                    redeemed_by: None,
                    lot: None,
                    credit_expires_ms: None,
                    marked_ms: None,
                    redeemed_ms: None,
                    disabled: None,
                    version: 1,
                };
                rows::insert_code(tx, &code, &self.hash(text))?;
            }
            Ok(())
        })?;
        Ok((batch, texts))
    }

    /// Gives the credit of a code to an account. Repeated by the same account while the first try is not over, it goes
    /// on with that.
    pub fn redeem(&self, text: &str, who: &Redeemer) -> Result<CodeOfBatch, CodeError> {
        let (code, _) = self.look_for(text, who)?;
        let marked = self.mark(code.id, who)?;
        self.credit(&marked)
    }

    /// The code that a text is, for an account that asks after it; a text that nobody made counts as a guess.
    pub fn look_for(&self, text: &str, who: &Redeemer) -> Result<CodeOfBatch, CodeError> {
        let text = CodeText::parse(text).map_err(CodeError::Malformed)?;
        let guess = self.guesses.begin(who.account, who.address, self.clock.mono_ns());
        let guess = guess.map_err(|retry_after_ms| CodeError::TooManyGuesses { retry_after_ms })?;
        let known = rows::code_by_hash(&self.db, &self.hash(&text));
        if !matches!(known, Ok(None)) {
            self.guesses.take_back(guess);
        }
        if let Some(code) = known? {
            return Ok(code);
        }
        let now_ms = self.clock.now_ms();
        let counted: Vec<_> = self
            .guesses
            .counted(guess)
            .into_iter()
            .map(|(source, misses)| {
                let age_ms = self.clock.mono_ns().saturating_sub(misses.since_ns) / NS_PER_MS;
                (source, now_ms.saturating_sub_unsigned(age_ms), misses.count)
            })
            .collect();
        rows::keep_misses(&self.db, &counted, now_ms.saturating_sub_unsigned(HOUR_NS / NS_PER_MS))?;
        Err(CodeError::Unknown)
    }

    /// What an earlier process counted of guesses.
    fn remember_guesses(&self) -> Result<(), StoreError> {
        let (now_ms, now_ns) = (self.clock.now_ms(), self.clock.mono_ns());
        for (source, since_ms, count) in rows::misses(&self.db)? {
            let age_ns = now_ms.saturating_sub(since_ms).max(0).unsigned_abs().saturating_mul(NS_PER_MS);
            if age_ns < HOUR_NS {
                self.guesses.restore(source, Misses { since_ns: now_ns.saturating_sub(age_ns), count });
            }
        }
        Ok(())
    }

    /// Gives the code to the account on disk, or says why not.
    fn mark(&self, id: CodeId, who: &Redeemer) -> Result<CodeOfBatch, CodeError> {
        let now_ms = self.clock.now_ms();
        let lot = LotId::new(&*self.clock, &*self.entropy);
        self.db.transaction(|tx| {
            let (mut code, batch) = rows::code_in(tx, id)?.ok_or(CodeError::NotFound)?;
            match code.state(&batch, now_ms) {
                CodeState::Unused => {}
                CodeState::Processing if code.account == Some(who.account) => return Ok((code, batch)),
                CodeState::Processing | CodeState::Redeemed => return Err(already_redeemed(&code)),
                CodeState::Disabled => return Err(CodeError::Disabled { code: code.masked.clone() }),
                CodeState::Expired => {
                    let at_ms = batch.expires_ms.unwrap_or(now_ms);
                    return Err(CodeError::Expired { code: code.masked.clone(), at_ms });
                }
            }
            if let Some(max) = batch.per_account_max
                && rows::taken_in(tx, batch.id, who.account)? >= u64::from(max)
            {
                return Err(CodeError::LimitReached { max });
            }
            code.stored = CodeState::Processing;
            code.account = Some(who.account);
            code.redeemed_by = Some(who.actor.as_str().into());
            code.lot = Some(lot);
            code.credit_expires_ms = batch.credit_end.from(now_ms);
            code.marked_ms = Some(now_ms);
            rows::update_code(tx, &mut code)?;
            Ok((code, batch))
        })
    }

    /// Credits the ledger for a code that is given away, and has the code say so. May be repeated at will.
    fn credit(&self, (code, batch): &CodeOfBatch) -> Result<CodeOfBatch, CodeError> {
        let (Some(account), Some(lot)) = (code.account, code.lot) else { return Err(CodeError::NotFound) };
        let command = Command::Credit {
            account: account.in_book(ledger::Book::Live),
            lot: ledger::LotId(lot.raw()),
            kind: batch.kind,
            priority: batch.priority,
            expires_at: code.credit_expires_ms.map(Timestamp),
            amount: batch.value,
            source: batch.source(),
            reference: code.reference(),
        };
        match self.books.execute_blocking(&command) {
            Ok(_) => self.redeemed(code.id),
            Err(BooksError::Refused(LedgerError::AlreadyPosted { .. })) => {
                // By somebody who may still be waiting for the disk.
                self.books.flush_blocking().map_err(BooksError::from)?;
                self.redeemed(code.id)
            }
            Err(BooksError::Refused(why @ LedgerError::ReferenceReused { .. })) => {
                self.withdraw(code.id, &why)?;
                Err(BooksError::Refused(why).into())
            }
            Err(BooksError::Refused(why)) => {
                self.give_up(code.id)?;
                Err(BooksError::Refused(why).into())
            }
            Err(why) => Err(why.into()),
        }
    }

    fn redeemed(&self, id: CodeId) -> Result<CodeOfBatch, CodeError> {
        let now_ms = self.clock.now_ms();
        self.change(id, |code| {
            if code.stored == CodeState::Processing {
                (code.stored, code.redeemed_ms) = (CodeState::Redeemed, Some(now_ms));
            }
            Ok(())
        })
    }

    /// The ledger holds something else under the code's reference: nobody can have it.
    fn withdraw(&self, id: CodeId, why: &LedgerError) -> Result<CodeOfBatch, CodeError> {
        tracing::error!(code = %id, %why, "a code cannot be credited");
        let disabled =
            Disabled { at_ms: self.clock.now_ms(), by: SYSTEM.into(), reason: why.to_string().into() };
        self.change(id, |code| {
            if code.stored == CodeState::Processing {
                code.stored = CodeState::Disabled;
                code.disabled = Some(disabled.clone());
            }
            Ok(())
        })
    }

    /// The account cannot take the credit: the code is as it was.
    fn give_up(&self, id: CodeId) -> Result<CodeOfBatch, CodeError> {
        self.change(id, |code| {
            if code.stored == CodeState::Processing {
                code.stored = CodeState::Unused;
                (code.account, code.redeemed_by, code.lot) = (None, None, None);
                (code.credit_expires_ms, code.marked_ms) = (None, None);
            }
            Ok(())
        })
    }

    /// Credits what was given away and not credited. To be called once the books are open, and from time to time.
    /// Answers how many codes it was.
    pub fn repair(&self) -> Result<u32, CodeError> {
        self.remember_guesses()?;
        let (mut repaired, mut after) = (0, 0);
        loop {
            let page = rows::processing(&self.db, after, PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(repaired) };
            after = last.id.raw();
            for marked in &page {
                match self.credit(marked) {
                    Ok(_) => repaired += 1,
                    Err(CodeError::Store(why)) => return Err(why.into()),
                    // Tried again later.
                    Err(why) => tracing::error!(code = %marked.0.id, %why, "a code could not be credited"),
                }
            }
        }
    }

    /// Takes a batch out of use: what is not redeemed of it cannot be any more.
    pub fn disable_batch(&self, id: CodeBatchId, actor: &str, reason: &str) -> Result<CodeBatch, CodeError> {
        let disabled = self.disabled(actor, reason)?;
        self.db.transaction(|tx| {
            let mut batch = rows::batch_in(tx, id)?.ok_or(CodeError::NotFound)?;
            if batch.disabled.is_none() {
                rows::disable_batch(tx, &mut batch, disabled.clone())?;
            }
            Ok(batch)
        })
    }

    /// The same for one code.
    pub fn disable(&self, id: CodeId, actor: &str, reason: &str) -> Result<CodeOfBatch, CodeError> {
        let disabled = self.disabled(actor, reason)?;
        self.change(id, |code| match code.stored {
            CodeState::Processing | CodeState::Redeemed => Err(already_redeemed(code)),
            CodeState::Disabled => Ok(()),
            CodeState::Unused | CodeState::Expired => {
                code.stored = CodeState::Disabled;
                code.disabled = Some(disabled.clone());
                Ok(())
            }
        })
    }

    fn disabled(&self, actor: &str, reason: &str) -> Result<Disabled, CodeError> {
        let reason = checked_reason(reason)?.into();
        Ok(Disabled { at_ms: self.clock.now_ms(), by: actor.into(), reason })
    }

    fn change(
        &self,
        id: CodeId,
        change: impl Fn(&mut RedemptionCode) -> Result<(), CodeError>,
    ) -> Result<CodeOfBatch, CodeError> {
        self.db.transaction(|tx| {
            let (mut code, batch) = rows::code_in(tx, id)?.ok_or(CodeError::NotFound)?;
            let before = code.clone();
            change(&mut code)?;
            if code != before {
                rows::update_code(tx, &mut code)?;
            }
            Ok((code, batch))
        })
    }

    pub fn batch(&self, id: CodeBatchId) -> Result<CodeBatch, CodeError> {
        rows::batch(&self.db, id)?.ok_or(CodeError::NotFound)
    }

    /// Batches before an id, newest first.
    pub fn batches(&self, before: Option<CodeBatchId>, limit: u32) -> Result<Vec<CodeBatch>, CodeError> {
        Ok(rows::batches(&self.db, before, limit)?)
    }

    pub fn counts(&self, batch: &CodeBatch) -> Result<CodeCounts, CodeError> {
        Ok(rows::counts(&self.db, batch, self.clock.now_ms())?)
    }

    pub fn code(&self, id: CodeId) -> Result<CodeOfBatch, CodeError> {
        rows::code(&self.db, id)?.ok_or(CodeError::NotFound)
    }

    /// The code that a text is, for who looks after codes: nothing is counted as a guess.
    pub fn find(&self, text: &str) -> Result<CodeOfBatch, CodeError> {
        let text = CodeText::parse(text).map_err(CodeError::Malformed)?;
        rows::code_by_hash(&self.db, &self.hash(&text))?.ok_or(CodeError::Unknown)
    }

    pub fn search(&self, search: &CodeSearch) -> Result<Vec<CodeOfBatch>, CodeError> {
        Ok(rows::search(&self.db, search, self.clock.now_ms())?)
    }

    pub fn state(&self, (code, batch): &CodeOfBatch) -> CodeState {
        code.state(batch, self.clock.now_ms())
    }

    fn hash(&self, text: &CodeText) -> Vec<u8> {
        hmac::sign(&self.hash_key, text.bytes()).as_ref().to_vec()
    }
}

fn already_redeemed(code: &RedemptionCode) -> CodeError {
    let at_ms = code.redeemed_ms.or(code.marked_ms).unwrap_or_default();
    CodeError::AlreadyRedeemed { code: code.masked.clone(), at_ms }
}

fn check(new: &NewCodeBatch, now_ms: i64) -> Result<(), FieldError> {
    let refuse = |field, reason: &str| Err(FieldError::new(field, reason));
    if !new.value.is_positive() {
        return refuse("value", "must be above zero");
    }
    if !(1..=BATCH_CODES_MAX).contains(&new.count) {
        return refuse("count", "must be from 1 to 10000");
    }
    // All of them together must be an amount, too.
    if new.value.0.checked_mul(i64::from(new.count)).is_none() {
        return refuse("value", "is too large for so many codes");
    }
    if new.expires_ms.is_some_and(|end_ms| end_ms <= now_ms) {
        return refuse("expires_at", "is not in the future");
    }
    match (new.credit_end, new.expires_ms) {
        (CreditEnd::Days(days), _) if !(1..=CREDIT_DAYS_MAX).contains(&days) => {
            return refuse("credit_days", "must be from 1 to 36500");
        }
        (CreditEnd::At(end_ms), codes_end) if codes_end.is_none_or(|codes_end| end_ms <= codes_end) => {
            return refuse("credit_expires_at", "must be after expires_at, the end of the codes");
        }
        _ => {}
    }
    if new.per_account_max == Some(0) {
        return refuse("per_account_max", "must be at least 1; null is without a limit");
    }
    if new.note.len() > NOTE_BYTES_MAX {
        return refuse("note", "must have at most 500 bytes");
    }
    Ok(())
}
