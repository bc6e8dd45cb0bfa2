//! Configuration by file and environment, as an operator meets it.

use super::*;

fn env(list: &[(&str, &str)]) -> Sources {
    let env = list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Sources { env, ..Sources::default() }
}

fn file(dir: &tempfile::TempDir, text: &str) -> Sources {
    let path = dir.path().join("tallygate.toml");
    std::fs::write(&path, text).unwrap();
    Sources { file: Some(path), ..Sources::default() }
}

fn problems(sources: &Sources) -> Vec<String> {
    let error = Config::load(sources).unwrap_err();
    let name = |problem: &Problem| {
        let place = problem.place.rsplit('/').next().unwrap().to_owned();
        format!("{place}: {}", problem.text)
    };
    error.problems.iter().map(name).collect()
}

#[test]
fn flags_are_stronger_than_the_environment_and_that_than_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut sources =
        file(&dir, "[server]\nlisten = \"0.0.0.0:1\"\nworkers = 2\n\n[limits]\nshutdown_ms = 5_000\n");
    sources.env = vec![
        ("TALLYGATE_SERVER__LISTEN".into(), "0.0.0.0:2".into()),
        ("TALLYGATE_SERVER__WORKERS".into(), "3".into()),
        ("PATH".into(), "/bin".into()),
    ];
    sources.flags = vec![("server.listen", "0.0.0.0:3".into())];
    let config = Config::load(&sources).unwrap();
    assert_eq!(config.server.listen.port(), 3);
    assert_eq!((config.server.workers, config.limits.shutdown_ms), (3, 5_000));
    assert_eq!(config.origin("server", "listen"), Origin::Flag);
    assert_eq!(config.origin("server", "workers"), Origin::Env("TALLYGATE_SERVER__WORKERS".into()));
    assert_eq!(config.origin("limits", "shutdown_ms"), Origin::File { line: 6 });
    assert_eq!(config.origin("log", "level"), Origin::Default);
}

/// S25: nothing that is not understood is passed over; all of it is told at once, with its place.
#[test]
fn unknown_settings_are_refused_with_their_place() {
    let dir = tempfile::tempdir().unwrap();
    let mut sources = file(
        &dir,
        "listen = \"x\"\n[server]\nlisen = \"127.0.0.1:1\"\n[servers]\n[log]\nlevel = \"loud\"\nformat = 7\n",
    );
    sources.env = vec![
        ("TALLYGATE_LIMITS__BODY_BYTES".into(), "1".into()),
        ("TALLYGATE_LIMITS_SHUTDOWN_MS".into(), "1".into()),
        ("TALLYGATE_SOMETHING_ELSE".into(), "1".into()),
    ];
    let mut found = problems(&sources);
    found.sort();
    let expected = [
        "TALLYGATE_LIMITS_SHUTDOWN_MS: between section and field stand two underscores: TALLYGATE_LIMITS__…",
        "TALLYGATE_LIMITS__BODY_BYTES: there is no setting limits.body_bytes",
        "tallygate.toml:1: listen must be inside of a section, such as [server]",
        "tallygate.toml:3: there is no setting server.lisen; did you mean server.listen?",
        "tallygate.toml:4: there is no section [servers]; known: server, tls, store, limits, alerts, retention, risk, upstream, holds, \
         ledger, payments, tasks, copies, log, mail, admin, secrets",
        "tallygate.toml:6: log.level: expected error, warn, info, debug, trace",
        "tallygate.toml:7: log.format: expected a text in quotes",
    ];
    assert_eq!(found, expected);
}

