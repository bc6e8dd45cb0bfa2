//! The configuration: one TOML file, the environment, and flags, in this order of strength.
//!
//! For: everything that an operator may set before the start. What changes while the server runs
//! (accounts, prices, channels …) is not here but in the directory.
//! Promises: a setting that is not known, or not possible, is refused with its place; every value
//! can be printed with where it came from; the sample file and the documentation are generated
//! from this list, so they cannot differ from it.
//! Must never: show a secret. Secrets are given directly, or as the path of a file in a setting
//! of the same name with `_file` (environment: `_FILE`) behind it.
//!
//! Names of settings end in their unit: `_ms`, `_bytes`, `_ppm` (millionths), `_days`.

mod field;
mod load;
mod payments;
mod print;
mod schema;

use std::net::SocketAddr;
use std::path::PathBuf;

pub use field::{CopiesTo, EpaySignature, Level, LogFormat, MailTls, PayRates, Ranges};
pub use load::{ConfigError, Origin, Problem, Sources};
pub use print::{reference, sample};

use crate::gateway::bodies::Bodies;
use crate::secret::Secret;
use field::{
    Any, Between, BucketName, DaysKept, Decimal, HexKey, HostName, HttpUrl, Letters, LongEnough, MailFrom,
    PlainPath, PlainWord, PostgresUrl, RsaPrivateKey, RsaPublicKey, RsaPublicKeys, SealKey, TimeZone,
};
use schema::config;

