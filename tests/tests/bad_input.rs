//! What goes wrong on real hosts: every mistake and every lack ends in a message with the cause and
//! the way out, and in the exit code that the manual promises (0 fine, 1 it failed, 2 wrong usage).
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use resumetry_tests::agent::{Agent, binary};
use resumetry_tests::certs::{Identity, Key};
use resumetry_tests::nginx::{Nginx, Server};
use resumetry_tests::process::Owned;
use resumetry_tests::{ports, wait};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How a command ended.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ended {
    /// Fails unless the command ended with `code` and its messages hold every text once or more.
    fn expect(&self, code: i32, texts: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:#?}");
        for text in texts {
            assert!(self.stderr.contains(text), "no {text:?} in {self:#?}");
        }
        // A cause that stands twice is noise around the way out.
        let causes = self.stderr.matches("(os error").count();
        assert!(causes <= 1, "{self:#?}");
    }
}

/// Waits for the end of a command that is expected to end by itself.
fn ended(mut child: Child) -> Ended {
    let stdout = child.stdout.take();
    let stderr = child.stderr.take();
    let mut process = Owned::new(child);
    let status = process.wait(Duration::from_secs(20));
    // A command that did not end is stopped first, or reading would last as long as it does.
    drop(process);
    let mut ended = Ended {
        code: status.and_then(|status| status.code()),
        stdout: String::new(),
        stderr: String::new(),
    };
    if let Some(mut stdout) = stdout {
        stdout.read_to_string(&mut ended.stdout).unwrap();
    }
    if let Some(mut stderr) = stderr {
        stderr.read_to_string(&mut ended.stderr).unwrap();
    }
    ended
}

fn piped(command: &mut Command) -> Child {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn resumetry(arguments: &[&str]) -> Ended {
    ended(piped(Command::new(binary()).args(arguments)))
}

/// A shell in a mount namespace of its own: `prepare` changes what it sees, then `exec` runs the
/// agent under the shell's process id.
fn isolated(unshare: &[&str], prepare: &str, arguments: &str) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(unshare)
        .args(["sh", "-ec"])
        .arg(format!("{prepare}\nexec \"$BIN\" {arguments}"))
        .env("BIN", binary());
    command
}

/// Runs a tracing agent until it says `ready`, ends it like a service manager does, and returns what
/// it said.
fn ready_then_stopped(command: &mut Command) -> String {
    let mut child = piped(command);
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut process = Owned::new(child);
    let mut said = String::new();
    while stderr.read_line(&mut said).unwrap() > 0 {
        if said.lines().last().unwrap().starts_with("ready") {
            break;
        }
    }
    assert!(said.contains("ready: "), "never ready: {said}");
    // With a namespace of process ids, `unshare` waits for the agent and ignores signals itself.
    let unshare = process.id();
    let children = fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).unwrap();
    match children.split_whitespace().next() {
        Some(agent) => {
            let agent = Pid::from_raw(agent.parse().unwrap()).unwrap();
            kill_process(agent, Signal::TERM).unwrap();
        }
        None => process.signal(Signal::TERM).unwrap(),
    }
    let status = process.wait(Duration::from_secs(20)).unwrap();
    stderr.read_to_string(&mut said).unwrap();
    assert_eq!(status.code(), Some(0), "{said}");
    said
}

fn written(directory: &TempDir, name: &str, content: &str) -> PathBuf {
    let path = directory.path().join(name);
    fs::write(&path, content).unwrap();
    path
}

#[test]
fn unknown_configuration_key_is_named_with_file_and_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = written(
        &directory,
        "agent.toml",
        "# ours\nlissten = \"[::1]:9650\"\n",
    );
    let path = path.to_str().unwrap();
    for command in ["run", "trace"] {
        resumetry(&[command, "--config", path])
            .expect(2, &[&format!("{path}:2"), "`lissten`", "`listen`"]);
    }
}

#[test]
fn unknown_key_of_the_web_configuration_is_named_with_its_file() {
    let directory = TempDir::new().unwrap();
    let path = written(&directory, "web.yml", "basic_auth_user: {ann: secret}\n");
    let path = path.to_str().unwrap();
    resumetry(&["run", "--web-config", path]).expect(2, &["web.yml", "basic_auth_user"]);
}

#[test]
fn capture_that_is_none_is_named() {
    let directory = TempDir::new().unwrap();
    let missing = directory.path().join("none.pcap");
    let missing = missing.to_str().unwrap();
    resumetry(&["pcap", missing]).expect(1, &["cannot open", missing]);
    let text = written(&directory, "notes.txt", "no packets here, but text\n");
    let text = text.to_str().unwrap();
    resumetry(&["pcap", text]).expect(1, &[text, "no capture file"]);
    // An empty standard input.
    resumetry(&["pcap", "-"]).expect(1, &["-", "no capture file"]);
    resumetry(&["pcap"]).expect(2, &["FILE"]);
}

