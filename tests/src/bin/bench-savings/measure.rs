//! The rounds, and what they bring.

use std::collections::HashMap;
use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use resumetry_tests::agent::Agent;
use resumetry_tests::distance::Distance;
use resumetry_tests::first_byte::Moments;
use resumetry_tests::handshake_bytes::HandshakeBytes;
use resumetry_tests::relay::Disturbance;
use resumetry_tests::rng::Rng;
use resumetry_tests::{cpu, wait};
use rustix::process::Signal;
use serde::Deserialize;

use crate::Arguments;
use crate::case::{Case, Mode};
use crate::site::{Clients, Site};

/// Round trips, milliseconds, and connections a round: what is near takes little time, and has more
/// noise for its size.
pub const ROUND_TRIPS: [(u64, usize); 3] = [(0, 6), (20, 3), (80, 1)];

/// CPU time that others may take during a measurement, of its length.
pub const MOST_OTHERS: f64 = 0.15;

/// How long to look whether others are busy, which is told in steps of 10 ms.
const LOOK: Duration = Duration::from_millis(70);

/// Everything that was measured.
pub struct Results {
    pub rows: Vec<Row>,
    pub baseline: Baseline,
    /// Measurements of CPU time; those that others disturbed; those that were kept all the same.
    pub slices: usize,
    pub disturbed: usize,
    pub kept: usize,
    /// How long disturbed measurements may still be made again.
    patience: Duration,
    /// Connections over a distance whose ports were used once, and those of them that the agent
    /// reported.
    pub connections: usize,
    pub reported: usize,
}

/// One kind of handshake.
pub struct Row {
    pub case: Case,
    /// CPU time of the server for a connection with one request, seconds, by round.
    pub connection: Vec<f64>,
    /// What of it is the handshake's.
    pub handshake: Vec<f64>,
    pub bytes: HandshakeBytes,
    /// By round trip.
    pub far: [Far; ROUND_TRIPS.len()],
}

/// CPU time of the server, seconds, by round: what a connection costs besides its handshake.
#[derive(Default)]
pub struct Baseline {
    pub connection: Vec<f64>,
    pub plain_request: Vec<f64>,
    pub request: Vec<f64>,
}

/// Over one distance; seconds, by connection.
#[derive(Default)]
pub struct Far {
    /// From `connect` to the first byte of the response, at the client.
    pub wait: Vec<f64>,
    /// ClientHello to the end of the handshake, at the client.
    pub handshake: Vec<f64>,
    /// The same at the server, as the agent says.
    pub server_handshake: Vec<f64>,
    /// What the agent says of the time to first byte, less what the client measured.
    pub first_byte_error: Vec<f64>,
    /// Bytes each way, as the agent says.
    pub bytes: Vec<(f64, f64)>,
}

/// A connection over a distance: which row it belongs to, and which distance.
struct Connection {
    row: usize,
    far: usize,
    moments: Moments,
}

/// What of the agent's record is compared.
#[derive(Deserialize)]
struct Record {
    client: Endpoint,
    server: Endpoint,
    timing: Timing,
    bytes: Bytes,
}

#[derive(Deserialize)]
struct Endpoint {
    address: std::net::IpAddr,
    port: u16,
}

#[derive(Deserialize)]
struct Timing {
    handshake_seconds: Option<f64>,
    time_to_first_byte_seconds: Option<f64>,
}

#[derive(Deserialize)]
struct Bytes {
    client: Option<f64>,
    server: Option<f64>,
}

