//! What is shown, on which board. `dashboards/README.md` says what question each answers.

use super::model::{Board, Kind, Panel, Row, Thresholds, Variable};

const ROLE: Variable = one("role", "tls_handshakes_total");
const SERVER_NAME: Variable = many("server_name", "tls_handshakes_total");
const SERVICE: Variable = many("service", "tls_handshakes_total");
const INSTANCE: Variable = many("instance", "resumetry_build_info");

const fn one(label: &'static str, metric: &'static str) -> Variable {
    Variable {
        label,
        metric,
        multiple: false,
    }
}

const fn many(label: &'static str, metric: &'static str) -> Variable {
    Variable {
        label,
        metric,
        multiple: true,
    }
}

/// Operators aim above 90 %.
const QUOTA: Thresholds = Thresholds::AtLeast(0.7, 0.9);

/// What the variables of most boards choose.
const CHOSEN: &str =
    r#"role=~"$role",server_name=~"$server_name",service=~"$service",instance=~"$instance""#;
const OF_SERVICE: &str = r#"service=~"$service",instance=~"$instance""#;
const OF_ROLE: &str = r#"role=~"$role",service=~"$service",instance=~"$instance""#;

/// Increase of a counter over the steps of a graph, a second.
fn rate(by: &str, metric: &str, labels: &str) -> String {
    format!("sum by ({by}) (rate({metric}{{{labels}}}[$__rate_interval]))")
}

/// The share of connections that resume; 0 where none does.
fn quota(by: &str, labels: &str) -> String {
    let of = |result: &str| {
        rate(
            by,
            "tls_handshakes_total",
            &format!("{labels},result=~\"{result}\""),
        )
    };
    let (resumed, all) = (of("resumed"), of("resumed|full"));
    format!("({resumed} or {all} * 0) / ({all} > 0)")
}

fn quantile(share: f64, by: &str, metric: &str, labels: &str) -> String {
    let by = if by.is_empty() {
        "le".to_owned()
    } else {
        format!("le, {by}")
    };
    format!(
        "histogram_quantile({share}, {})",
        rate(&by, &format!("{metric}_bucket"), labels)
    )
}

fn row(title: &'static str, panels: Vec<Panel>) -> Row {
    Row {
        title,
        repeat: None,
        panels,
    }
}

pub fn all() -> Vec<Board> {
    vec![
        fleet(),
        server_name(),
        tickets(),
        costs(),
        early_data(),
        canary(),
        agent(),
    ]
}

fn quota_panel(kind: Kind, title: &'static str) -> Panel {
    Panel::new(kind, title, "percentunit",
        "Share of the established connections that resumed. Below 90 % look for the reason in the board's other panels.")
        .thresholds(QUOTA)
}

fn reasons(by: &'static str, legend: &'static str) -> Panel {
    Panel::new(Kind::Stacked, "Refused offers by reason", "ops",
        "Why servers did not resume what clients offered. key_unknown is rotation or drift between hosts, cache_miss a cache that is too small or not shared, expired the lifetime.")
        .query(legend, rate(by, "tls_resumption_rejections_total", CHOSEN))
        .may_be_empty()
}

