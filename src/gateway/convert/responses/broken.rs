//! The end of a streamed response that cannot go on: the clients of the format wait for an event that says so.

use serde::Deserialize;

use super::super::json::Json;
use super::super::reply::Envelope;
use super::super::text::Text;
use super::answer::{Ended, response};

/// What a client has been told of a response so far.
#[derive(Clone, Debug, Default)]
pub struct SoFar {
    /// Of the event that comes next.
    pub sequence: u64,
    pub id: Option<Text<'static>>,
    pub model: Option<Text<'static>>,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(default)]
    sequence_number: Option<u64>,
    #[serde(borrow, rename = "type", default)]
    kind: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Created<'a> {
    #[serde(borrow)]
    response: Names<'a>,
}

#[derive(Deserialize)]
struct Names<'a> {
    #[serde(borrow, default)]
    id: Option<Text<'a>>,
    #[serde(borrow, default)]
    model: Option<Text<'a>>,
}

impl SoFar {
    /// Takes the data of an event that goes to the client as it came.
    pub fn see(&mut self, data: &[u8]) {
        let Ok(event) = serde_json::from_slice::<Event<'_>>(data) else { return };
        let sequence = event.sequence_number.map_or(self.sequence, |number| number.max(self.sequence));
        self.sequence = sequence.saturating_add(1);
        if event.kind.is_some_and(|kind| kind.is("response.created"))
            && let Ok(Created { response }) = serde_json::from_slice::<Created<'_>>(data)
        {
            self.id = response.id.map(Text::into_owned);
            self.model = response.model.map(Text::into_owned);
        }
    }

    /// The last event, with the response as it failed. `sequence`: its number.
    pub fn failed(&self, envelope: &Envelope, sequence: u64, code: &str, message: &str) -> Vec<u8> {
        let mut out = b"event: response.failed\ndata: ".to_vec();
        let mut json = Json::new(&mut out);
        json.open('{').member("type").plain("response.failed").member("sequence_number").whole(sequence);
        let names = (self.id.as_ref(), self.model.as_ref());
        response(json.member("response"), names, envelope, Ended::Failed { code, message }, &[], None);
        json.close('}');
        out.extend_from_slice(b"\n\n");
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_rise_whatever_the_events_say_of_theirs() {
        let mut so_far = SoFar::default();
        so_far.see(br#"{"type":"response.created","sequence_number":0,"response":{"id":"resp_1","model":"m","tools":[]}}"#);
        so_far.see(
            br#"{"type":"response.output_text.delta","delta":"\"sequence_number\":99","sequence_number":4}"#,
        );
        assert_eq!(so_far.sequence, 5);
        for data in [&br#"{"type":"x"}"#[..], br#"{"sequence_number":1}"#, b"{", b"[DONE]"] {
            so_far.see(data);
        }
        assert_eq!(so_far.sequence, 7);
        let failed =
            so_far.failed(&super::super::super::tests::envelope(), 8, "stream_interrupted", "so \"it\" is");
        let text = String::from_utf8(failed).unwrap();
        let data = text.strip_prefix("event: response.failed\ndata: ").unwrap().trim_end();
        let event: serde_json::Value = serde_json::from_str(data).unwrap();
        assert_eq!((&event["type"], &event["sequence_number"]), (&"response.failed".into(), &8.into()));
        let response = &event["response"];
        assert_eq!([&response["id"], &response["model"], &response["status"]], ["resp_1", "m", "failed"]);
        assert_eq!(
            response["error"],
            serde_json::json!({"code": "stream_interrupted", "message": "so \"it\" is"})
        );
        assert_eq!(response["output"], serde_json::json!([]));
    }
}