config! {
    /// Where the server is reached.
    server: Server {
        /// Address and port of the API, the pages and the management interface.
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8080)), Any;
        /// Address under which callers reach the server, for links in answers. Not set: built from
        /// `listen` and `tls`.
        public_url: Option<String> = None, HttpUrl;
        /// Worker threads, each with connections of its own. 0: one for each core.
        workers: u16 = 0, Between(0, 1_024);
        /// Proxies in front of the server, as ranges of addresses with commas between them: what they say in
        /// X-Forwarded-For is believed, and the last address that is none of theirs is the caller's.
        trusted_proxies: Ranges = Ranges::default(), Any;
        /// Unix socket for the command line. Not set: `admin.sock` in the data directory.
        admin_socket: Option<PathBuf> = None, Any;
    }
    /// Certificate for HTTPS, PEM files. Set both or none.
    tls: Tls {
        /// Certificate chain, the server's own first.
        cert_file: Option<PathBuf> = None, Any;
        /// Private key of the first certificate.
        key_file: Option<PathBuf> = None, Any;
    }
    /// Where books and settings are kept.
    store: Store {
        /// Folder of the embedded database.
        data_dir: PathBuf = PathBuf::from("tallygate-data"), Any;
        /// PostgreSQL instead of the embedded database, `postgres://user:password@host/database`.
        database_url: Option<Secret> = None, PostgresUrl;
    }
    /// What one caller can demand of the server.
    limits: Limits {
        /// Largest request body; of a form with files, see `upload_bytes_max`.
        request_body_bytes_max: u64 = 10 << 20, Between(1 << 10, 1 << 30);
        /// Largest form with files: a recording to be transcribed, pictures to be edited, references of a video. OpenAI
        /// takes recordings of 25 MB and pictures of 50 MB.
        upload_bytes_max: u64 = 64 << 20, Between(1 << 10, 1 << 30);
        /// Bodies of all requests that are in memory at a time. What does not fit waits for a moment and is refused
        /// then (503); an eighth is there for bodies up to 64 KiB alone. What is sent to an upstream in another form
        /// than it came is a copy beside it.
        request_bodies_bytes_max: u64 = 512 << 20, Between(1 << 20, 1 << 40);
        /// Request line and headers together.
        header_bytes_max: u32 = 32 << 10, Between(8 << 10, 1 << 20);
        /// Time for the headers of a request to arrive.
        header_timeout_ms: u64 = 10_000, Between(100, 600_000);
        /// Time for the body of a request to arrive.
        body_timeout_ms: u64 = 60_000, Between(100, 3_600_000);
        /// Connections open at a time; further ones wait.
        connections_max: u32 = 10_000, Between(1, 1_000_000);
        /// How long an answer is read on after its caller has gone, to learn its usage.
        drain_ms_max: u64 = 60_000, Between(0, 3_600_000);
        /// How much of an answer is read on after its caller has gone.
        drain_bytes_max: u64 = 16 << 20, Between(0, 1 << 30);
        /// A stream in which the upstream is silent for so long is ended.
        stream_idle_timeout_ms: u64 = 300_000, Between(100, 3_600_000);
        /// Time for running calls to end after a stop was asked for.
        shutdown_ms: u64 = 30_000, Between(0, 3_600_000);
    }
    /// What is told before it stops anything.
    alerts: Alerts {
        /// Percent of a budget from which on its use is told, and again at 100. 0: never.
        budget_percent: u32 = 80, Between(0, 100);
    }
    /// How long is kept what is not needed for ever.
    retention: Retention {
        /// Notices, with their delivery logs. 0: for ever.
        notices_days: u32 = 395, DaysKept;
        /// The longest that transcripts of calls are kept, for accounts that want them. 0: none are kept.
        transcripts_days_max: u32 = 30, Between(0, 366);
    }
    /// What a key must not do: a key that does is frozen, with the evidence, until an appeal or an operator lifts that.
    risk: Risk {
        /// Calls of one key in a minute. 0: no such rule.
        calls_per_minute_max: u32 = 0, Any;
        /// Refusals of one key in a minute that are its caller's or its account's fault. 0: no such rule.
        refusals_per_minute_max: u32 = 0, Any;
        /// Calls of one key from two regions within this time. 0: no such rule.
        regions_window_ms: u64 = 0, Between(0, 86_400_000);
        /// Table of regions: lines of `range,region`, such as `192.0.2.0/24,CN`.
        regions_file: Option<PathBuf> = None, Any;
    }
    /// Connections to the models' providers.
    upstream: Upstream {
        /// Time to connect, TLS included.
        connect_timeout_ms: u64 = 5_000, Between(10, 600_000);
        /// Time until an answer begins.
        header_timeout_ms: u64 = 120_000, Between(10, 3_600_000);
        /// Time until an answer has ended.
        total_timeout_ms: u64 = 600_000, Between(10, 86_400_000);
        /// Channels that one call is sent to at the most, while nothing of an answer has come. 1: no second one.
        attempts_max: u32 = 3, Between(1, 10);
        /// Calls that may go to another channel, for each hundred calls: retries must not make an outage larger.
        retry_share_percent: u32 = 20, Between(0, 100);
        /// Failures in a row, of one model of a channel, after which that rests.
        cool_down_failures: u32 = 3, Between(1, 1_000);
        /// How long a channel rests at first; each rest that follows without a success between is twice as long.
        cool_down_ms: u64 = 10_000, Between(10, 3_600_000);
        /// How long it rests at the most, and whenever its account is out of credit or its credential is refused.
        cool_down_ms_max: u64 = 300_000, Between(10, 86_400_000);
        /// Time between two looks at what is left of the platform's credit at upstreams that tell it.
        credit_poll_ms: u64 = 300_000, Between(100, 86_400_000);
        /// Idle connections kept for each provider and worker.
        pool_idle_per_host_max: u32 = 256, Between(0, 100_000);
        /// An idle connection is closed after this time.
        pool_idle_timeout_ms: u64 = 90_000, Between(1, 3_600_000);
        /// Speak HTTP/2 with providers that offer it.
        http2: bool = true, Any;
    }
    /// How much money a call holds while it runs, if its caller set no maximum.
    holds: Holds {
        /// Share of the usable money that one call may hold.
        output_share_ppm: u32 = 250_000, Between(1, 1_000_000);
        /// Output tokens that a call gets beyond its share, as long as the money lasts.
        output_tokens_floor: u32 = 1_000, Between(0, 1_000_000);
        /// A call that cannot be given so many output tokens is refused.
        output_tokens_min: u32 = 16, Between(1, 1_000_000);
    }
    /// The books.
    ledger: Ledger {
        /// Currency of all amounts, three letters. Cannot change once there are books.
        currency: String = "USD".to_owned(), Letters(3);
        /// Time zone in which days and months begin for new accounts, such as `Asia/Shanghai`.
        time_zone: String = "UTC".to_owned(), TimeZone;
        /// Play money that the test book of a new account starts with, as a decimal text.
        test_credit: String = "100".to_owned(), Decimal;
        /// Refunds, compensation and adjustments for one account within a day, in all, that one person may make alone.
        /// What is more waits for a second person.
        approval_above: String = "100".to_owned(), Decimal;
        /// Plain credits, and refunds and completions of orders, for one account within a day, in all, that one person may
        /// make alone.
        /// What is more waits for a second person.
        money_approval_above: String = "10000".to_owned(), Decimal;
        /// Currency in which balances and receipts are shown besides, with what one unit of the ledger currency is worth
        /// in it, such as `CNY=7.25`. Never used for money.
        display_rate: PayRates = PayRates::default(), Any;
    }
    /// How accounts pay. A provider is offered once its settings are there; one whose secret is missing is refused.
    payments: Payments {
        /// Currencies that orders are paid in, each with what one unit of the ledger currency costs in it, such as
        /// `USD=1, CNY=7.25`. Not set: the ledger currency alone.
        rates: PayRates = PayRates::default(), Any;
        /// Least that an order credits.
        order_min: String = "1".to_owned(), Decimal;
        /// Most that an order credits.
        order_max: String = "1000000".to_owned(), Decimal;
        /// Orders of one account that wait for their payment at the same time, at the most.
        open_orders_max: u32 = 50, Between(1, 100_000);
        /// Time in which an order is to be paid. What is paid later is credited all the same.
        order_ttl_ms: u64 = 86_400_000, Between(60_000, 2_592_000_000);
        /// Time after which a provider is asked about an order that it did not call back about; doubled from
        /// time to time up to an hour.
        poll_ms: u64 = 30_000, Between(100, 3_600_000);
        /// Where payers come back to. Not set: the start page.
        return_url: Option<String> = None, HttpUrl;
        /// Offer bank transfers, which an operator completes by hand.
        transfer: bool = false, Any;
        /// What is shown to who pays by bank transfer: bank, holder, account.
        transfer_to: Option<String> = None, Any;
        /// Stripe's secret key, `sk_live_…` or `sk_test_…`.
        stripe_key: Option<Secret> = None, LongEnough(12);
        /// Secret of Stripe's webhook endpoint, `whsec_…`.
        stripe_webhook_secret: Option<Secret> = None, LongEnough(16);
        /// Own account at Stripe, `acct_…`; events of another one are refused.
        stripe_account: Option<String> = None, Any;
        /// How old a signature of Stripe may be.
        stripe_tolerance_ms: u64 = 300_000, Between(1_000, 3_600_000);
        /// Where Stripe's interface is.
        stripe_url: Option<String> = Some("https://api.stripe.com".to_owned()), HttpUrl;
        /// Address of an epay (易支付) platform, up to the folder with its `submit.php`.
        epay_url: Option<String> = None, HttpUrl;
        /// Own merchant number (pid) there.
        epay_merchant: Option<String> = None, Any;
        /// Own key there.
        epay_key: Option<Secret> = None, LongEnough(8);
        /// Currency of amounts there.
        epay_currency: String = "CNY".to_owned(), Letters(3);
        /// How the key stands behind what is signed: appended (the usual way) or key_param (`&key=…`); with _upper the
        /// signature is sent in capital letters.
        epay_signature: EpaySignature = EpaySignature::Appended, Any;
        /// Own app at Alipay (支付宝).
        alipay_app_id: Option<String> = None, Any;
        /// Own private key (应用私钥) of the app.
        alipay_private_key: Option<Secret> = None, RsaPrivateKey;
        /// Alipay's public key (支付宝公钥) of the app; not the own one.
        alipay_public_key: Option<Secret> = None, RsaPublicKey;
        /// Own number as a seller, `2088…`; notices that name another one are refused.
        alipay_seller: Option<String> = None, Any;
        /// Where Alipay's gateway is, up to `/gateway.do`.
        alipay_url: Option<String> = Some("https://openapi.alipay.com".to_owned()), HttpUrl;
        /// Own app at WeChat Pay (微信支付), `wx…`.
        wechat_app_id: Option<String> = None, Any;
        /// Own merchant number (mchid) there.
        wechat_merchant: Option<String> = None, Any;
        /// Number of the own API certificate.
        wechat_serial: Option<String> = None, Any;
        /// Own private key of that certificate (apiclient_key.pem).
        wechat_private_key: Option<Secret> = None, RsaPrivateKey;
        /// The APIv3 key, which opens notices.
        wechat_v3_key: Option<Secret> = None, SealKey;
        /// WeChat Pay's public key, or its certificates one behind the other.
        wechat_platform_key: Option<Secret> = None, RsaPublicKeys;
        /// Number of WeChat Pay's public key, `PUB_KEY_ID_…`. Certificates have theirs in them.
        wechat_platform_id: Option<String> = None, Any;
        /// How old a signature of WeChat Pay may be.
        wechat_tolerance_ms: u64 = 300_000, Between(1_000, 3_600_000);
        /// Where WeChat Pay's interface is.
        wechat_url: Option<String> = Some("https://api.mch.weixin.qq.com".to_owned()), HttpUrl;
    }
    /// Image and video tasks.
    tasks: Tasks {
        /// Time after which an upstream is first asked about a task; later ones come more slowly.
        poll_ms: u64 = 2_000, Between(10, 600_000);
        /// Longest time between two questions about a task.
        poll_ms_max: u64 = 30_000, Between(10, 3_600_000);
        /// A task that is not finished by then ends, and what it held is given back.
        deadline_ms: u64 = 3_600_000, Between(1_000, 604_800_000);
        /// Time after which a task about whose submission the upstream's answer was lost is looked for there.
        unconfirmed_ms: u64 = 60_000, Between(100, 3_600_000);
        /// Longest time that one look at a task takes. What a process that died was looking at waits for so long.
        lease_ms: u64 = 60_000, Between(1_000, 600_000);
        /// Within this time, an identical submission gets the first one's task.
        duplicate_ms: u64 = 60_000, Between(0, 86_400_000);
        /// Time for which results are kept that came with an upstream's answer: pictures.
        result_kept_ms: u64 = 86_400_000, Between(60_000, 2_592_000_000);
    }
    /// Copies of what tasks made, sealed, in storage of your own: they stay when an upstream has forgotten the result.
    copies: Copies {
        /// none, disk (`dir`) or s3 (the settings of that name). Copies that are there already are read and removed where
        /// they are, as long as the settings of that place stay.
        to: CopiesTo = CopiesTo::None, Any;
        /// Time for which a copy is kept, from when it was made.
        kept_days: u32 = 30, Between(1, 3_650);
        /// Larger results are not copied.
        bytes_max: u64 = 1 << 30, Between(1 << 10, 64 << 30);
        /// Results that are copied at a time; each takes 9 MiB of memory.
        at_a_time: u32 = 2, Between(1, 64);
        /// Folder for copies on disk. Nodes that share a database must share it.
        dir: Option<PathBuf> = None, Any;
        /// Where S3, or storage that speaks like it, is: `https://s3.eu-central-1.amazonaws.com`.
        s3_endpoint: Option<String> = None, HttpUrl;
        /// Region that calls are signed for.
        s3_region: String = "us-east-1".to_owned(), PlainWord;
        /// Bucket for copies. It must be there already.
        s3_bucket: Option<String> = None, BucketName;
        /// What the name of every object begins with, such as `tallygate/copies`.
        s3_prefix: String = String::new(), PlainPath;
        /// Whether the bucket stands in the path (`https://host/bucket/…`) and not in the host's name.
        s3_path_style: bool = true, Any;
        /// Id of the access key. It needs to get, put and delete objects.
        s3_access_key_id: Option<String> = None, Any;
        /// Secret of the access key.
        s3_secret_access_key: Option<Secret> = None, LongEnough(8);
    }
    /// What the server writes about itself.
    log: Log {
        /// error, warn, info, debug or trace.
        level: Level = Level::Info, Any;
        /// text or json.
        format: LogFormat = LogFormat::Text, Any;
    }
    /// The mail server through which notices are sent. Without a host there are no mails.
    mail: Mail {
        /// Its name. Its certificate must carry it.
        host: Option<String> = None, HostName;
        /// Its port: usually 587 for `starttls`, 465 for `tls`.
        port: u16 = 587, Between(1, u16::MAX);
        /// Sender of every mail.
        from: Option<String> = None, MailFrom;
        /// Name to sign in with. Set both user and password, or none.
        user: Option<String> = None, Any;
        /// Password to sign in with.
        password: Option<Secret> = None, Any;
        /// none, starttls (required, not merely tried) or tls (from the first byte on).
        tls: MailTls = MailTls::Starttls, Any;
    }
    /// The management interface.
    admin: Admin {
        /// Token for the management interface over the network. Not set: it is reached through the
        /// admin socket alone.
        token: Option<Secret> = None, LongEnough(16);
    }
    /// Secrets that others are protected with.
    secrets: Secrets {
        /// Key that encrypts the credentials of channels: 64 hexadecimal digits, as
        /// `openssl rand -hex 32` makes them.
        master_key: Option<Secret> = None, HexKey;
    }
}

