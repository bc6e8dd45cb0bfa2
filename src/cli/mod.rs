//! The command line.
//!
//! Promises: a command gives the same answer whether a server holds the data directory or not, because it
//! calls the same routes – over the server's admin socket, or in its own process; there is never a second
//! writer. Exit codes: 0 fine, 1 the answer is "no" or a finding, 2 wrong usage, 3 could not answer.
//! Must never: take a secret as an argument where a variable or the standard input will do, or hold a rule.

mod client;
mod doctor;
mod logs;
mod objects;
mod part;
mod print;
mod probe;
mod reconcile;
mod reports;
mod requests;
mod serve;
mod statement;
mod watch;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{Config, Sources};

pub use client::Client;
pub use print::Output;

/// What a command ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Fine = 0,
    /// The answer is "no", or something was found.
    No = 1,
    Usage = 2,
    /// The question could not be answered.
    Unanswered = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// Why a command stopped, with what it ends with.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub text: String,
}

impl Failure {
    pub fn usage(text: impl Into<String>) -> Self {
        Failure { exit: Exit::Usage, text: text.into() }
    }

    pub fn unanswered(text: impl std::fmt::Display) -> Self {
        Failure { exit: Exit::Unanswered, text: text.to_string() }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Failure::unanswered(error)
    }
}

pub type Done = Result<Exit, Failure>;

/// The AI API gateway whose bill you can check and whose refusals explain themselves.
#[derive(Debug, Parser)]
#[command(name = "tallygate", version)]
pub struct Cli {
    /// Data directory.
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Configuration file.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Answer as JSON.
    #[arg(long, global = true)]
    json: bool,
    /// Language of texts: en or zh.
    #[arg(long, global = true, value_name = "LANG", value_parser = ["en", "zh"])]
    lang: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway.
    Serve(serve::ServeArgs),
    /// Run everything with a simulated upstream and seeded keys.
    Demo(serve::DemoArgs),
    /// Bring the schema of the store up to date.
    Migrate,
    /// Read the journal behind what was verified before, and check every invariant.
    Verify(requests::VerifyArgs),
    /// The books beside what payment providers and upstreams say.
    Reconcile(reconcile::ReconcileArgs),
    /// Why a call was allowed or refused.
    Why(requests::OneRequest),
    /// Whether a call would be allowed now, without making it.
    Simulate(requests::SimulateArgs),
    /// What a call cost, and how that came about.
    Receipt(requests::OneRequest),
    /// What an account had, what moved, and what it has.
    Statement(statement::StatementArgs),
    /// Find out what is wrong.
    #[command(subcommand)]
    Doctor(doctor::Doctor),
    /// Whose money.
    #[command(subcommand)]
    Accounts(objects::Accounts),
    /// Callers' keys.
    #[command(subcommand)]
    Keys(objects::Keys),
    /// What callers can name.
    #[command(subcommand)]
    Models(objects::Models),
    /// Where calls are sent to.
    #[command(subcommand)]
    Channels(objects::Channels),
    /// Which channels a key may reach, at which multiple of the price.
    #[command(subcommand)]
    Groups(objects::Groups),
    /// The tree above the accounts, with its switches and budgets.
    #[command(subcommand)]
    Organizations(objects::Organizations),
    /// Parts of an account with budgets and debts of their own.
    #[command(subcommand)]
    Projects(objects::Projects),
    /// People and service accounts of an account.
    #[command(subcommand)]
    Members(objects::Members),
    /// Those who run the gateway.
    #[command(subcommand)]
    Operators(objects::Operators),
    /// Who may do what to what.
    #[command(subcommand)]
    Policies(objects::Policies),
    /// Where notices are sent to: webhooks and mail addresses.
    #[command(subcommand)]
    NoticeEndpoints(objects::NoticeEndpoints),
    /// What was told, and how far it got.
    #[command(subcommand)]
    Notices(objects::NoticesCommand),
    /// Versions of what models cost.
    #[command(subcommand)]
    Prices(objects::Prices),
    /// Credit an account.
    Credit(objects::Credit),
    /// Money that is to come in.
    #[command(subcommand)]
    Orders(objects::Orders),
    /// Send money back: of a call's charge to the account, of an order to who paid.
    Refund(objects::Refund),
    /// Refunds of charges, compensation and adjustments.
    #[command(subcommand)]
    Corrections(objects::Corrections),
    /// Redemption codes.
    #[command(subcommand)]
    Codes(objects::Codes),
    /// Image and video tasks: list, show, cancel, and whether they were charged.
    #[command(subcommand)]
    Tasks(objects::Tasks),
    /// What the operator tells everybody, or one account.
    #[command(subcommand)]
    Announcements(objects::Announcements),
    /// Appeals for keys that the platform stopped.
    #[command(subcommand)]
    Appeals(objects::Appeals),
    /// Every change of the directory: who, what, before and after.
    Audit(objects::AuditArgs),
    /// The request log.
    #[command(subcommand)]
    Logs(logs::Logs),
    /// The configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Measure calls per second, CPU per call, added latency and memory.
    Bench(crate::bench::BenchArgs),
    /// Run the simulated upstream of the demo alone.
    #[command(hide = true)]
    DemoUpstream(serve::DemoUpstreamArgs),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print what is in effect, each value with where it came from; secrets are hidden.
    Show,
    /// Print a file with every setting and its default.
    Sample,
}