fn fleet() -> Board {
    Board {
        uid: "resumetry-fleet",
        title: "Fleet",
        description: "Which share of all connections resumes, where it does not, and why.",
        variables: vec![ROLE, SERVER_NAME, SERVICE, INSTANCE],
        rows: vec![
            row("Now", vec![
                quota_panel(Kind::Stat, "Resumption quota").query("quota", quota("", CHOSEN)),
                Panel::new(Kind::Stat, "Handshakes", "ops", "Established handshakes a second, of the chosen hosts and names.")
                    .query("handshakes", rate("", "tls_handshakes_total", &format!("{CHOSEN},result=~\"resumed|full\""))),
                Panel::new(Kind::Stat, "Failed", "percentunit", "Share of the handshakes that failed or were left. Above a few per cent look at the alerts below.")
                    .query("failed", format!("({} or vector(0)) / ({} > 0)",
                        rate("", "tls_handshakes_total", &format!("{CHOSEN},result=\"failed\"")),
                        rate("", "tls_handshakes_total", CHOSEN)))
                    .thresholds(Thresholds::AtMost(0.02, 0.1)),
                Panel::new(Kind::Stat, "Hosts", "short", "Agents that report.")
                    .query("hosts", "count(resumetry_build_info{instance=~\"$instance\"})"),
            ]),
            row("Over time", vec![
                quota_panel(Kind::TimeSeries, "Resumption quota by host").query("{{instance}}", quota("instance", CHOSEN)),
                quota_panel(Kind::TimeSeries, "Resumption quota by service").query("{{service}}", quota("service", CHOSEN)),
                Panel::new(Kind::TimeSeries, "What clients offer", "percentunit",
                    "Share of the connections by what the client offered to resume from. A growing none is new clients, or servers that issue no tickets.")
                    .query("{{offered}}", format!("{} / ignoring (offered) group_left () ({} > 0)",
                        rate("offered", "tls_handshakes_total", CHOSEN), rate("", "tls_handshakes_total", CHOSEN))),
                reasons("reason", "{{reason}}"),
                Panel::new(Kind::Stacked, "Versions", "ops", "Established handshakes by TLS version.")
                    .query("{{version}}", rate("version", "tls_handshakes_total", &format!("{CHOSEN},result=~\"resumed|full\""))),
                Panel::new(Kind::Stacked, "Alerts that ended a handshake", "ops",
                    "By description and direction as the watched process sees it. Sent: the server refused; received: the client did.")
                    .query("{{description}} ({{direction}})", rate("description, direction", "tls_alerts_total", CHOSEN))
                    .may_be_empty(),
            ]),
            row("Server names", vec![
                Panel::new(Kind::Table, "Lowest quota", "percentunit", "The twenty names of the chosen that resume least. _other is all beyond --max-server-names.")
                    .query("", format!("bottomk(20, {})", quota("server_name", CHOSEN)))
                    .thresholds(QUOTA),
                Panel::new(Kind::Table, "Most handshakes", "ops", "The twenty busiest names.")
                    .query("", format!("topk(20, {})", rate("server_name", "tls_handshakes_total", CHOSEN))),
            ]),
        ],
    }
}

fn server_name() -> Board {
    Board {
        uid: "resumetry-server-name",
        title: "Server name",
        description: "One name in depth: quota, reasons, times, by host.",
        variables: vec![ROLE, SERVER_NAME, SERVICE, INSTANCE],
        rows: vec![Row {
            title: "$server_name",
            repeat: Some("server_name"),
            panels: vec![
                quota_panel(Kind::TimeSeries, "Resumption quota by host").query("{{instance}}", quota("instance", CHOSEN)),
                Panel::new(Kind::Stacked, "Handshakes by offer and result", "ops", "What clients offered, and what became of it.")
                    .query("{{offered}}, {{result}}", rate("offered, result", "tls_handshakes_total", CHOSEN)),
                reasons("instance, reason", "{{reason}}, {{instance}}"),
                Panel::new(Kind::TimeSeries, "Time to first byte, median", "s",
                    "From TCP established to the first byte of the response, as the client sees it. The distance between full and resumed is what resumption spares; compare like with like on the board of costs.")
                    .query("{{result}}", quantile(0.5, "result", "tls_time_to_first_byte_seconds", CHOSEN))
                    .may_be_empty(),
                Panel::new(Kind::TimeSeries, "Handshake duration, median", "s", "First byte of the ClientHello to the end of the handshake at the server.")
                    .query("{{result}}, TLS {{version}}", quantile(0.5, "result, version", "tls_handshake_duration_seconds", CHOSEN)),
                Panel::new(Kind::Heatmap, "Age of offered tickets", "s", "How old the sessions are that clients come back with. What lies beyond the lifetime is refused.")
                    .query("{{le}}", rate("le", "tls_ticket_age_seconds_bucket", CHOSEN))
                    .may_be_empty(),
                Panel::new(Kind::Stat, "Certificate chain", "bytes", "Length of the Certificate message (TLS 1.2). Beyond some 14 kB the first flight takes another round trip.")
                    .query("{{instance}}", format!("max by (instance) (tls_server_certificate_chain_bytes{{{CHOSEN}}})"))
                    .thresholds(Thresholds::AtMost(4_000.0, 12_000.0))
                    .width(12)
                    .may_be_empty(),
            ],
        }],
    }
}

