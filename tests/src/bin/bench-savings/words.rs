//! What is said of resumption, beside what was measured. The sentences follow from the figures.

use std::fmt::Write as _;
use std::ops::RangeInclusive;

use anyhow::Result;
use resumetry_tests::client::Versions;
use resumetry_tests::stats::median;

use crate::case::{Case, KEYS, Mode, key_name};
use crate::measure::{ROUND_TRIPS, Results};
use crate::report::{saved_share, saved_wait};

/// Time to first byte that resumption is said to save, milliseconds.
const CLAIMED_WAIT: RangeInclusive<f64> = 50.0..=100.0;
/// CPU that resumption is said to save, percent.
const CLAIMED_CPU: RangeInclusive<f64> = 20.0..=40.0;

/// What is compared with full handshakes of the same version.
const KINDS: [(Versions, Mode, &str); 3] = [
    (Versions::Tls12, Mode::Resumed, "TLS 1.2 resumed"),
    (Versions::Tls13, Mode::Resumed, "TLS 1.3 resumed"),
    (Versions::Tls13, Mode::Early, "TLS 1.3 0-RTT"),
];

/// The claims, and how they fare.
pub fn claims(out: &mut String, results: &Results) -> Result<()> {
    writeln!(
        out,
        "## The claims\n\n\
         Resumption is said to save *{} to {} ms of time to first byte* and *{} to {} % of CPU*.\n\
         Against a full handshake of the same version and certificate, it saved here:\n",
        CLAIMED_WAIT.start(),
        CLAIMED_WAIT.end(),
        CLAIMED_CPU.start(),
        CLAIMED_CPU.end()
    )?;
    wait(out, results)?;
    cpu(out, results)
}

fn wait(out: &mut String, results: &Results) -> Result<()> {
    write!(out, "| time to first byte |")?;
    for (trip, _) in ROUND_TRIPS {
        write!(out, " {trip} ms away |")?;
    }
    writeln!(out, " round trips saved |\n|---|---:|---:|---:|---:|")?;
    let mut trips = Vec::new();
    for (versions, mode, name) in KINDS {
        write!(out, "| {name} |")?;
        let mut all = Vec::new();
        for far in 0..ROUND_TRIPS.len() {
            let saved = KEYS
                .iter()
                .map(|key| {
                    let case = Case {
                        versions,
                        key: *key,
                        mode,
                    };
                    let full = &results.row(case.full())?.far[far];
                    Ok(1e3 * saved_wait(full, &results.row(case)?.far[far]))
                })
                .collect::<Result<Vec<_>>>()?;
            let (low, high) = ends(&saved);
            write!(
                out,
                " {low:.1} … {high:.1} ms: {} |",
                verdict(low, high, &CLAIMED_WAIT)
            )?;
            all.push(saved);
        }
        // What grows with the distance is round trips; what does not is computation.
        let (near, far) = (ROUND_TRIPS[0].0, ROUND_TRIPS[ROUND_TRIPS.len() - 1].0);
        let slopes: Vec<_> = all[0]
            .iter()
            .zip(&all[ROUND_TRIPS.len() - 1])
            .map(|(at_near, at_far)| (at_far - at_near) / (far - near) as f64)
            .collect();
        // Without a sign for what is nothing but rounding.
        let slope = (median(&slopes) * 100.0).round() / 100.0 + 0.0;
        writeln!(out, " {slope:.2} |")?;
        trips.push((name, slope));
    }
    writeln!(out, "\n(lowest and highest of the certificates)\n")?;
    for (name, slope) in trips {
        writeln!(out, "- {}", sentence(name, slope))?;
    }
    writeln!(out)?;
    Ok(())
}

/// When the claim about time holds, given the round trips saved.
fn sentence(name: &str, slope: f64) -> String {
    // Less than this is not a round trip, whatever the noise.
    if slope < 0.5 {
        return format!(
            "{name} needs as many round trips as a full handshake does: it saves the time that \
             computing takes, at no distance {} ms. **The claim is not met.**",
            CLAIMED_WAIT.start()
        );
    }
    let trips = slope.round();
    format!(
        "{name} saves {}: the claim is met where a round trip takes {:.0} to {:.0} ms, and for \
         nobody who is nearer.",
        if trips == 1.0 {
            "one round trip".to_owned()
        } else {
            format!("{trips} round trips")
        },
        CLAIMED_WAIT.start() / trips,
        CLAIMED_WAIT.end() / trips
    )
}

fn cpu(out: &mut String, results: &Results) -> Result<()> {
    write!(out, "| CPU |")?;
    for key in KEYS {
        write!(out, " {} |", key_name(key))?;
    }
    writeln!(out, "\n|---|---:|---:|---:|")?;
    let (mut handshakes, mut connections) = (Vec::new(), Vec::new());
    for (versions, mode, name) in KINDS {
        for whole in [false, true] {
            let what = match whole {
                false => "of the handshake",
                true => "of a connection with one small request",
            };
            write!(out, "| {name}, {what} |")?;
            for key in KEYS {
                let case = Case {
                    versions,
                    key,
                    mode,
                };
                let (full, row) = (results.row(case.full())?, results.row(case)?);
                let saved = 100.0
                    * median(&if whole {
                        saved_share(&full.connection, &row.connection)
                    } else {
                        saved_share(&full.handshake, &row.handshake)
                    });
                // Judged as it is printed.
                let saved = saved.round();
                write!(out, " {saved} %: {} |", verdict(saved, saved, &CLAIMED_CPU))?;
                match whole {
                    false => handshakes.push(saved),
                    true => connections.push(saved),
                }
            }
            writeln!(out)?;
        }
    }
    let ((low, high), (least, most)) = (ends(&handshakes), ends(&connections));
    writeln!(
        out,
        "\n- Of the CPU that handshakes cost, resumption saved {low:.0} to {high:.0} %; of all that a \
         connection with one small request costs, {least:.0} to {most:.0} %.\n\
         - The certificate decides: what is saved is the server's signature, which costs most with \
         RSA-4096 and least with ECDSA. Where TLS 1.3 resumes, the key exchange is still made, and \
         tickets are issued anew.\n"
    )?;
    Ok(())
}

fn ends(values: &[f64]) -> (f64, f64) {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    (low, high)
}

fn verdict(low: f64, high: f64, claimed: &RangeInclusive<f64>) -> &'static str {
    if high < *claimed.start() {
        "below"
    } else if low > *claimed.end() {
        "above"
    } else if claimed.contains(&low) && claimed.contains(&high) {
        "as claimed"
    } else {
        "partly as claimed"
    }
}
