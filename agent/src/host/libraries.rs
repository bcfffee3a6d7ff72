//! The TLS libraries that processes of this host have loaded, by inode: one file is one place to
//! attach, however many processes map it and by whatever path. A program that holds such a library and
//! exports it, as Node does for its modules, is one as well.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use memchr::memmem;

use super::cgroup::unescape;
use super::openssl;

/// Of a file this much is searched for the version. libcrypto has 5 MiB today, and Node 100; a bound keeps
/// a file that merely has the name from being read forever.
const SEARCH_BYTES: u64 = 256 << 20;

/// What a look at all processes found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// In order of device and inode.
    pub libraries: Vec<LibraryFile>,
    /// Processes whose maps may not be read (CAP_SYS_PTRACE is missing).
    pub unreadable: usize,
}

/// A mapped libssl, or a program that holds one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LibraryFile {
    /// Device as the kernel writes it in maps, `major:minor` in hex. On overlay and btrfs this
    /// is not the device that stat(2) tells.
    pub device: String,
    pub inode: u64,
    /// How this process reaches the file: through `/proc/PID/root`, so that it leads into the
    /// right container, or through `/proc/PID/map_files` where no path leads to it any more.
    pub path: PathBuf,
    /// Base name, such as `libssl.so.3`.
    pub name: String,
    /// The path as the processes see it.
    pub path_in_process: PathBuf,
    /// libcrypto as mapped by the same process, reached the same way.
    pub crypto: Option<PathBuf>,
    /// Processes that map it, rising.
    pub pids: Vec<u32>,
    /// The file was deleted or replaced on disk: its processes run what an upgrade left behind.
    pub deleted: bool,
}

/// Device and inode number, as in maps.
type FileId = (String, u64);

/// Programs of which it is remembered whether they hold a library. Beyond that all are forgotten, and
/// looked into again.
const MAX_PROGRAMS: usize = 4096;

/// Finds libraries in processes, and remembers programs that it looked into.
#[derive(Debug)]
pub struct Finder {
    proc_root: PathBuf,
    /// Whether a program holds a library, by file. An inode that was given to another file has another
    /// size, or changed later.
    programs: RefCell<HashMap<FileId, (ProgramStamp, bool)>>,
}

/// Size in bytes, and when the inode last changed, seconds and nanoseconds.
type ProgramStamp = (u64, i64, i64);

impl Finder {
    /// Of a procfs, which is `/proc` but in tests.
    pub fn new(proc_root: &Path) -> Self {
        Self {
            proc_root: proc_root.to_owned(),
            programs: RefCell::default(),
        }
    }