fn tickets() -> Board {
    let age = |metric: &str| {
        format!("time() - max by (service, key, instance) ({metric}{{{OF_SERVICE}}})")
    };
    Board {
        uid: "resumetry-tickets",
        title: "Ticket keys",
        description: "Which keys are issued, accepted and refused, how old they are, and whether rotation loses tickets.",
        variables: vec![SERVICE, INSTANCE],
        rows: vec![
            row("Use", vec![
                Panel::new(Kind::Stacked, "Accepted, by key", "ops", "Handshakes resumed from tickets of each key (salted fingerprints). At a rotation one fades while the next grows.")
                    .query("{{key}}", rate("key", "tls_tickets_total", &format!("{OF_SERVICE},event=\"accepted\""))).may_be_empty(),
                Panel::new(Kind::Stacked, "Refused, by key", "ops", "A key that others accept here is drift; one that nobody accepts was retired.")
                    .query("{{key}}, {{instance}}", rate("key, instance", "tls_tickets_total", &format!("{OF_SERVICE},event=\"rejected\""))).may_be_empty(),
                Panel::new(Kind::Stacked, "Issued, by key (TLS 1.2)", "ops", "TLS 1.3 encrypts the tickets that it issues.")
                    .query("{{key}}, {{instance}}", rate("key, instance", "tls_tickets_total", &format!("{OF_SERVICE},event=\"issued\""))).may_be_empty(),
                Panel::new(Kind::Stacked, "Refused within their lifetime", "ops", "Tickets whose key was retired while they were valid: keep a key for one lifetime after it issued last.")
                    .query("{{key}}, {{instance}}", rate("key, instance", "tls_ticket_key_refused_early_total", OF_SERVICE)).may_be_empty(),
            ]),
            row("Age", vec![
                Panel::new(Kind::BarGauge, "Known for", "s", "Since when the agent knows each key; the key may be older. Rotate daily.")
                    .query("{{key}}, {{service}}, {{instance}}", age("tls_ticket_key_first_seen_timestamp_seconds"))
                    .thresholds(Thresholds::AtMost(90_000.0, 262_800.0)).may_be_empty(),
                Panel::new(Kind::BarGauge, "Accepted last", "s", "How long ago a ticket of the key was accepted.")
                    .query("{{key}}, {{service}}, {{instance}}", age("tls_ticket_key_last_accepted_timestamp_seconds")).may_be_empty(),
                Panel::new(Kind::BarGauge, "Issued last (TLS 1.2)", "s", "How long ago a ticket of the key was issued.")
                    .query("{{key}}, {{service}}, {{instance}}", age("tls_ticket_key_last_issued_timestamp_seconds")).may_be_empty(),
                Panel::new(Kind::Table, "Guessable keys", "short", "1: the key is zeros or otherwise known (--check-weak-keys). Replace it at once.")
                    .query("", format!("max by (service, key, instance) (tls_ticket_key_weak{{{OF_SERVICE}}})"))
                    .thresholds(Thresholds::AtMost(0.5, 1.0)).may_be_empty(),
            ]),
            row("Clients", vec![
                Panel::new(Kind::TimeSeries, "Tickets offered again", "ops", "Tickets that had been offered before: clients that do not use each once can be followed (RFC 8446, C.4).")
                    .query("{{service}}, {{offered}}", rate("service, offered", "tls_tickets_reoffered_total", OF_SERVICE)).may_be_empty(),
            ]),
        ],
    }
}

fn costs() -> Board {
    let spared = |metric: &str, by: &str| rate(by, metric, OF_ROLE);
    Board {
        uid: "resumetry-costs",
        title: "Costs and savings",
        description: "What full handshakes cost in time and CPU, what resumption spares, what refused offers lose.",
        variables: vec![ROLE, SERVICE, INSTANCE],
        rows: vec![
            row("Time", vec![
                Panel::new(Kind::TimeSeries, "Time to first byte gap", "s",
                    "Full less resumed. Matched compares connections of like distance, without the server's thinking; plain misleads where those who return are nearer.")
                    .query("{{service}}, TLS {{version}}, {{method}}", format!("avg by (service, version, method) (tls_time_to_first_byte_gap_seconds{{{OF_ROLE}}})")).may_be_empty(),
                Panel::new(Kind::TimeSeries, "Waiting spared", "s", "Seconds of waiting that users were spared, each second.")
                    .query("{{service}}", spared("tls_resumption_saved_wait_seconds_total", "service")).may_be_empty(),
                Panel::new(Kind::Stacked, "Waiting lost to refusals", "s", "Seconds of waiting that refused offers cost users, each second, by reason.")
                    .query("{{reason}}", spared("tls_resumption_lost_wait_seconds_total", "reason")).may_be_empty(),
                Panel::new(Kind::TimeSeries, "Time to first byte, median", "s", "As clients see it, of the connections that --responses follows.")
                    .query("{{result}}, TLS {{version}}", quantile(0.5, "result, version", "tls_time_to_first_byte_seconds", OF_ROLE)).may_be_empty(),
            ]),
            row("CPU", vec![
                Panel::new(Kind::TimeSeries, "CPU of a handshake", "s", "Mean on-CPU time of the serving thread inside the handshake.")
                    .query("{{result}}, TLS {{version}}", format!("{} / ({} > 0)",
                        rate("result, version", "tls_handshake_cpu_seconds_sum", OF_ROLE),
                        rate("result, version", "tls_handshake_cpu_seconds_count", OF_ROLE))).may_be_empty(),
                Panel::new(Kind::TimeSeries, "Cores spared", "short", "Cores that resumption spares against full handshakes.")
                    .query("{{service}}", spared("tls_resumption_saved_cpu_seconds_total", "service")).may_be_empty(),
                Panel::new(Kind::Stacked, "Cores lost to refusals", "short", "Cores that refused offers cost, by reason.")
                    .query("{{reason}}", spared("tls_resumption_lost_cpu_seconds_total", "reason")).may_be_empty(),
                Panel::new(Kind::Stacked, "Cores by primitive", "short", "Estimated from sampling windows (--primitives). sign is what resumption spares.")
                    .query("{{operation}}", rate("operation", "tls_crypto_cpu_seconds_total", OF_ROLE)).may_be_empty(),
            ]),
        ],
    }
}

