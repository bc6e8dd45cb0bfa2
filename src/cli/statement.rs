//! `statement`: what an account had, what moved, and what it has.

use std::fs::File;
use std::io::{BufWriter, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::objects::{ACCOUNT, escaped};
use super::{Client, Context, Done, Exit};

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
    /// Into this file, which is there whole or not at all.
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
            save(context, &client, &path, args.output.as_deref())
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

/// To the standard output as it comes, or into a file that is there whole or not at all.
pub(super) fn save(context: &mut Context, client: &Client, path: &str, file: Option<&Path>) -> Done {
    let (out, err) = context.out.both();
    let is_shown = std::io::stderr().is_terminal() && (file.is_some() || !std::io::stdout().is_terminal());
    let mut came = Came::new(err, is_shown);
    let Some(file) = file else {
        let done = client.download(path, out, &mut |bytes| came.show(bytes));
        came.end();
        return done.map(|()| Exit::Fine);
    };
    let mut part = file.to_owned().into_os_string();
    part.push(".part");
    let mut to = BufWriter::new(File::create(&part)?);
    let done = client.download(path, &mut to, &mut |bytes| came.show(bytes));
    came.end();
    let done = done.and_then(|()| {
        to.get_ref().sync_all()?;
        Ok(std::fs::rename(&part, file)?)
    });
    if done.is_err() {
        std::fs::remove_file(&part)?;
    }
    done.map(|()| Exit::Fine)
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
