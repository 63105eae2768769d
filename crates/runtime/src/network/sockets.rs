//! The calls of `wasi:sockets` that need more than a check of addresses: the number of sockets, names, and where a
//! program that listens "anywhere" listens.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use holm_model::HostName;
use wasmtime::component::{Linker, LinkerInstance, Resource, ResourceType};
use wasmtime_wasi::p2::bindings::sockets::ip_name_lookup::{self, HostResolveAddressStream, ResolveAddressStream};
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress};
use wasmtime_wasi::p2::bindings::sockets::tcp::{HostTcpSocket, InputStream, OutputStream};
use wasmtime_wasi::p2::bindings::sockets::udp::HostUdpSocket;
use wasmtime_wasi::p2::bindings::sockets::{tcp_create_socket, udp_create_socket};
use wasmtime_wasi::p2::{Network, SocketResult, TcpSocket, UdpSocket};
use wasmtime_wasi::sockets::WasiSocketsView;

use crate::run::State;

/// The version that the linker's interfaces carry; programs for any 0.2 are linked to it.
const VERSION: &str = "0.2.12";

/// What a call gives the guest.
type Answer<T> = wasmtime::Result<(Result<T, ErrorCode>,)>;

/// Puts our calls in place of those of the library. The linker must hold the latter.
pub(crate) fn shadow(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    tcp(&mut linker.instance(&format!("wasi:sockets/tcp@{VERSION}"))?)?;
    udp(&mut linker.instance(&format!("wasi:sockets/udp@{VERSION}"))?)?;
    names(&mut linker.instance(&format!("wasi:sockets/ip-name-lookup@{VERSION}"))?)?;
    let mut tcp = linker.instance(&format!("wasi:sockets/tcp-create-socket@{VERSION}"))?;
    tcp.func_wrap("create-tcp-socket", |mut store, (family,): (IpAddressFamily,)| {
        let state = store.data_mut();
        if let Some(refused) = refusal(state, "tcp") {
            return Ok((Err(refused),));
        }
        let made = tcp_create_socket::Host::create_tcp_socket(&mut state.sockets(), family);
        made_socket(state, made)
    })?;
    let mut udp = linker.instance(&format!("wasi:sockets/udp-create-socket@{VERSION}"))?;
    udp.func_wrap_async("create-udp-socket", |mut store, (family,): (IpAddressFamily,)| {
        Box::new(async move {
            let state = store.data_mut();
            if let Some(refused) = refusal(state, "udp") {
                return Ok((Err(refused),));
            }
            let made = udp_create_socket::Host::create_udp_socket(&mut state.sockets(), family).await;
            made_socket(state, made)
        })
    })?;
    linker.allow_shadowing(false);
    Ok(())
}

/// Why the task may make no socket, if it may not.
fn refusal(state: &State, what: &str) -> Option<ErrorCode> {
    if state.network.policy().is_closed() {
        state.network.refuse(&format!("a {what} socket"), "no network is granted to the task");
        return Some(ErrorCode::AccessDenied);
    }
    (!state.network.has_room_for_socket()).then_some(ErrorCode::NewSocketLimit)
}

/// Counts a socket that was made.
fn made_socket<T: 'static>(state: &State, made: SocketResult<Resource<T>>) -> Answer<Resource<T>> {
    let made = answer(made)?;
    if let Ok(socket) = &made.0 {
        state.network.socket_made(socket.rep());
    }
    Ok(made)
}

fn tcp(instance: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
    instance.func_wrap_async(
        "[method]tcp-socket.start-bind",
        |mut store, (this, network, address): (Resource<TcpSocket>, Resource<Network>, IpSocketAddress)| {
            Box::new(async move {
                let state = store.data_mut();
                let address = state.listen_address(address.into());
                answer(HostTcpSocket::start_bind(&mut state.sockets(), this, network, address.into()).await)
            })
        },
    )?;
    type Accepted = (Resource<TcpSocket>, Resource<InputStream>, Resource<OutputStream>);
    instance.func_wrap(
        "[method]tcp-socket.accept",
        |mut store, (this,): (Resource<TcpSocket>,)| -> Answer<Accepted> {
            let state = store.data_mut();
            if !state.network.has_room_for_socket() {
                return Ok((Err(ErrorCode::NewSocketLimit),));
            }
            let accepted = answer(HostTcpSocket::accept(&mut state.sockets(), this))?;
            if let Ok((socket, ..)) = &accepted.0 {
                state.network.socket_made(socket.rep());
            }
            Ok(accepted)
        },
    )?;
    instance.resource("tcp-socket", ResourceType::host::<TcpSocket>(), |mut store, rep| {
        let state = store.data_mut();
        state.network.socket_dropped(rep);
        HostTcpSocket::drop(&mut state.sockets(), Resource::new_own(rep))
    })
}