fn early_data() -> Board {
    Board {
        uid: "resumetry-early-data",
        title: "0-RTT and QUIC",
        description: "Early data offered, accepted and refused; QUIC beside TCP.",
        variables: vec![ROLE, SERVER_NAME, SERVICE, INSTANCE],
        rows: vec![
            row("0-RTT", vec![
                Panel::new(Kind::Stacked, "Early data", "ops", "Handshakes in which the client sent early data, by what became of it.")
                    .query("{{status}}, {{transport}}", rate("status, transport", "tls_early_data_total", CHOSEN)).may_be_empty(),
                Panel::new(Kind::Table, "Accepted, by name and transport", "percentunit", "Share of the offered early data that was accepted. It should be alike over QUIC and TCP.")
                    .query("", format!("{} / ({} > 0)",
                        rate("server_name, transport", "tls_early_data_total", &format!("{CHOSEN},status=\"accepted\"")),
                        rate("server_name, transport", "tls_early_data_total", &format!("{CHOSEN},status=\"offered\"")))).may_be_empty(),
            ]),
            row("Transports", vec![
                quota_panel(Kind::TimeSeries, "Resumption quota by transport").query("{{transport}}", quota("transport", CHOSEN)),
                Panel::new(Kind::Stacked, "Handshakes by transport", "ops", "Established handshakes over TCP and QUIC.")
                    .query("{{transport}}", rate("transport", "tls_handshakes_total", &format!("{CHOSEN},result=~\"resumed|full\""))),
            ]),
        ],
    }
}

fn canary() -> Board {
    let of = |track: &str| format!("{CHOSEN},track=\"{track}\"");
    let compare = |panel: Panel, expression: &dyn Fn(&str) -> String| {
        panel
            .query("canary", expression(&of("canary")))
            .query("stable", expression(&of("stable")))
            .may_be_empty()
    };
    Board {
        uid: "resumetry-canary",
        title: "Canary",
        description: "Hosts with --label track=canary beside those with track=stable.",
        variables: vec![ROLE, SERVER_NAME, SERVICE, INSTANCE],
        rows: vec![row(
            "Canary and stable",
            vec![
                compare(
                    quota_panel(Kind::TimeSeries, "Resumption quota"),
                    &|labels| quota("", labels),
                ),
                compare(
                    Panel::new(
                        Kind::TimeSeries,
                        "Refused of offered",
                        "percentunit",
                        "Share of the offers that were refused. A canary that refuses more lacks keys, or changed parameters.",
                    ),
                    &|labels| {
                        format!(
                            "{} / ({} > 0)",
                            rate("", "tls_resumption_rejections_total", labels),
                            rate(
                                "",
                                "tls_handshakes_total",
                                &format!("{labels},offered!=\"none\"")
                            )
                        )
                    },
                ),
                compare(
                    Panel::new(
                        Kind::TimeSeries,
                        "Failed",
                        "percentunit",
                        "Share of the handshakes that failed.",
                    ),
                    &|labels| {
                        format!(
                            "({} or vector(0)) / ({} > 0)",
                            rate(
                                "",
                                "tls_handshakes_total",
                                &format!("{labels},result=\"failed\"")
                            ),
                            rate("", "tls_handshakes_total", labels)
                        )
                    },
                ),
                compare(
                    Panel::new(
                        Kind::TimeSeries,
                        "Time to first byte, median",
                        "s",
                        "As clients see it.",
                    ),
                    &|labels| quantile(0.5, "", "tls_time_to_first_byte_seconds", labels),
                ),
                compare(
                    Panel::new(
                        Kind::TimeSeries,
                        "Handshakes",
                        "ops",
                        "Enough for a verdict? Some hundreds in the time that is compared.",
                    ),
                    &|labels| rate("", "tls_handshakes_total", labels),
                ),
            ],
        )],
    }
}

