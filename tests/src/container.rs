//! Containers by crun, a runtime that Kubernetes runs pods with, in bundles made as containerd makes
//! them: its default mounts, its default profile of system calls.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::Owned;
use crate::repository;
use crate::site::Names;
use crate::wait;

/// The profile that runtimes use where a pod asks for RuntimeDefault, before capabilities are known.
const PROFILE: &str = "target/foreign/seccomp/root/usr/share/containers/seccomp.json";

/// A node's cgroups are those of version 2 alone; crun takes no mixture with controllers.
const NODE: &str = r#"mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec crun "$@""#;

/// What is run, and as what.
#[derive(Debug)]
pub struct Settings<'a> {
    pub root: &'a Path,
    pub read_only: bool,
    pub arguments: Vec<String>,
    pub capabilities: Vec<String>,
    /// Has a network of its own.
    pub own_network: bool,
    /// Sees the processes of the host.
    pub host_processes: bool,
    pub no_new_privileges: bool,
    /// Host path, path in the container, whether it may be written.
    pub volumes: Vec<(String, String, bool)>,
}

/// A container that ends when dropped.
pub struct Container {
    process: Owned,
    bundle: TempDir,
}

impl Container {
    pub fn start(name: &str, settings: &Settings<'_>) -> Result<Self> {
        let bundle = tempfile::tempdir()?;
        let name = format!("resumetry-{name}-{}", std::process::id());
        let config = serde_json::to_string_pretty(&configuration(settings)?)?;
        fs::write(bundle.path().join("config.json"), config)?;
        let child = Command::new("unshare")
            .args(["--mount", "sh", "-c", NODE, "sh"])
            .args(["--cgroup-manager=disabled", "--root"])
            .arg(bundle.path().join("state"))
            .args(["run", "--pid-file"])
            .arg(bundle.path().join("pid"))
            .arg("--bundle")
            .arg(bundle.path())
            .arg(&name)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(bundle.path().join("log"))?)
            .spawn()
            .context("cannot run crun; `cargo xtask setup --tests` installs it")?;
        Ok(Self {
            process: Owned::new(child),
            bundle,
        })
    }

    /// Starts nginx of another Debian, with files and processes of its own, and a network of its own where
    /// that is asked for.
    pub fn nginx(names: &Names, port: u16, own_network: bool) -> Result<Self> {
        let (_, served) = &names.served[0];
        let site = names.directory.path().join("site");
        fs::create_dir(&site)?;
        fs::copy(&served.certificate, site.join("crt"))?;
        fs::copy(&served.key, site.join("key"))?;
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|part| format!("{part}_temp_path /site/{part};\n"))
            .concat();
        let configuration = format!(
            "daemon off; user root; error_log stderr; pid /site/pid; events {{}}\nhttp {{\n\
             access_log off; {temporary} server {{ listen 127.0.0.1:{port} ssl;\n\
             ssl_certificate /site/crt; ssl_certificate_key /site/key;\n\
             ssl_protocols TLSv1.2 TLSv1.3; location / {{ return 200 hello; }} }} }}\n"
        );
        fs::write(site.join("nginx.conf"), configuration)?;
        let capabilities = [
            "CHOWN",
            "SETUID",
            "SETGID",
            "NET_BIND_SERVICE",
            "DAC_OVERRIDE",
        ];
        let settings = Settings {
            root: &repository()
                .join("target/foreign/debian-root")
                .canonicalize()?,
            read_only: true,
            arguments: ["/usr/sbin/nginx", "-c", "/site/nginx.conf"]
                .map(str::to_owned)
                .to_vec(),
            capabilities: capabilities.map(str::to_owned).to_vec(),
            own_network,
            host_processes: false,
            no_new_privileges: true,
            volumes: vec![(
                site.to_string_lossy().into_owned(),
                "/site".to_owned(),
                true,
            )],
        };
        Self::start("server", &settings)
    }

    /// What it said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.bundle.path().join("log")).unwrap_or_default()
    }

    /// Process id of its first process, as the runtime says: it has had other children before.
    pub fn pid(&mut self) -> Result<u32> {
        let mut pid = None;
        let found = wait::until(Duration::from_secs(20), || {
            pid = self.known_pid();
            pid.is_some() || !self.process.is_running()
        });
        match pid {
            Some(pid) if found => Ok(pid),
            _ => bail!("the container does not start: {}", self.log()),
        }
    }

    fn known_pid(&self) -> Option<u32> {
        let text = fs::read_to_string(self.bundle.path().join("pid")).ok()?;
        text.trim().parse().ok()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // The runtime ends with the container's first process.
        let first = self.known_pid();
        if let Some(pid) = first.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
            let _ = kill_process(pid, Signal::KILL);
        }
        self.process.stop(Duration::from_secs(5));
    }
}

