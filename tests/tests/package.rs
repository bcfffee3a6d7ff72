//! What is shipped, as it is installed: the Debian package on a Debian with systemd, and the binary
//! where there is another C library, or none.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use resumetry_tests::agent::Agent;
use resumetry_tests::machine::Machine;
use resumetry_tests::metrics::{Sample, parse};
use resumetry_tests::repository;
use resumetry_tests::site::Names;
use resumetry_tests::wait;

const PATIENCE: Duration = Duration::from_secs(30);

/// A server under a unit whose name is not that of its program.
const SHOP: &str =
    "[Service]\nExecStart=/usr/sbin/nginx -g 'daemon off;' -c /etc/shop/nginx.conf\n";

const SHOP_NGINX: &str = "events {}\nhttp { server {\n\
     listen 127.0.0.1:8443 ssl;\nssl_certificate /etc/shop/shop.crt;\n\
     ssl_certificate_key /etc/shop/shop.key;\nssl_session_cache none;\n\
     location / { return 204; } } }\n";

fn shipped(name: &str) -> PathBuf {
    let path = repository().join("target/package").join(name);
    assert!(
        path.exists(),
        "{path:?} is missing; `cargo xtask package` makes it"
    );
    path.canonicalize().unwrap()
}

fn package() -> PathBuf {
    shipped("resumetry_amd64.deb")
}

/// The same package, as the next version.
fn next_version(directory: &Path) -> PathBuf {
    let tree = directory.join("next");
    let dpkg_deb = |arguments: &[&Path]| {
        let status = Command::new("dpkg-deb").args(arguments).status().unwrap();
        assert!(status.success());
    };
    dpkg_deb(&[Path::new("-R"), &package(), &tree]);
    let control = tree.join("DEBIAN/control");
    let text = fs::read_to_string(&control).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let next = text.replace(&format!("Version: {version}-1"), "Version: 99.0.0-1");
    assert_ne!(text, next);
    fs::write(control, next).unwrap();
    let package = directory.join("next.deb");
    dpkg_deb(&[Path::new("-b"), &tree, &package]);
    package
}

fn main_process(machine: &Machine) -> String {
    machine
        .must(&["systemctl", "show", "--property=MainPID", "resumetry"])
        .unwrap()
}

/// `/metrics`, once everything is attached.
fn scrape(machine: &Machine) -> Option<Vec<Sample>> {
    let get = |path: &str| {
        let url = format!("http://127.0.0.1:9655/{path}");
        let curl = ["curl", "--silent", "--show-error", "--fail", &url];
        machine.on_its_network(&curl).unwrap()
    };
    if !get("readyz").status.success() {
        return None;
    }
    let output = get("metrics");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    output
        .status
        .success()
        .then(|| lines.filter_map(parse).collect())
}

fn copy_in(machine: &Machine, from: &Path, to: &str) {
    fs::copy(from, machine.root().join(to)).unwrap();
}

