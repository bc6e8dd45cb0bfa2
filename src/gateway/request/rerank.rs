//! The rerank request, in the shape that Jina and Cohere share: a query, and documents to be put in order by it.

use super::json::{Members, kind, list};
use super::{AskedUnits, Endpoint, ModelRequest, RequestFault};

/// Documents that one search ranks, and the tokens of query and document beyond which a document counts as several
/// (Cohere's pricing page, "search unit").
pub const DOCUMENTS_PER_SEARCH: u64 = 100;
pub const TOKENS_PER_DOCUMENT: u64 = 500;

const KNOWN: &[&str] = &["model", "query", "documents"];

pub(super) fn read(text: &str) -> Result<ModelRequest, RequestFault> {
    let members = Members::read(text, KNOWN)?;
    let query = members.required("query", "a string")?.get();
    if !query.starts_with(['"', '{']) {
        return Err(RequestFault::parameter("query", "a string", kind(query)));
    }
    const WHAT: &str = "a list of at least one document";
    let raw = members.required("documents", WHAT)?;
    let documents = list(raw).filter(|documents| !documents.is_empty());
    let documents = documents.ok_or_else(|| RequestFault::parameter("documents", WHAT, kind(raw.get())))?;
    let query_bytes = query.len() as u64;
    // A token is a byte at least, so that no document counts as more pieces than this.
    let pieces = documents.iter().map(|document| {
        (document.get().len() as u64).saturating_add(query_bytes).div_ceil(TOKENS_PER_DOCUMENT)
    });
    let pieces = pieces.fold(0u64, u64::saturating_add);
    let mut request = ModelRequest::plain(Endpoint::Rerank, members.model(None)?, members.spans());
    // Where tokens are billed, the query counts again with each document.
    let again = query_bytes.saturating_mul(documents.len() as u64);
    request.input_tokens_bound = request.input_tokens_bound.saturating_add(again);
    let searches = pieces.div_ceil(DOCUMENTS_PER_SEARCH);
    request.units = Some(Box::new(AskedUnits { searches, ..AskedUnits::default() }));
    Ok(request)
}