/// In the form of the OCI runtime specification.
fn configuration(settings: &Settings<'_>) -> Result<Value> {
    let capabilities: Vec<String> = settings
        .capabilities
        .iter()
        .map(|name| format!("CAP_{name}"))
        .collect();
    let mut namespaces = vec![
        json!({"type": "mount"}),
        json!({"type": "ipc"}),
        json!({"type": "uts"}),
    ];
    if settings.own_network {
        namespaces.push(json!({"type": "network"}));
    }
    if !settings.host_processes {
        namespaces.push(json!({"type": "pid"}));
    }
    let mut mounts = vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc",
               "options": ["nosuid", "noexec", "nodev"]}),
        json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
               "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]}),
        json!({"destination": "/sys", "type": "sysfs", "source": "sysfs",
               "options": ["nosuid", "noexec", "nodev", "ro"]}),
    ];
    for (from, to, writable) in &settings.volumes {
        let access = if *writable { "rw" } else { "ro" };
        mounts.push(json!({"destination": to, "type": "bind", "source": from,
                           "options": ["rbind", "rprivate", access]}));
    }
    Ok(json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false, "cwd": "/", "args": settings.arguments,
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
            "user": {"uid": 0, "gid": 0},
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities
            },
            "noNewPrivileges": settings.no_new_privileges
        },
        "root": {"path": settings.root, "readonly": settings.read_only},
        "hostname": "pod",
        "mounts": mounts,
        "linux": {
            "namespaces": namespaces,
            "seccomp": system_calls(&settings.capabilities)?,
            "maskedPaths": [
                "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"
            ],
            "readonlyPaths": [
                "/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                "/proc/sysrq-trigger"
            ]
        }
    }))
}

/// The default profile as it is for some capabilities: its rules say for which they are.
fn system_calls(capabilities: &[String]) -> Result<Value> {
    let text =
        fs::read_to_string(repository().join(PROFILE)).with_context(|| PROFILE.to_owned())?;
    let profile: Value = serde_json::from_str(&text)?;
    let holds = |condition: &Value, all: bool| {
        let of = |name: &str| condition[name].as_array().cloned().unwrap_or_default();
        let has = |cap: &Value| {
            let name = cap.as_str().unwrap_or_default().trim_start_matches("CAP_");
            capabilities.iter().any(|own| own == name)
        };
        let arches = ["amd64", "x32", "x86"];
        let is_ours = |arch: &Value| arches.contains(&arch.as_str().unwrap_or_default());
        let (caps, arches) = (of("caps"), of("arches"));
        if all {
            caps.iter().all(has) && (arches.is_empty() || arches.iter().any(is_ours))
        } else {
            caps.iter().any(has) || arches.iter().any(is_ours)
        }
    };
    let rules: Vec<Value> = profile["syscalls"]
        .as_array()
        .context("a profile without rules")?
        .iter()
        .filter(|rule| holds(&rule["includes"], true) && !holds(&rule["excludes"], false))
        .map(|rule| {
            let mut kept = json!({"names": rule["names"], "action": rule["action"]});
            for part in ["args", "errnoRet"] {
                if !rule[part].is_null() {
                    kept[part] = rule[part].clone();
                }
            }
            kept
        })
        .collect();
    Ok(json!({
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": profile["defaultErrnoRet"],
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": rules
    }))
}