impl Results {
    pub fn measure(site: &Site, arguments: &Arguments) -> Result<Self> {
        let clients = Case::all()
            .into_iter()
            .map(|case| site.clients(case))
            .collect::<Result<Vec<_>>>()?;
        let rows = clients
            .iter()
            .map(|clients| {
                Ok(Row {
                    case: clients.case(),
                    connection: Vec::new(),
                    handshake: Vec::new(),
                    bytes: clients
                        .bytes()
                        .with_context(|| format!("{:?}", clients.case()))?,
                    far: Default::default(),
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let mut results = Self {
            rows,
            baseline: Baseline::default(),
            slices: 0,
            disturbed: 0,
            kept: 0,
            patience: Duration::from_secs(arguments.patience),
            connections: 0,
            reported: 0,
        };
        let mut rng = Rng::new(1);
        for round in 0..arguments.rounds {
            progress(&format!("CPU, round {} of {}", round + 1, arguments.rounds))?;
            results.cpu(
                site,
                &clients,
                Duration::from_millis(arguments.slice),
                &mut rng,
            )?;
        }
        results.waiting(site, &clients, arguments)?;
        progress("")?;
        Ok(results)
    }

    /// One round of CPU time, in an order of its own.
    fn cpu(
        &mut self,
        site: &Site,
        clients: &[Clients],
        slice: Duration,
        rng: &mut Rng,
    ) -> Result<()> {
        let resumed = clients
            .iter()
            .rev()
            .find(|clients| clients.case().mode == Mode::Resumed)
            .context("nothing is resumed")?;
        let [mut connection, mut plain_request, mut request] = [f64::NAN; 3];
        let mut whole = vec![f64::NAN; clients.len()];
        let mut order: Vec<_> = (0..clients.len() + 3).collect();
        rng.shuffle(&mut order);
        for index in order {
            match index.checked_sub(clients.len()) {
                None => {
                    whole[index] =
                        self.quiet(site, slice, || site.connection(&clients[index], slice))?;
                }
                Some(0) => connection = self.quiet(site, slice, || site.plain_connection(slice))?,
                Some(1) => plain_request = self.quiet(site, slice, || site.plain_request(slice))?,
                Some(_) => request = self.quiet(site, slice, || site.request(resumed, slice))?,
            }
        }
        // What the connection and its request would cost if the keys came from nowhere.
        let rest = connection + request - plain_request;
        self.baseline.connection.push(connection);
        self.baseline.plain_request.push(plain_request);
        self.baseline.request.push(request);
        for (row, whole) in self.rows.iter_mut().zip(whole) {
            row.connection.push(whole);
            row.handshake.push(whole - rest);
        }
        Ok(())
    }

    /// Measures while others leave the machine alone, and again when they did not, as long as there
    /// is patience: they take the caches, which makes everything dearer by as much, and what is
    /// saved a smaller share.
    fn quiet(
        &mut self,
        site: &Site,
        slice: Duration,
        measure: impl Fn() -> Result<f64>,
    ) -> Result<f64> {
        let ours = [std::process::id(), site.worker()];
        loop {
            let begin = Instant::now();
            let is_quiet = wait::until(self.patience, || {
                let before = cpu::others(&ours);
                std::thread::sleep(LOOK);
                let after = cpu::others(&ours);
                matches!((before, after), (Ok(before), Ok(after))
                    if after.saturating_sub(before) <= LOOK.mul_f64(MOST_OTHERS))
            });
            self.patience = self.patience.saturating_sub(begin.elapsed());
            let before = cpu::others(&ours)?;
            let value = measure()?;
            let others = cpu::others(&ours)?.saturating_sub(before);
            self.slices += 1;
            if others <= slice.mul_f64(MOST_OTHERS) {
                return Ok(value);
            }
            self.disturbed += 1;
            if !is_quiet || self.patience.is_zero() {
                self.kept += 1;
                return Ok(value);
            }
            self.patience = self.patience.saturating_sub(slice);
        }
    }

    /// All rounds of waiting.
    fn waiting(&mut self, site: &Site, clients: &[Clients], arguments: &Arguments) -> Result<()> {
        let distances = ROUND_TRIPS
            .into_iter()
            .map(|(milliseconds, _)| {
                let round_trip = Duration::from_millis(milliseconds);
                Distance::new(round_trip, Disturbance::default())
            })
            .collect::<Result<Vec<_>>>()?;
        let cgroup = site.cgroup().to_str().context("a cgroup has a name")?;
        let mut agent = Agent::start(["trace", "--format", "json", "--cgroup", cgroup])?;
        // `None` where the same ports were used again: nobody can tell whose a record is.
        let mut done: HashMap<(SocketAddr, u16), Option<Connection>> = HashMap::new();
        let mut count = 0;
        for round in 0..arguments.rounds {
            progress(&format!(
                "waiting, round {} of {}",
                round + 1,
                arguments.rounds
            ))?;
            for (index, clients) in clients.iter().enumerate() {
                for (far, distance) in distances.iter().enumerate() {
                    for _ in 0..ROUND_TRIPS[far].1 {
                        let moments = clients.over(distance)?;
                        let place = &mut self.rows[index].far[far];
                        place.wait.push(moments.wait().as_secs_f64());
                        place.handshake.push(moments.handshake().as_secs_f64());
                        count += 1;
                        let key = (moments.client, clients.port());
                        done.entry(key)
                            .and_modify(|entry| *entry = None)
                            .or_insert(Some(Connection {
                                row: index,
                                far,
                                moments,
                            }));
                    }
                }
            }
        }
        wait::until(Duration::from_secs(10), || agent.line_count() >= count);
        let mut records = HashMap::new();
        for line in agent.lines() {
            let record: Record =
                serde_json::from_str(&line).with_context(|| format!("bad record: {line}"))?;
            let client = SocketAddr::new(record.client.address, record.client.port);
            records.insert((client, record.server.port), record);
        }
        for (key, entry) in &done {
            let Some(Connection { row, far, moments }) = entry else {
                continue;
            };
            self.connections += 1;
            let Some(record) = records.get(key) else {
                continue;
            };
            self.reported += 1;
            let place = &mut self.rows[*row].far[*far];
            place
                .server_handshake
                .extend(record.timing.handshake_seconds);
            let own = moments.time_to_first_byte();
            place.first_byte_error.extend(
                record
                    .timing
                    .time_to_first_byte_seconds
                    .map(|agent| agent - own.as_secs_f64()),
            );
            place
                .bytes
                .extend(record.bytes.client.zip(record.bytes.server));
        }
        ensure!(
            agent.finish(Signal::TERM)?.success(),
            "the agent failed:\n{}",
            agent.messages()
        );
        Ok(())
    }

    /// The row of a case.
    pub fn row(&self, case: Case) -> Result<&Row> {
        self.rows
            .iter()
            .find(|row| row.case == case)
            .with_context(|| format!("{case:?} was not measured"))
    }
}

/// Says on a terminal what is being done.
fn progress(what: &str) -> Result<()> {
    let mut out = std::io::stderr();
    if out.is_terminal() {
        write!(out, "\r\x1b[K{what}")?;
        out.flush()?;
    }
    Ok(())
}
