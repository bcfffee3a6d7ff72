//! The built-in page as people meet it: a real browser, a real server, keyboard and all.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::cell::Cell;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use resumetry_tests::agent::Agent;
use resumetry_tests::browser::{Browser, Screen};
use resumetry_tests::certs::{Files, Identity, Key};
use resumetry_tests::cgroup::Cgroup;
use resumetry_tests::client::{Client, Profile, Versions, dial};
use resumetry_tests::nginx::{Nginx, Server};
use resumetry_tests::{ports, repository};
use tempfile::TempDir;

/// Most bytes until the page shows its figures, data included and nothing compressed.
const MOST_BYTES: u64 = 200_000;

/// A label that would be a script on a page that took text for markup.
const HOSTILE: &str = "<img src=x onerror=\"document.title='taken'\">";

const DESK: Screen = Screen {
    scheme: "light",
    width: 1280,
    height: 900,
};

const NIGHT: Screen = Screen {
    scheme: "dark",
    ..DESK
};

const PHONE: Screen = Screen {
    scheme: "light",
    width: 360,
    height: 740,
};

/// The first resumes, the second cannot, the third is there for the moment.
const NAMES: [&str; 3] = ["shop.example", "legacy.example", "api.example"];

/// How long the clients of the pictures come back.
const STORY: Duration = Duration::from_secs(150);

/// True once every part of the page has its figures.
const IS_DRAWN: &str = "document.querySelector('#names-body tbody a') !== null \
                        && document.querySelector('#keys-body svg') !== null \
                        && document.querySelector('#agent-body dl') !== null \
                        && document.querySelector('canvas') !== null";

/// True once the page follows the agent.
const LIVE: &str = "document.getElementById('state').dataset.state === 'live'";

/// What the page is made of by a package is what the package has.
#[test]
fn charts_are_those_of_the_package() {
    let page = repository().join("agent/assets/page");
    let package = repository().join("target/node/node_modules/uplot");
    for (ours, theirs) in [
        ("uplot.js", "dist/uPlot.iife.min.js"),
        ("uplot.css", "dist/uPlot.min.css"),
        ("uplot.LICENSE", "LICENSE"),
    ] {
        let ours = fs::read(page.join(ours)).unwrap();
        assert!(ours == fs::read(package.join(theirs)).unwrap(), "{theirs}");
    }
}

/// A server with a name that resumes, one that cannot, and one that nobody asked for yet; and the
/// agent that watches it.
struct Scene {
    /// The first name's, which resumes, and the third's.
    port: u16,
    /// The second name's.
    deaf_port: u16,
    listen: SocketAddr,
    label: String,
    /// Handshakes made and, of these, resumed, as the clients say.
    made: Cell<(u32, u32)>,
    agent: Option<Agent>,
    nginx: Nginx,
    /// Goes when nobody is in it any more.
    cgroup: Cgroup,
    _directory: TempDir,
}

impl Scene {
    /// The agent has the label `note`.
    fn new(note: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority = Identity::authority("Test Authority").unwrap();
        let served = NAMES.map(|name| -> (String, Files) {
            let identity = authority.issue(name, Key::Ecdsa).unwrap();
            let files = identity.write(directory.path(), name).unwrap();
            (name.to_owned(), files)
        });
        let cgroup = Cgroup::create("page").unwrap();
        let (port, deaf_port) = (ports::free().unwrap(), ports::free().unwrap());
        let [shop, legacy, api] = &served;
        let servers = [
            Server::new(port, "ssl", &[shop.clone(), api.clone()]),
            Server::new(deaf_port, "ssl", std::slice::from_ref(legacy))
                .with("ssl_session_tickets off; ssl_session_cache none;"),
        ];
        let nginx = cgroup.inside(|| Nginx::start(1, "", &servers)).unwrap();
        let mut scene = Self {
            port,
            deaf_port,
            listen: ([127, 0, 0, 1], ports::free().unwrap()).into(),
            cgroup,
            agent: None,
            made: Cell::default(),
            label: format!("note={note}"),
            nginx,
            _directory: directory,
        };
        scene.start_agent();
        scene
    }

    fn start_agent(&mut self) {
        let listen = self.listen.to_string();
        let cgroup = self.cgroup.path().to_string_lossy();
        let arguments = [
            ["run", "--listen"],
            [&listen, "--cgroup"],
            [&cgroup, "--label"],
            [&self.label, "--max-overhead"],
            ["none", "--handshake-calls"],
            ["100", "--responses"],
        ];
        let arguments = arguments.into_iter().flatten().chain(["100"]);
        self.agent = Some(Agent::start(arguments).unwrap());
    }

