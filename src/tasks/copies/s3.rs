//! Copies in a bucket of S3 or of storage that speaks like it.
//!
//! A copy is as many plain objects as it has parts: `<name>.0`, `<name>.1` … . Each is put whole, so that a part is there
//! or not, and no upload can be left open; how many there can be is in the copy's row.
//!
//! Promises: every call is signed (SigV4), for a few minutes; what is refused is told with the storage's own code.
//! Must never: show the secret.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Uri, header};
use jiff::Timestamp;
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};

use super::storage::Fault;
use crate::clock::{Clock, SystemClock};
use crate::config;
use crate::gateway::upstream::{Answer, Call, Collected, Target, Upstreams};

/// What is put to see whether it comes back. Always under one name: what a crash leaves of it is removed by the next one.
const PROBE: &[u8] = b"tallygate";
const PROBE_NAME: &str = "probe";
/// How long a signature is good for.
const SIGNED_FOR: Duration = Duration::from_secs(300);
/// Of the storage's words about a refusal so much is read.
const WORDS_BYTES_MAX: usize = 8 << 10;
/// Longest code of a refusal that is told.
const CODE_BYTES_MAX: usize = 64;

/// See the module.
pub struct S3 {
    bucket: Bucket,
    credentials: Credentials,
    target: Target,
    prefix: String,
}

impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3({} in {:?})", self.bucket.name(), self.target)
    }
}

impl S3 {
    /// The error says what is wrong with the settings. `None`: they name no bucket.
    pub fn open(settings: &config::Copies) -> Result<Option<Self>, String> {
        let (Some(endpoint), Some(bucket), Some(id), Some(secret)) = (
            &settings.s3_endpoint,
            &settings.s3_bucket,
            &settings.s3_access_key_id,
            &settings.s3_secret_access_key,
        ) else {
            return Ok(None);
        };
        let style = if settings.s3_path_style { UrlStyle::Path } else { UrlStyle::VirtualHost };
        let endpoint = endpoint.parse().map_err(|why| format!("its address: {why}"))?;
        let bucket = Bucket::new(endpoint, style, bucket.clone(), settings.s3_region.clone());
        let bucket = bucket.map_err(|why| format!("its address and bucket: {why}"))?;
        let origin = bucket.base_url().origin().ascii_serialization();
        let target = Target::parse(&origin).map_err(|why| format!("its address: {why}"))?;
        let prefix = match settings.s3_prefix.trim_matches('/') {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        let credentials = Credentials::new(id.clone(), secret.expose());
        Ok(Some(S3 { bucket, credentials, target, prefix }))
    }

    fn key(&self, name: &str, part: u32) -> String {
        format!("{}{name}.{part}", self.prefix)
    }

    pub async fn put(&self, via: &Upstreams, name: &str, part: u32, bytes: Bytes) -> Result<(), Fault> {
        let key = self.key(name, part);
        let url = signed(&self.bucket.put_object(Some(&self.credentials), &key));
        let kind = HeaderValue::from_static("application/octet-stream");
        let answer = self.call(via, Method::PUT, &url, &[(header::CONTENT_TYPE, kind)], bytes).await?;
        accepted(answer).await.map(drop)
    }

    pub async fn get(&self, via: &Upstreams, name: &str, part: u32) -> Result<Answer, Fault> {
        let key = self.key(name, part);
        let url = signed(&self.bucket.get_object(Some(&self.credentials), &key));
        let answer = self.call(via, Method::GET, &url, &[], Bytes::new()).await?;
        match answer.status.as_u16() {
            200 => Ok(answer),
            _ => match refused(answer).await {
                (404, code) if code != "NoSuchBucket" => Err(Fault::Vanished),
                (status, code) => Err(told(status, &code)),
            },
        }
    }

    /// What is not there is removed already.
    pub async fn remove(&self, via: &Upstreams, name: &str, parts: u32) -> Result<(), Fault> {
        for part in 0..parts {
            let key = self.key(name, part);
            let url = signed(&self.bucket.delete_object(Some(&self.credentials), &key));
            let answer = self.call(via, Method::DELETE, &url, &[], Bytes::new()).await?;
            match accepted(answer).await {
                Ok(()) | Err(Fault::Vanished) => {}
                Err(why) => return Err(why),
            }
        }
        Ok(())
    }

    /// Whether the bucket is there and the credentials may do what is needed, and no more than that: put an object, get it
    /// and delete it.
    pub async fn check(&self, via: &Upstreams) -> Result<(), Fault> {
        let cannot = |what: &str, why: &Fault| match why {
            Fault::Unavailable(why) => Fault::Unavailable(format!("no object can be {what} ({why})")),
            Fault::Vanished | Fault::Damaged => {
                Fault::Unavailable(format!("what was put is not {what} again"))
            }
        };
        let put = self.put(via, PROBE_NAME, 0, Bytes::from_static(PROBE)).await;
        put.map_err(|why| cannot("put", &why))?;
        let got = self.get_whole(via, PROBE_NAME).await;
        let removed = self.remove(via, PROBE_NAME, 1).await;
        let got = match got {
            Ok(got) if got != PROBE => Err(Fault::Damaged),
            // Another one that is at it was faster.
            Ok(_) | Err(Fault::Vanished) => Ok(()),
            Err(why) => Err(why),
        };
        got.map_err(|why| cannot("got", &why))?;
        removed.map_err(|why| cannot("deleted", &why))
    }

    async fn get_whole(&self, via: &Upstreams, name: &str) -> Result<Bytes, Fault> {
        let mut answer = self.get(via, name, 0).await?;
        match answer.body.collect(WORDS_BYTES_MAX).await {
            Ok(Collected::Whole(body)) => Ok(body),
            Ok(Collected::Begun(_)) => Err(Fault::Damaged),
            Err(why) => Err(Fault::Unavailable(why.to_string())),
        }
    }

    async fn call(
        &self,
        via: &Upstreams,
        method: Method,
        url: &Uri,
        headers: &[(HeaderName, HeaderValue)],
        body: Bytes,
    ) -> Result<Answer, Fault> {
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        let call = Call { target: &self.target, method, path, headers, body };
        via.send(call).await.map_err(|why| Fault::Unavailable(format!("the storage was not reached: {why}")))
    }
}

/// The storage goes by the time of day, whatever a test's clock says.
fn signed<'a>(action: &impl S3Action<'a>) -> Uri {
    let now = Timestamp::from_millisecond(SystemClock.now_ms()).unwrap_or(Timestamp::UNIX_EPOCH);
    let url = action.sign_with_time(SIGNED_FOR, &now);
    Uri::try_from(url.as_str()).unwrap_or_default()
}