#[test]
fn unknown_flag_is_wrong_usage() {
    resumetry(&["run", "--lissten", "[::1]:9650"]).expect(2, &["'--lissten'", "--help"]);
    resumetry(&["wach"]).expect(2, &["'wach'", "--help"]);
}

#[test]
fn bad_value_is_wrong_usage_and_names_the_flag() {
    resumetry(&["trace", "--taps", "wir"]).expect(2, &["--taps", "'wir'"]);
    resumetry(&["run", "--ring-bytes", "1000"]).expect(2, &["ring-bytes"]);
}

#[test]
fn port_in_use_is_named_with_the_flag_that_changes_it() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap().to_string();
    resumetry(&["run", "--listen", &address]).expect(1, &[&address, "--listen"]);
}

#[test]
fn without_root_the_missing_capabilities_are_named() {
    // Where the build lives may be closed to everybody but root.
    let directory = tempfile::tempdir().unwrap();
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(directory.path(), open.clone()).unwrap();
    let copy = directory.path().join("resumetry");
    fs::copy(binary(), &copy).unwrap();
    fs::set_permissions(&copy, open).unwrap();
    for arguments in [&["trace"][..], &["run", "--listen", "127.0.0.1:0"]] {
        let outcome = ended(piped(
            Command::new("setpriv")
                .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
                .args(["--inh-caps=-all", "--bounding-set=-all"])
                .arg(&copy)
                .args(arguments),
        ));
        outcome.expect(
            1,
            &[
                "run as root",
                "CAP_BPF",
                "CAP_PERFMON",
                "CAP_NET_ADMIN",
                "Operation not permitted",
                "resumetry doctor",
            ],
        );
        assert!(!outcome.stderr.contains("ready"), "{outcome:#?}");
    }
}

#[test]
fn hidden_cgroup2_is_mounted_privately() {
    let said = ready_then_stopped(&mut isolated(
        // A process id namespace of its own also hides the host's init and its mounts.
        &["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"],
        "mount -t tmpfs none /sys/fs/cgroup\n! test -e /sys/fs/cgroup/unified",
        "trace --taps all",
    ));
    assert!(said.contains("(taps: wire, library; "), "{said}");
}

#[test]
fn covered_cgroup2_is_mounted_privately() {
    // The mount table still lists it.
    let said = ready_then_stopped(&mut isolated(
        &["--mount"],
        "mount -t tmpfs none /sys/fs/cgroup",
        "trace --taps all",
    ));
    assert!(said.contains("(taps: wire, library; "), "{said}");
}

#[test]
fn missing_btf_costs_no_tap_and_doctor_names_it() {
    assert!(
        Path::new("/sys/kernel/btf").is_dir(),
        "this kernel has none"
    );
    let hide = "mount -t tmpfs none /sys/kernel/btf";
    let arguments = "trace --taps all";
    let said = ready_then_stopped(&mut isolated(&["--mount"], hide, arguments));
    // Which tells when TCP was established, where the wire tap cannot find that in the socket.
    assert!(said.contains("(taps: wire, socket, library; "), "{said}");

    let report = ended(piped(&mut isolated(&["--mount"], hide, "doctor")));
    report.expect(0, &[]);
    assert!(
        report
            .stdout
            .contains("/sys/kernel/btf/vmlinux is not there")
            && report.stdout.contains("CONFIG_DEBUG_INFO_BTF"),
        "{report:#?}"
    );
}

#[test]
fn library_that_cannot_be_probed_is_named_with_the_way_out() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().to_owned();
    let text = written(&directory, "libssl.so.3", "no library at all\n");
    let other = fs::canonicalize("/proc/self/exe").unwrap();
    for (path, cause) in [
        (Path::new("/nonexistent"), "No such file or directory"),
        (folder.as_path(), "no regular file"),
        (text.as_path(), "cannot probe"),
        // An ELF file that is not OpenSSL.
        (other.as_path(), "SSL_do_handshake"),
    ] {
        let path = path.to_str().unwrap();
        let outcome = resumetry(&["trace", "--library", path]);
        outcome.expect(1, &[path, cause, "--library takes"]);
        assert!(!outcome.stderr.contains("ready"), "{outcome:#?}");
    }
}

#[test]
fn directory_of_another_file_system_is_no_cgroup() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    resumetry(&["trace", "--cgroup", path]).expect(1, &[path, "--cgroup takes", "cgroup2"]);
    resumetry(&["run", "--listen", "127.0.0.1:0", "--cgroup", "/nonexistent"]).expect(
        1,
        &[
            "/nonexistent",
            "No such file or directory",
            "--cgroup takes",
        ],
    );
}

/// A pipe whose reading end is closed.
fn broken_pipe() -> std::io::PipeWriter {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer
}

