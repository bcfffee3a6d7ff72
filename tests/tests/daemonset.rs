//! The agent as the DaemonSet runs it, on a server in another container.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use resumetry_tests::agent::binary;
use resumetry_tests::cgroup::Cgroup;
use resumetry_tests::client::{Client, Profile, dial};
use resumetry_tests::container::{Container, Settings};
use resumetry_tests::manifests::{kustomize, objects};
use resumetry_tests::metrics::{Sample, parse};
use resumetry_tests::site::Names;
use resumetry_tests::{ports, wait};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);

fn texts(list: &Value) -> Vec<String> {
    let list = list.as_array().unwrap();
    list.iter()
        .map(|one| one.as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn sees_a_containers_handshakes_with_what_the_daemonset_gives() {
    let names = Names::new().unwrap();
    let (name, _) = &names.served[0];
    let port = ports::free().unwrap();
    let node = Cgroup::create("daemonset").unwrap();
    let id = "9c1b".repeat(16);
    let place = node.nested(&format!("kubepods/besteffort/{id}")).unwrap();
    let server = place
        .inside(|| Container::nginx(&names, port, false))
        .unwrap();
    assert!(
        wait::until(PATIENCE, || dial(port).is_ok()),
        "{}",
        server.log()
    );

    // The agent, by what the object says and nothing else.
    let set = objects(&kustomize("kustomize").unwrap()).unwrap();
    let set = set
        .iter()
        .find(|object| object["kind"] == "DaemonSet")
        .unwrap();
    let pod = &set["spec"]["template"]["spec"];
    assert_eq!(pod["hostPID"], true);
    assert_eq!(
        pod["securityContext"]["seccompProfile"]["type"],
        "RuntimeDefault"
    );
    let container = &pod["containers"][0];
    let context = &container["securityContext"];
    assert_eq!(context["privileged"], false);
    assert_eq!(texts(&context["capabilities"]["drop"]), ["ALL"]);
    let volumes = container["volumeMounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|mount| {
            let all = pod["volumes"].as_array().unwrap();
            let volume = all
                .iter()
                .find(|volume| volume["name"] == mount["name"])
                .unwrap();
            let from = volume["hostPath"]["path"].as_str().unwrap().to_owned();
            let to = mount["mountPath"].as_str().unwrap().to_owned();
            (from, to, mount["readOnly"] != true)
        });
    let image = tempfile::tempdir().unwrap();
    fs::copy(binary(), image.path().join("resumetry")).unwrap();
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(image.path().join("resumetry"), executable).unwrap();
    // A runtime makes the mount points of an image that has none.
    for point in ["proc", "dev", "sys"] {
        fs::create_dir(image.path().join(point)).unwrap();
    }
    let mut arguments = texts(&container["args"]);
    arguments.insert(0, "/resumetry".to_owned());
    let settings = Settings {
        root: image.path(),
        read_only: context["readOnlyRootFilesystem"] == true,
        arguments,
        capabilities: texts(&context["capabilities"]["add"]),
        own_network: true,
        host_processes: true,
        no_new_privileges: context["allowPrivilegeEscalation"] == false,
        volumes: volumes.collect(),
    };
    assert!(settings.read_only && settings.no_new_privileges);
    let mut agent = Container::start("agent", &settings).unwrap();
    let pid = agent.pid().unwrap();
    let get = |path: &str| {
        let output = Command::new("nsenter")
            .args([&format!("--target={pid}"), "--net", "curl", "-fsS"])
            .arg(format!("http://127.0.0.1:9650{path}"))
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        output.status.success().then_some(text)
    };
    // The probes of the object are what it answers.
    let probe = |name: &str| {
        container[name]["httpGet"]["path"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let ready = wait::until(PATIENCE, || get(&probe("readinessProbe")).is_some());
    assert!(ready, "{}", agent.log());
    assert!(get(&probe("livenessProbe")).is_some());
    assert!(
        agent.log().contains("taps: wire, library"),
        "{}",
        agent.log()
    );

    let client = Client::new(Profile {
        server_name: Some(name.clone()),
        ..Profile::default()
    })
    .unwrap();
    for resume in [false, true, true] {
        let done = client.request(dial(port).unwrap(), resume, 1).unwrap();
        assert_eq!(done.resumed, resume);
    }
    let samples = || -> Vec<Sample> {
        let text = get("/metrics").unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.filter_map(parse).collect()
    };
    let counted = |result: &str| -> f64 {
        let samples = samples();
        let wanted = samples.iter().filter(|sample| {
            let has = |label: &str, value: &str| sample.label(label) == value;
            sample.name == "tls_handshakes_total"
                && has("server_name", name)
                && has("service", "nginx")
                && has("role", "server")
                && has("result", result)
        });
        wanted.map(|sample| sample.value).sum()
    };
    let all = wait::until(PATIENCE, || {
        counted("full") == 1.0 && counted("resumed") == 2.0
    });
    assert!(all, "{:#?}\n{}", samples(), agent.log());
}
