#![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

mod web;

use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::core::aggregate::AggregateConfig;
use crate::export::metrics::tests::handshake;

struct Server {
    address: SocketAddr,
    state: Arc<State>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), ServeError>>,
}

async fn start(limits: Limits) -> Server {
    start_on(bind("127.0.0.1:0".parse().unwrap()).await.unwrap(), limits)
}

fn start_on(listener: TcpListener, limits: Limits) -> Server {
    start_with(listener, limits, Web::default())
}

fn start_with(listener: TcpListener, limits: Limits, web: Web) -> Server {
    let address = listener.local_addr().unwrap();
    let state = Arc::new(State::new(AggregateConfig::default(), Vec::new()));
    state.record(&handshake("example.com"), Some("nginx"), 0);
    let (stop, stopped) = oneshot::channel();
    let shutdown = async {
        let _ = stopped.await;
    };
    let own = Arc::clone(&state);
    let task = tokio::spawn(serve_within(limits, listener, web, own, shutdown));
    Server {
        address,
        state,
        stop,
        task,
    }
}

/// Sends `request` and reads until the server closes.
async fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).await.unwrap();
    String::from_utf8(response).unwrap()
}

async fn get(address: SocketAddr, path: &str, headers: &str) -> String {
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
    exchange(address, &request).await
}

#[tokio::test]
async fn serves_the_format_that_was_asked_for() {
    let server = start(LIMITS).await;
    let plain = get(server.address, "/metrics", "").await;
    assert!(plain.starts_with("HTTP/1.1 200"), "{plain}");
    assert!(
        plain.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"),
        "{plain}"
    );
    assert!(plain.contains("# TYPE tls_handshakes_total counter\n"));
    assert!(plain.contains("server_name=\"example.com\""));

    let open = get(
        server.address,
        "/metrics",
        "Accept: application/openmetrics-text;version=1.0.0\r\n",
    )
    .await;
    assert!(
        open.contains(
            "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"
        )
    );
    assert!(open.contains("# TYPE tls_handshakes counter\n"));
}

#[tokio::test]
async fn says_why_it_is_not_ready_and_is_healthy_all_the_same() {
    let server = start(LIMITS).await;
    server
        .state
        .set_readiness(Readiness::NotReady("no cgroup2".into()));
    let response = get(server.address, "/readyz", "").await;
    assert!(
        response.starts_with("HTTP/1.1 503") && response.contains("no cgroup2"),
        "{response}"
    );
    assert!(
        get(server.address, "/healthz", "")
            .await
            .starts_with("HTTP/1.1 200")
    );

    server.state.set_readiness(Readiness::Ready);
    assert!(
        get(server.address, "/readyz", "")
            .await
            .starts_with("HTTP/1.1 200")
    );
}

#[tokio::test]
async fn page_and_its_files_are_kept_and_asked_for_again() {
    let server = start(LIMITS).await;
    let page = get(server.address, "/", "").await;
    assert!(
        page.contains("content-type: text/html; charset=utf-8\r\n"),
        "{page}"
    );
    assert!(
        page.contains("content-security-policy: default-src 'none'; script-src 'self';"),
        "{page}"
    );
    let file = get(server.address, "/assets/main.js", "").await;
    assert!(file.starts_with("HTTP/1.1 200"), "{file}");
    assert!(
        file.contains("content-type: text/javascript; charset=utf-8\r\n"),
        "{file}"
    );
    for (path, response) in [("/", page), ("/assets/main.js", file)] {
        assert!(
            response.contains("cache-control: no-cache\r\n"),
            "{response}"
        );
        let tag = response.split("etag: ").nth(1).unwrap();
        let tag = tag.split("\r\n").next().unwrap();
        let again = get(server.address, path, &format!("If-None-Match: {tag}\r\n")).await;
        assert!(again.starts_with("HTTP/1.1 304"), "{again}");
        assert!(again.ends_with("\r\n\r\n"), "{again}");
    }
    for other in ["/assets/none.js", "/assets/", "/assets/..%2fopenapi.yaml"] {
        let response = get(server.address, other, "").await;
        assert!(response.starts_with("HTTP/1.1 404"), "{response}");
    }
}

