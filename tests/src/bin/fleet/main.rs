//! A fleet in small: three nodes in network namespaces of their own, each with nginx and an agent, a
//! Prometheus that scrapes them and evaluates our rules, an Alertmanager that says which alerts fired,
//! and a story of what operators do right and wrong. Time runs faster: all durations in the rules are
//! divided by the pace.

mod nodes;
mod pictures;
mod watch;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use resumetry_tests::agent::binary;
use resumetry_tests::browser::{Browser, Screen};
use resumetry_tests::site::Names;
use resumetry_tests::wait;
use serde_json::Value;

use nodes::{Node, drive};
use watch::Watch;

/// Runs the story; fails where another alert fired than expected, or one did not.
#[derive(Debug, Parser)]
#[command(after_help = "Example:\n  fleet --pace 60")]
struct Arguments {
    /// How much faster than real time
    #[arg(long, default_value_t = 60)]
    pace: u32,
    /// Tell the story until the first mistake is noticed
    #[arg(long)]
    short: bool,
    /// Draw what the boards show of it into this directory
    #[arg(long, value_name = "DIRECTORY")]
    pictures: Option<PathBuf>,
}

/// Nodes, of which the last one is the one that things go wrong with.
const NODES: usize = 3;

/// Clients, each with the session that it got last.
const CLIENTS: usize = 300;

/// What operators would wait, before it is divided by the pace.
const HALF_AN_HOUR: Duration = Duration::from_secs(1_800);
const AN_HOUR: Duration = Duration::from_secs(3_600);

/// How the page calls the reason.
const KEY_UNKNOWN: &str = "Key unknown";

const SCREEN: Screen = Screen {
    scheme: "light",
    width: 1280,
    height: 900,
};

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let names = Names::new()?;
    let first = new_key()?;
    let mut nodes = (0..NODES)
        .map(|number| {
            let track = if number + 1 == NODES {
                "canary"
            } else {
                "stable"
            };
            Node::start(number, track, &names, &[&first])
        })
        .collect::<Result<Vec<_>>>()?;
    let targets: Vec<_> = nodes.iter().map(Node::metrics).collect();
    let watch = Watch::start(arguments.pace, &targets)?;
    let start = Instant::now();
    let servers: Vec<_> = nodes.iter().map(Node::address).collect();
    let done = AtomicBool::new(false);
    let name = names.name(0);
    let told = std::thread::scope(|scope| {
        for seed in 0..3 {
            let (servers, name, done) = (&servers, &name, &done);
            scope.spawn(move || drive(servers, name, CLIENTS / 3, seed, done));
        }
        let told = tell(&mut nodes, &watch, &first, &arguments);
        done.store(true, Ordering::Relaxed);
        told
    });
    told?;
    watch.check_boards()?;
    if let Some(directory) = &arguments.pictures {
        let seconds = start.elapsed().as_secs_f64();
        pictures::draw(watch.prometheus(), seconds, directory)?;
        println!("What the boards show is in {}.", directory.display());
    }
    println!("The story was told as expected; every query of every board has data.");
    Ok(())
}

/// A ticket key of nginx: name, HMAC key and AES key.
fn new_key() -> Result<Vec<u8>> {
    let mut key = vec![0; 80];
    openssl::rand::rand_bytes(&mut key)?;
    Ok(key)
}

