//! Two servers that differ in nothing but what watches them, and the kinds of load on them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use resumetry_tests::certs::{Identity, Key};
use resumetry_tests::cgroup::Cgroup;
use resumetry_tests::client::{Client, Profile, dial};
use resumetry_tests::nginx::{Nginx, Server};
use resumetry_tests::{cpu, ports};
use tempfile::TempDir;

/// One load, and what it may cost with the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    /// TLS 1.3 resumed, ECDSA certificate
    Resumed,
    /// The same, while calls of the handshake function are watched
    ResumedCalls,
    /// TLS 1.3 full, ECDSA P-256
    FullEcdsa,
    /// TLS 1.3 full, RSA-2048
    FullRsa,
    /// 100 MB over one TLS connection
    Bulk,
    /// Plain HTTP, keep-alive
    PlainHttp,
}

/// What one server did in a while.
#[derive(Clone, Copy, Debug, Default)]
pub struct Slice {
    /// CPU time of the worker.
    pub spent: Duration,
    /// CPU time of its clients. The kernel receives for a server on the CPU that the packet comes in
    /// on, which with the loopback device is the sender's.
    pub client: Duration,
    pub units: u64,
}

impl Slice {
    /// CPU time for one unit, seconds.
    pub fn each(self) -> f64 {
        self.spent.as_secs_f64() / self.units as f64
    }

    /// This server's CPU time for a unit over another's, with what it costs clients more counted as
    /// its own; 1 is no difference.
    pub fn over(self, other: Self) -> f64 {
        let client = |slice: Self| slice.client.as_secs_f64() / slice.units as f64;
        (self.each() + client(self) - client(other)) / other.each()
    }
}

impl Scenario {
    pub const ALL: [Self; 6] = [
        Self::Resumed,
        Self::ResumedCalls,
        Self::FullEcdsa,
        Self::FullRsa,
        Self::Bulk,
        Self::PlainHttp,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Resumed => "resumed TLS 1.3",
            Self::ResumedCalls => "resumed, handshake calls watched",
            Self::FullEcdsa => "full TLS 1.3, ECDSA P-256",
            Self::FullRsa => "full TLS 1.3, RSA-2048",
            Self::Bulk => "bulk download over TLS",
            Self::PlainHttp => "plain HTTP, keep-alive",
        }
    }

    /// True where each unit is a handshake.
    pub fn has_handshakes(self) -> bool {
        self.unit() == "connection"
    }

    /// What CPU time is divided by.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Bulk => "MiB",
            Self::PlainHttp => "request",
            _ => "connection",
        }
    }

    /// True where the limit is for what the agent adds above programs that do nothing: the load is
    /// so light on the server that the kernel's call of a program is all that can be seen.
    pub fn is_above_hook(self) -> bool {
        self == Self::PlainHttp
    }

    /// Most that the agent may add, percent; `None` where the figure is only reported.
    pub fn limit(self) -> Option<f64> {
        match self {
            Self::Resumed => Some(3.0),
            Self::ResumedCalls => None,
            Self::FullEcdsa | Self::FullRsa => Some(2.0),
            Self::Bulk | Self::PlainHttp => Some(1.0),
        }
    }

    /// True where the agent watches calls of the handshake function, as `run` does for a twentieth
    /// of the time: a slice is too short to hold a fair share of that.
    pub fn watches_calls(self) -> bool {
        self == Self::ResumedCalls
    }
}

/// nginx with one worker on [`SERVER_CPU`].
pub struct Site {
    nginx: Nginx,
    /// nginx' own; dropped after it.
    cgroup: Cgroup,
    /// nginx' own copy of libssl, so that a probe in it is met by nobody else.
    library: PathBuf,
    worker: u32,
    ecdsa: u16,
    rsa: u16,
    plain: u16,
    /// One for each client thread: a ticket that comes in on one connection retires the session
    /// that it renews, which must not be on offer elsewhere at that moment.
    ecdsa_clients: Vec<Client>,
    rsa_clients: Vec<Client>,
    _certificates: TempDir,
}

const SERVER_CPU: usize = 0;
/// The clients' CPU: they must not disturb the workers, nor share their caches.
pub const CLIENT_CPU: usize = 1;

