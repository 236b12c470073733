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

/// Puts the folder of `path` on the disk: a name outlives a power cut only then.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