    /// Looks at every process. Those that end meanwhile are passed over.
    ///
    /// # Errors
    /// When there is no such procfs.
    pub fn scan(&self) -> io::Result<Scan> {
        let mut pids: Vec<u32> = fs::read_dir(&self.proc_root)?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        pids.sort_unstable();

        let mut found = BTreeMap::new();
        let mut unreadable = 0;
        for pid in pids {
            match self.add_process(&mut found, pid) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => unreadable += 1,
                // Where it failed otherwise, the process ended.
                _ => {}
            }
        }
        Ok(Scan {
            libraries: found.into_values().collect(),
            unreadable,
        })
    }

    /// Looks at one process, such as one that has just replaced its image.
    ///
    /// # Errors
    /// When it ended, or may not be looked at.
    pub fn scan_process(&self, pid: u32) -> io::Result<Vec<LibraryFile>> {
        let mut found = BTreeMap::new();
        self.add_process(&mut found, pid)?;
        Ok(found.into_values().collect())
    }

    fn add_process(&self, found: &mut BTreeMap<FileId, LibraryFile>, pid: u32) -> io::Result<()> {
        let directory = self.proc_root.join(pid.to_string());
        let maps = fs::read(directory.join("maps"))?;
        let maps = String::from_utf8_lossy(&maps);
        let mappings: Vec<Mapping<'_>> = maps.lines().filter_map(Mapping::parse).collect();
        let libraries = mappings.iter().filter(|mapping| mapping.named("libssl"));
        let program = self.program(&directory, &mappings);
        for mapping in libraries.chain(program) {
            let library = found
                .entry((mapping.device.to_owned(), mapping.inode))
                .or_insert_with(|| describe(mapping, &mappings, &self.proc_root, pid));
            if library.pids.last() != Some(&pid) {
                library.pids.push(pid);
            }
        }
        Ok(())
    }

    /// The mapping of the process's program, where that holds a library and exports it.
    fn program<'m, 'a>(
        &self,
        directory: &Path,
        mappings: &'m [Mapping<'a>],
    ) -> Option<&'m Mapping<'a>> {
        let link = directory.join("exe");
        let path = fs::read_link(&link).ok()?;
        let path = path.to_string_lossy();
        let path = Path::new(path.strip_suffix(" (deleted)").unwrap_or(&path));
        let mapping = mappings
            .iter()
            .find(|mapping| unescape(mapping.path) == path)?;
        // Opened as the process has it, wherever that is.
        let metadata = fs::metadata(&link).ok()?;
        let stamp = (metadata.size(), metadata.ctime(), metadata.ctime_nsec());
        let id = (mapping.device.to_owned(), mapping.inode);
        let mut programs = self.programs.borrow_mut();
        if let Some((known, holds)) = programs.get(&id)
            && *known == stamp
        {
            return holds.then_some(mapping);
        }
        if programs.len() >= MAX_PROGRAMS {
            programs.clear();
        }
        let holds = File::open(&link).is_ok_and(|file| openssl::exports_handshake(&file));
        programs.insert(id, (stamp, holds));
        holds.then_some(mapping)
    }
}

/// A library file named by its path, as if some process mapped it.
///
/// # Errors
/// Whatever opening the file returns; a directory is an error too.
pub fn named(path: &Path) -> io::Result<LibraryFile> {
    let path = path.canonicalize()?;
    let metadata = fs::File::open(&path)?.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "this is no regular file",
        ));
    }
    let device = metadata.dev();
    Ok(LibraryFile {
        device: format!(
            "{:02x}:{:02x}",
            rustix::fs::major(device),
            rustix::fs::minor(device)
        ),
        inode: metadata.ino(),
        name: path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default(),
        path_in_process: path.clone(),
        path,
        crypto: None,
        pids: Vec::new(),
        deleted: false,
    })
}

fn describe(
    mapping: &Mapping<'_>,
    mappings: &[Mapping<'_>],
    proc_root: &Path,
    pid: u32,
) -> LibraryFile {
    let (path, deleted) = mapping.reach(proc_root, pid);
    let crypto = mappings
        .iter()
        .find(|other| other.named("libcrypto"))
        .map(|other| other.reach(proc_root, pid).0);
    LibraryFile {
        device: mapping.device.to_owned(),
        inode: mapping.inode,
        path,
        name: mapping.base_name().to_owned(),
        path_in_process: unescape(mapping.path),
        crypto,
        pids: Vec::new(),
        deleted,
    }
}

/// One executable, file-backed line of proc_pid_maps(5).
#[derive(Debug, PartialEq, Eq)]
struct Mapping<'a> {
    range: &'a str,
    device: &'a str,
    inode: u64,
    /// Without ` (deleted)`, escapes as they are.
    path: &'a str,
    deleted: bool,
}

impl<'a> Mapping<'a> {
    /// `7f…-7f… r-xp 0001f000 fe:00 5103 /usr/lib/libssl.so.3 (deleted)`
    fn parse(line: &'a str) -> Option<Self> {
        let (range, rest) = line.split_once(' ')?;
        let (permissions, rest) = rest.split_once(' ')?;
        let (_offset, rest) = rest.split_once(' ')?;
        let (device, rest) = rest.split_once(' ')?;
        let (inode, path) = rest.split_once(' ')?;
        let inode = inode.parse().ok().filter(|inode| *inode != 0)?;
        let path = path.trim_start_matches(' ');
        if permissions.as_bytes().get(2) != Some(&b'x') || !path.starts_with('/') {
            return None;
        }
        let (path, deleted) = match path.strip_suffix(" (deleted)") {
            Some(path) => (path, true),
            None => (path, false),
        };
        Some(Self {
            range,
            device,
            inode,
            path,
            deleted,
        })
    }