fn agent() -> Board {
    const OF_HOST: &str = "instance=~\"$instance\"";
    Board {
        uid: "resumetry-agent",
        title: "Agents",
        description: "Whether the agents see everything, and what they cost.",
        variables: vec![INSTANCE],
        rows: vec![
            row("Sight", vec![
                Panel::new(Kind::TimeSeries, "Coverage", "percentunit", "Handshakes fully described over handshakes counted in the kernel. Below 1 figures are of a part.")
                    .query("{{instance}}", format!("min by (instance) (resumetry_coverage_ratio{{{OF_HOST}}})"))
                    .thresholds(Thresholds::AtLeast(0.95, 0.999)),
                Panel::new(Kind::Stacked, "Lost events", "ops", "Why: ring_full asks for a larger --ring-bytes or more CPU for the agent.")
                    .query("{{instance}}, {{tap}}, {{reason}}", rate("instance, tap, reason", "resumetry_events_lost_total", OF_HOST)),
                Panel::new(Kind::TimeSeries, "Events", "ops", "What the kernel hands over, by tap.")
                    .query("{{instance}}, {{tap}}", rate("instance, tap", "resumetry_events_total", OF_HOST)),
                Panel::new(Kind::BarGauge, "Probe fired last", "s", "Seconds since. One that is silent under load does not work.")
                    .query("{{instance}}, {{probe}}", format!("time() - resumetry_probe_last_hit_timestamp_seconds{{{OF_HOST}}}"))
                    .may_be_empty(),
                Panel::new(Kind::Table, "Libraries watched", "short", "TLS libraries that probes are attached to.")
                    .query("", format!("sum by (instance, library, version) (resumetry_libraries_attached{{{OF_HOST}}})")).may_be_empty(),
                Panel::new(Kind::TimeSeries, "Clock", "s", "This host's clock less that of Prometheus. Tickets are dated by it.")
                    .query("{{instance}}", format!("resumetry_clock_timestamp_seconds{{{OF_HOST}}} - timestamp(resumetry_clock_timestamp_seconds{{{OF_HOST}}})")),
            ]),
            row("Cost", vec![
                Panel::new(Kind::TimeSeries, "Estimated cost for the servers", "percentunit", "CPU time of the probes over that of the processes that make handshakes. Above --max-overhead probes are left out.")
                    .query("{{instance}}", format!("max by (instance) (resumetry_probe_overhead_ratio{{{OF_HOST}}})")).may_be_empty(),
                Panel::new(Kind::Stacked, "Cost by probe", "s", "CPU seconds a second that the runs of each probe take, by estimate.")
                    .query("{{probe}}", rate("probe", "resumetry_probe_cost_seconds_total", OF_HOST)).may_be_empty(),
                Panel::new(Kind::Table, "Left out", "short", "1 while a group of probes is left out.")
                    .query("", format!("max by (instance, probe) (resumetry_probe_shed{{{OF_HOST}}})")).may_be_empty(),
                Panel::new(Kind::TimeSeries, "CPU of the agent", "percentunit", "CPU time of the agent itself, of one core.")
                    .query("{{instance}}", format!("rate(process_cpu_seconds_total{{job=~\".*resumetry.*\",{OF_HOST}}}[$__rate_interval])")),
                Panel::new(Kind::TimeSeries, "Memory of the agent", "bytes", "Resident memory; it grows with server names and connections in their handshake, within limits.")
                    .query("{{instance}}", format!("process_resident_memory_bytes{{job=~\".*resumetry.*\",{OF_HOST}}}")),
                Panel::new(Kind::TimeSeries, "Server names with series", "short", "Capped by --max-server-names.")
                    .query("{{instance}}", format!("resumetry_server_names{{{OF_HOST}}}")),
            ]),
        ],
    }
}