    fn url(&self) -> String {
        format!("http://{}/", self.listen)
    }

    fn client(&self, name: usize, versions: Versions) -> Client {
        Client::new(Profile {
            versions,
            server_name: Some(NAMES[name].to_owned()),
            ..Profile::default()
        })
        .unwrap()
    }

    /// Connections to a name, of which only the first does not offer to resume; whether each did
    /// resume.
    fn visit(&self, name: usize, port: u16, versions: Versions, connections: u32) -> u32 {
        let client = self.client(name, versions);
        let visits = 0..connections;
        let resumed = visits.filter(|&nth| {
            client
                .request(dial(port).unwrap(), nth > 0, 1)
                .unwrap()
                .resumed
        });
        let resumed = u32::try_from(resumed.count()).unwrap();
        let (all, before) = self.made.get();
        self.made.set((all + connections, before + resumed));
        resumed
    }

    /// What the page is to show.
    fn quota(&self) -> String {
        let (all, resumed) = self.made.get();
        percent(resumed, all)
    }
}

/// A picture for the documentation.
fn picture(name: &str) -> PathBuf {
    let directory = repository().join("docs/page");
    fs::create_dir_all(&directory).unwrap();
    directory.join(name)
}

/// Some minutes of clients that come back, in the midst of which the server changes its key; then what
/// the page makes of it.
fn take_pictures(browser: &mut Browser) {
    let scene = Scene::new("edge");
    let clients: Vec<_> = [Versions::Tls12, Versions::Tls13]
        .into_iter()
        .flat_map(|versions| {
            [
                (0, scene.port),
                (0, scene.port),
                (1, scene.deaf_port),
                (2, scene.port),
            ]
            .map(|(name, port)| (scene.client(name, versions), port))
        })
        .collect();
    let begun = Instant::now();
    let mut is_rotated = false;
    while begun.elapsed() < STORY {
        for (client, port) in &clients {
            client.request(dial(*port).unwrap(), true, 1).unwrap();
        }
        scene.visit(2, scene.port, Versions::Tls13, 2);
        if !is_rotated && begun.elapsed() > STORY / 2 {
            scene.nginx.reload().unwrap();
            is_rotated = true;
        }
        // At the pace of people, not as fast as it goes.
        std::thread::sleep(Duration::from_millis(150));
    }
    for screen in [DESK, NIGHT, PHONE] {
        browser.open(&scene.url(), screen).unwrap();
        browser.wait(IS_DRAWN).unwrap();
        let Screen { scheme, width, .. } = screen;
        let path = picture(&format!("host-{scheme}-{width}.png"));
        browser.screenshot(&path, false).unwrap();
    }
    let link = format!("{}#name?role=server&server_name={}", scene.url(), NAMES[0]);
    browser.open(&link, DESK).unwrap();
    browser
        .wait("document.querySelector('#name-view canvas') !== null")
        .unwrap();
    browser.screenshot(&picture("name.png"), false).unwrap();
}

fn assert_accessible(browser: &mut Browser, what: &str) {
    let violations = browser.violations().unwrap();
    assert!(violations.is_empty(), "{what}: {violations:#?}");
}

/// The browser has nothing to complain about.
fn assert_quiet(browser: &mut Browser, what: &str) {
    let seen = browser.seen().unwrap();
    assert!(
        seen.messages.is_empty() && seen.failures.is_empty(),
        "{what}: {seen:#?}"
    );
}

/// Tenths of a percent, cut.
fn percent(part: u32, whole: u32) -> String {
    let tenths = u64::from(part) * 1000 / u64::from(whole);
    format!("{}.{} %", tenths / 10, tenths % 10)
}

/// The texts of the table's first column, as they stand.
const SHOWN_NAMES: &str =
    "[...document.querySelectorAll('#names-body tbody th a')].map((link) => link.textContent)";

fn shows_names(names: &[&str]) -> String {
    format!(
        "JSON.stringify({SHOWN_NAMES}) === {:?}",
        serde_json::to_string(names).unwrap()
    )
}