#[tokio::test]
async fn json_shows_the_quota_per_name() {
    let server = start(LIMITS).await;
    let json = get(server.address, "/api/v1/quota", "").await;
    let body = json.split_once("\r\n\r\n").unwrap().1;
    let value: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(value["server_names"][0]["server_name"], "example.com");
    assert_eq!(value["server_names"][0]["resumption_quota"], 0.0);
}

#[tokio::test]
async fn refuses_other_methods_paths_and_giant_heads() {
    let server = start(LIMITS).await;
    let post =
        "POST /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\nab";
    assert!(
        exchange(server.address, post)
            .await
            .starts_with("HTTP/1.1 405")
    );
    assert!(
        get(server.address, "/nothing", "")
            .await
            .starts_with("HTTP/1.1 404")
    );
    let giant = format!("X: {}\r\n", "a".repeat(MAX_HEAD_BYTES));
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{giant}\r\n");
    // The server may close before it has read all of it.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut response = Vec::new();
    let _ = stream.read_to_end(&mut response).await;
    assert!(!response.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test]
async fn silent_clients_lose_their_place() {
    let limits = Limits {
        connections: 2,
        head: Duration::from_millis(200),
        ..LIMITS
    };
    let server = start(limits).await;
    let mut silent = Vec::new();
    for _ in 0..6 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(b"GET /metr").await.unwrap();
        silent.push(stream);
    }
    let begun = Instant::now();
    let response = timeout(Duration::from_secs(10), get(server.address, "/healthz", ""))
        .await
        .unwrap();
    assert!(response.starts_with("HTTP/1.1 200"));
    assert!(
        begun.elapsed() >= Duration::from_millis(400),
        "there were only two places"
    );
}

#[tokio::test]
async fn old_connections_are_closed_between_requests() {
    let limits = Limits {
        age: Duration::from_millis(200),
        ..LIMITS
    };
    let server = start(limits).await;
    let request = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    let response = timeout(Duration::from_secs(3), exchange(server.address, request))
        .await
        .unwrap();
    assert!(response.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn shutdown_does_not_wait_for_idle_clients() {
    let server = start(LIMITS).await;
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    let mut response = [0; 1];
    idle.read_exact(&mut response).await.unwrap();
    server.stop.send(()).unwrap();
    timeout(Duration::from_secs(2), server.task)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn port_in_use_names_the_address_and_the_way_out() {
    let first = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = first.local_addr().unwrap();
    let error = bind(address).await.unwrap_err().to_string();
    assert!(error.contains(&address.to_string()), "{error}");
    assert!(error.contains("another process listens there"), "{error}");
    assert!(error.contains("--listen"), "{error}");
    let error = bind("192.0.2.1:9".parse().unwrap())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("no such address"), "{error}");
}

#[tokio::test]
async fn one_greedy_peer_leaves_places_to_others() {
    let limits = Limits {
        connections: 64,
        per_peer: 4,
        ..LIMITS
    };
    let server = start(limits).await;
    let mut greedy = Vec::new();
    for _ in 0..100 {
        greedy.push(TcpStream::connect(server.address).await.unwrap());
    }
    // Another address of the loopback network.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut stream = socket.connect(server.address).await.unwrap();
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut response = Vec::new();
    timeout(Duration::from_secs(2), stream.read_to_end(&mut response))
        .await
        .unwrap()
        .unwrap();
    assert!(response.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test]
async fn readers_that_never_read_are_cut_off() {
    let limits = Limits {
        age: Duration::from_millis(100),
        response: Duration::from_millis(200),
        ..LIMITS
    };
    // Small buffers at both ends: the response must not fit into the kernel.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_send_buffer_size(4_096).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let server = start_on(socket.listen(16).unwrap(), limits);
    for name in 0..1_000 {
        let name = format!("{}{name}.example.com", "long-label.".repeat(20));
        server.state.record(&handshake(&name), Some("nginx"), 0);
    }
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut stream = socket.connect(server.address).await.unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    sleep(Duration::from_secs(1)).await;
    let begun = Instant::now();
    server.stop.send(()).unwrap();
    server.task.await.unwrap().unwrap();
    assert!(
        begun.elapsed() < Duration::from_millis(100),
        "the connection was gone already"
    );
}
