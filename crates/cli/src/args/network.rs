//! What a task may do on the network, and how a service is served.

use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use holm_model::{ListenOn, NetPattern, ServiceSpec, TaskKind};

use crate::values;

/// Network arguments of `holm run`.
#[derive(Clone, Debug, Args)]
pub(crate) struct NetworkArgs {
    /// What the program is: a command runs to its end, a service answers HTTP requests until it is stopped
    #[arg(long, value_name = "KIND", default_value = "command")]
    pub(crate) kind: KindArg,
    /// What a task may connect to, if the agent's operator allows it too: HOST:PORTS or udp:HOST:PORTS, where HOST is a name,
    /// *.NAME, an address, ADDRESS/PREFIX or * for the public internet, and PORTS is a port, a range or *. May be repeated
    #[arg(long, value_name = "PATTERN")]
    pub(crate) allow_net: Vec<NetPattern>,
    /// Ports that a task holds, to listen on them: such as 31000 or 31000-31003, or "free" for one that its agent has left
    #[arg(long, value_name = "PORTS")]
    pub(crate) port: Option<PortArg>,
    /// Lets a task listen on its ports: on its agent's address, or on loopback only [default for services: agent]
    #[arg(long, value_name = "WHERE")]
    pub(crate) listen: Option<ListenArg>,
    /// Requests that a service works on at a time; more are answered 503 [default: 64]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024), help_heading = "Service options")]
    pub(crate) concurrency: Option<u32>,
    /// Wall time of one request to a service [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = values::duration, help_heading = "Service options")]
    pub(crate) request_timeout: Option<Duration>,
    /// Fuel of one request to a service
    #[arg(long, value_name = "N", value_parser = values::fuel, help_heading = "Service options")]
    pub(crate) request_fuel: Option<u64>,
    /// Largest body of a request to a service [default: 8MiB]
    #[arg(long, value_name = "SIZE", value_parser = values::size, help_heading = "Service options")]
    pub(crate) request_size: Option<u64>,
    /// Failed requests in a row after which a service has failed; 0 is never [default: 10]
    #[arg(long, value_name = "N", help_heading = "Service options")]
    pub(crate) max_failures: Option<u32>,
}

impl NetworkArgs {
    /// The settings of a service, if any is given.
    pub(crate) fn service(&self) -> Option<ServiceSpec> {
        let NetworkArgs { concurrency, request_timeout, request_fuel, request_size, max_failures, .. } = self;
        let given = concurrency.is_some()
            || request_timeout.is_some()
            || request_fuel.is_some()
            || request_size.is_some()
            || max_failures.is_some();
        let default = ServiceSpec::default();
        given.then(|| ServiceSpec {
            port: None,
            concurrency: concurrency.unwrap_or(default.concurrency),
            request_time: request_timeout.unwrap_or(default.request_time),
            request_fuel: *request_fuel,
            request_bytes: request_size.unwrap_or(default.request_bytes),
            max_failures: max_failures.unwrap_or(default.max_failures),
        })
    }

    /// Where a task listens.
    pub(crate) fn listen(&self) -> Option<ListenOn> {
        let default = (self.kind == KindArg::Service).then_some(ListenArg::Agent);
        self.listen.or(default).map(|on| match on {
            ListenArg::Agent => ListenOn::Agent,
            ListenArg::Loopback => ListenOn::Loopback,
        })
    }

    /// Whether a task gets a port that its agent has left.
    pub(crate) fn wants_free_port(&self) -> bool {
        match self.port {
            Some(PortArg::Free) => true,
            Some(PortArg::Span(..)) => false,
            None => self.listen().is_some(),
        }
    }
}

/// What the program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum KindArg {
    /// A WASI program that runs to its end
    Command,
    /// A wasi:http/proxy component
    Service,
}

impl From<KindArg> for TaskKind {
    fn from(kind: KindArg) -> TaskKind {
        match kind {
            KindArg::Command => TaskKind::Command,
            KindArg::Service => TaskKind::Service,
        }
    }
}

/// Where a task listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListenArg {
    /// On the address under which the agent is reached
    Agent,
    /// Reached from the agent's host only
    Loopback,
}

/// Ports that a task holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PortArg {
    /// These.
    Span(u16, u16),
    /// One that the agent has left.
    Free,
}

impl FromStr for PortArg {
    type Err = String;

    fn from_str(text: &str) -> Result<PortArg, String> {
        if text == "free" {
            return Ok(PortArg::Free);
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (first.parse(), last.parse()) {
            (Ok(first), Ok(last)) if 0 < first && first <= last => Ok(PortArg::Span(first, last)),
            _ => Err(format!("ports {text:?} are not a port such as 31000, a range such as 31000-31003, or \"free\"")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_a_port_a_range_or_free() {
        assert_eq!("31000".parse(), Ok(PortArg::Span(31_000, 31_000)));
        assert_eq!("31000-31003".parse(), Ok(PortArg::Span(31_000, 31_003)));
        assert_eq!("free".parse(), Ok(PortArg::Free));
        for bad in ["", "0", "5-4", "65536", "any", "1-2-3"] {
            assert!(bad.parse::<PortArg>().is_err(), "{bad:?} passed");
        }
    }
}
