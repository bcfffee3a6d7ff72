// Brings the parts together: what is asked when, which view is shown, and what is said of the connection.

import { Poll, follow } from "./api.js";
import { announce, byId, el, put, setText } from "./dom.js";
import { Costs } from "./costs.js";
import { Findings } from "./findings.js";
import { Health } from "./health.js";
import { Keys } from "./keys.js";
import { Lifetimes } from "./lifetimes.js";
import { Live } from "./live.js";
import { NameView } from "./name.js";
import { NamesTable, rowKey } from "./names.js";
import { Overview } from "./overview.js";
import { Reasons } from "./reasons.js";

const TITLE = document.title;
const STATES = { live: "live", polling: "live, without single handshakes", lost: "connection lost" };

const overview = new Overview();
const findings = new Findings();
const reasons = new Reasons(byId("reasons-body"));
const costs = new Costs();
const names = new NamesTable();
const keys = new Keys();
const lifetimes = new Lifetimes();
const live = new Live();
const health = new Health();

/** The name that is looked at, or null for the host. */
let open = null;
/** Where the user was before. */
let left = { scroll: 0, key: null, hash: null };

const onHost = () => open === null;
const unless = (update) => (answer, error) => error === null && update(answer);
const polls = [
  new Poll("findings", 5, onHost, unless((answer) => findings.update(answer))),
  new Poll("names", 4, onHost, unless((answer) => names.update(answer))),
  new Poll("keys", 10, onHost, unless((answer) => keys.update(answer))),
  new Poll("lifetimes", 30, onHost, unless((answer) => lifetimes.update(answer))),
];
const named = new Poll("name", 4, () => open !== null, (answer, error) => {
  // The user may have gone elsewhere in the meantime.
  if (open !== null) open.started = started;
  if (open !== null && (answer === null || rowKey(answer) === rowKey({ role: open.role, server_name: open.name }))) open.update(answer, error);
});
named.parameters = () => ({ server_name: open.name, role: open.role });
polls[3].parameters = () => lifetimes.parameters();
polls.push(named);
lifetimes.onask = () => {
  polls[3].soon();
  tick();
};

let ticking = false;
/** One question after the other: the agent answers one at a time anyway. */
async function tick() {
  if (ticking) return;
  ticking = true;
  try {
    for (const poll of polls) await poll.tick();
  } finally {
    ticking = false;
  }
}

let seen = null;
let started = null;
/** Everything that a new handshake may change is asked for with it, rather than by the clock. */
function isNews({ server, client, findings: found, started_timestamp_seconds: since }) {
  const now = JSON.stringify([server, client, found, since]);
  const news = seen !== null && seen !== now;
  seen = now;
  return news;
}

function notices({ health: { ready, trouble } }) {
  put(byId("notices"), ready ? "" : el("p", { class: "notice" }, el("strong", {}, "Not ready: "), trouble ?? "the agent does not say why", ". Figures may be incomplete."));
}

follow({
  overview(data) {
    started = data.started_timestamp_seconds;
    notices(data);
    overview.update(data);
    reasons.update(data);
    costs.update(data);
    health.update(data);
    findings.count(data.findings);
    if (isNews(data)) for (const poll of polls.filter(({ path }) => path === "names" || path === "findings" || path === "name")) poll.soon();
    tick();
  },
  handshake: (record) => live.handshake(record),
  skipped: (number) => live.skip(Number(number) || 0),
  state(state) {
    const before = byId("state").dataset.state;
    byId("state").dataset.state = state;
    setText(byId("state"), STATES[state]);
    document.body.classList.toggle("stale", state === "lost");
    if (state === "lost") announce("Connection to the agent lost. The figures shown are those before; the page goes on trying.");
    else if (before === "lost") announce("Connected again.");
  },
});

/** `#name?role=…&server_name=…`, so that a view can be linked and Back leads out of it. */
function target() {
  const [view, query] = location.hash.slice(1).split("?");
  if (view !== "name" || query === undefined) return null;
  const parameters = new URLSearchParams(query);
  const name = parameters.get("server_name");
  return name === null ? null : { role: parameters.get("role") === "client" ? "client" : "server", name };
}

function route(event = null) {
  const wanted = target();
  const was = open;
  open?.remove();
  open = wanted === null ? null : new NameView(wanted.role, wanted.name);
  byId("host-view").hidden = open !== null;
  byId("name-view").hidden = open === null;
  document.title = open === null ? TITLE : `${open.name}: Resumetry`;
  if (open !== null) {
    left.key = rowKey({ role: open.role, server_name: open.name });
    if (was === null) Object.assign(left, { scroll: scrolled, hash: event === null ? null : new URL(event.oldURL).hash });
    scrollTo(0, 0);
    open.title.focus({ preventScroll: true });
  } else if (was !== null) {
    // Back to where the user came from, which is the row; or to the section that a link names.
    const section = byId(location.hash.slice(1));
    if (section !== null && location.hash !== left.hash && location.hash !== "#names") section.scrollIntoView();
    else {
      scrollTo(0, left.scroll);
      names.focus(left.key);
    }
  }
  for (const poll of polls) if (poll.wanted()) poll.soon();
  tick();
}

/** Known before the browser itself scrolls to what a new hash names. */
let scrolled = 0;
addEventListener("scroll", () => onHost() && (scrolled = scrollY), { passive: true });
addEventListener("hashchange", route);
// A hash of its own would lead out of a name's view.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  byId("main").focus();
});
if (target() !== null) route();