#[test]
fn page_shows_what_happens() {
    let mut scene = Scene::new(HOSTILE);
    let url = scene.url();
    let mut browser = Browser::start().unwrap();

    // Before anything happened it says what to do.
    browser.open(&url, DESK).unwrap();
    browser.wait(LIVE).unwrap();
    browser
        .wait("document.getElementById('empty').checkVisibility()")
        .unwrap();
    assert_accessible(&mut browser, "the empty page");

    let mut resumed = 0;
    for versions in [Versions::Tls12, Versions::Tls13] {
        resumed += scene.visit(0, scene.port, versions, 12);
        assert_eq!(scene.visit(1, scene.deaf_port, versions, 6), 0);
    }
    assert_eq!(resumed, 22);
    assert_eq!(scene.made.get(), (36, 22));
    shows_quota(&mut browser, &scene.quota());
    let text = browser.text("#figures").unwrap();
    assert!(text.contains("22 of 36 completed handshakes"), "{text}");
    assert_quiet(&mut browser, "the page at work");

    live_rows_appear(&scene, &mut browser);

    // All that a browser loads until the page shows something.
    browser.open(&url, DESK).unwrap();
    shows_quota(&mut browser, &scene.quota());
    browser
        .wait("document.querySelector('#names-body tbody a') !== null")
        .unwrap();
    let seen = browser.seen().unwrap();
    eprintln!(
        "loaded {} bytes, {} over the network",
        seen.decoded_bytes, seen.transferred_bytes
    );
    assert!(seen.decoded_bytes < MOST_BYTES, "{seen:?}");
    assert!(seen.transferred_bytes < seen.decoded_bytes, "{seen:?}");

    hostile_text_is_text(&scene, &mut browser);
    table_and_view_need_no_mouse(&scene, &mut browser);
    for screen in [DESK, NIGHT, PHONE] {
        looks(&scene, &mut browser, screen);
    }
    comes_back_with_the_agent(&mut scene, &mut browser);
    if std::env::var_os("RESUMETRY_WRITE").is_some() {
        drop(scene);
        take_pictures(&mut browser);
    }
}

fn shows_quota(browser: &mut Browser, quota: &str) {
    let script = format!(
        "document.getElementById('quota')?.textContent.replaceAll('\\u00a0', ' ') === '{quota}'"
    );
    browser.wait(&script).unwrap();
}

/// A handshake is there when it happens, and the page stands still when it is asked to.
fn live_rows_appear(scene: &Scene, browser: &mut Browser) {
    let name = NAMES[2];
    let row = format!("document.querySelector('#live-body tbody')?.textContent.includes('{name}')");
    // The page renews its connection every ten seconds; what happens just then is not among the rows.
    let appeared = (0..5).any(|_| {
        scene.visit(2, scene.port, Versions::Tls13, 1);
        browser.holds_within(&row, 3_000)
    });
    assert!(appeared, "no live row of {name}");
    browser
        .evaluate("document.querySelector('#live-body button').click()")
        .unwrap();
    browser
        .wait("document.querySelector('#live-body button').ariaPressed === 'true'")
        .unwrap();
    let count = "document.querySelectorAll('#live-body tbody tr').length";
    let before = browser.evaluate(count).unwrap();
    let waits = "document.querySelector('#live-body .controls p').textContent.includes('wait')";
    let held = (0..5).any(|_| {
        scene.visit(2, scene.port, Versions::Tls13, 1);
        browser.holds_within(waits, 3_000)
    });
    assert!(held, "nothing waits while the page pauses");
    assert_eq!(browser.evaluate(count).unwrap(), before);
    browser
        .evaluate("document.querySelector('#live-body button').click()")
        .unwrap();
    browser.wait(&format!("{count} > {before}")).unwrap();
}

fn hostile_text_is_text(scene: &Scene, browser: &mut Browser) {
    let labels = browser.text("#labels").unwrap();
    assert!(labels.contains(HOSTILE), "{labels}");
    // No host name, so that it is counted under a name of ours.
    let client = Client::new(Profile {
        server_name: Some("<b onclick=alert(1)>bold</b>".into()),
        ..Profile::default()
    })
    .unwrap();
    client.request(dial(scene.port).unwrap(), false, 1).unwrap();
    browser
        .wait(&format!("{SHOWN_NAMES}.includes('_invalid')"))
        .unwrap();
    let made = "document.querySelectorAll('img, b[onclick]').length";
    assert_eq!(browser.evaluate(made).unwrap(), 0);
    let title = browser.evaluate("document.title").unwrap();
    assert_eq!(title, "Resumetry: TLS resumption on this host");
}