#[test]
fn the_package_installs_runs_upgrades_and_leaves_nothing() {
    let names = Names::new().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let machine = Machine::boot().unwrap();
    let files_before = machine.files();

    // Installed, it runs by its unit's own settings.
    copy_in(&machine, &package(), "run/resumetry.deb");
    machine
        .must(&["dpkg", "--install", "/run/resumetry.deb"])
        .unwrap();
    let is_active = || {
        let state = machine
            .run(&["systemctl", "is-active", "resumetry"])
            .unwrap();
        state.stdout == b"active\n"
    };
    let log = || {
        let said = machine
            .run(&["journalctl", "--no-pager", "-u", "resumetry"])
            .unwrap();
        String::from_utf8_lossy(&said.stdout).into_owned()
    };
    assert!(wait::until(PATIENCE, is_active), "{}", log());
    // A user's settings: in the file that the unit reads.
    let settings = machine.root().join("etc/resumetry/resumetry.toml");
    let mode = fs::metadata(&settings).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    let text = fs::read_to_string(&settings).unwrap();
    fs::write(&settings, format!("{text}listen = \"127.0.0.1:9655\"\n")).unwrap();
    machine
        .must(&["systemctl", "restart", "resumetry"])
        .unwrap();
    assert!(
        wait::until(PATIENCE, || scrape(&machine).is_some()),
        "{}",
        log()
    );

    // It sees a service, and one on the host tells by its unit which it is.
    let cgroup = machine.cgroup().to_string_lossy().into_owned();
    let outside = Agent::start(["trace", "--format", "json", "--cgroup", &cgroup]).unwrap();
    let shop = machine.root().join("etc/shop");
    fs::create_dir(&shop).unwrap();
    let (name, served) = &names.served[0];
    fs::copy(&served.certificate, shop.join("shop.crt")).unwrap();
    fs::copy(&served.key, shop.join("shop.key")).unwrap();
    fs::write(shop.join("nginx.conf"), SHOP_NGINX).unwrap();
    let unit = machine.root().join("etc/systemd/system/shop.service");
    fs::write(&unit, SHOP).unwrap();
    machine.must(&["systemctl", "start", "shop"]).unwrap();
    let visited = wait::until(PATIENCE, || {
        let arguments = [
            "openssl",
            "s_client",
            "-tls1_2",
            "-reconnect",
            "-servername",
            name,
        ];
        let connect = ["-connect", "127.0.0.1:8443"];
        let output = machine
            .on_its_network(&[&arguments[..], &connect].concat())
            .unwrap();
        String::from_utf8_lossy(&output.stdout)
            .matches("Reused, TLSv1.2")
            .count()
            == 5
    });
    assert!(visited);
    let handshakes = |result: &str| -> f64 {
        let samples = scrape(&machine).unwrap_or_default();
        let wanted = samples.iter().filter(|sample| {
            sample.name == "tls_handshakes_total"
                && sample.label("result") == result
                && sample.label("server_name") == name
                && sample.label("role") == "server"
        });
        wanted.map(|sample| sample.value).sum()
    };
    let counted = wait::until(PATIENCE, || handshakes("resumed") == 5.0);
    assert!(counted, "{:?}\n{}", scrape(&machine), log());
    assert_eq!(handshakes("full"), 1.0);
    let recorded = || {
        let mut records = outside.records().unwrap();
        records.retain(|record| record.role == "server");
        records
    };
    assert!(wait::until(PATIENCE, || recorded().len() == 6));
    for record in recorded() {
        assert_eq!(record.service.name.as_deref(), Some("shop"));
    }
    drop(outside);

    // An upgrade restarts it, and keeps the user's settings without asking.
    let old = main_process(&machine);
    copy_in(&machine, &next_version(scratch.path()), "run/next.deb");
    machine
        .must(&["dpkg", "--install", "/run/next.deb"])
        .unwrap();
    let version = [
        "dpkg-query",
        "--show",
        "--showformat=${Version}",
        "resumetry",
    ];
    assert_eq!(machine.must(&version).unwrap(), "99.0.0-1");
    assert!(
        wait::until(PATIENCE, || scrape(&machine).is_some()),
        "{}",
        log()
    );
    assert_ne!(main_process(&machine), old);

    // Removed, it keeps its settings; purged, nothing.
    machine.must(&["dpkg", "--remove", "resumetry"]).unwrap();
    assert!(!is_active());
    assert!(settings.exists());
    assert!(!machine.root().join("usr/bin/resumetry").exists());
    machine.must(&["dpkg", "--purge", "resumetry"]).unwrap();
    machine.must(&["systemctl", "stop", "shop"]).unwrap();
    fs::remove_file(unit).unwrap();
    fs::remove_dir_all(shop).unwrap();
    let files: Vec<_> = machine
        .files()
        .difference(&files_before)
        // The passwd tools keep their last version.
        .filter(|path| !path.to_string_lossy().ends_with('-'))
        .cloned()
        .collect();
    assert_eq!(files, Vec::<PathBuf>::new());
    let user = machine.run(&["getent", "passwd", "resumetry"]).unwrap();
    assert!(!user.status.success());
}

/// Runs the binary with another root; `shell` is a shell of that root which starts it.
fn say_version(root: &Path, shell: &[&str]) {
    let name = "resumetry-under-test";
    fs::copy(shipped("resumetry"), root.join(name)).unwrap();
    let program = format!("/{name}");
    let said = |argument: &str| {
        let mut chroot = Command::new("/usr/sbin/chroot");
        chroot.arg(root).args(shell).env_clear();
        match shell {
            [] => chroot.args([&program, argument]),
            _ => chroot.args(["-c", &format!("{program} {argument}")]),
        };
        let output = chroot.output().unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    };
    let version = said("--version");
    assert_eq!(
        version,
        (
            Some(0),
            format!("resumetry {}\n", env!("CARGO_PKG_VERSION"))
        )
    );
    // Without /proc there is nothing to see, which it says.
    let (code, text) = said("doctor");
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("/proc"), "{text}");
    fs::remove_file(root.join(name)).unwrap();
}

#[test]
fn the_binary_starts_on_old_glibc_on_musl_and_on_nothing() {
    let foreign = repository().join("target/foreign");
    say_version(&foreign.join("debian-root"), &["/bin/sh"]);

    let musl = tempfile::tempdir().unwrap();
    for package in ["musl", "busybox"] {
        let from = foreign.join(package).join("root/.");
        let copied = Command::new("cp")
            .arg("-a")
            .arg(from)
            .arg(musl.path())
            .status()
            .unwrap();
        assert!(copied.success());
    }
    say_version(musl.path(), &["/bin/busybox", "sh"]);

    say_version(tempfile::tempdir().unwrap().path(), &[]);
}
