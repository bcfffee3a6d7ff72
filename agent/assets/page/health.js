// The agent itself: whether what it says is complete, and what it costs.

import { byId, el, put, unknown } from "./dom.js";
import { bytes, count, duration, moment, percent } from "./format.js";

/** Percent with as many digits as a small cost needs, rounded up: a cost is not made light of. */
function cost(ratio) {
  const hundredths = Math.ceil(ratio * 10_000 - 1e-9) / 100;
  return `${hundredths.toFixed(2)}\u00a0%`;
}

function item(title, content, note = null) {
  return el("div", {}, el("dt", {}, title), el("dd", {}, el("strong", {}, content), note ? el("span", {}, note) : null));
}

function libraries(list) {
  if (list.length === 0) return el("p", { class: "quiet" }, "No TLS library is probed: what is told comes from the wire.");
  return el("table", {}, el("caption", {}, "TLS libraries that are probed"),
    el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Library"), el("th", { scope: "col" }, "Version"), el("th", { scope: "col", class: "number" }, "Files"))),
    el("tbody", {}, ...list.map(({ library, version, files }) =>
      el("tr", {}, el("th", { scope: "row" }, library), el("td", {}, version), el("td", { class: "number" }, count(files))))));
}

export class Health {
  update({ health, started_timestamp_seconds: started, timestamp_seconds: now, version }) {
    const { ready, coverage, events, events_lost: eventsLost, handshakes_lost: lost, overhead_ratio: overhead, resident_bytes: resident } = health;
    put(byId("agent-body"), el("div", {},
      el("dl", { class: "tiles" },
        item("State", ready ? "✔ ready" : "✖ not ready", health.trouble),
        item("Coverage", coverage === null ? unknown("no handshake was counted in the kernel yet") : percent(coverage), "handshakes described, of those the kernel counted"),
        item("Handshakes lost", count(lost), "seen, but not described"),
        item("Events lost", count(eventsLost), `of ${count(events)} from the kernel`),
        item("Overhead", overhead === null ? unknown("not estimated yet") : cost(overhead), "CPU time of the probes, over that of the servers"),
        item("Memory", resident === null ? unknown("the kernel does not tell") : bytes(resident), "resident"),
        item("Up", duration(Math.max(0, Math.floor(now - started))), `version ${version}, counting since ${moment(started, now)}`)),
      libraries(health.libraries)));
  }
}

