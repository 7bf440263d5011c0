//! The binary: reads the configuration, binds the ports, assembles the parts, waits for a signal,
//! drains. No logic of its own.

#![forbid(unsafe_code)]

mod adapters;
mod assemble;
mod bootstrap;
mod cli;
mod config;
mod data_dir;
mod engine_stats;
mod engine_tool;
mod gauges;
mod insight;
mod live_recall;
mod logging;
mod searched;
mod tenants;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::config::{Config, Layer};

/// Returns freed memory to the system steadily, which glibc's allocator does not under this load.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Exit status for a wrong configuration (`EX_CONFIG` of sysexits.h): restarting will not help.
const EXIT_CONFIG: u8 = 78;

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(layer) => configured(layer, serve),
        Command::Config(layer) => configured(layer, |config| {
            print!("{config}");
            ExitCode::SUCCESS
        }),
        Command::Engine(command) => match engine_tool::run(command) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("outrigger: {error:#}");
                ExitCode::FAILURE
            }
        },
    }
}

fn configured(layer: Layer, run: fn(Config) -> ExitCode) -> ExitCode {
    match Config::load(layer) {
        Ok(config) => run(config),
        Err(error) => {
            eprintln!("outrigger: wrong configuration: {error:#}");
            ExitCode::from(EXIT_CONFIG)
        }
    }
}

fn serve(config: Config) -> ExitCode {
    logging::start(&config.log, config.log_format);
    let data_dir = match data_dir::open(&config.data_dir) {
        Ok(data_dir) => data_dir,
        Err(error) => {
            eprintln!("outrigger: wrong configuration: {error:#}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    return_freed_memory();
    let served = assemble::serve(config);
    drop(data_dir);
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("outrigger: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// jemalloc returns freed pages some ten seconds later, but without a thread of its own only where
/// memory is asked for again: what an index was built with would stay until then.
fn return_freed_memory() {
    if let Err(error) = tikv_jemalloc_ctl::background_thread::write(true) {
        tracing::warn!(%error, "freed memory is not returned while nothing happens");
    }
}
