//! `outrigger engine …`: the index by itself, without any Elasticsearch, for benchmarks and for
//! curious people. Reports are JSON on standard output; `stats` is a table unless `--json` is given.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use ivf_index::Spill;
use ivf_index::tool::{self, Choice, Keep, SearchOptions};
use knn_types::{Element, IvfOptions, Metric};
use serde::Serialize;

use crate::engine_stats::AsText;

/// `outrigger engine`.
#[derive(Args)]
pub(crate) struct EngineTool {
    #[command(subcommand)]
    command: EngineCommand,
    /// Print each report as one line of JSON, for scripts.
    #[arg(long, global = true)]
    json: bool,
}

/// What to do with an index below a directory.
#[derive(Subcommand)]
enum EngineCommand {
    /// Build an index of the vectors in a file: .npy (f32, f16, u8, i8), .fvecs or .bvecs.
    Build(BuildArgs),
    /// Search it with every vector of a file; recall, latencies and memory.
    Search(SearchArgs),
    /// What is known of the indexes below a directory, with the curve from effort to recall.
    Stats {
        /// Directory of `build`, or the data_dir of a sidecar that is not running.
        #[arg(long)]
        dir: PathBuf,
    },
    /// Read every byte of every snapshot; exit status 1 when something is damaged.
    Verify {
        /// Directory of `build`, or a data_dir.
        #[arg(long)]
        dir: PathBuf,
    },
}

/// See [`EngineCommand::Build`].
#[derive(Args)]
struct BuildArgs {
    /// File of vectors.
    #[arg(long)]
    data: PathBuf,
    /// float, byte or bit: of bits, eight stand in each byte of the file. Bytes without a sign are shifted
    /// by 128 for l2.
    #[arg(long, default_value = "float", value_parser = element)]
    element: Element,
    /// l2, cosine, dot or mip; bits have l2 only.
    #[arg(long, value_parser = metric)]
    metric: Metric,
    /// Where to write; an index that `build` made there before is replaced.
    #[arg(long)]
    dir: PathBuf,
    /// Number of lists [default: by the number of vectors].
    #[arg(long)]
    nlist: Option<u32>,
    /// Threads for training.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Whether vectors also stand in a second list: off, on, or auto, where it pays.
    #[arg(long, default_value = "auto", value_parser = spill)]
    spill: Spill,
}

/// See [`EngineCommand::Search`].
#[derive(Args)]
struct SearchArgs {
    /// Directory of `build`.
    #[arg(long)]
    dir: PathBuf,
    /// File of query vectors.
    #[arg(long)]
    queries: PathBuf,
    /// Hits per query.
    #[arg(long, default_value_t = 10)]
    k: usize,
    /// Elasticsearch's effort [default: 1.5 k].
    #[arg(long)]
    num_candidates: Option<usize>,
    /// Recall to aim for, as the option of a field.
    #[arg(long, conflicts_with = "nprobe")]
    recall: Option<f32>,
    /// Visit exactly so many lists.
    #[arg(long)]
    nprobe: Option<usize>,
    /// Threads that search.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Queries that a thread asks at a time; more than one share their work.
    #[arg(long, default_value_t = 1)]
    batch: usize,
    /// The file that the index was built from: recall is measured against an exact search of it.
    #[arg(long)]
    truth_from: Option<PathBuf>,
    /// Search under a filter that keeps this share of the vectors, at random; recall is among those.
    #[arg(long, value_parser = share, requires = "truth_from")]
    filter_keep: Option<f64>,
    /// Keep the nearest to one vector instead: a stored one (region) or one unlike all (far).
    #[arg(
        long, num_args = 0..=1, default_missing_value = "region", value_parser = choice, requires = "filter_keep"
    )]
    filter_correlated: Option<Choice>,
}

fn spill(name: &str) -> Result<Spill, String> {
    match name {
        "off" => Ok(Spill::Off),
        "auto" => Ok(Spill::Auto),
        "on" => Ok(Spill::On),
        _ => Err(format!("[{name}] is none of off, auto, on")),
    }
}

fn element(name: &str) -> Result<Element, String> {
    Element::named(name).ok_or_else(|| format!("[{name}] is none of float, byte, bit"))
}

fn metric(name: &str) -> Result<Metric, String> {
    tool::metric_named(name).ok_or_else(|| format!("[{name}] is none of l2, cosine, dot, mip"))
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| *share > 0.0 && *share <= 1.0);
    share.ok_or_else(|| format!("[{text}] is no share above 0 and up to 1"))
}

fn choice(name: &str) -> Result<Choice, String> {
    match name {
        "region" => Ok(Choice::Region),
        "far" => Ok(Choice::Far),
        _ => Err(format!("[{name}] is none of region, far")),
    }
}

/// Runs a command; false when `verify` found damage.
pub(crate) fn run(tool: EngineTool) -> anyhow::Result<bool> {
    let print = |report: &dyn Report| report.print(tool.json);
    match tool.command {
        EngineCommand::Build(args) => {
            let options = IvfOptions { nlist: args.nlist, ..IvfOptions::default() };
            let BuildArgs { data, dir, element, metric, threads, spill, .. } = args;
            print(&tool::build(&data, &dir, element, metric, options, threads, spill)?)?;
        }
        EngineCommand::Search(args) => {
            let options = SearchOptions {
                k: args.k,
                num_candidates: args.num_candidates,
                recall: args.recall,
                nprobe: args.nprobe,
                threads: args.threads,
                batch: args.batch,
                truth_from: args.truth_from,
                keep: args.filter_keep.map(|share| {
                    let choice = args.filter_correlated.unwrap_or(Choice::Random);
                    Keep { share, choice }
                }),
            };
            print(&tool::search(&args.dir, &args.queries, &options)?)?;
        }
        EngineCommand::Stats { dir } => {
            for summary in tool::stats(&dir)? {
                if tool.json { print(&summary)? } else { print!("{}", AsText(&summary)) }
            }
        }
        EngineCommand::Verify { dir } => {
            let verdicts = tool::verify(&dir)?;
            verdicts.iter().try_for_each(|verdict| print(verdict))?;
            return Ok(verdicts.iter().all(|verdict| verdict.damage.is_none()));
        }
    }
    Ok(true)
}

/// Anything that can be printed.
trait Report {
    fn print(&self, on_one_line: bool) -> anyhow::Result<()>;
}

impl<T: Serialize> Report for T {
    fn print(&self, on_one_line: bool) -> anyhow::Result<()> {
        let text = if on_one_line { serde_json::to_string(self) } else { serde_json::to_string_pretty(self) };
        println!("{}", text?);
        Ok(())
    }
}
