#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::fs;

use clap::{CommandFactory, Parser};
use expect_test::{Expect, expect};

use super::*;

fn command(arguments: &[&str]) -> Result<Command, String> {
    let cli = Cli::try_parse_from([&["resumetry"], arguments].concat())
        .map_err(|error| error.to_string())?;
    resolve(cli).map_err(|error| error.to_string())
}

fn run_config(arguments: &[&str]) -> RunConfig {
    match command(&[&["run"], arguments].concat()) {
        Ok(Command::Run(config)) => *config,
        other => panic!("{other:?}"),
    }
}

fn trace_config(arguments: &[&str]) -> TraceConfig {
    match command(&[&["trace"], arguments].concat()) {
        Ok(Command::Trace(config)) => *config,
        other => panic!("{other:?}"),
    }
}

fn top_config(arguments: &[&str]) -> TopConfig {
    match command(&[&["top"], arguments].concat()) {
        Ok(Command::Top(config)) => *config,
        other => panic!("{other:?}"),
    }
}

/// A configuration file that goes away with the test.
struct TempFile(PathBuf);

impl TempFile {
    fn new(text: &str) -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("resumetry-config-{}-{number}.toml", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The error that a file of this text gives, with its path replaced.
fn file_error(text: &str, expected: Expect) {
    let file = TempFile::new(text);
    let error = command(&["run", "--config", file.path()]).unwrap_err();
    expected.assert_eq(&error.replace(file.path(), "FILE"));
}

#[test]
fn every_flag_has_its_variable() {
    let mut seen = 0;
    for command in Cli::command().get_subcommands() {
        for argument in command.get_arguments() {
            let Some(flag) = argument
                .get_long()
                .filter(|flag| !["help", "version"].contains(flag))
            else {
                continue;
            };
            let variable = format!("RESUMETRY_{}", flag.to_uppercase().replace('-', "_"));
            let actual = argument
                .get_env()
                .map(|name| name.to_string_lossy().into_owned());
            assert_eq!(actual, Some(variable), "{} --{flag}", command.get_name());
            seen += 1;
        }
    }
    assert!(seen > 30, "{seen} flags looked at");
}

/// A value for every flag; a new flag must be entered here, with a value unlike its default.
const EVERY_KEY: &[(&str, &str)] = &[
    ("cgroup", "\"/sys/fs/cgroup/web.slice\""),
    ("check-weak-keys", "true"),
    ("client-address", "\"prefix\""),
    ("color", "\"always\""),
    ("count", "7"),
    ("fingerprint-salt", "\"s\""),
    ("format", "\"json\""),
    ("handshake-calls", "25"),
    ("handshake-timeout", "\"5s\""),
    ("histogram-server-names", "3"),
    ("interval", "\"2s\""),
    ("key-max-age", "\"12h\""),
    ("kubeconfig", "\"/etc/kubelet.conf\""),
    ("kubernetes-node", "\"node-1\""),
    ("label", "[\"pop=fra1\", \"tier=edge\"]"),
    ("library", "[\"/usr/lib/libssl.so.3\"]"),
    ("listen", "\"[::]:9000\""),
    ("log-level", "\"debug\""),
    ("max-overhead", "0.5"),
    ("max-server-names", "30"),
    ("otlp-attribute", "[\"team=web\"]"),
    ("otlp-ca", "\"/etc/ca.pem\""),
    ("otlp-compression", "\"none\""),
    ("otlp-endpoint", "\"https://otlp.example.com\""),
    ("otlp-header", "[\"authorization=Bearer x\"]"),
    ("otlp-interval", "\"20s\""),
    ("otlp-logs", "true"),
    ("otlp-protocol", "\"grpc\""),
    ("otlp-timeout", "\"3s\""),
    ("pid", "[1, 22]"),
    ("pod-label", "[\"app.kubernetes.io/version\"]"),
    ("quota-target", "85"),
    ("record-events", "\"/tmp/events\""),
    ("result", "\"failed\""),
    ("responses", "75"),
    ("primitives", "40"),
    ("ring-bytes", "65536"),
    ("role", "\"client\""),
    ("series-ttl", "\"10m\""),
    ("server-name", "\"*.example.com\""),
    ("service", "\"nginx\""),
    ("taps", "\"all\""),
    ("verify", "\"nginx=/var/log/nginx/resumetry.log\""),
    ("web-config", "\"/etc/resumetry/web.yml\""),
];

fn every_key() -> String {
    EVERY_KEY
        .iter()
        .map(|(key, value)| format!("{key} = {value}\n"))
        .collect()
}

#[test]
fn every_flag_has_its_key_and_the_key_reaches_the_configuration() {
    let listed: BTreeSet<String> = EVERY_KEY.iter().map(|(key, _)| (*key).to_owned()).collect();
    assert_eq!(listed, file::known_keys());

    let file = TempFile::new(&every_key());
    let capture = CaptureConfig {
        taps: Taps::All,
        cgroup: Some("/sys/fs/cgroup/web.slice".into()),
        pids: vec![1, 22],
        libraries: vec!["/usr/lib/libssl.so.3".into()],
        labels: vec!["pop=fra1".parse().unwrap(), "tier=edge".parse().unwrap()],
        ring_bytes: 65_536,
        handshake_timeout: Duration::from_secs(5),
        handshake_calls: 25,
        responses: 75,
        primitives: 40,
        max_overhead: "0.5".parse().unwrap(),
        fingerprint_salt: "s".to_owned(),
        check_weak_keys: true,
        client_address: AddressMask::Prefix,
        log_level: LogLevel::Debug,
        record_events: Some("/tmp/events".into()),
        kubernetes: KubernetesConfig {
            node: Some("node-1".to_owned()),
            kubeconfig: Some("/etc/kubelet.conf".into()),
            pod_labels: vec!["app.kubernetes.io/version".to_owned()],
        },
    };
    assert_eq!(
        run_config(&["--config", file.path()]),
        RunConfig {
            capture: capture.clone(),
            listen: "[::]:9000".parse().unwrap(),
            web_config: Some("/etc/resumetry/web.yml".into()),
            max_server_names: 30,
            histogram_server_names: 3,
            series_ttl: Duration::from_secs(600),
            quota_target: 85,
            key_max_age: Duration::from_secs(43_200),
            otlp: Some(otlp::OtlpConfig {
                endpoint: "https://otlp.example.com".parse().unwrap(),
                protocol: otlp::Protocol::Grpc,
                headers: vec!["authorization=Bearer x".parse().unwrap()],
                ca: Some("/etc/ca.pem".into()),
                compression: otlp::Compression::None,
                interval: Duration::from_secs(20),
                timeout: Duration::from_secs(3),
                logs: true,
                attributes: vec!["team=web".parse().unwrap()],
            }),
        }
    );
    assert_eq!(
        trace_config(&["--config", file.path()]),
        TraceConfig {
            capture: capture.clone(),
            format: Format::Json,
            filter: Filter {
                server_name: Some("*.example.com".parse().unwrap()),
                service: Some("nginx".to_owned()),
                result: Some(Outcome::Failed),
                role: Some(Role::Client),
            },
            count: NonZeroU64::new(7),
            verify: Some(ServerLog {
                path: "/var/log/nginx/resumetry.log".into(),
            }),
            color: Color::Always,
        }
    );
    assert_eq!(
        top_config(&["--config", file.path()]),
        TopConfig {
            capture,
            interval: Duration::from_secs(2),
            quota_target: 85,
            key_max_age: Duration::from_secs(43_200),
            color: Color::Always,
        }
    );
    match command(&["doctor", "--config", file.path()]) {
        Ok(Command::Doctor(config)) => {
            assert_eq!(
                config,
                DoctorConfig {
                    format: Format::Json,
                    color: Color::Always
                }
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn defaults_apply_where_nothing_is_given() {
    let config = run_config(&[]);
    assert_eq!(config.listen, "127.0.0.1:9650".parse().unwrap());
    assert_eq!(
        (config.max_server_names, config.histogram_server_names),
        (1_000, 100)
    );
    assert_eq!(config.series_ttl, Duration::from_secs(3_600));
    assert_eq!(config.capture.taps, Taps::Auto);
    assert_eq!(config.capture.ring_bytes, 8 << 20);
    assert_eq!(config.capture.handshake_timeout, Duration::from_secs(30));
    assert_eq!(config.capture.client_address, AddressMask::Full);
    assert_eq!(trace_config(&[]).filter, Filter::default());
    assert_eq!(top_config(&[]).interval, Duration::from_secs(1));
    assert_eq!(top_config(&[]).capture, trace_config(&[]).capture);
}

#[test]
fn handshake_calls_are_sampled_unless_somebody_looks() {
    assert_eq!(run_config(&[]).capture.handshake_calls, 5);
    assert_eq!(
        run_config(&["--taps", "library"]).capture.handshake_calls,
        100
    );
    assert_eq!(trace_config(&[]).capture.handshake_calls, 100);
}

#[test]
fn responses_are_sampled_unless_somebody_looks() {
    assert_eq!(run_config(&[]).capture.responses, 10);
    assert_eq!(trace_config(&[]).capture.responses, 100);
    assert_eq!(
        command(&["run", "--responses", "101"]).unwrap_err(),
        "--responses is a share in per cent, 0 to 100, and not 101"
    );
}

#[test]
fn flag_wins_over_file() {
    let file = TempFile::new("listen = \"127.0.0.1:1\"\nlabel = [\"pop=fra1\"]\ntaps = \"wire\"\n");
    let config = run_config(&[
        "--config",
        file.path(),
        "--listen",
        "127.0.0.1:2",
        "--label",
        "pop=ams1",
    ]);
    assert_eq!(config.listen.port(), 2);
    assert_eq!(config.capture.labels, ["pop=ams1".parse().unwrap()]);
    assert_eq!(
        config.capture.taps,
        Taps::Wire,
        "what no flag gives comes from the file"
    );
}

/// Variables are a matter of the whole process, so each case runs in a process of its own: this
/// test binary, asked for this one test.
#[test]
fn variable_wins_over_file_and_flag_over_variable() {
    const CHILD: &str = "RESUMETRY_TEST_CHILD";
    let name = "config::tests::variable_wins_over_file_and_flag_over_variable";
    let file = TempFile::new("listen = \"127.0.0.1:1\"\nlog-level = \"warn\"\n");
    if let Ok(path) = std::env::var(CHILD) {
        let config = run_config(&["--config", &path, "--log-level", "error"]);
        assert_eq!(config.listen.port(), 3, "the variable wins over the file");
        assert_eq!(
            config.capture.log_level,
            LogLevel::Error,
            "the flag wins over the variable"
        );
        assert_eq!(
            config.capture.pids,
            [4, 5],
            "commas separate several values"
        );
        return;
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(CHILD, file.path())
        .env("RESUMETRY_LISTEN", "127.0.0.1:3")
        .env("RESUMETRY_LOG_LEVEL", "debug")
        .env("RESUMETRY_PID", "5,4,5")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
}

#[test]
fn unknown_keys_are_named_with_line_and_nearest_key() {
    file_error(
        "# metrics\nlisten = \"127.0.0.1:1\"\n\nmax-server-name = 3\n",
        expect!["FILE:4: unknown key `max-server-name`; did you mean `max-server-names`?"],
    );
    file_error(
        "series_ttl = \"1h\"\n",
        expect!["FILE:1: unknown key `series_ttl`; did you mean `series-ttl`?"],
    );
    file_error(
        "\n[metrics]\nport = 1\n",
        expect![
            "FILE:2: unknown key `metrics`; keys are spelled like the flags in `resumetry run --help`"
        ],
    );
    file_error(
        "include = \"other.toml\"\n",
        expect![
            "FILE:1: unknown key `include`; keys are spelled like the flags in `resumetry run --help`"
        ],
    );
}

#[test]
fn bad_values_are_named_with_line_and_key() {
    file_error(
        "taps = \"wire\"\nlisten = \"localhost\"\n",
        expect!["FILE:2: listen: invalid socket address syntax"],
    );
    file_error(
        "label = [\n  \"pop=fra1\",\n  \"role=x\",\n]\n",
        expect![
            "FILE:3: label: the label name `role` is used by resumetry itself; choose another one"
        ],
    );
    file_error(
        "series-ttl = 3600\n",
        expect![
            "FILE:1: series-ttl: invalid type: integer `3600`, expected a span of time such as \"30s\""
        ],
    );
    file_error(
        "taps = \"wires\"\n",
        expect![
            "FILE:1: taps: unknown variant `wires`, expected one of `auto`, `wire`, `library`, `all`"
        ],
    );
    file_error("pid = [1, 0]\n", expect!["pid: 0 is no process"]);
    file_error(
        "ring-bytes = -1\n",
        expect!["FILE:1: ring-bytes: expected a size in bytes, such as 8388608 or 8MiB"],
    );
}

#[test]
fn broken_toml_is_named_with_its_line() {
    file_error(
        "taps = \"wire\"\nlisten =\n",
        expect!["FILE:2: string values must be quoted, expected literal string"],
    );
    file_error(
        "taps = \"all\"\ntaps = \"all\"\n",
        expect!["FILE:2: duplicate key"],
    );
}

#[test]
fn a_missing_file_is_an_error_with_its_name() {
    let error = command(&["run", "--config", "/nonexistent/resumetry.toml"]).unwrap_err();
    expect!["cannot read the configuration file /nonexistent/resumetry.toml: No such file or directory (os error 2)"]
        .assert_eq(&error);
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let refused = |arguments: &[&str], expected: Expect| {
        expected.assert_eq(&command(arguments).unwrap_err());
    };
    refused(
        &["trace", "--taps", "wire", "--pid", "1"],
        expect![
            "pid restricts the library tap, which `--taps wire` leaves out; drop one of the two (--cgroup restricts the wire tap)"
        ],
    );
    refused(
        &["run", "--taps", "library", "--cgroup", "/sys/fs/cgroup"],
        expect![
            "cgroup restricts the wire tap, which `--taps library` leaves out; use --pid instead"
        ],
    );
    refused(
        &["run", "--ring-bytes", "1000000"],
        expect![
            "ring-bytes: 1000000 is no power of two between 65536 and 1073741824; 8388608 (8MiB) is the default"
        ],
    );
    refused(
        &[
            "run", "--label", "pop=a", "--label", "tier=x", "--label", "pop=b",
        ],
        expect!["label: `pop` is given twice; every label has one value"],
    );
    refused(
        &[
            "run",
            "--max-server-names",
            "10",
            "--histogram-server-names",
            "11",
        ],
        expect![
            "histogram-server-names: 11 is more than max-server-names, 10; a name without counters of its own cannot have histograms"
        ],
    );
    refused(
        &["run", "--handshake-timeout", "1h"],
        expect!["handshake-timeout: 3600s is too long, the most is 600s"],
    );
    refused(
        &["top", "--interval", "100ms"],
        expect!["interval: 100ms is too short; the least is 500ms"],
    );
    refused(
        &["run", "--max-server-names", "0"],
        expect!["max-server-names: 0 would put every name under `_other`; the least is 1"],
    );
    assert_eq!(
        run_config(&["--max-server-names", "10"]).histogram_server_names,
        10
    );
}

#[test]
fn wrong_usage_exits_with_two() {
    for arguments in [
        &["run", "--no-such-flag"] as &[&str],
        &["run", "--taps", "socket"],
        &["run", "--pid", "0"],
        &["trace", "--count", "0"],
        &["trace", "--result", "maybe"],
        &["run", "--label", "result=x"],
        &["run", "--handshake-timeout", "30"],
        &["tops"],
        &[],
    ] {
        let error = Cli::try_parse_from([&["resumetry"], arguments].concat()).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{arguments:?}");
    }
}

#[test]
fn help_of_every_command_shows_an_example() {
    let mut cli = Cli::command();
    cli.clone().debug_assert();
    assert!(cli.render_help().to_string().contains("Examples:"));
    for command in Cli::command().get_subcommands() {
        let help = command.clone().render_help().to_string();
        let example = format!("resumetry {}", command.get_name());
        assert!(
            help.contains("Examples:") && help.contains(&example),
            "{help}"
        );
    }
}

#[test]
fn help_shows_no_salt_and_no_developer_flag() {
    let run = Cli::command().find_subcommand("run").unwrap().clone();
    let salt = run
        .get_arguments()
        .find(|flag| flag.get_long() == Some("fingerprint-salt"));
    assert!(salt.unwrap().is_hide_env_values_set());
    assert!(
        !run.clone()
            .render_help()
            .to_string()
            .contains("record-events")
    );
}

#[test]
fn the_daemon_may_cost_one_per_cent_and_what_somebody_watches_more() {
    let ratio = |limit: OverheadLimit| limit.ratio();
    assert_eq!(ratio(run_config(&[]).capture.max_overhead), Some(0.01));
    assert_eq!(ratio(trace_config(&[]).capture.max_overhead), Some(0.1));
    let without = run_config(&["--max-overhead", "none"]);
    assert_eq!(ratio(without.capture.max_overhead), None);
    let file = TempFile::new("max-overhead = \"none\"\n");
    let without = run_config(&["--config", file.path()]);
    assert_eq!(ratio(without.capture.max_overhead), None);
}