fn udp(instance: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
    instance.func_wrap_async(
        "[method]udp-socket.start-bind",
        |mut store, (this, network, address): (Resource<UdpSocket>, Resource<Network>, IpSocketAddress)| {
            Box::new(async move {
                let state = store.data_mut();
                let address = state.listen_address(address.into());
                answer(HostUdpSocket::start_bind(&mut state.sockets(), this, network, address.into()).await)
            })
        },
    )?;
    instance.resource("udp-socket", ResourceType::host::<UdpSocket>(), |mut store, rep| {
        let state = store.data_mut();
        state.network.socket_dropped(rep);
        HostUdpSocket::drop(&mut state.sockets(), Resource::new_own(rep))
    })
}

impl State {
    /// Where a socket is really bound: "anywhere" is the address on which the task may listen.
    fn listen_address(&self, asked: SocketAddr) -> SocketAddr {
        match self.network.policy().listens_on() {
            Some(own) if asked.ip().is_unspecified() && asked.port() != 0 && own.is_ipv4() == asked.is_ipv4() => {
                SocketAddr::new(own, asked.port())
            }
            _ => asked,
        }
    }
}

fn names(instance: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
    instance.func_wrap("resolve-addresses", |mut store, (network, name): (Resource<Network>, String)| {
        resolve(store.data_mut(), network, name)
    })?;
    instance.func_wrap(
        "[method]resolve-address-stream.resolve-next-address",
        |mut store, (this,): (Resource<ResolveAddressStream>,)| next_address(store.data_mut(), &this),
    )?;
    instance.resource("resolve-address-stream", ResourceType::host::<ResolveAddressStream>(), |mut store, rep| {
        let state = store.data_mut();
        state.network.lookup_ended(rep);
        HostResolveAddressStream::drop(&mut state.sockets(), Resource::new_own(rep))
    })
}

fn resolve(state: &mut State, network: Resource<Network>, name: String) -> Answer<Resource<ResolveAddressStream>> {
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    // What is an address already leads nowhere by itself: connecting to it is checked.
    let host: Option<HostName> = match bare.parse::<IpAddr>() {
        Ok(_address) => None,
        Err(_) => match name.parse() {
            Ok(host) => Some(host),
            Err(_) => return Ok((Err(ErrorCode::InvalidArgument),)),
        },
    };
    if let Some(host) = &host {
        if !state.network.may_resolve(host) {
            return Ok((Err(ErrorCode::AccessDenied),));
        }
        if !state.network.has_room_for_lookup() {
            return Ok((Err(ErrorCode::TemporaryResolverFailure),));
        }
    }
    let asked = host.as_ref().map_or(name, |host| host.to_string());
    let begun = answer(ip_name_lookup::Host::resolve_addresses(&mut state.sockets(), network, asked))?;
    if let (Ok(stream), Some(host)) = (&begun.0, host) {
        state.network.lookup_began(stream.rep(), host);
    }
    Ok(begun)
}

/// The next address that the name may lead to; it is pinned.
fn next_address(state: &mut State, this: &Resource<ResolveAddressStream>) -> Answer<Option<IpAddress>> {
    loop {
        let stream = Resource::new_borrow(this.rep());
        let next = answer(HostResolveAddressStream::resolve_next_address(&mut state.sockets(), stream))?;
        match &next.0 {
            Ok(Some(address)) if !state.network.answered(this.rep(), plain(address)) => {}
            _ => return Ok(next),
        }
    }
}

fn plain(address: &IpAddress) -> IpAddr {
    match *address {
        IpAddress::Ipv4((a, b, c, d)) => Ipv4Addr::new(a, b, c, d).into(),
        IpAddress::Ipv6((a, b, c, d, e, f, g, h)) => Ipv6Addr::new(a, b, c, d, e, f, g, h).into(),
    }
}

fn answer<T>(result: SocketResult<T>) -> Answer<T> {
    match result {
        Ok(value) => Ok((Ok(value),)),
        Err(error) => Ok((Err(error.downcast()?),)),
    }
}
