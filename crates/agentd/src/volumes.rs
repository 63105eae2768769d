//! The directories of volumes: `volumes/volume-SERIAL`, named by the number that the master gave, never by what a client calls
//! it. The data is the runners'; the directory is the agent's.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::PathBuf;

use holm_model::{PreparedVolume, Volume, VolumeMount};

use crate::remove::remove_tree;

/// Where volumes are, and who works in them.
#[derive(Clone, Debug)]
pub(crate) struct Volumes {
    dir: PathBuf,
    /// The group of runners that are not of the agent's user.
    group: Option<u32>,
}

impl Volumes {
    /// Below a directory that exists.
    pub(crate) fn new(dir: PathBuf, group: Option<u32>) -> Volumes {
        Volumes { dir, group }
    }

    /// Makes the directories of these volumes and removes all others, with what is in them. What fails is tried again when the
    /// master says next which volumes there are.
    pub(crate) fn keep(&self, volumes: &[Volume]) {
        for volume in volumes {
            if let Err(error) = self.make(volume) {
                tracing::error!(volume = %volume.id, role = %volume.role, %error, "a volume's directory cannot be made");
            }
        }
        let kept: BTreeSet<PathBuf> = volumes.iter().map(|volume| self.path(volume)).collect();
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if kept.contains(&path) {
                continue;
            }
            match remove_tree(&path) {
                Ok(()) => tracing::info!(path = %path.display(), "a volume was destroyed"),
                Err(error) => tracing::error!(path = %path.display(), %error, "a volume cannot be removed"),
            }
        }
    }

    /// What a runner is told of the volumes that its launch mounts; their directories are there afterwards.
    pub(crate) fn mount(&self, mounts: &[VolumeMount], volumes: &[Volume]) -> io::Result<Vec<PreparedVolume>> {
        let prepared = |(mount, volume): (&VolumeMount, &Volume)| {
            self.make(volume)?;
            Ok(PreparedVolume {
                path: self.path(volume).to_string_lossy().into(),
                guest: mount.path.clone(),
                writable: !mount.read_only,
                bytes: volume.bytes,
            })
        };
        mounts.iter().zip(volumes).map(prepared).collect()
    }

    /// The directories that a runner may reach, and whether for writing.
    pub(crate) fn grounds(&self, volumes: &[(Volume, bool)]) -> Vec<(PathBuf, bool)> {
        volumes.iter().map(|(volume, writable)| (self.path(volume), *writable)).collect()
    }

    fn path(&self, volume: &Volume) -> PathBuf {
        self.dir.join(format!("volume-{}", volume.serial))
    }

    /// Runners of other users get at it through their group, and at nothing else beside it.
    fn make(&self, volume: &Volume) -> io::Result<()> {
        let path = self.path(volume);
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let Some(group) = self.group else { return Ok(()) };
        std::os::unix::fs::chown(&path, None, Some(group))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o770))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(serial: u64, id: &str) -> Volume {
        Volume { serial, id: id.parse().unwrap(), role: "eng".parse().unwrap(), bytes: 1 << 20 }
    }

    #[test]
    fn only_the_volumes_that_there_are_keep_their_data() {
        let dir = tempfile::tempdir().unwrap();
        let volumes = Volumes::new(dir.path().to_owned(), None);
        let (old, kept, new) = (volume(1, "data"), volume(2, "logs"), volume(3, "data"));
        volumes.keep(&[old.clone(), kept.clone()]);
        for volume in [&old, &kept] {
            fs::write(volumes.path(volume).join("file"), "kept").unwrap();
        }
        // Destroyed and made again under the same name: another volume.
        volumes.keep(&[kept.clone(), new.clone()]);
        assert!(volumes.path(&kept).join("file").exists());
        assert!(!volumes.path(&old).exists());
        assert_eq!(fs::read_dir(volumes.path(&new)).unwrap().count(), 0);
        let mount = VolumeMount { id: new.id.clone(), path: "db".into(), read_only: true };
        let mounted = volumes.mount(&[mount], &[new]).unwrap();
        assert!(mounted[0].path.ends_with("volume-3") && !mounted[0].writable);
    }
}