/// Reads the answer away, so that its connection is used again.
async fn accepted(mut answer: Answer) -> Result<(), Fault> {
    if answer.status.is_success() {
        let _body = answer.body.collect(WORDS_BYTES_MAX).await;
        return Ok(());
    }
    match refused(answer).await {
        (404, code) if code == "NoSuchKey" => Err(Fault::Vanished),
        (status, code) => Err(told(status, &code)),
    }
}

/// Status and code, such as `SignatureDoesNotMatch`.
async fn refused(mut answer: Answer) -> (u16, String) {
    let status = answer.status.as_u16();
    let Ok(Collected::Whole(words)) = answer.body.collect(WORDS_BYTES_MAX).await else {
        return (status, String::new());
    };
    let words = String::from_utf8_lossy(&words);
    let code = words.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    let is_code =
        |code: &&str| code.len() <= CODE_BYTES_MAX && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (status, code.map(|(code, _)| code).filter(is_code).unwrap_or_default().to_owned())
}

fn told(status: u16, code: &str) -> Fault {
    Fault::Unavailable(match code {
        "" => format!("the storage answered with {status}"),
        code => format!("the storage answered with {status} {code}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    #[test]
    fn a_bucket_is_shown_without_its_secret() {
        let settings = config::Copies {
            s3_endpoint: Some("http://127.0.0.1:9000".to_owned()),
            s3_bucket: Some("results".to_owned()),
            s3_prefix: "/a/b/".to_owned(),
            s3_access_key_id: Some("id".to_owned()),
            s3_secret_access_key: Some(Secret::new("hunter2-hunter2")),
            ..config::Copies::default()
        };
        let s3 = S3::open(&settings).unwrap().unwrap();
        assert_eq!(format!("{s3:?}"), "S3(results in Target(http://127.0.0.1:9000))");
        let key = s3.key("task_1-0-2", 3);
        assert_eq!(key, "a/b/task_1-0-2.3");
        let url = signed(&s3.bucket.get_object(Some(&s3.credentials), &key));
        assert_eq!(url.path(), "/results/a/b/task_1-0-2.3");
        assert!(!url.to_string().contains("hunter2"), "{url}");
        let virtual_host = config::Copies { s3_path_style: false, ..settings };
        assert!(S3::open(&virtual_host).unwrap_err().contains("bucket"), "an address has no names below it");
    }
}
