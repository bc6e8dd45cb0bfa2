//! Bank transfers, and whatever else an operator completes by hand: nobody calls back, nobody can be asked.

use super::{Answer, Callback, Event, Payment, PaymentProvider, ProviderError, RefundAnswer, Rejection};
use crate::funding::order::{Order, Refund};
use crate::funding::settings::Links;
use crate::http_client::HttpClient;

#[derive(Debug)]
pub struct Transfer;

impl PaymentProvider for Transfer {
    fn name(&self) -> &'static str {
        "transfer"
    }

    fn create(&self, _: &HttpClient, _: &Order, _: &Links) -> Result<Payment, ProviderError> {
        Ok(Payment::default())
    }

    fn read(&self, _: &Callback, _: i64) -> Result<Event, Rejection> {
        Err(Rejection::NotExpected)
    }

    fn query(&self, _: &HttpClient, _: &Order) -> Result<Answer, ProviderError> {
        Ok(Answer { news: None, raw: Vec::new() })
    }

    /// Whoever asks for it has sent the money, or is about to.
    fn refund(&self, _: &HttpClient, _: &Order, _: &Refund) -> Result<RefundAnswer, ProviderError> {
        Ok(RefundAnswer::Sent { number: None })
    }

    fn ask_refund(
        &self,
        _: &HttpClient,
        _: &Order,
        _: &Refund,
    ) -> Result<Option<RefundAnswer>, ProviderError> {
        Ok(None)
    }

    fn check(&self, _: &HttpClient) -> Result<(), ProviderError> {
        Ok(())
    }

    fn calls_back(&self) -> bool {
        false
    }

    fn thanks(&self) -> &'static str {
        ""
    }
}
