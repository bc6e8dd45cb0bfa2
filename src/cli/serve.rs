//! `serve`, `demo`, `migrate`, and the demo's upstream: the commands that run something.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::json;
use tracing_subscriber::EnvFilter;

use crate::app::{self, RunError};
use crate::config::{Config, LogFormat};
use crate::demo::upstream::{self, UpstreamArgs};
use crate::secret::Secret;
use crate::store::{self, StoreConfig, StoreErrorKind};

use super::{Context, Done, Exit, Failure};

#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    /// Address and port to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
}

#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// Address and port to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: String,
    /// Begin with an empty folder.
    #[arg(long)]
    fresh: bool,
    /// Print one JSON line when ready, instead of a table.
    #[arg(long)]
    ready_json: bool,
    /// PostgreSQL instead of the embedded database: postgres://user:password@host/database
    #[arg(long, value_name = "URL")]
    database: Option<String>,
}

#[derive(Debug, clap::Args)]
pub struct DemoUpstreamArgs {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    dir: PathBuf,
    #[arg(long)]
    ready_json: bool,
}

/// Where a demo lives if nothing else is said.
const DEMO_DIR: &str = "tallygate-demo";

pub fn serve(context: &mut Context, args: &ServeArgs) -> Done {
    context.sources.flags.extend(args.listen.clone().map(|listen| ("server.listen", listen)));
    let config = context.config()?;
    log_to_stderr(&config);
    match app::serve(config) {
        Ok(()) => Ok(Exit::Fine),
        Err(RunError::App(error)) => Err(super::client::opening(error)),
        Err(error) => Err(Failure::unanswered(error)),
    }
}

pub fn demo(context: &mut Context, args: DemoArgs) -> Done {
    let data_dir = context.sources.flags.iter().find(|(name, _)| *name == "store.data_dir");
    let args = crate::demo::DemoArgs {
        dir: data_dir.map_or_else(|| PathBuf::from(DEMO_DIR), |(_, dir)| PathBuf::from(dir)),
        listen: args.listen,
        fresh: args.fresh,
        ready_json: args.ready_json || context.json,
        database: args.database.map(Secret::new),
    };
    log_to_stderr(&Config::default());
    crate::demo::run(&args, context.out.out()).map_err(Failure::unanswered)?;
    Ok(Exit::Fine)
}

/// What a gateway writes about itself goes to the standard error; `RUST_LOG` is stronger than the setting.
fn log_to_stderr(config: &Config) {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(config.log.level.as_str()));
    // Colours are for terminals; in a file they are noise.
    let colours = std::io::stderr().is_terminal();
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
    // A process has one log: the first one stays.
    let _first = match config.log.format {
        LogFormat::Json => builder.json().try_init(),
        LogFormat::Text => builder.try_init(),
    };
}

/// Opening the store brings its schema up to date; a server has done so at its start.
pub fn migrate(context: &mut Context) -> Done {
    let config = context.config()?;
    let data_dir = &config.store.data_dir;
    let stores = match config.store.database_url.clone() {
        Some(url) => StoreConfig::postgres(data_dir, url),
        None => StoreConfig::embedded(data_dir),
    };
    let done = match store::open(&stores) {
        Ok(_) => "the schema is up to date",
        Err(error) if error.kind() == StoreErrorKind::Taken => {
            "a running server has brought the schema up to date"
        }
        Err(error) => return Err(Failure::unanswered(error)),
    };
    match context.json {
        true => context.out.json(&json!({"schema": "up to date"})),
        false => context.out.text(done),
    }
}

pub fn demo_upstream(args: &DemoUpstreamArgs) -> Done {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let args = UpstreamArgs { listen: args.listen, dir: args.dir.clone(), ready_json: args.ready_json };
    runtime.block_on(upstream::run(args)).map_err(Failure::unanswered)?;
    Ok(Exit::Fine)
}
