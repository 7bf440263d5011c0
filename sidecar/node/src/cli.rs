//! The command line.

use clap::{Parser, Subcommand};

use crate::config::Layer;
use crate::engine_tool::EngineTool;

/// Fast vector search beside Elasticsearch: a transparent proxy with an IVF index of its own.
#[derive(Parser)]
#[command(name = "outrigger", version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "Examples:
  Beside a local Elasticsearch; clients then use port 9201 instead of 9200:
    outrigger serve --listen 127.0.0.1:9201 --upstream http://127.0.0.1:9200 --data-dir /var/lib/outrigger

  What is in force, secrets masked, and where it can be set:
    outrigger config --config /etc/outrigger.toml

  With credentials for Outrigger's own calls (user:password, or \"ApiKey …\", or \"Bearer …\"):
    OUTRIGGER_UPSTREAM_AUTH='feed:secret' outrigger serve
    outrigger serve --upstream-auth-file /run/secrets/outrigger

Every flag can be set as OUTRIGGER_<FLAG> in the environment and as <flag> in the file, with _ for -.
Flags win over the environment, the environment over the file.
Exit status: 0 stopped by a signal, 1 failed, 2 wrong command line, 78 wrong configuration.";

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run beside an Elasticsearch node.
    #[command(after_help = EXAMPLES, args_override_self = true)]
    Serve(Layer),
    /// Print the configuration that `serve` would use, as a file it can read, secrets masked.
    #[command(args_override_self = true)]
    Config(Layer),
    /// The index by itself, without any Elasticsearch.
    #[command(after_help = ENGINE_EXAMPLES)]
    Engine(EngineTool),
}

const ENGINE_EXAMPLES: &str = "Examples:
    outrigger engine build --data base.npy --metric cosine --dir /tmp/index --threads 2
    outrigger engine search --dir /tmp/index --queries queries.npy --truth-from base.npy
    outrigger engine search --dir /tmp/index --queries queries.npy --truth-from base.npy --recall 0.9
    outrigger engine stats --dir /var/lib/outrigger
    outrigger engine verify --dir /var/lib/outrigger";