    fn base_name(&self) -> &'a str {
        self.path.rsplit('/').next().unwrap_or(self.path)
    }

    /// Whether the base name is `STEM.so` or `STEM.so.VERSION`; also `STEM-HASH.so.VERSION`, as Python's
    /// packages have those that they bring along.
    fn named(&self, stem: &str) -> bool {
        let Some(rest) = self.base_name().strip_prefix(stem) else {
            return false;
        };
        let rest = match rest.strip_prefix('-') {
            Some(hashed) => hashed.trim_start_matches(|digit: char| digit.is_ascii_hexdigit()),
            None => rest,
        };
        rest.strip_prefix(".so")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }

    /// A path that opens this very file, and whether its own path no longer does.
    fn reach(&self, proc_root: &Path, pid: u32) -> (PathBuf, bool) {
        let path = unescape(self.path);
        let relative = path.strip_prefix("/").unwrap_or(&path);
        let through_root = proc_root.join(format!("{pid}/root")).join(relative);
        let replaced =
            || fs::metadata(&through_root).is_ok_and(|metadata| metadata.ino() != self.inode);
        if self.deleted || replaced() {
            (
                proc_root.join(format!("{pid}/map_files/{}", self.range)),
                true,
            )
        } else {
            (through_root, false)
        }
    }
}

/// The version of a library, such as `OpenSSL 3.0.19`: libssl from OpenSSL 3 on does not hold it,
/// its libcrypto does. `None` where neither can be read or tells.
pub fn detect_version(library: &LibraryFile) -> Option<String> {
    let sibling = library
        .path
        .parent()
        .map(|directory| directory.join(library.name.replacen("libssl", "libcrypto", 1)));
    [Some(library.path.clone()), library.crypto.clone(), sibling]
        .into_iter()
        .flatten()
        .find_map(|path| {
            File::open(path)
                .ok()
                .and_then(|file| search_version(file).ok()?)
        })
}

/// Names that stand before a version number in the libraries that call themselves libssl.
const PRODUCTS: [&[u8]; 2] = [b"OpenSSL ", b"LibreSSL "];
/// What they end with.
const COMMON: &[u8] = b"SSL ";
/// Enough of a version text to recognise it, such as `OpenSSL 1.1.1 (compatible; BoringSSL)`.
const VERSION_BYTES: usize = 64;

fn search_version(file: impl Read) -> io::Result<Option<String>> {
    let mut file = file.take(SEARCH_BYTES);
    let mut window = Vec::with_capacity(2 * CHUNK_BYTES);
    loop {
        let before = window.len();
        (&mut file)
            .take(CHUNK_BYTES as u64)
            .read_to_end(&mut window)?;
        let end = window.len() == before;
        // A match that may go on in the next chunk waits for it.
        let searchable = if end {
            window.len()
        } else {
            window.len().saturating_sub(VERSION_BYTES)
        };
        if let Some(version) = find_version(&window, searchable) {
            return Ok(Some(version));
        }
        if end {
            return Ok(None);
        }
        window.drain(..searchable);
    }
}

const CHUNK_BYTES: usize = 256 << 10;

