//! `statement`: what an account had, what moved, and what it has.

use std::io::{IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use axum::http::HeaderMap;

use super::client::Taker;
use super::objects::{ACCOUNT, escaped};
use super::part::Part;
use super::{Client, Context, Done, Exit, Failure};

/// Which books of an account, and when.
#[derive(Debug, clap::Args)]
pub struct PeriodArgs {
    /// A year, month or day of the account's zone, such as 2026-11; default: this month.
    #[arg(long, conflicts_with_all = ["from", "to"])]
    period: Option<String>,
    /// First day, such as 2026-11-01.
    #[arg(long, value_name = "DAY", requires = "to")]
    from: Option<String>,
    /// Last day, which belongs to it.
    #[arg(long, value_name = "DAY", requires = "from")]
    to: Option<String>,
    /// The test books.
    #[arg(long)]
    test: bool,
}

impl PeriodArgs {
    /// As a query string, beginning with `?`.
    pub fn query(&self) -> String {
        let environment = if self.test { "test" } else { "live" };
        let named = [("period", &self.period), ("from", &self.from), ("to", &self.to)];
        let given = named.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        let given: String = given.map(|(name, value)| format!("&{name}={}", escaped(value))).collect();
        format!("?environment={environment}{given}")
    }
}

#[derive(Debug, clap::Args)]
pub struct StatementArgs {
    /// Id or e-mail of the account.
    account: String,
    #[command(flatten)]
    period: PeriodArgs,
    /// Every movement, in this format; default: the sums alone, for people.
    #[arg(long, value_parser = ["json", "csv"])]
    format: Option<String>,
    /// Into this file, which is there whole or not at all. One that was interrupted goes on where it was, if the period is over.
    #[arg(long, value_name = "FILE", requires = "format")]
    output: Option<PathBuf>,
}

pub fn statement(context: &mut Context, args: &StatementArgs) -> Done {
    let client = context.client()?;
    let account = ACCOUNT.id(&client, &args.account)?;
    let (path, query) = (format!("/api/accounts/{account}/statement"), args.period.query());
    match args.format.as_deref() {
        Some(format) => {
            let path = format!("{path}{query}&format={format}");
            save(context, &client, &path, args.output.as_deref(), true)
        }
        None => {
            let summary = client.get(&format!("{path}/summary{query}"))?;
            match context.json {
                true => context.out.json(&summary),
                false => context.out.object(&summary),
            }
        }
    }
}

/// To the standard output as it comes, or into a file that is there whole or not at all. `resumes`: whether the route can
/// go on with an answer that was interrupted.
pub(super) fn save(
    context: &mut Context,
    client: &Client,
    path: &str,
    file: Option<&Path>,
    resumes: bool,
) -> Done {
    let (out, err) = context.out.both();
    let is_shown = std::io::stderr().is_terminal() && (file.is_some() || !std::io::stdout().is_terminal());
    let came = Came::new(err, is_shown);
    let Some(file) = file else {
        let mut to = Onward { out, came, written: 0 };
        let done = client.download(path, &mut to);
        to.came.end();
        to.out.flush()?;
        return done.map(|()| Exit::Fine);
    };
    let part = if resumes { Part::open(file)? } else { Part::anew(file)? };
    let rest = part.resume().map(|rest| format!("{path}&resume={}", escaped(&rest)));
    let mut to = Kept { part, came };
    let done = client.download(rest.as_deref().unwrap_or(path), &mut to);
    to.came.end();
    match done {
        Ok(()) => to.part.finish().map(|()| Exit::Fine).map_err(Failure::from),
        Err(failure) if to.part.interrupted()? => {
            let text = format!("{}; the same command goes on from there", failure.text);
            Err(Failure { text, ..failure })
        }
        Err(failure) => Err(failure),
    }
}

/// To whoever reads the standard output.
struct Onward<'a> {
    out: &'a mut dyn Write,
    came: Came<'a>,
    written: u64,
}

impl Taker for Onward<'_> {
    fn begin(&mut self, _: &HeaderMap) -> std::io::Result<()> {
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.out.write_all(bytes)?;
        self.written += bytes.len() as u64;
        self.came.show(self.written);
        Ok(())
    }
}

/// Into a file.
struct Kept<'a> {
    part: Part,
    came: Came<'a>,
}

impl Taker for Kept<'_> {
    fn begin(&mut self, headers: &HeaderMap) -> std::io::Result<()> {
        self.part.begin(headers)
    }

    fn take(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.part.take(bytes)?;
        self.came.show(self.part.written());
        Ok(())
    }
}

/// Time between two looks at how much came.
const LOOK: Duration = Duration::from_millis(150);

/// How much came, on a terminal that shows nothing else.
struct Came<'e> {
    err: &'e mut dyn Write,
    is_shown: bool,
    last: Instant,
}

impl<'e> Came<'e> {
    fn new(err: &'e mut dyn Write, is_shown: bool) -> Self {
        Came { err, is_shown, last: Instant::now() }
    }

    fn show(&mut self, bytes: u64) {
        if self.is_shown && self.last.elapsed() >= LOOK {
            self.last = Instant::now();
            let _shown = write!(self.err, "\r\x1b[K{} KiB", bytes >> 10).and_then(|()| self.err.flush());
        }
    }

    fn end(&mut self) {
        if self.is_shown {
            let _shown = write!(self.err, "\r\x1b[K");
        }
    }
}
