//! A stand-in for the Kubernetes API: it lists pods and tells of changes to them over plain HTTP, as
//! API servers do, and does what they do when they fail.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// It ends when dropped.
pub struct KubernetesApi {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    ended: AtomicBool,
}

#[derive(Default)]
struct State {
    /// By uid.
    pods: BTreeMap<String, Value>,
    version: u64,
    watches: Vec<TcpStream>,
    /// All of them, watches or not.
    connections: Vec<TcpStream>,
    /// Lines of requests so far.
    requests: Vec<String>,
    forbids: bool,
}

impl KubernetesApi {
    /// Listens on `port` of loopback.
    pub fn start(port: u16) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port))?;
        let address = listener.local_addr()?;
        let shared: Arc<Shared> = Arc::default();
        let served = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if served.ended.load(Ordering::SeqCst) {
                    break;
                }
                let served = Arc::clone(&served);
                // Its end is the client's business.
                std::thread::spawn(move || served.serve(stream));
            }
        });
        Ok(Self { address, shared })
    }

    /// Writes a kubeconfig for a server on `port`.
    pub fn kubeconfig(directory: &Path, port: u16) -> Result<String> {
        let path = directory.join("kubeconfig");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{{name: c, cluster: {{server: 'http://127.0.0.1:{port}'}}}}]\n\
             users: [{{name: u, user: {{}}}}]\n\
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n"
        );
        std::fs::write(&path, text)?;
        Ok(path.to_string_lossy().into_owned())
    }

    /// Adds a pod, or changes it.
    pub fn put(&self, pod: Value) {
        let mut state = self.shared.state();
        let uid = uid(&pod);
        let known = state.pods.contains_key(&uid);
        let pod = state.stamp(pod);
        state.pods.insert(uid, pod.clone());
        state.tell(if known { "MODIFIED" } else { "ADDED" }, &pod);
    }

    /// Deletes a pod.
    pub fn delete(&self, pod: &Value) {
        let mut state = self.shared.state();
        let pod = state.stamp(pod.clone());
        state.pods.remove(&uid(&pod));
        state.tell("DELETED", &pod);
    }

    /// Takes a pod away that nobody is told of: history that a watch has missed.
    pub fn lose(&self, pod: &Value) {
        self.shared.state().pods.remove(&uid(pod));
    }

    /// Tells every watch that its history is too old, as API servers do after a while.
    pub fn expire_watches(&self) {
        self.shared.state().tell("ERROR", &expired());
    }

    /// From now on nobody may read pods, or everybody again.
    pub fn forbid(&self, forbids: bool) {
        let mut state = self.shared.state();
        state.forbids = forbids;
        state.hang_up();
    }

    /// Targets of requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.shared.state().requests.clone()
    }
}

impl Drop for KubernetesApi {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.shared.state().hang_up();
        // Wakes the listener, which then goes.
        let _ = TcpStream::connect(self.address);
    }
}

fn expired() -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "too old resource version", "reason": "Expired", "code": 410
    })
}

fn uid(pod: &Value) -> String {
    pod["metadata"]["uid"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

impl State {
    fn stamp(&mut self, mut pod: Value) -> Value {
        self.version += 1;
        pod["metadata"]["resourceVersion"] = self.version.to_string().into();
        pod
    }

    fn tell(&mut self, kind: &str, object: &Value) {
        let line = json!({"type": kind, "object": object}).to_string() + "\n";
        let chunk = format!("{:x}\r\n{line}\r\n", line.len());
        self.watches
            .retain_mut(|watch| watch.write_all(chunk.as_bytes()).is_ok());
    }

    fn hang_up(&mut self) {
        self.watches.clear();
        for connection in self.connections.drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, stream: TcpStream) -> Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        self.state().connections.push(stream.try_clone()?);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let mut header = String::new();
            while reader.read_line(&mut header)? > 2 {
                header.clear();
            }
            let target = line.split(' ').nth(1).context("no target")?.to_owned();
            self.answer(&stream, target)?;
        }
    }

    fn answer(&self, mut stream: &TcpStream, target: String) -> Result<()> {
        let mut state = self.state();
        let watches = target.contains("watch=true");
        let (status, body) = if state.forbids {
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "pods is forbidden: User \"system:serviceaccount:resumetry:resumetry\" \
                            cannot list resource \"pods\" in API group \"\" at the cluster scope",
                "reason": "Forbidden", "code": 403
            });
            ("403 Forbidden", status)
        } else {
            let items: Vec<_> = state.pods.values().cloned().collect();
            let list = json!({
                "kind": "PodList", "apiVersion": "v1",
                "metadata": {"resourceVersion": state.version.to_string()}, "items": items
            });
            ("200 OK", list)
        };
        state.requests.push(target);
        let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\n");
        if watches && !state.forbids {
            stream.write_all(format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes())?;
            state.watches.push(stream.try_clone()?);
            // What was before this server began, or was missed, is history that it does not have.
            let since = format!("resourceVersion={}", state.version);
            let asked = state.requests.last().map_or("", String::as_str);
            if !asked.split(['?', '&']).any(|part| part == since) {
                state.tell("ERROR", &expired());
            }
            return Ok(());
        }
        let body = body.to_string();
        let answer = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes())?;
        Ok(())
    }
}