#[test]
fn reader_that_left_before_the_first_line_ends_quietly() {
    for arguments in [&["trace"][..], &["doctor"], &["doctor", "--format", "json"]] {
        let child = Command::new(binary())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(broken_pipe())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let outcome = ended(child);
        assert_eq!(outcome.code, Some(0), "{arguments:?}: {outcome:#?}");
        let quiet = ["error", "panicked", "pipe"];
        assert!(
            quiet.iter().all(|text| !outcome.stderr.contains(text)),
            "{arguments:?}: {outcome:#?}"
        );
    }
}

/// A TLS server, and a client that makes one handshake with it.
struct Traffic {
    _nginx: Nginx,
    _directory: TempDir,
    port: u16,
}

impl Traffic {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let files = Identity::authority("Test Authority")
            .unwrap()
            .issue("bad-input.example", Key::Ecdsa)
            .unwrap()
            .write(directory.path(), "server")
            .unwrap();
        let port = ports::free().unwrap();
        let server = Server::new(port, "ssl", &[("bad-input.example".to_owned(), files)]);
        Self {
            _nginx: Nginx::start(1, "", &[server]).unwrap(),
            _directory: directory,
            port,
        }
    }

    fn handshake(&self) {
        let mut connector = SslConnector::builder(SslMethod::tls()).unwrap();
        connector.set_verify(SslVerifyMode::NONE);
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let mut stream = connector
            .build()
            .connect("bad-input.example", stream)
            .unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
    }
}

#[test]
fn reader_that_left_after_a_line_ends_quietly() {
    let traffic = Traffic::new();
    let mut child = Command::new(binary())
        .arg("trace")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut header = String::new();
    stdout.read_line(&mut header).unwrap();
    assert!(header.contains("SERVER NAME"), "{header}");
    drop(stdout);
    // The agent notices when it has something to say.
    let over = wait::until(Duration::from_secs(20), || {
        traffic.handshake();
        child.try_wait().unwrap().is_some()
    });
    assert!(over, "the agent went on without a reader");
    let outcome = ended(child);
    assert_eq!(outcome.code, Some(0), "{outcome:#?}");
    assert!(!outcome.stderr.contains("panicked"), "{outcome:#?}");
}

#[test]
fn nobody_reading_the_messages_is_no_reason_to_stop() {
    let child = Command::new(binary())
        .arg("trace")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(broken_pipe())
        .spawn()
        .unwrap();
    let traffic = Traffic::new();
    let mut process = Owned::new(child);
    let mut stdout = BufReader::new(process.child().stdout.take().unwrap());
    let mut line = String::new();
    // The header comes before `ready`, a handshake only after it.
    stdout.read_line(&mut line).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    traffic.handshake();
    line.clear();
    stdout.read_line(&mut line).unwrap();
    process.signal(Signal::TERM).unwrap();
    let status = process.wait(Duration::from_secs(20)).unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(!line.is_empty(), "no line after the header");
}

#[test]
fn full_disk_under_standard_output_is_an_error() {
    let traffic = Traffic::new();
    let mut child = Command::new(binary())
        .arg("trace")
        .stdin(Stdio::null())
        .stdout(File::options().write(true).open("/dev/full").unwrap())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait::until(Duration::from_secs(20), || {
        traffic.handshake();
        child.try_wait().unwrap().is_some()
    });
    ended(child).expect(1, &["standard output", "No space left"]);
}

#[test]
fn signals_end_every_long_command_with_success() {
    let commands = [&["trace"][..], &["run", "--listen", "127.0.0.1:0"]];
    for arguments in commands {
        for signal in [Signal::TERM, Signal::INT] {
            let mut agent = Agent::start(arguments.iter().copied()).unwrap();
            let status = agent.finish(signal).unwrap();
            assert_eq!(status.code(), Some(0), "{arguments:?} {signal:?}");
            assert!(
                !agent.messages().contains("error"),
                "{arguments:?} {signal:?}: {}",
                agent.messages()
            );
        }
    }
}

/// What a capture command pipes into it may never end.
#[test]
fn signals_end_the_reading_of_a_pipe_with_what_came_by_then() {
    // The head of a capture, and nothing after it.
    let head = [
        &[0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0][..],
        &[0; 8],
        &[0xff, 0xff, 0, 0, 1, 0, 0, 0],
    ]
    .concat();
    let mut command = Command::new(binary());
    command
        .args(["pcap", "--format", "summary", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(&head).unwrap();
    // Before it listens for signals it would be killed.
    let listens = || {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let caught = u64::from_str_radix(caught.unwrap().trim(), 16).unwrap();
        caught & (1 << (Signal::TERM.as_raw() - 1)) != 0
    };
    assert!(wait::until(Duration::from_secs(20), listens));
    let pid = Pid::from_child(&child);
    kill_process(pid, Signal::TERM).unwrap();
    let ended = ended(child);
    drop(input);
    ended.expect(0, &[]);
    assert!(ended.stdout.starts_with("0 handshakes"), "{ended:#?}");
}
