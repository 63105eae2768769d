//! Layer `seccomp`: the filters of [`super::filters`], built and installed.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use super::Purpose;
use super::filters::{BASE, BASE_LEGACY, DEADLY, DEADLY_LEGACY, IOCTL, NETWORK, PRCTL, RUN, RUN_LEGACY};

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
pub(super) enum FilterError {
    #[error("{0}")]
    Build(#[from] seccompiler::BackendError),
    #[error("{0}")]
    Install(#[from] seccompiler::Error),
    #[error("there is no filter for {}", std::env::consts::ARCH)]
    Architecture,
}

/// The processor this is built for, if filters can be made for it.
pub(super) fn architecture() -> Option<TargetArch> {
    TargetArch::try_from(std::env::consts::ARCH).ok()
}

/// From here on this thread, and every one that it starts, makes only the calls of `purpose`.
pub(super) fn restrict(purpose: Purpose) -> Result<(), FilterError> {
    let arch = architecture().ok_or(FilterError::Architecture)?;
    let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let unknown = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    // The last installed is asked first, and the most severe answer counts. The one that allows the least comes last,
    // since it no longer lets a filter be installed.
    let programs: [BpfProgram; 3] = [
        SeccompFilter::new(deadly()?, SeccompAction::Allow, SeccompAction::KillProcess, arch)?.try_into()?,
        SeccompFilter::new(allowed(purpose)?, refused, SeccompAction::Allow, arch)?.try_into()?,
        // Its flags lie in memory, where a filter cannot look: the C library falls back on clone. Of two errors the one of
        // the filter installed last is given.
        SeccompFilter::new(Rules::from([(libc::SYS_clone3, Vec::new())]), SeccompAction::Allow, unknown, arch)?
            .try_into()?,
    ];
    let [deadly, allowed, no_clone3] = programs;
    seccompiler::apply_filter(&no_clone3)?;
    seccompiler::apply_filter(&deadly)?;
    Ok(seccompiler::apply_filter(&allowed)?)
}

/// What is answered other than with an error.
fn allowed(purpose: Purpose) -> Result<Rules, seccompiler::BackendError> {
    let mut rules = Rules::new();
    let mut always = |lists: &[&[c_long]]| rules.extend(lists.concat().into_iter().map(|call| (call, Vec::new())));
    always(&[BASE, BASE_LEGACY]);
    if purpose != Purpose::Compile {
        always(&[RUN, RUN_LEGACY]);
    }
    if purpose == Purpose::RunNetworked {
        always(&[NETWORK]);
        let (stream, datagram) = (libc::SOCK_STREAM, libc::SOCK_DGRAM);
        let kinds =
            [libc::AF_INET, libc::AF_INET6].into_iter().flat_map(|family| [(family, stream), (family, datagram)]);
        let sockets = kinds.map(|(family, kind)| rule([at(0, family.into())?, bits(1, 0xf, kind.into())?]));
        rules.insert(libc::SYS_socket, sockets.collect::<Result<_, _>>()?);
    }
    let one_of = |position, values: &[c_long]| {
        values.iter().map(|value| rule([at(position, *value)?])).collect::<Result<Vec<_>, _>>()
    };
    rules.insert(libc::SYS_prctl, one_of(0, PRCTL)?);
    rules.insert(libc::SYS_ioctl, one_of(1, IOCTL)?);
    // Its own limits, and signals to its own threads (abort raises one): nobody else's.
    rules.insert(libc::SYS_prlimit64, one_of(0, &[0])?);
    rules.insert(libc::SYS_tgkill, one_of(0, &[std::process::id().into()])?);
    // Threads, not processes.
    let thread = u64::from(libc::CLONE_THREAD.unsigned_abs());
    rules.insert(libc::SYS_clone, vec![rule([bits(0, thread, thread.cast_signed())?])?]);
    Ok(rules)
}

fn deadly() -> Result<Rules, seccompiler::BackendError> {
    let mut rules: Rules = [DEADLY, DEADLY_LEGACY].concat().into_iter().map(|call| (call, Vec::new())).collect();
    let thread = u64::from(libc::CLONE_THREAD.unsigned_abs());
    rules.insert(libc::SYS_clone, vec![rule([bits(0, thread, 0)?])?]);
    Ok(rules)
}

fn rule<const N: usize>(conditions: [SeccompCondition; N]) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(conditions.into())
}

/// The argument at a position is this number. The kernel looks at 32 bits of these arguments.
fn at(position: u8, value: i64) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(position, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value.cast_unsigned())
}

/// These bits of the argument at a position are those of this number.
fn bits(position: u8, mask: u64, value: i64) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(position, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(mask), value.cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_can_be_built_for_every_purpose() {
        let arch = architecture().unwrap();
        for purpose in [Purpose::Run, Purpose::RunNetworked, Purpose::Compile] {
            let filter =
                SeccompFilter::new(allowed(purpose).unwrap(), SeccompAction::KillProcess, SeccompAction::Allow, arch);
            assert!(BpfProgram::try_from(filter.unwrap()).is_ok());
        }
        assert!(!deadly().unwrap().is_empty());
    }

    #[test]
    fn only_networked_runners_make_sockets_and_compilers_open_nothing() {
        assert!(!allowed(Purpose::Run).unwrap().contains_key(&libc::SYS_socket));
        assert!(allowed(Purpose::RunNetworked).unwrap().contains_key(&libc::SYS_socket));
        assert!(!allowed(Purpose::Compile).unwrap().contains_key(&libc::SYS_openat));
    }
}
