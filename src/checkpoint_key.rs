//! The file of the key that signs checkpoints: made once, read at every start, and nobody's but its owner's. What stands
//! in it is [`CheckpointKey`]'s business.

use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::process::geteuid;
use zeroize::Zeroizing;

use crate::merkle::{CheckpointKey, KeyError};

/// Root, who may own the file as well: a mounted secret is root's.
const ROOT: u32 = 0;
/// What nobody but the owner may do.
const OTHERS: u32 = 0o077;
/// The same for a file of root's, which the service can only read as a member of its group.
const OTHERS_BUT_GROUP_READS: u32 = 0o037;
/// Far more than a key takes; what is longer is something else.
const MAX_BYTES: u64 = 4096;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// A key that is there is never overwritten: what it signed could no longer be told from a forgery.
    #[error("{} exists already; it is not overwritten, because checkpoints may have been signed with it", .0.display())]
    Exists(PathBuf),
    /// The file could not be made.
    #[error("cannot write the checkpoint key {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no such file.
    #[error(
        "there is no checkpoint key {}: make one with `auditlog key new`, or name another file by \
         AUDITLOG_CHECKPOINT_KEY_FILE", .0.display()
    )]
    Missing(PathBuf),
    /// The file could not be read.
    #[error("cannot read the checkpoint key {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others may read it, or write it.
    #[error("the checkpoint key {} has mode {mode:04o}, so that others than its owner can use it: chmod 600 it, and \
         think about whether it is still secret", path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It belongs to somebody else, who can change it at any time.
    #[error("the checkpoint key {} belongs to user {owner}, but the service runs as user {user}: chown it", path.display())]
    Owner {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who asks.
        user: u32,
    },
    /// Something else stands in it.
    #[error("{} cannot be used: {error}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        error: KeyError,
    },
    /// The system gave no random bits.
    #[error("the system gives no random bits for a key")]
    Random(#[source] io::Error),
}

/// Makes a new key and its file, with mode 0600. When this returns, the key is on the disk.
///
/// # Errors
/// [`KeyFileError::Exists`] if there is anything at `path`, or if the file cannot be written; what was begun of it is
/// then removed.
pub fn create(path: &Path) -> Result<CheckpointKey, KeyFileError> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *seed).map_err(|error| KeyFileError::Random(io::Error::other(error)))?;
    let key = CheckpointKey::from_seed(&seed);
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => KeyFileError::Exists(path.to_owned()),
        _ => KeyFileError::Write { path: path.to_owned(), source },
    };
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    write(file, path, key.to_text().as_bytes()).map_err(|source| {
        // The file is ours, and half a key is worse than none; that it cannot be removed adds nothing to the error.
        let _ = std::fs::remove_file(path);
        failed(source)
    })?;
    Ok(key)
}

/// The directory is synced too: a key that has signed must not be gone after a power cut.
fn write(mut file: File, path: &Path, text: &[u8]) -> io::Result<()> {
    file.write_all(text)?;
    file.sync_all()?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

/// Reads the key at `path`, which nobody else may be able to read or to change.
pub fn load(path: &Path) -> Result<CheckpointKey, KeyFileError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => KeyFileError::Missing(path.to_owned()),
        _ => KeyFileError::Read { path: path.to_owned(), source },
    };
    let file = File::open(path).map_err(failed)?;
    // Asked of the open file, so that it is the one that is read.
    check_access(path, &file.metadata().map_err(failed)?, geteuid().as_raw())?;
    let mut text = Zeroizing::new(String::with_capacity(MAX_BYTES as usize));
    file.take(MAX_BYTES).read_to_string(&mut text).map_err(failed)?;
    CheckpointKey::parse(&text).map_err(|error| KeyFileError::Key { path: path.to_owned(), error })
}

