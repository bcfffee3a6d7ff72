//! The lines that are written to a file from now on, also when it is rotated or cut off.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// A longer line is none of a log's.
const MAX_LINE: usize = 64 << 10;

/// Read at a time.
const CHUNK: usize = 64 << 10;

/// A file that grows.
#[derive(Debug)]
pub struct Follow {
    path: PathBuf,
    file: File,
    inode: u64,
    /// The start of a line whose end is not written yet.
    rest: Vec<u8>,
}

impl Follow {
    /// Begins at the end of a file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn at_end(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self {
            path: path.to_owned(),
            inode: file.metadata()?.ino(),
            file,
            rest: Vec::new(),
        })
    }

    /// Hands over the lines that are whole since the last time.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn lines(&mut self, mut take: impl FnMut(&str)) -> io::Result<()> {
        self.read(&mut take)?;
        // Rotated: what stands under the name is another file, to be read from its beginning.
        let Ok(named) = fs::metadata(&self.path) else {
            // Between two files.
            return Ok(());
        };
        if named.ino() != self.inode {
            let file = File::open(&self.path)?;
            // What was written to the old one meanwhile.
            self.read(&mut take)?;
            self.inode = file.metadata()?.ino();
            self.file = file;
            self.rest.clear();
            return self.read(&mut take);
        }
        // Cut off and begun anew.
        if named.len() < self.file.stream_position()? {
            self.file.seek(SeekFrom::Start(0))?;
            self.rest.clear();
            return self.read(&mut take);
        }
        Ok(())
    }

    fn read(&mut self, take: &mut impl FnMut(&str)) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK];
        loop {
            let bytes = self.file.read(&mut chunk)?;
            if bytes == 0 {
                return Ok(());
            }
            let mut parts = chunk[..bytes].split(|byte| *byte == b'\n');
            self.rest.extend(parts.next().unwrap_or_default());
            for next in parts {
                take(&String::from_utf8_lossy(&self.rest));
                self.rest.clear();
                self.rest.extend(next);
            }
            if self.rest.len() > MAX_LINE {
                self.rest.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::fs::OpenOptions;
    use std::io::Write as _;

    use super::*;

    fn read(follow: &mut Follow) -> Vec<String> {
        let mut lines = Vec::new();
        follow.lines(|line| lines.push(line.to_owned())).unwrap();
        lines
    }

    #[test]
    fn lines_come_once_and_whole_also_from_a_rotated_file() {
        let directory = std::env::temp_dir().join(format!("follow-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("access.log");
        let append = |text: &str| {
            let file = OpenOptions::new().create(true).append(true).open(&path);
            file.unwrap().write_all(text.as_bytes()).unwrap();
        };
        append("before\n");
        let mut follow = Follow::at_end(&path).unwrap();
        assert_eq!(read(&mut follow), [""; 0]);
        append("one\ntw");
        assert_eq!(read(&mut follow), ["one"]);
        append("o\n");
        assert_eq!(read(&mut follow), ["two"]);
        append("last of the old\n");
        fs::rename(&path, directory.join("access.log.1")).unwrap();
        append("first of the new\n");
        assert_eq!(read(&mut follow), ["last of the old", "first of the new"]);
        fs::write(&path, "anew\n").unwrap();
        assert_eq!(read(&mut follow), ["anew"]);
        fs::remove_file(&path).unwrap();
        assert_eq!(read(&mut follow), [""; 0]);
        fs::remove_dir_all(&directory).unwrap();
    }
}