/// What every command needs: where the data is, and how to answer.
pub struct Context {
    pub sources: Sources,
    pub json: bool,
    pub language: &'static str,
    pub out: Output,
}

impl Context {
    pub fn config(&self) -> Result<Config, Failure> {
        Config::load(&self.sources).map_err(|why| Failure::usage(why.to_string()))
    }

    /// The way to the routes, wherever the data is held.
    pub fn client(&self) -> Result<Client, Failure> {
        Client::connect(self.config()?, self.language)
    }
}

/// Runs the program with these arguments, the first of which is its name.
pub fn run(args: impl IntoIterator<Item = OsString>, out: Output) -> Exit {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, not mistakes.
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Fine };
            let _printed = error.print();
            return exit;
        }
    };
    let mut context = Context {
        sources: Sources::of_process(cli.config, data_flag(cli.data)),
        json: cli.json,
        language: language(cli.lang.as_deref()),
        out,
    };
    match dispatch(&mut context, cli.command) {
        Ok(exit) => exit,
        Err(failure) => {
            let _printed = writeln!(context.out.err(), "tallygate: {}", failure.text);
            failure.exit
        }
    }
}

fn data_flag(data: Option<PathBuf>) -> Vec<(&'static str, String)> {
    data.map(|dir| ("store.data_dir", dir.to_string_lossy().into_owned())).into_iter().collect()
}

/// `--lang`, else what the terminal speaks.
fn language(flag: Option<&str>) -> &'static str {
    let from_terminal = || {
        let spoken = ["LC_ALL", "LC_MESSAGES", "LANG"].into_iter().find_map(|name| std::env::var(name).ok());
        spoken.filter(|tag| tag.starts_with("zh")).map(|_| "zh".to_owned())
    };
    match flag.map(str::to_owned).or_else(from_terminal).as_deref() {
        Some("zh") => "zh",
        _ => "en",
    }
}

fn dispatch(context: &mut Context, command: Command) -> Done {
    match command {
        Command::Serve(args) => serve::serve(context, &args),
        Command::Demo(args) => serve::demo(context, args),
        Command::Migrate => serve::migrate(context),
        Command::Verify(args) => requests::verify(context, &args),
        Command::Reconcile(args) => reconcile::reconcile(context, args),
        Command::Why(request) => requests::why(context, &request),
        Command::Simulate(args) => requests::simulate(context, &args),
        Command::Receipt(request) => requests::receipt(context, &request),
        Command::Statement(args) => statement::statement(context, &args),
        Command::Doctor(doctor) => doctor::run(context, doctor),
        Command::Accounts(command) => objects::accounts(context, command),
        Command::Keys(command) => objects::keys(context, command),
        Command::Models(command) => objects::models(context, command),
        Command::Channels(command) => objects::channels(context, command),
        Command::Groups(command) => objects::groups(context, command),
        Command::Organizations(command) => objects::organizations(context, command),
        Command::Projects(command) => objects::projects(context, command),
        Command::Members(command) => objects::members(context, command),
        Command::Operators(command) => objects::operators(context, command),
        Command::Policies(command) => objects::policies(context, command),
        Command::NoticeEndpoints(command) => objects::notice_endpoints(context, command),
        Command::Notices(command) => objects::notices(context, command),
        Command::Prices(command) => objects::prices(context, command),
        Command::Credit(command) => objects::credit(context, command),
        Command::Orders(command) => objects::orders(context, command),
        Command::Refund(args) => objects::refund(context, args),
        Command::Corrections(command) => objects::corrections(context, command),
        Command::Codes(command) => objects::codes(context, command),
        Command::Tasks(command) => objects::tasks(context, command),
        Command::Announcements(command) => objects::announcements(context, command),
        Command::Appeals(command) => objects::appeals(context, command),
        Command::Audit(args) => objects::audit(context, &args),
        Command::Logs(command) => logs::run(context, &command),
        Command::Config(ConfigCommand::Show) => {
            let text = context.config()?.print_effective();
            context.out.text(&text)
        }
        Command::Config(ConfigCommand::Sample) => context.out.text(&crate::config::sample()),
        Command::Bench(args) => bench(&args, context.json),
        Command::DemoUpstream(args) => serve::demo_upstream(&args),
    }
}

fn bench(args: &crate::bench::BenchArgs, json: bool) -> Done {
    let code = crate::bench::run(args, json)?;
    Ok(if code == ExitCode::SUCCESS { Exit::Fine } else { Exit::No })
}
