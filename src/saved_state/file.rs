//! The file: a line that says which version of Postern wrote it and for which installation, a line of JSON, and a checksum over
//! both. It is replaced as a whole, and read as a whole or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256, digest};
use rustix::process::geteuid;

use super::state::SavedState;
use crate::store::{Object, Shared};
use crate::text::Hex;
use crate::tls::Fingerprint;

/// Where the state of one installation is saved.
#[derive(Clone, Debug)]
pub struct StateFile {
    folder: PathBuf,
    /// Of what tells it from others.
    installation: Fingerprint,
}

/// Why a file is passed over. No text quotes what the file holds.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("it is no regular file")]
    NoFile,
    #[error("it belongs to another user, with the uid {0}")]
    Owner(u32),
    #[error("it is larger than 256 MiB")]
    TooLarge,
    #[error("it does not begin as a saved state does")]
    NoState,
    #[error("it is damaged: its checksum does not match")]
    Damaged,
    #[error("another version of Postern wrote it")]
    Version,
    #[error("it is of another cluster or class, or of other namespaces")]
    Installation,
    #[error("its content is not understood")]
    Content,
}

const NAME: &str = "state";
const NEW: &str = "state.new";
const MAGIC: &str = "postern-state ";
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " ");
const MAX_SIZE: u64 = 256 << 20;
/// SHA-256 in hexadecimal, and a line feed.
const CHECKSUM: usize = 65;

impl StateFile {
    /// In this folder, which is made when something is saved.
    pub fn new(folder: &Path, installation: Fingerprint) -> Self {
        Self {
            folder: folder.to_owned(),
            installation,
        }
    }

    /// The name of the file.
    pub fn path(&self) -> PathBuf {
        self.folder.join(NAME)
    }

    /// What was saved last. None: nothing was.
    pub fn read(&self) -> Result<Option<SavedState<Object>>, Unusable> {
        let file = match File::open(self.path()) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(Unusable::NoFile);
        }
        if metadata.uid() != geteuid().as_raw() {
            return Err(Unusable::Owner(metadata.uid()));
        }
        let mut bytes = Vec::new();
        file.take(MAX_SIZE + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_SIZE {
            return Err(Unusable::TooLarge);
        }
        self.decode(&bytes).map(Some)
    }

    /// Replaces what was saved before. A reader finds the one or the other, never a part.
    pub fn write(&self, state: &SavedState<Shared>) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let new = self.folder.join(NEW);
        let written = self.write_to(&new, state);
        if written.is_err() {
            // It would take the space that the next attempt needs.
            let _ = fs::remove_file(&new);
        }
        written
    }

    fn write_to(&self, new: &Path, state: &SavedState<Shared>) -> io::Result<()> {
        // What an attempt left that did not end. A file made anew has our mode and our owner from its first byte on.
        match fs::remove_file(new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(new)?;
        let file = self.encode(state, file)?;
        file.sync_all()?;
        fs::rename(new, self.path())?;
        File::open(&self.folder)?.sync_all()
    }

    fn encode<W: Write>(&self, state: &SavedState<Shared>, to: W) -> io::Result<W> {
        let mut to = BufWriter::new(Summed::new(to));
        writeln!(to, "{MAGIC}{VERSION}{}", self.installation)?;
        serde_json::to_writer(&mut to, state)?;
        to.write_all(b"\n")?;
        let Summed { mut to, sum, .. } = to.into_inner().map_err(io::IntoInnerError::into_error)?;
        writeln!(to, "{}", Hex(sum.finish().as_ref()))?;
        Ok(to)
    }

    fn decode(&self, bytes: &[u8]) -> Result<SavedState<Object>, Unusable> {
        if !bytes.starts_with(MAGIC.as_bytes()) {
            return Err(Unusable::NoState);
        }
        let end = bytes.len().checked_sub(CHECKSUM).ok_or(Unusable::Damaged)?;
        let (summed, sum) = bytes.split_at(end);
        if format!("{}\n", Hex(digest(&SHA256, summed).as_ref())).as_bytes() != sum {
            return Err(Unusable::Damaged);
        }
        let rest = summed.strip_prefix(MAGIC.as_bytes()).ok_or(Unusable::Damaged)?;
        let rest = rest.strip_prefix(VERSION.as_bytes()).ok_or(Unusable::Version)?;
        let installation = format!("{}\n", self.installation);
        let state = rest
            .strip_prefix(installation.as_bytes())
            .ok_or(Unusable::Installation)?;
        // An error of the parser could quote what must not be seen.
        serde_json::from_slice(state).map_err(|_| Unusable::Content)
    }
}

/// Sums up what passes, and lets no more pass than a reader takes.
struct Summed<W> {
    to: W,
    sum: Context,
    room: u64,
}

impl<W> Summed<W> {
    fn new(to: W) -> Self {
        Self {
            to,
            sum: Context::new(&SHA256),
            room: MAX_SIZE - CHECKSUM as u64,
        }
    }
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.room {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 256 MiB"));
        }
        let written = self.to.write(bytes)?;
        self.sum.update(&bytes[..written]);
        self.room -= written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests;