impl Config {
    /// Where callers reach the server, without a slash at the end; see [`Config::public_url_at`].
    pub fn public_url(&self) -> String {
        self.public_url_at(self.server.listen)
    }

    /// The same, once the server is bound: `listen` may leave the port to the system. An address
    /// that stands for every one of the machine's cannot be called, so links say `localhost`.
    pub fn public_url_at(&self, bound: SocketAddr) -> String {
        if let Some(url) = &self.server.public_url {
            return url.trim_end_matches('/').to_owned();
        }
        let scheme = if self.tls.cert_file.is_some() { "https" } else { "http" };
        match bound.ip().is_unspecified() {
            true => format!("{scheme}://localhost:{}", bound.port()),
            false => format!("{scheme}://{bound}"),
        }
    }

    /// The admin socket, by default inside the data directory.
    pub fn admin_socket(&self) -> PathBuf {
        self.server.admin_socket.clone().unwrap_or_else(|| self.store.data_dir.join("admin.sock"))
    }

    /// What no setting can be refused for alone.
    fn check_together(&self) -> Result<(), (&'static str, &'static str, String)> {
        if self.tls.cert_file.is_some() != self.tls.key_file.is_some() {
            let missing = if self.tls.cert_file.is_some() { "key_file" } else { "cert_file" };
            return Err(("tls", missing, "is needed too: certificate and key belong together".to_owned()));
        }
        self.payments.check(&self.public_url())?;
        if self.ledger.display_rate.0.len() > 1 {
            return Err(("ledger", "display_rate", "names more than one currency".to_owned()));
        }
        if self.upstream.header_timeout_ms > self.upstream.total_timeout_ms {
            let text = "is shorter than upstream.header_timeout_ms".to_owned();
            return Err(("upstream", "total_timeout_ms", text));
        }
        self.limits.check()?;
        if self.upstream.cool_down_ms > self.upstream.cool_down_ms_max {
            let text = "is shorter than upstream.cool_down_ms".to_owned();
            return Err(("upstream", "cool_down_ms_max", text));
        }
        self.copies.check()?;
        self.mail.check()
    }
}