fn tell(nodes: &mut [Node], watch: &Watch, first: &[u8], arguments: &Arguments) -> Result<()> {
    let pace = arguments.pace;
    let nobody = |_: &str| false;
    let last = nodes.len() - 1;
    let odd = nodes[last].metrics().to_string();
    // Somebody looks at the page of that node all the time.
    let mut browser = Browser::start()?;
    browser.open(&format!("http://{odd}/"), SCREEN)?;
    let calm = if arguments.short {
        HALF_AN_HOUR
    } else {
        AN_HOUR
    };
    chapter(watch, "all is well", pace, calm, &[], nobody)?;

    let told = findings(nodes)?;
    ensure!(
        told.is_empty(),
        "found between nodes that are alike: {told:?}"
    );

    // A new key is known everywhere before it is used, and the old one after.
    let second = new_key()?;
    for node in nodes.iter_mut() {
        node.use_keys(&[first, &second])?;
    }
    std::thread::sleep(Duration::from_secs(2));
    for node in nodes.iter_mut() {
        node.use_keys(&[&second, first])?;
    }
    chapter(
        watch,
        "a key is rotated as it should be",
        pace,
        HALF_AN_HOUR,
        &[],
        nobody,
    )?;

    let told = findings(nodes)?;
    ensure!(told.is_empty(), "found after a right rotation: {told:?}");
    let reasons = browser.text("#reasons-body")?;
    ensure!(!reasons.contains(KEY_UNKNOWN), "on the page: {reasons}");

    let third = new_key()?;
    for node in &mut nodes[..last] {
        node.use_keys(&[&third, &second])?;
    }
    let expected = [
        "TLSResumptionDropped",
        "TLSResumptionDroppedFleet",
        "TLSNodeResumesLess",
        "TLSTicketKeyDrift",
    ];
    chapter(
        watch,
        "the last node does not get the new key",
        pace,
        HALF_AN_HOUR,
        &expected,
        |instance| instance.is_empty() || instance == odd,
    )?;
    let told = findings(nodes)?;
    println!("  found between the nodes: {told:?}");
    let missing = told.iter().any(|(id, evidence)| {
        id == "key_not_distributed" && evidence.contains(&format!("http://{odd} does not have it"))
    });
    ensure!(missing, "the missing key was not found: {told:?}");
    let shows = "document.getElementById('reasons-body').textContent.includes";
    browser.wait(&format!("{shows}('{KEY_UNKNOWN}')"))?;
    let seen = browser.seen()?;
    ensure!(
        seen.messages.is_empty() && seen.failures.is_empty(),
        "{seen:?}"
    );
    if arguments.short {
        return Ok(());
    }

    nodes[last].use_keys(&[&third, &second])?;
    recovery(watch, pace)?;

    let fourth = new_key()?;
    for node in nodes.iter_mut() {
        node.use_keys(&[&fourth])?;
    }
    let expected = [
        "TLSResumptionDropped",
        "TLSResumptionDroppedFleet",
        "TLSTicketKeyRetiredEarly",
    ];
    chapter(
        watch,
        "the old key is taken away while tickets of it are valid",
        pace,
        HALF_AN_HOUR,
        &expected,
        |_| true,
    )?;
    recovery(watch, pace)?;

    nodes[last].speak_http1_only()?;
    chapter(
        watch,
        "a canary speaks HTTP/1.1 only",
        pace,
        HALF_AN_HOUR,
        &[],
        nobody,
    )
}

/// What `resumetry findings` tells of the nodes as a whole: rules and evidence.
fn findings(nodes: &[Node]) -> Result<Vec<(String, String)>> {
    let mut command = Command::new(binary());
    command.args(["findings", "--format", "json"]);
    for node in nodes {
        command.args(["--url", &format!("http://{}", node.metrics())]);
    }
    let output = command.output()?;
    let report: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    let all = report["findings"].as_array().into_iter().flatten();
    let between = all.filter(|finding| finding["url"].is_null());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(between
        .map(|finding| (text(&finding["id"]), text(&finding["evidence"])))
        .collect())
}

/// Lets time pass, and holds what fired against what should have.
fn chapter(
    watch: &Watch,
    title: &str,
    pace: u32,
    length: Duration,
    expected: &[&str],
    may_be_of: impl Fn(&str) -> bool,
) -> Result<()> {
    println!("{title}");
    let start = Instant::now();
    let expected: BTreeSet<String> = expected.iter().map(|name| (*name).to_owned()).collect();
    let before = watch.fired().len();
    let new = || watch.fired().split_off(before);
    let length = length / pace;
    while start.elapsed() < length {
        std::thread::sleep(Duration::from_millis(200));
    }
    // What is slow to come is waited for; what should not come has had its time.
    wait::until(Duration::from_secs(30), || {
        let names: BTreeSet<String> = new().into_iter().map(|alert| alert.name).collect();
        expected.is_subset(&names)
    });
    let fired = new();
    for alert in &fired {
        println!("  fired: {} {}", alert.name, alert.instance);
    }
    let names: BTreeSet<String> = fired.iter().map(|alert| alert.name.clone()).collect();
    ensure!(
        names == expected,
        "{title}: fired {names:?}, expected {expected:?}\n{}",
        watch.evidence()?
    );
    for alert in &fired {
        ensure!(
            may_be_of(&alert.instance),
            "{title}: {} fired for {}",
            alert.name,
            alert.instance
        );
    }
    Ok(())
}

/// Waits until nothing fires any more; nothing new may fire meanwhile.
fn recovery(watch: &Watch, pace: u32) -> Result<()> {
    println!("it is put right");
    let before = watch.fired().len();
    let quiet = wait::until(Duration::from_secs(120), || {
        watch.firing().is_ok_and(|firing| firing.is_empty())
    });
    ensure!(quiet, "still firing: {:?}", watch.firing());
    std::thread::sleep(HALF_AN_HOUR / pace);
    let late = watch.fired().split_off(before);
    ensure!(late.is_empty(), "fired in recovery: {late:?}");
    Ok(())
}
