//! Files that are there whole or not at all, with the rights that any file is made with.

use std::{
    fs::{File, Permissions},
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use tempfile::{Builder, NamedTempFile, TempPath};

/// What the umask takes from; the rights of a temporary file would keep out who may read the files beside it.
const MODE: u32 = 0o666;

/// Writes a file, in the place of one that may be there.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    written(path, bytes)?.persist(path)?;
    sync_folder(path)
}

/// Writes a file that must not be there.
pub(super) fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    written(path, bytes)?.persist_noclobber(path)?;
    sync_folder(path)
}

/// Gives the file `from` the name `to`, which no file may have. [`sync_folder`] makes that last: it can fail when the name is
/// there already, and whoever has more to do must know which of the two it was.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let mut from = TempPath::try_from_path(from)?;
    from.disable_cleanup(true);
    Ok(from.persist_noclobber(to)?)
}

fn written(path: &Path, bytes: &[u8]) -> io::Result<NamedTempFile> {
    let mut file = Builder::new().permissions(Permissions::from_mode(MODE)).tempfile_in(folder_of(path))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// Puts the folder of `path` on the disk, where that can be: a name outlives a power cut only then.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    unless_refused(File::open(folder_of(path)).and_then(|folder| folder.sync_all()))
}

/// Some file systems cannot sync a folder (network shares, FUSE), and a folder that may be written need not be one that may be
/// read. The name is given by then, and nothing better can be had there; a disk that fails is another matter.
fn unless_refused(synced: io::Result<()>) -> io::Result<()> {
    use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    match synced {
        Err(error) if matches!(error.kind(), InvalidInput | Unsupported | PermissionDenied) => Ok(()),
        synced => synced,
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_a_disk_that_fails_spoils_what_has_its_name() {
        let told = |number| unless_refused(Err(io::Error::from_raw_os_error(number)));
        // EACCES, EPERM, EINVAL.
        for refusal in [13, 1, 22] {
            assert!(told(refusal).is_ok(), "{refusal}");
        }
        // The number of EOPNOTSUPP is not the same everywhere.
        assert!(unless_refused(Err(io::ErrorKind::Unsupported.into())).is_ok());
        // EIO, ENOSPC, ENOENT.
        for failure in [5, 28, 2] {
            assert!(told(failure).is_err(), "{failure}");
        }
    }

    /// Of a folder that may be written and not read. For root there is no such folder: the test above has to do.
    #[test]
    fn a_folder_that_cannot_be_opened_takes_files() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o300)).unwrap();
        let path = folder.path().join("a");
        create(&path, b"1").unwrap();
        replace(&path, b"2").unwrap();
        rename(&path, &folder.path().join("b")).unwrap();
        sync_folder(&path).unwrap();
        assert_eq!(fs::read(folder.path().join("b")).unwrap(), b"2");
        // Or it could not be removed.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
    }
}