impl Copies {
    fn check(&self) -> Result<(), (&'static str, &'static str, String)> {
        let missing = |fields: &[(&'static str, bool)]| {
            let missing = fields.iter().find(|(_, is_set)| !is_set);
            missing.map(|(field, _)| ("copies", *field, "is needed where copies are kept".to_owned()))
        };
        let missing = match self.to {
            CopiesTo::None => None,
            CopiesTo::Disk => missing(&[("dir", self.dir.is_some())]),
            CopiesTo::S3 => missing(&[
                ("s3_endpoint", self.s3_endpoint.is_some()),
                ("s3_bucket", self.s3_bucket.is_some()),
                ("s3_access_key_id", self.s3_access_key_id.is_some()),
                ("s3_secret_access_key", self.s3_secret_access_key.is_some()),
            ]),
        };
        missing.map_or(Ok(()), Err)
    }
}

impl Limits {
    fn check(&self) -> Result<(), (&'static str, &'static str, String)> {
        let largest = self.upload_bytes_max.max(self.request_body_bytes_max);
        if largest > Bodies::largest(self.request_bodies_bytes_max) {
            let text = format!("has no room for a body of {largest} bytes beside the eighth for small ones");
            return Err(("limits", "request_bodies_bytes_max", text));
        }
        Ok(())
    }
}

impl Mail {
    /// Whether mails can be sent.
    pub fn is_configured(&self) -> bool {
        self.host.is_some()
    }

    fn check(&self) -> Result<(), (&'static str, &'static str, String)> {
        let refuse = |field, why: &str| Err(("mail", field, why.to_owned()));
        if self.host.is_some() != self.from.is_some() {
            let missing = if self.host.is_some() { "from" } else { "host" };
            return refuse(missing, "is needed too: mail has a server and a sender");
        }
        if self.user.is_some() != self.password.is_some() {
            let missing = if self.user.is_some() { "password" } else { "user" };
            return refuse(missing, "is needed too: user and password belong together");
        }
        if self.user.is_some() && self.tls == MailTls::None {
            return refuse("tls", "must not be none where a password is sent");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