#[test]
fn impossible_values_are_refused() {
    let table = [
        (
            "SERVER__LISTEN",
            "localhost",
            "server.listen: expected an address with a port, such as 127.0.0.1:8080",
        ),
        (
            "SERVER__PUBLIC_URL",
            "ai.example.org",
            "server.public_url: expected an address that begins with http:// or https://",
        ),
        ("SERVER__WORKERS", "2000", "server.workers: expected 0 to 1024"),
        ("SERVER__WORKERS", "-1", "server.workers: expected a whole number from 0 to 65535"),
        ("LIMITS__REQUEST_BODY_BYTES_MAX", "1", "limits.request_body_bytes_max: expected 1024 to 1073741824"),
        ("UPSTREAM__HTTP2", "yes", "upstream.http2: expected true or false"),
        ("LEDGER__CURRENCY", "usd", "ledger.currency: expected 3 capital letters"),
        (
            "LEDGER__TIME_ZONE",
            "Mars/Olympus",
            "ledger.time_zone: expected a time zone of the IANA database, such as Asia/Shanghai",
        ),
        (
            "LEDGER__TEST_CREDIT",
            "-1",
            "ledger.test_credit: expected a decimal amount of at least 0, with at most nine places",
        ),
        ("STORE__DATA_DIR", "", "store.data_dir: expected a path"),
        (
            "STORE__DATABASE_URL",
            "mysql://x",
            "store.database_url: expected an address that begins with postgres:// or postgresql://",
        ),
        ("ADMIN__TOKEN", "short", "admin.token: expected at least 16 characters"),
        ("SECRETS__MASTER_KEY", "00", "secrets.master_key: expected 64 hexadecimal digits"),
    ];
    for (name, value, expected) in table {
        let name = format!("TALLYGATE_{name}");
        assert_eq!(problems(&env(&[(&name, value)])), [format!("{name}: {expected}")]);
    }
    assert_eq!(
        problems(&env(&[("TALLYGATE_TLS__CERT_FILE", "cert.pem")])),
        ["tls.key_file: is needed too: certificate and key belong together"]
    );
    assert_eq!(
        problems(&env(&[("TALLYGATE_UPSTREAM__TOTAL_TIMEOUT_MS", "100")])),
        ["upstream.total_timeout_ms: is shorter than upstream.header_timeout_ms"]
    );
}

#[test]
fn bodies_of_all_requests_have_room_for_the_largest() {
    let small = env(&[("TALLYGATE_LIMITS__REQUEST_BODIES_BYTES_MAX", "67108864")]);
    assert_eq!(
        problems(&small),
        [
            "limits.request_bodies_bytes_max: has no room for a body of 67108864 bytes beside the eighth for small ones"
        ]
    );
}

