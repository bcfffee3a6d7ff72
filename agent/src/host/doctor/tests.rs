#![allow(clippy::unwrap_used, reason = "a test may panic")]

use agent_common::{call::MachineSite, site::TicketSite};
use expect_test::expect;

use super::*;
use crate::host::openssl::{
    self, Field, FieldError, InspectError, Layout, ReadError, SessionFields, SslFields,
    TicketsError, Unit,
};

const ALL: u64 = (1 << 41) - 1;

/// A host on which everything works.
fn good() -> Facts {
    Facts {
        kernel: "6.18.44-amd64".to_owned(),
        btf: true,
        cgroup: Ok(Root {
            path: "/sys/fs/cgroup".into(),
            whole_host: true,
        }),
        capabilities: Some(ALL),
        initial_user_namespace: true,
        uprobes: true,
        confidential: false,
        host_pids: true,
        libraries: vec![
            Library {
                path: "/usr/lib/x86_64-linux-gnu/libssl.so.3".to_owned(),
                inode: 5103,
                version: Some("OpenSSL 3.0.19".to_owned()),
                processes: 12,
                deleted: false,
                tickets: Tickets {
                    readable: true,
                    session_ids: true,
                    fields: vec!["time", "timeout", "version"],
                    reasons: Vec::new(),
                },
            },
            Library {
                path: "/opt/libssl.so.1.1".to_owned(),
                inode: 77,
                version: None,
                processes: 1,
                deleted: true,
                tickets: Tickets::judge(&Err(ReadError::Inspect(InspectError::Architecture(
                    "aarch64",
                )))),
            },
        ],
        clock_synchronised: Some(true),
        unreadable_processes: 0,
    }
}

fn state(facts: &Facts, id: &str) -> State {
    evaluate(facts)
        .checks
        .into_iter()
        .find(|check| check.id == id)
        .unwrap()
        .state
}

fn taps(facts: &Facts) -> (bool, bool, bool) {
    let taps = evaluate(facts).taps;
    (taps.wire, taps.library, taps.socket)
}

