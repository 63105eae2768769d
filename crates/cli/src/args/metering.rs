//! Whether fuel is counted: what `holm run` asks for and agents tell their compile workers.

use clap::ValueEnum;
use holm_model::Metering;

/// [`Metering`] on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum MeteringArg {
    /// Fuel is counted and can be limited
    FuelAndEpochs,
    /// Fuel is not counted
    Epochs,
}

impl From<MeteringArg> for Metering {
    fn from(arg: MeteringArg) -> Metering {
        match arg {
            MeteringArg::FuelAndEpochs => Metering::FuelAndEpochs,
            MeteringArg::Epochs => Metering::Epochs,
        }
    }
}