/// S37: a provider without its secret would take anybody's word for money, so nothing starts with one.
#[test]
fn s37_a_payment_provider_without_its_secret_is_refused() {
    let stripe = ("TALLYGATE_PAYMENTS__STRIPE_KEY", "sk_live_0123456789");
    let secret = |text| ("TALLYGATE_PAYMENTS__STRIPE_WEBHOOK_SECRET", text);
    assert_eq!(
        problems(&env(&[stripe])),
        ["payments.stripe_webhook_secret: is needed too: stripe_key is set"]
    );
    for empty in ["", "short"] {
        assert_eq!(
            problems(&env(&[stripe, secret(empty)])),
            [
                "TALLYGATE_PAYMENTS__STRIPE_WEBHOOK_SECRET: payments.stripe_webhook_secret: expected at least 16 characters"
            ]
        );
    }
    let public = ("TALLYGATE_SERVER__PUBLIC_URL", "https://api.example.org");
    assert!(Config::load(&env(&[stripe, secret("whsec_0123456789abcdef"), public])).is_ok());
    let epay = [
        ("TALLYGATE_PAYMENTS__EPAY_URL", "https://pay.example.org"),
        ("TALLYGATE_PAYMENTS__EPAY_MERCHANT", "1001"),
        ("TALLYGATE_PAYMENTS__EPAY_KEY", "0123456789abcdef"),
    ];
    let key = crate::demo::payments::merchant_key();
    let public_key = rcgen::KeyPair::from_pem_and_sign_algo(key.expose(), &rcgen::PKCS_RSA_SHA256).unwrap();
    let public_key = public_key.public_key_pem();
    let alipay = [
        ("TALLYGATE_PAYMENTS__ALIPAY_APP_ID", "2021000000000001"),
        ("TALLYGATE_PAYMENTS__ALIPAY_PRIVATE_KEY", key.expose()),
        ("TALLYGATE_PAYMENTS__ALIPAY_PUBLIC_KEY", &public_key),
    ];
    let wechat = [
        ("TALLYGATE_PAYMENTS__WECHAT_APP_ID", "wx0000000000000001"),
        ("TALLYGATE_PAYMENTS__WECHAT_MERCHANT", "1900000001"),
        ("TALLYGATE_PAYMENTS__WECHAT_SERIAL", "5157F09EFDC096DE15EBE81A47057A72"),
        ("TALLYGATE_PAYMENTS__WECHAT_PRIVATE_KEY", key.expose()),
        ("TALLYGATE_PAYMENTS__WECHAT_V3_KEY", "an-api-v3-key-has-32-bytes-as-is"),
        ("TALLYGATE_PAYMENTS__WECHAT_PLATFORM_KEY", &public_key),
        ("TALLYGATE_PAYMENTS__WECHAT_PLATFORM_ID", "PUB_KEY_ID_1"),
    ];
    for provider in [&epay[..], &alipay[..], &wechat[..]] {
        let field = |at: usize| provider[at].0.rsplit("__").next().unwrap().to_lowercase();
        for missing in 0..provider.len() {
            let given: Vec<_> =
                (0..provider.len()).filter(|at| *at != missing).map(|at| provider[at]).collect();
            let first = field(usize::from(missing == 0));
            let text = format!("payments.{}: is needed too: {first} is set", field(missing));
            assert_eq!(problems(&env(&given)), [text]);
        }
        assert!(Config::load(&env(&[provider, &[public]].concat())).is_ok());
    }
    for (at, expected) in [(1, "an RSA private key"), (2, "an RSA public key")] {
        let mut wrong = alipay;
        wrong[at].1 = "MIIB";
        let told = problems(&env(&wrong));
        assert!(told[0].contains(expected) && !told[0].contains("MIIB"), "{told:?}");
    }
    let rates = |text| problems(&env(&[("TALLYGATE_PAYMENTS__RATES", text)]));
    for wrong in ["CNY", "cny=7", "CNY=0", "CNY=-1", "CNY=7.1234567"] {
        assert!(rates(wrong)[0].contains("expected currencies with rates above zero"), "{wrong}");
    }
}

/// S38 begins here: a provider that is told an address that it cannot call will never call back.
#[test]
fn s38_an_address_that_a_provider_cannot_call_is_refused() {
    let stripe = [
        ("TALLYGATE_PAYMENTS__STRIPE_KEY", "sk_live_0123456789"),
        ("TALLYGATE_PAYMENTS__STRIPE_WEBHOOK_SECRET", "whsec_0123456789abcdef"),
    ];
    let told = |url| {
        let sources = env(&[stripe[0], stripe[1], ("TALLYGATE_SERVER__PUBLIC_URL", url)]);
        Config::load(&sources).map(drop).map_err(|error| error.problems[0].to_owned().text)
    };
    for near in [
        "https://localhost",
        "http://127.0.0.1:8080",
        "https://10.1.2.3",
        "https://[::1]:1",
        "http://0.0.0.0",
    ] {
        assert!(told(near).unwrap_err().contains("cannot be reached from the internet"), "{near}");
    }
    assert!(told("http://api.example.org").unwrap_err().contains("https://: stripe calls back at"));
    assert!(told("https://api.example.org/?a=1").unwrap_err().contains("has a query"));
    assert_eq!(told("https://api.example.org"), Ok(()));
    assert_eq!(told("https://api.example.org/gateway"), Ok(()));
    // Nobody has said where this is.
    assert_eq!(problems(&env(&stripe))[0].split(' ').next(), Some("server.public_url:"));
    // A simulated provider on this machine may call here.
    let near = ("TALLYGATE_PAYMENTS__STRIPE_URL", "http://127.0.0.1:9");
    assert!(Config::load(&env(&[stripe[0], stripe[1], near])).is_ok());
}