/// Mine and only mine, or root's and at most readable by a group: so are secrets that Kubernetes mounts.
fn check_access(path: &Path, metadata: &Metadata, user: u32) -> Result<(), KeyFileError> {
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    if owner != user && owner != ROOT {
        return Err(KeyFileError::Owner { path: path.to_owned(), owner, user });
    }
    let forbidden = if owner == user { OTHERS } else { OTHERS_BUT_GROUP_READS };
    match mode & forbidden {
        0 => Ok(()),
        _ => Err(KeyFileError::Mode { path: path.to_owned(), mode }),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use rstest::rstest;

    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn reads_the_key_that_it_made_which_only_the_owner_can() {
        let folder = folder();
        let path = folder.path().join("checkpoint.key");
        let made = create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(load(&path).unwrap().public_key(), made.public_key());
        let other = create(&folder.path().join("other.key")).unwrap();
        assert_ne!(other.public_key(), made.public_key());
    }

    #[test]
    fn overwrites_nothing() {
        let folder = folder();
        let path = folder.path().join("checkpoint.key");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(create(&path), Err(KeyFileError::Exists(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        std::os::unix::fs::symlink("nowhere", folder.path().join("link")).unwrap();
        assert!(matches!(create(&folder.path().join("link")), Err(KeyFileError::Exists(_))));
        assert!(matches!(create(&folder.path().join("no/such/folder")), Err(KeyFileError::Write { .. })));
    }

    #[rstest]
    #[case(0o600, true)]
    #[case(0o400, true)]
    #[case(0o640, false)]
    #[case(0o604, false)]
    #[case(0o620, false)]
    #[case(0o660, false)]
    #[case(0o777, false)]
    fn refuses_a_file_that_others_can_use(#[case] mode: u32, #[case] accepted: bool) {
        let folder = folder();
        let path = folder.path().join("checkpoint.key");
        let made = create(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        match load(&path) {
            Ok(key) => assert!(accepted && key.public_key() == made.public_key()),
            Err(KeyFileError::Mode { mode: found, .. }) => assert!(!accepted && found == mode),
            Err(error) => panic!("{error}"),
        }
    }

    /// The rule by itself: a test cannot give files away.
    #[rstest]
    #[case(0, 0o400, true)]
    #[case(0, 0o600, true)]
    #[case(1, 0o600, false)]
    fn a_file_of_somebody_else_is_refused_unless_it_is_roots(
        #[case] distance: u32,
        #[case] mode: u32,
        #[case] accepted: bool,
    ) {
        let folder = folder();
        let path = folder.path().join("checkpoint.key");
        create(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let metadata = fs::metadata(&path).unwrap();
        let user = metadata.uid() + distance;
        let is_roots = metadata.uid() == ROOT;
        assert_eq!(check_access(&path, &metadata, user).is_ok(), accepted || is_roots);
    }

    #[test]
    fn says_what_is_wrong_with_the_file() {
        let folder = folder();
        let path = folder.path().join("checkpoint.key");
        let text = |result: Result<CheckpointKey, KeyFileError>| {
            result.unwrap_err().to_string().replace(folder.path().to_str().unwrap(), "")
        };
        insta::assert_snapshot!(text(load(&path)), @"there is no checkpoint key /checkpoint.key: make one with `auditlog key new`, or name another file by AUDITLOG_CHECKPOINT_KEY_FILE");
        create(&path).unwrap();
        fs::write(&path, "-----BEGIN PRIVATE KEY-----\nsecret").unwrap();
        insta::assert_snapshot!(text(load(&path)), @"/checkpoint.key cannot be used: it holds no checkpoint key, which is one line that begins with PRIVATE+KEY+auditlog-v1+");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        insta::assert_snapshot!(text(load(&path)), @"the checkpoint key /checkpoint.key has mode 0644, so that others than its owner can use it: chmod 600 it, and think about whether it is still secret");
        insta::assert_snapshot!(text(create(&path)), @"/checkpoint.key exists already; it is not overwritten, because checkpoints may have been signed with it");
        assert!(matches!(load(folder.path()), Err(KeyFileError::Read { .. } | KeyFileError::Mode { .. })));
    }
}