#[test]
fn a_good_host_has_every_tap() {
    let report = evaluate(&good());
    assert_eq!(taps(&good()), (true, true, true));
    assert_eq!(report.exit_code(), 0);
    assert!(
        report
            .checks
            .iter()
            .all(|check| check.state == State::Ok && check.fix.is_none())
    );
    expect![[r#"
        ✓ kernel        6.18.44-amd64
        ✓ capabilities  BPF, NET_ADMIN, PERFMON and SYS_PTRACE
        ✓ cgroup2       /sys/fs/cgroup
        ✓ btf           /sys/kernel/btf/vmlinux
        ✓ uprobes       offered by the kernel
        ✓ processes     all of this host can be read
        ✓ libssl        2 files in 13 processes
        ✓ clock         synchronised, as far as the kernel tells

        Libraries
          /usr/lib/x86_64-linux-gnu/libssl.so.3  OpenSSL 3.0.19     inode 5103, 12 processes
            ticket decisions readable; of the session: time, timeout, version
          /opt/libssl.so.1.1                     version not known  inode 77, 1 process, replaced on disk
            ticket decisions not readable: it is built for another architecture (aarch64) than x86-64

        What will be seen
        ✓ Every TLS handshake over TCP on this host, as server and as client, whatever its TLS library: what was offered, accepted, and how long it took.
        ✓ The exact end of OpenSSL handshakes, through 2 library files, and those loaded later.
        ✓ How long clients wait between TCP connection and ClientHello.
    "#]].assert_eq(&render(&report, false));
}

#[test]
fn every_missing_thing_has_a_way_out() {
    let facts = Facts {
        kernel: "5.4.0-150-generic".to_owned(),
        btf: false,
        cgroup: Err(cgroup::CgroupError::NoMount.to_string()),
        capabilities: Some(0),
        uprobes: false,
        libraries: Vec::new(),
        clock_synchronised: Some(false),
        unreadable_processes: 40,
        ..good()
    };
    let report = evaluate(&facts);
    assert_eq!(report.exit_code(), 1);
    assert_eq!(taps(&facts), (false, false, false));
    for check in &report.checks {
        assert_eq!(check.fix.is_some(), check.state != State::Ok, "{check:?}");
    }
    expect![[r#"
        ✗ kernel        5.4.0-150-generic is older than 5.8
                        → boot a newer kernel (Debian: apt install linux-image-amd64); this one lacks the BPF ring buffer
        ✗ capabilities  lacking CAP_BPF (every tap), CAP_NET_ADMIN (wire and socket tap), CAP_PERFMON (library tap), CAP_SYS_PTRACE (libraries and names of other users' processes)
                        → run as root (sudo resumetry …), or: setcap cap_bpf,cap_net_admin,cap_perfmon,cap_sys_ptrace+ep /path/to/resumetry
        ✗ cgroup2       no cgroup2 file system is mounted on this host, and the wire tap attaches to its root
                        → mount one: mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified (or name a mount with --cgroup)
        ! btf           /sys/kernel/btf/vmlinux is not there: offsets of kernel structures are not known
                        → boot a kernel with CONFIG_DEBUG_INFO_BTF=y, as distributions ship since about 2021
        ✗ uprobes       /sys/bus/event_source/devices/uprobe is not there
                        → boot a kernel with CONFIG_UPROBE_EVENTS=y, and mount /sys
        ! processes     40 cannot be read, so their libraries are not known
                        → run as root, or with CAP_SYS_PTRACE; some sandboxes deny it even to root
        ✓ libssl        no process has it loaded now
        ! clock         the kernel says that it is not synchronised, which ages of tickets rest on
                        → start a time service: timedatectl set-ntp true (with chrony, its `rtcsync` tells the kernel)

        What will be seen
        ✗ No handshakes on the wire: the wire tap cannot work here.
        ✗ Ends of handshakes as the wire shows them: the library tap cannot work here.
        ✗ Not how long clients wait between TCP connection and ClientHello: the socket tap cannot work here.
    "#]].assert_eq(&render(&report, false));
}

#[test]
fn each_missing_thing_costs_its_taps_only() {
    for (facts, expected) in [
        (
            Facts {
                btf: false,
                ..good()
            },
            (true, true, true),
        ),
        (
            Facts {
                uprobes: false,
                ..good()
            },
            (true, false, true),
        ),
        (
            Facts {
                cgroup: Err("none; mount".to_owned()),
                ..good()
            },
            (false, true, false),
        ),
        (
            Facts {
                confidential: true,
                ..good()
            },
            (true, false, true),
        ),
        (
            Facts {
                initial_user_namespace: false,
                ..good()
            },
            (false, false, false),
        ),
        (
            Facts {
                capabilities: None,
                ..good()
            },
            (false, false, false),
        ),
        (
            Facts {
                kernel: "5.7.19".to_owned(),
                ..good()
            },
            (false, false, false),
        ),
        (
            Facts {
                kernel: "5.8.0".to_owned(),
                ..good()
            },
            (true, true, true),
        ),
        (
            Facts {
                kernel: "odd".to_owned(),
                ..good()
            },
            (true, true, true),
        ),
    ] {
        assert_eq!(taps(&facts), expected, "{facts:?}");
    }
}

#[test]
fn capabilities_are_judged_one_by_one() {
    let without = |bits: &[u32]| {
        let set = bits.iter().fold(ALL, |set, bit| set & !(1 << bit));
        Facts {
            // Before uprobes asked for more.
            kernel: "6.12.48".to_owned(),
            capabilities: Some(set),
            ..good()
        }
    };
    let no_admin = |bit| without(&[CAP_SYS_ADMIN, bit]);
    assert_eq!(taps(&no_admin(CAP_BPF)), (false, false, false));
    assert_eq!(taps(&no_admin(CAP_NET_ADMIN)), (false, true, false));
    assert_eq!(taps(&no_admin(CAP_PERFMON)), (true, false, true));
    assert_eq!(
        state(&no_admin(CAP_PERFMON), "capabilities"),
        State::Limited
    );
    assert_eq!(
        state(&no_admin(CAP_NET_ADMIN), "capabilities"),
        State::Missing
    );
    // CAP_PERFMON was enough for uprobes once.
    let no_admin_on = |kernel: &str| Facts {
        kernel: kernel.to_owned(),
        ..without(&[CAP_SYS_ADMIN])
    };
    assert_eq!(taps(&no_admin_on("6.12.48")), (true, true, true));
    assert_eq!(taps(&no_admin_on("6.18.1")), (true, false, true));
    assert_eq!(
        state(&no_admin_on("6.18.1"), "capabilities"),
        State::Limited
    );
    // CAP_SYS_ADMIN stands for all but CAP_SYS_PTRACE.
    let admin = without(&[CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON]);
    assert_eq!(state(&admin, "capabilities"), State::Ok);
    assert_eq!(
        state(&without(&[CAP_SYS_PTRACE]), "capabilities"),
        State::Limited
    );
    assert_eq!(taps(&without(&[CAP_SYS_PTRACE])), (true, true, true));
}

#[test]
fn a_container_is_told_that_it_sees_only_itself() {
    let facts = Facts {
        cgroup: Ok(Root {
            path: "/sys/fs/cgroup".into(),
            whole_host: false,
        }),
        host_pids: false,
        ..good()
    };
    assert_eq!(state(&facts, "cgroup2"), State::Limited);
    assert_eq!(state(&facts, "processes"), State::Limited);
    let report = evaluate(&facts);
    assert_eq!(report.exit_code(), 0);
    assert!(report.seen[0].contains("of this container only"));
}

#[test]
fn json_has_checks_taps_libraries_and_what_is_seen() {
    let report = evaluate(&good());
    let value: serde_json::Value = serde_json::from_str(&report.json().unwrap()).unwrap();
    assert_eq!(value["taps"]["wire"], true);
    assert_eq!(value["checks"][0]["id"], "kernel");
    assert_eq!(value["checks"][0]["state"], "ok");
    assert_eq!(value["libraries"][0]["version"], "OpenSSL 3.0.19");
    assert_eq!(value["libraries"][0]["tickets"]["readable"], true);
    assert_eq!(value["seen"].as_array().unwrap().len(), 3);
}

#[test]
fn says_what_a_library_lets_be_read_and_why_not_more() {
    let plain = Ok(Field {
        offset: 0,
        bytes: 8,
        unit: Unit::AsReturned,
        tagged: false,
    });
    let mut layout = Layout {
        tickets: Ok(openssl::Tickets {
            probes: Vec::new(),
            other_exits: Vec::new(),
        }),
        lookup: Ok(openssl::LookupProbe {
            offset: 0x1000,
            site: TicketSite::from_cookie(0),
        }),
        machine: Ok(openssl::Machine {
            begin: 0x2000,
            ends: vec![0x2100],
            site: MachineSite::from_cookie(0),
        }),
        primitives: Ok(Vec::new()),
        session: SessionFields {
            version: plain,
            time: Err(FieldError::NotPlainLoad("SSL_SESSION_get_time")),
            timeout: plain,
        },
        ssl: SslFields {
            version: plain,
            session_reused: plain,
            session: plain,
            server: plain,
        },
    };
    let sentence = |layout: &Layout| Tickets::judge(&Ok(layout.clone())).sentence();
    assert_eq!(
        sentence(&layout),
        "ticket decisions readable; of the session: timeout, version \
         (SSL_SESSION_get_time is not a plain load)"
    );
    layout.tickets = Err(TicketsError::NotFound);
    layout.session.time = plain;
    assert_eq!(
        sentence(&layout),
        "ticket decisions not readable: no function in it both decrypts and parses a session"
    );
    let absent = Tickets::of(Path::new("/nonexistent"));
    assert_eq!(
        absent.sentence(),
        "ticket decisions not readable: it cannot be read: No such file or directory (os error 2)"
    );
}

#[test]
fn hostile_paths_cannot_reach_the_terminal() {
    let mut facts = good();
    facts.libraries[0].path = "/tmp/\x1b[2J\n/libssl.so".to_owned();
    let text = render(&evaluate(&facts), false);
    assert!(
        text.contains("/tmp/?[2J?/libssl.so") && !text.contains('\x1b'),
        "{text}"
    );
}

#[test]
fn colour_only_when_asked_for() {
    let report = evaluate(&good());
    assert!(render(&report, true).contains("\x1b[32m✓\x1b[0m"));
    assert!(!render(&report, false).contains('\x1b'));
}

#[test]
fn reads_the_files_of_proc() {
    assert_eq!(
        effective_capabilities("Name:\tx\nCapEff:\t000001fffeffffff\n"),
        Some(0x1ff_feff_ffff)
    );
    assert_eq!(effective_capabilities("CapEff:\tnothing"), None);
    assert_eq!(effective_capabilities(""), None);
    assert!(is_initial_user_namespace(
        "         0          0 4294967295\n"
    ));
    assert!(!is_initial_user_namespace("0 1000 1"));
    assert_eq!(kernel_version("6.1.0-18-amd64"), Some((6, 1)));
    assert_eq!(kernel_version("5.15-rc1"), Some((5, 15)));
    for odd in ["", ".", "six.one", "6", "99999999999.1"] {
        assert_eq!(kernel_version(odd), None, "{odd}");
    }
}

/// Whatever host runs the tests: gathering must not fail, and a loaded libssl must be found.
#[test]
fn gathers_the_facts_of_this_host() {
    let facts = Facts::gather();
    assert!(kernel_version(&facts.kernel).is_some(), "{facts:?}");
    assert!(facts.capabilities.is_some());
    let report = evaluate(&facts);
    assert_eq!(report.seen.len(), 3);
    println!("{}", render(&report, false));
}