#[test]
fn a_file_that_is_no_toml_is_refused_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let found = problems(&file(&dir, "[server]\nworkers = = 2\n"));
    assert!(found[0].starts_with("tallygate.toml:2: "), "{found:?}");
    let missing = Sources { file: Some(dir.path().join("none.toml")), ..Sources::default() };
    assert!(problems(&missing)[0].starts_with("none.toml: cannot be read: "));
}

#[test]
fn secrets_come_from_files_too_and_are_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "a-token-of-length-24-abc\n").unwrap();
    let token = token.to_str().unwrap();
    let from_env = env(&[
        ("TALLYGATE_ADMIN__TOKEN_FILE", token),
        ("TALLYGATE_STORE__DATABASE_URL", "postgres://u:hunter2@db/x"),
    ]);
    let from_file = file(&dir, &format!("[admin]\ntoken_file = {token:?}\n"));
    for sources in [&from_env, &from_file] {
        let config = Config::load(sources).unwrap();
        assert_eq!(config.admin.token.as_ref().unwrap().expose(), "a-token-of-length-24-abc");
        let shown = config.print_effective() + &format!("{config:?}");
        assert!(!shown.contains("a-token") && !shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("token = \"[hidden]\""));
    }
    let both = env(&[
        ("TALLYGATE_ADMIN__TOKEN", "a-token-of-length-24-abc"),
        ("TALLYGATE_ADMIN__TOKEN_FILE", token),
    ]);
    assert_eq!(problems(&both), ["TALLYGATE_ADMIN__TOKEN_FILE: TALLYGATE_ADMIN__TOKEN sets the same"]);
    let both =
        file(&dir, &format!("[admin]\ntoken = \"a-token-of-length-24-abc\"\ntoken_file = {token:?}\n"));
    assert_eq!(problems(&both), ["tallygate.toml:3: admin.token and admin.token_file are both set"]);
    let missing = env(&[("TALLYGATE_ADMIN__TOKEN_FILE", "/nowhere/token")]);
    assert!(problems(&missing)[0].contains("the file /nowhere/token cannot be read"));
}

#[test]
fn what_is_printed_can_be_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let printed =
        Config::load(&env(&[("TALLYGATE_HOLDS__OUTPUT_SHARE_PPM", "7")])).unwrap().print_effective();
    assert!(printed.contains("output_share_ppm = 7  # environment, TALLYGATE_HOLDS__OUTPUT_SHARE_PPM\n"));
    assert!(printed.contains("output_tokens_min = 16  # default\n"));
    assert!(printed.contains("# database_url is not set  # default\n"));
    assert_eq!(Config::load(&file(&dir, &printed)).unwrap().holds.output_share_ppm, 7);
}

