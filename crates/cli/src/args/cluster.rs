//! `holm up` and `holm demo`.

use std::path::PathBuf;

use clap::Args;
use holm_model::Portions;

use super::daemons::{AllowedNet, allowed_net};
use crate::values;

const UP_EXAMPLES: &str = "\
Examples:
  holm up
  holm up --agents 3 --dir /var/tmp/holm
  holm up --resources \"cpus:4;mem:8GiB;ports:[31000-32000]\"

The cluster wants a token, which is in DIR/token; commands of the same user find it by themselves. Tasks may open \
directories below the directory in which `holm up` was started, when they ask for them.";

/// Arguments of `holm up`.
#[derive(Clone, Debug, Args)]
#[command(after_help = UP_EXAMPLES)]
pub(crate) struct UpArgs {
    /// How many agents share this machine
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) agents: u32,
    /// Where the cluster keeps its state; the next `holm up` finds it again
    #[arg(long, value_name = "DIR", default_value = ".holm")]
    pub(crate) dir: PathBuf,
    /// Where the master listens; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:5050")]
    pub(crate) listen: String,
    /// What each agent offers [default: this machine, shared out]
    #[arg(long, value_name = "SPEC", value_parser = Portions::parse_configured)]
    pub(crate) resources: Option<Portions>,
    /// What tasks may be granted on the network, as for holm agent; may be repeated
    #[arg(long, value_name = "PATTERN", value_parser = allowed_net)]
    pub(crate) allow_net: Vec<AllowedNet>,
}

const DEMO_EXAMPLES: &str = "\
Examples:
  holm demo
  holm demo --input ~/books --size 1920x1080 --out /tmp/picture.png
  holm demo --keep";

/// Arguments of `holm demo`.
#[derive(Clone, Debug, Args)]
#[command(after_help = DEMO_EXAMPLES)]
pub(crate) struct DemoArgs {
    /// Directory whose text files are counted [default: the documents and sources below the current directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) input: Option<PathBuf>,
    /// How many agents share this machine
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=16))]
    pub(crate) agents: u32,
    /// Leave the cluster running and print its address
    #[arg(long)]
    pub(crate) keep: bool,
    /// Where the picture goes
    #[arg(long, value_name = "FILE", default_value = "demo.png")]
    pub(crate) out: PathBuf,
    /// Size of the picture
    #[arg(long, value_name = "WxH", default_value = "960x640", value_parser = values::picture_size)]
    pub(crate) size: (u32, u32),
}