/// Skips to the figures, searches, sorts, opens a name and comes back, by keys alone.
fn table_and_view_need_no_mouse(scene: &Scene, browser: &mut Browser) {
    let (shop, legacy) = (NAMES[0], NAMES[1]);
    browser.open(&scene.url(), DESK).unwrap();
    browser
        .wait(&format!("{SHOWN_NAMES}.includes('{shop}')"))
        .unwrap();
    browser.press("Tab").unwrap();
    let focused = "document.activeElement.textContent";
    assert_eq!(browser.evaluate(focused).unwrap(), "Skip to the figures");
    browser.press("Enter").unwrap();
    browser
        .wait("document.activeElement.id === 'main' || location.hash === '#main'")
        .unwrap();

    browser
        .press_until("Tab", "document.activeElement.id === 'names-search'")
        .unwrap();
    browser.type_text("LEGA").unwrap();
    browser.wait(&shows_names(&[legacy])).unwrap();
    browser.press("Control+A").unwrap();
    browser.press("Delete").unwrap();
    browser
        .wait(&format!("{SHOWN_NAMES}.includes('{shop}')"))
        .unwrap();

    browser
        .press_until(
            "Tab",
            "document.activeElement.matches('th button') && document.activeElement.textContent === 'Quota'",
        )
        .unwrap();
    // The one name that ever resumed is at the top, then at the bottom.
    for (key, direction, end) in [("Enter", "descending", 0), ("Space", "ascending", -1)] {
        browser.press(key).unwrap();
        browser
            .wait(&format!(
                "document.activeElement.closest('th').ariaSort === '{direction}' && {SHOWN_NAMES}.at({end}) === '{shop}'"
            ))
            .unwrap();
    }

    browser
        .press_until(
            "Tab",
            &format!("document.activeElement.matches('tbody a') && document.activeElement.textContent === '{shop}'"),
        )
        .unwrap();
    browser.press("Enter").unwrap();
    browser
        .wait(&format!(
            "document.activeElement.matches('h1') && document.activeElement.textContent === '{shop}'"
        ))
        .unwrap();
    let counts = browser.text("#name-view table tbody tr").unwrap();
    assert!(counts.contains(&percent(22, 24)), "{counts}");
    browser
        .wait("document.querySelector('#name-view canvas') !== null")
        .unwrap();
    assert_accessible(browser, "a name");
    browser.back().unwrap();
    browser
        .wait(&format!(
            "document.activeElement.matches('tbody a') && document.activeElement.textContent === '{shop}'"
        ))
        .unwrap();
    assert_quiet(browser, "the page by keyboard");

    // The view has an address of its own.
    let link = format!("{}#name?role=server&server_name={legacy}", scene.url());
    browser.open(&link, NIGHT).unwrap();
    let counts = browser.text("#name-view table tbody tr").unwrap();
    assert!(counts.contains("0.0 %"), "{counts}");
    assert_accessible(browser, "a name at night");
    let unknown = format!("{}#name?role=server&server_name=nobody", scene.url());
    browser.open(&unknown, DESK).unwrap();
    let notice = browser.text("#name-view .notice").unwrap();
    assert!(notice.contains("Nothing is known"), "{notice}");
}

/// Everything open, nothing wider than the screen, and nothing that axe-core objects to.
fn looks(scene: &Scene, browser: &mut Browser, screen: Screen) {
    browser.open(&scene.url(), screen).unwrap();
    browser.wait(IS_DRAWN).unwrap();
    browser
        .evaluate("for (const details of document.querySelectorAll('details')) details.open = true")
        .unwrap();
    browser
        .wait("document.querySelector('.figures tbody tr') !== null")
        .unwrap();
    let overflow = "document.documentElement.scrollWidth - innerWidth";
    assert_eq!(browser.evaluate(overflow).unwrap(), 0, "{screen:?}");
    assert_accessible(browser, &format!("{screen:?}"));
    assert_quiet(browser, &format!("{screen:?}"));
}

/// An agent that goes and comes is told of, and needs nobody to load the page again.
fn comes_back_with_the_agent(scene: &mut Scene, browser: &mut Browser) {
    browser.open(&scene.url(), DESK).unwrap();
    browser.wait(LIVE).unwrap();
    assert_quiet(browser, "the page before its agent goes");
    scene.agent = None;
    browser
        .wait("document.getElementById('state').dataset.state === 'lost'")
        .unwrap();
    let said = browser.text("#announcement").unwrap();
    assert!(said.contains("lost"), "{said}");
    scene.start_agent();
    browser.wait(LIVE).unwrap();
    let said = browser.text("#announcement").unwrap();
    assert_eq!(said, "Connected again.");
    // It has forgotten what its predecessor saw, and counts what comes.
    assert_eq!(scene.visit(0, scene.port, Versions::Tls13, 4), 3);
    shows_quota(browser, "75.0 %");
}