/// The first version text that starts before `searchable`.
fn find_version(bytes: &[u8], searchable: usize) -> Option<String> {
    // Searched for as a whole, which goes at the speed of memory.
    memmem::find_iter(bytes, COMMON)
        .flat_map(|common| {
            let end = common + COMMON.len();
            let start = move |name: &&'static [u8]| Some((end.checked_sub(name.len())?, *name));
            PRODUCTS.iter().filter_map(start)
        })
        .filter(|(at, name)| *at < searchable && bytes[*at..].starts_with(name))
        .find_map(|(at, name)| {
            let rest = &bytes[at..bytes.len().min(at + VERSION_BYTES)];
            let text: String = rest
                .iter()
                .take_while(|byte| (b' '..=b'~').contains(byte))
                .map(|&byte| char::from(byte))
                .collect();
            if text.contains("BoringSSL") {
                return Some("BoringSSL".to_owned());
            }
            let number = text[name.len()..].split(' ').next()?;
            // A program may also say which `OpenSSL 3.0` it wants, say.
            let is_number = number.starts_with(|first: char| first.is_ascii_digit())
                && number.matches('.').count() == 2;
            is_number.then(|| format!("{}{number}", &text[..name.len()]))
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use crate::host::process::tests::ProcTree;

    const LIBSSL: &str = "/usr/lib/x86_64-linux-gnu/libssl.so.3";

    fn find(tree: &ProcTree) -> Scan {
        Finder::new(tree.root()).scan().unwrap()
    }

    fn maps(range: &str, inode: u64, path: &str) -> String {
        format!(
            "{range} r--p 00000000 fe:00 {inode}                       {path}\n\
             {range} r-xp 0001f000 fe:00 {inode}                       {path}\n\
             7ffd0000-7ffe0000 rw-p 00000000 00:00 0                   [stack]\n"
        )
    }

    #[test]
    fn one_inode_is_one_library_however_many_processes_map_it() {
        let tree = ProcTree::new();
        tree.write("10/maps", maps("7f01-7f02", 51, LIBSSL));
        tree.write("9/maps", maps("7f03-7f04", 51, LIBSSL));
        tree.write("11/maps", maps("7f05-7f06", 52, "/opt/lib/libssl.so.1.1"));
        tree.write("self/maps", maps("7f07-7f08", 53, LIBSSL));
        let finder = Finder::new(tree.root());
        let scan = finder.scan().unwrap();
        assert_eq!(scan.libraries.len(), 2);
        let first = &scan.libraries[0];
        assert_eq!((first.inode, first.device.as_str()), (51, "fe:00"));
        assert_eq!(first.pids, [9, 10]);
        assert_eq!(first.path, tree.root().join("9/root").join(&LIBSSL[1..]));
        assert_eq!(first.path_in_process, Path::new(LIBSSL));
        assert!(!first.deleted);
        assert_eq!(scan.libraries[1].name, "libssl.so.1.1");
        assert_eq!(finder.scan_process(11).unwrap()[0].inode, 52);
    }

    #[test]
    fn only_executable_mappings_of_the_right_name_count() {
        for (path, counts) in [
            ("/lib/libssl.so", true),
            ("/lib/libssl.so.3", true),
            ("/lib/a\\040b/libssl.so.1.1.1k", true),
            ("/opt/psycopg2_binary.libs/libssl-1e6df96b.so.1.1", true),
            ("/usr/lib/libssl-tools.so", false),
            ("/usr/lib/libssl3.so", false),
            ("/lib/libssl.socket", false),
            ("/lib/mylibssl.so.3", false),
            ("/lib/libssl.so.3/other", false),
        ] {
            let tree = ProcTree::new();
            tree.write("10/maps", maps("7f01-7f02", 51, path));
            assert_eq!(find(&tree).libraries.len(), usize::from(counts), "{path}");
        }
        let tree = ProcTree::new();
        tree.write("10/maps", format!("7f01-7f02 r--p 0 fe:00 51 {LIBSSL}\n"));
        assert_eq!(find(&tree).libraries, []);
    }

    #[test]
    fn deleted_and_replaced_files_are_reached_through_their_mapping() {
        let tree = ProcTree::new();
        tree.write(
            "10/maps",
            maps("7f01-7f02", 51, &format!("{LIBSSL} (deleted)")),
        );
        let deleted = find(&tree).libraries.remove(0);
        assert!(deleted.deleted);
        assert_eq!(deleted.name, "libssl.so.3");
        assert_eq!(deleted.path, tree.root().join("10/map_files/7f01-7f02"));

        // The path leads to another inode: an upgrade put a new file in its place.
        tree.write("10/maps", maps("7f01-7f02", u64::MAX, LIBSSL));
        tree.write(&format!("10/root{LIBSSL}"), "new");
        let replaced = find(&tree).libraries.remove(0);
        assert!(replaced.deleted);
        assert_eq!(replaced.path, tree.root().join("10/map_files/7f01-7f02"));
    }

    #[test]
    fn odd_maps_are_passed_over() {
        let tree = ProcTree::new();
        tree.write("10/maps", "\n \nx\n7f-8f r-xp\n7f-8f r-xp 0 fe:00 0 /libssl.so\n7f-8f r-xp 0 fe:00 x /libssl.so\n7f r 0 a 1 /libssl.so\n");
        tree.write("11/maps", [0xff, 0xfe, b'\n']);
        assert_eq!(find(&tree), Scan::default());
        assert!(Finder::new(Path::new("/nonexistent")).scan().is_err());
    }

    #[test]
    fn a_program_counts_that_exports_the_library_inside_of_it() {
        let tree = ProcTree::new();
        for (pid, program) in [(10, "/opt/node"), (11, "/bin/cat")] {
            tree.write(&format!("{pid}/maps"), maps("7f01-7f02", pid, program));
        }
        // What it links to stands for what the process runs; this test exports no such function.
        let test = std::env::current_exe().unwrap();
        let test = test.to_str().unwrap();
        tree.write("12/maps", maps("7f01-7f02", 12, test));
        tree.link("12/exe", test);
        let finder = Finder::new(tree.root());
        assert_eq!(finder.scan().unwrap().libraries, []);
        let (id, entry) = finder
            .programs
            .borrow()
            .iter()
            .next()
            .map(|(id, entry)| (id.clone(), *entry))
            .unwrap();
        assert_eq!((id.1, entry.1), (12, false));
        // Once looked into, it is not again while it is the same.
        finder
            .programs
            .borrow_mut()
            .insert(id.clone(), (entry.0, true));
        assert_eq!(finder.scan().unwrap().libraries[0].inode, 12);
        finder.programs.borrow_mut().insert(id, ((0, 0, 0), true));
        assert_eq!(finder.scan().unwrap().libraries, []);
    }

    #[test]
    fn reads_versions_of_every_vendor() {
        for (content, version) in [
            ("x\0OpenSSL 3.0.19 27 Jan 2026\0", Some("OpenSSL 3.0.19")),
            ("OpenSSL 1.1.1w  11 Sep 2023", Some("OpenSSL 1.1.1w")),
            ("LibreSSL 3.8.2\0", Some("LibreSSL 3.8.2")),
            ("OpenSSL 1.1.1 (compatible; BoringSSL)\0", Some("BoringSSL")),
            (
                "part of OpenSSL project\0OpenSSL 3.5.1\0",
                Some("OpenSSL 3.5.1"),
            ),
            (
                "needs OpenSSL 3.0\0OpenSSL 3.0.19 27 Jan 2026",
                Some("OpenSSL 3.0.19"),
            ),
            ("OpenSSL ", None),
            ("", None),
        ] {
            let found = search_version(content.as_bytes()).unwrap();
            assert_eq!(found.as_deref(), version, "{content}");
        }
    }

    #[test]
    fn finds_a_version_across_chunks_and_stops_at_its_bound() {
        for before in [
            CHUNK_BYTES - 70,
            CHUNK_BYTES - 8,
            CHUNK_BYTES - 1,
            CHUNK_BYTES,
        ] {
            let mut content = vec![b'O'; before];
            content.extend(b"\0OpenSSL 3.0.19 27 Jan 2026\0");
            content.extend(vec![0; CHUNK_BYTES]);
            let version = search_version(content.as_slice()).unwrap();
            assert_eq!(version.as_deref(), Some("OpenSSL 3.0.19"), "{before}");
        }
        assert_eq!(search_version(io::repeat(0)).unwrap(), None);
    }
}