/// The sample sets every default to itself. `UPDATE=1` writes the generated files anew.
#[test]
fn the_committed_sample_and_reference_are_generated() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    for (name, text) in [("tallygate.example.toml", sample()), ("docs/configuration.md", reference())] {
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(root.join(name), &text).unwrap();
        }
        let committed = std::fs::read_to_string(root.join(name)).unwrap();
        assert!(committed == text, "run the tests once with UPDATE=1 and commit {name}");
    }
    let dir = tempfile::tempdir().unwrap();
    let loaded = Config::load(&file(&dir, &sample())).unwrap();
    let values = |config: &Config| {
        let text = config.print_effective();
        text.lines().map(|line| line.split("  # ").next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(values(&loaded), values(&Config::default()));
    assert_eq!(loaded.origin("server", "listen"), Origin::File { line: 9 });
}

#[test]
fn links_and_socket_follow_from_other_settings() {
    let config = Config::load(&env(&[("TALLYGATE_STORE__DATA_DIR", "/data")])).unwrap();
    assert_eq!(config.public_url(), "http://127.0.0.1:8080");
    assert_eq!(config.admin_socket(), PathBuf::from("/data/admin.sock"));
    let secure = [("TALLYGATE_TLS__CERT_FILE", "c"), ("TALLYGATE_TLS__KEY_FILE", "k")];
    assert_eq!(Config::load(&env(&secure)).unwrap().public_url(), "https://127.0.0.1:8080");
    assert_eq!(config.public_url_at(SocketAddr::from(([0, 0, 0, 0], 81))), "http://localhost:81");
    assert_eq!(config.public_url_at(SocketAddr::from(([0; 16], 82))), "http://localhost:82");
    let named = env(&[("TALLYGATE_SERVER__PUBLIC_URL", "https://ai.example.org/")]);
    assert_eq!(Config::load(&named).unwrap().public_url(), "https://ai.example.org");
}

#[test]
fn i3_mail_has_a_server_and_a_sender_and_never_shows_its_password() {
    let host = ("TALLYGATE_MAIL__HOST", "mail.example.com");
    let from = ("TALLYGATE_MAIL__FROM", "Tallygate <no-reply@example.com>");
    let user = ("TALLYGATE_MAIL__USER", "tallygate");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("password");
    std::fs::write(&path, "hunter2-of-the-mail\n").unwrap();
    let password = ("TALLYGATE_MAIL__PASSWORD_FILE", path.to_str().unwrap());
    assert!(!Config::load(&env(&[])).unwrap().mail.is_configured());
    let config = Config::load(&env(&[host, from, user, password])).unwrap();
    assert!(config.mail.is_configured());
    assert_eq!(config.mail.password.as_ref().unwrap().expose(), "hunter2-of-the-mail");
    assert!(!format!("{}{config:?}", config.print_effective()).contains("hunter2"));
    let cases = [
        (vec![host], "mail.from: is needed too"),
        (vec![from], "mail.host: is needed too"),
        (vec![host, from, user], "mail.password: is needed too"),
        (vec![host, from, user, password, ("TALLYGATE_MAIL__TLS", "none")], "mail.tls: must not be none"),
        (
            vec![host, ("TALLYGATE_MAIL__FROM", "nobody")],
            "TALLYGATE_MAIL__FROM: mail.from: expected a mail address",
        ),
        (
            vec![("TALLYGATE_MAIL__HOST", "mail:25/x"), from],
            "TALLYGATE_MAIL__HOST: mail.host: expected the name",
        ),
    ];
    for (set, problem) in cases {
        let found = problems(&env(&set));
        assert!(found[0].starts_with(problem), "{found:?}");
    }
}

#[test]
fn g1_copies_have_all_that_their_storage_needs_and_never_show_its_secret() {
    let to = |what| ("TALLYGATE_COPIES__TO", what);
    let s3 = [
        to("s3"),
        ("TALLYGATE_COPIES__S3_ENDPOINT", "http://127.0.0.1:9000"),
        ("TALLYGATE_COPIES__S3_BUCKET", "results"),
        ("TALLYGATE_COPIES__S3_ACCESS_KEY_ID", "id"),
        ("TALLYGATE_COPIES__S3_SECRET_ACCESS_KEY", "hunter2-of-the-bucket"),
    ];
    let config = Config::load(&env(&s3)).unwrap();
    assert_eq!(config.copies.to, CopiesTo::S3);
    assert!(!format!("{}{config:?}", config.print_effective()).contains("hunter2"));
    let without = |left_out: usize| {
        let set: Vec<_> = (0..s3.len()).filter(|at| *at != left_out).map(|at| s3[at]).collect();
        problems(&env(&set))
    };
    for (left_out, field) in [(1, "endpoint"), (2, "bucket"), (3, "access_key_id"), (4, "secret_access_key")]
    {
        let problem = format!("copies.s3_{field}: is needed where copies are kept");
        assert!(without(left_out)[0].starts_with(&problem), "{:?}", without(left_out));
    }
    assert!(problems(&env(&[to("disk")]))[0].starts_with("copies.dir: is needed"));
    for (field, value) in
        [("S3_PREFIX", "a/../b"), ("S3_PREFIX", "a//b"), ("S3_BUCKET", "Results/x"), ("TO", "tape")]
    {
        let name = format!("TALLYGATE_COPIES__{field}");
        let found = problems(&env(&[(&name, value)]));
        assert!(found[0].contains(": expected "), "{found:?}");
    }
}