/// Enough to keep the worker supplied, while one client waits for another's turn.
const CLIENTS: usize = 4;

const BULK_BYTES: u64 = 100 << 20;

impl Site {
    /// `index` tells it from others of this run.
    pub fn start(index: usize) -> Result<Self> {
        let certificates = tempfile::tempdir()?;
        let authority = Identity::authority("Bench Authority")?;
        let names = |name: &str, key| -> Result<_> {
            Ok([(
                name.to_owned(),
                authority
                    .issue(name, key)?
                    .write(certificates.path(), name)?,
            )])
        };
        let quiet = "access_log off; keepalive_requests 1000000000;";
        let files = format!(
            "location /bulk {{ alias {}/bulk; }} {quiet}",
            certificates.path().display()
        );
        File::create(certificates.path().join("bulk"))?.set_len(BULK_BYTES)?;
        let [ecdsa, rsa, plain] = [ports::free()?, ports::free()?, ports::free()?];
        let ecdsa_names = names("ecdsa.example", Key::Ecdsa)?;
        let cgroup = Cgroup::create(&format!("bench{index}"))?;
        let libraries = certificates.path().join("lib");
        std::fs::create_dir(&libraries)?;
        let library = system_library()?;
        let name = library.file_name().context("libssl has no name")?;
        let copy = libraries.join(name);
        std::fs::copy(&library, &copy)?;
        let servers = [
            Server::new(ecdsa, "ssl", &ecdsa_names).with(files),
            Server::new(rsa, "ssl", &names("rsa.example", Key::Rsa2048)?).with(quiet),
            Server::new(plain, "", &ecdsa_names).with(quiet),
        ];
        let nginx = cgroup.inside(|| Nginx::start_linked(1, "", &servers, Some(&libraries)))?;
        let worker = *nginx.workers()?.first().context("nginx has no worker")?;
        cpu::pin(worker, SERVER_CPU)?;
        let clients = |name: &str| -> Result<Vec<_>> {
            let profile = Profile {
                server_name: Some(name.to_owned()),
                ..Profile::default()
            };
            (0..CLIENTS).map(|_| Client::new(profile.clone())).collect()
        };
        let site = Self {
            nginx,
            cgroup,
            library: copy,
            worker,
            ecdsa,
            rsa,
            plain,
            ecdsa_clients: clients("ecdsa.example")?,
            rsa_clients: clients("rsa.example")?,
            _certificates: certificates,
        };
        // The first connection brings the session that the others resume.
        for client in &site.ecdsa_clients {
            client.request(dial(ecdsa)?, false, 1)?;
        }
        Ok(site)
    }

    /// The cgroup in which nginx is, and its clients are not: on a real server they are on other
    /// machines, and their end of each connection costs it nothing.
    pub fn cgroup(&self) -> &Path {
        self.cgroup.path()
    }

    /// The worker's process id.
    pub fn worker(&self) -> u32 {
        self.worker
    }

    /// The library that the worker runs TLS on.
    pub fn library(&self) -> &Path {
        &self.library
    }

    /// Megabytes received, and the CPU time of the client.
    fn bulk(&self, length: Duration) -> Result<(u64, Duration)> {
        let end = Instant::now() + length;
        std::thread::scope(|scope| {
            let client = scope.spawn(|| -> Result<_> {
                cpu::pin_this_thread(CLIENT_CPU)?;
                let (before, mut bytes) = (cpu::thread_ns(), 0);
                while Instant::now() < end {
                    bytes += self.ecdsa_clients[0].download(dial(self.ecdsa)?, "/bulk")?;
                }
                Ok((bytes >> 20, Duration::from_nanos(cpu::thread_ns() - before)))
            });
            client.join().map_err(|_| anyhow!("the client panicked"))?
        })
    }

    /// Requests that wrk says were answered, and its CPU time.
    fn wrk(&self, length: Duration) -> Result<(u64, Duration)> {
        let before = cpu::of_children()?;
        let output = Command::new("taskset")
            .args(["-c", &CLIENT_CPU.to_string(), "wrk", "-t1", "-c16"])
            // It takes whole seconds.
            .arg(format!("-d{}s", length.as_secs().max(1)))
            .arg(format!("http://127.0.0.1:{}/", self.plain))
            .output()
            .context("cannot run wrk; is it installed?")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let requests = text
            .lines()
            .find_map(|line| line.trim().split_once(" requests in ")?.0.parse().ok())
            .with_context(|| format!("wrk said:\n{text}"))?;
        Ok((requests, cpu::of_children()? - before))
    }

    /// One connection with one request by client `index`; the CPU time of the client.
    fn connect(&self, scenario: Scenario, index: usize) -> Result<Duration> {
        let (clients, port) = match scenario {
            Scenario::FullRsa => (&self.rsa_clients, self.rsa),
            _ => (&self.ecdsa_clients, self.ecdsa),
        };
        let resume = matches!(scenario, Scenario::Resumed | Scenario::ResumedCalls);
        let before = cpu::thread_ns();
        if clients[index].request(dial(port)?, resume, 1)?.resumed != resume {
            bail!("a connection was not what it was meant to be");
        }
        Ok(Duration::from_nanos(cpu::thread_ns() - before))
    }
}

/// Puts the load on both servers in turns for about `length`: connection by connection where there
/// are some, so that a machine that changes its speed does so for both.
pub fn in_turns(sites: [&Site; 2], scenario: Scenario, length: Duration) -> Result<[Slice; 2]> {
    let workers = || -> Result<[Duration; 2]> {
        Ok([cpu::time(sites[0].worker)?, cpu::time(sites[1].worker)?])
    };
    let before = workers()?;
    let mut slices = match scenario {
        Scenario::Bulk | Scenario::PlainHttp => one_after_the_other(sites, scenario, length)?,
        _ => connections(sites, scenario, length)?,
    };
    // The workers still close the last connections.
    std::thread::sleep(Duration::from_millis(20));
    for ((slice, site), (before, after)) in slices
        .iter_mut()
        .zip(sites)
        .zip(before.into_iter().zip(workers()?))
    {
        slice.spent = after - before;
        if slice.units == 0 {
            bail!(
                "{}: nothing was served:\n{}",
                scenario.name(),
                site.nginx.errors()
            );
        }
    }
    Ok(slices)
}

/// A second each, ABBA: what drifts steadily cancels out.
fn one_after_the_other(
    sites: [&Site; 2],
    scenario: Scenario,
    length: Duration,
) -> Result<[Slice; 2]> {
    const TURN: Duration = Duration::from_secs(1);
    let mut slices = [Slice::default(); 2];
    let turns = (length.as_secs() / 4).max(1) * 2;
    for turn in 0..turns {
        for place in 0..2 {
            let place = (place + turn as usize) % 2;
            let (units, spent) = match scenario {
                Scenario::Bulk => sites[place].bulk(TURN)?,
                _ => sites[place].wrk(TURN)?,
            };
            slices[place].units += units;
            slices[place].client += spent;
        }
    }
    Ok(slices)
}

/// Connections with one request each, as fast as the clients' CPU allows.
fn connections(sites: [&Site; 2], scenario: Scenario, length: Duration) -> Result<[Slice; 2]> {
    let end = Instant::now() + length;
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|index| {
                scope.spawn(move || -> Result<[Slice; 2]> {
                    cpu::pin_this_thread(CLIENT_CPU)?;
                    let mut slices = [Slice::default(); 2];
                    while Instant::now() < end {
                        for place in [0, 1, 1, 0] {
                            slices[place].client += sites[place].connect(scenario, index)?;
                            slices[place].units += 1;
                        }
                    }
                    Ok(slices)
                })
            })
            .collect();
        let mut sum = [Slice::default(); 2];
        for client in clients {
            let slices = client.join().map_err(|_| anyhow!("a client panicked"))??;
            for (sum, slice) in sum.iter_mut().zip(slices) {
                sum.units += slice.units;
                sum.client += slice.client;
            }
        }
        Ok(sum)
    })
}

/// The libssl that programs of this system load.
fn system_library() -> Result<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    maps.lines()
        .filter_map(|line| line.split_whitespace().nth(5))
        .find(|path| path.contains("/libssl.so"))
        .map(PathBuf::from)
        .context("this program is not linked with libssl")
}
