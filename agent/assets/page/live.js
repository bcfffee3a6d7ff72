// Handshakes as they happen: newest first, at most two hundred, held still while the reader pauses.

import { announce, byId, el, figure, hiddenText, setText, unknown } from "./dom.js";
import { clockSeconds, count, counted, duration } from "./format.js";
import { RESULTS, offerName, reasonName } from "./words.js";

const MOST = 200;

const result = ({ tls }) => (tls.established ? (tls.resumed ? "resumed" : "full") : "failed");

const SIGNS = { resumed: "↻", full: "○", failed: "✖" };

function time(timestamp) {
  const unix = Date.parse(timestamp) / 1000;
  return Number.isFinite(unix) ? clockSeconds(unix) : unknown("the time of day is out of range");
}

function client({ address, port }) {
  if (address === null) return unknown("client addresses are left out");
  return port === null ? address : address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}

/** Why it is not a resumption, or what went wrong. */
function note({ tls, resumption }) {
  if (!tls.established) return [tls.failure, tls.alert?.description].filter(Boolean).join(" ") || "failed";
  if (resumption.reject_reason !== null) return reasonName(resumption.reject_reason);
  return "";
}

function row(record) {
  const { tls, resumption, timing, cpu, service, process, role } = record;
  const what = result(record);
  const td = (content, name = null) => el("td", { class: name }, content);
  const spent = (value, why) => td(figure(value, duration, why), "number wide");
  return el("tr", { class: what },
    td(time(record.timestamp)),
    el("th", { scope: "row", class: "name" }, tls.client.server_name ?? unknown("no server name sent")),
    td(el("span", { class: `result ${what}` }, el("span", { "aria-hidden": "true" }, `${SIGNS[what]} `), RESULTS[what])),
    td(tls.protocol.version ?? unknown("it failed before a version was chosen"), "wide"),
    td(offerName(resumption.offered), "wide"), td(note(record), "note"),
    spent(timing.handshake_seconds, "not measured"), spent(timing.time_to_first_byte_seconds, "not followed, or not to be told"),
    spent(cpu.handshake_seconds, "the library's calls were not watched just then"),
    td(role, "wide"), td(client(record.client), "wide"), td(service.name ?? process.executable.name ?? unknown("the process is not known"), "wide"));
}

export class Live {
  constructor() {
    this.skipped = 0;
    this.seen = 0;
    this.paused = false;
    this.waiting = [];
    this.button = el("button", { type: "button", "aria-pressed": "false", onclick: () => this.pause() }, "Pause");
    this.status = el("p", { class: "quiet" }, "None since this page was opened.");
    this.body = el("tbody");
    const wide = (title) => el("th", { scope: "col", class: "wide" }, title);
    const numbers = ["Handshake", "TTFB", "CPU"].map((title) => el("th", { scope: "col", class: "number wide" }, title));
    byId("live-body").append(
      el("div", { class: "controls" }, this.button, this.status),
      el("div", { class: "scroll live", role: "region", "aria-label": "Table of live handshakes", tabindex: "0" },
        el("table", {}, el("caption", { class: "sr" }, `The last handshakes, newest first, at most ${MOST}`),
          el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Time"), el("th", { scope: "col", class: "name" }, "Server name"), el("th", { scope: "col" }, "Result"),
            wide("TLS"), wide("Offered"), el("th", { scope: "col" }, "Note"), ...numbers, wide("Role"), wide("Client"), wide("Service"))), this.body)),
      el("p", { class: "quiet" }, "At most twenty a second, and none while this page renews its connection, for an instant every ten seconds: ",
        el("code", {}, "resumetry trace"), " shows all.", hiddenText(" New rows are not read out.")));
  }

  pause() {
    this.paused = !this.paused;
    this.button.setAttribute("aria-pressed", String(this.paused));
    setText(this.button, this.paused ? "Go on" : "Pause");
    announce(this.paused ? "Paused" : "Live again");
    this.tell();
    this.schedule();
  }

  handshake(record) {
    this.seen += 1;
    this.waiting.push(record);
    if (this.waiting.length > MOST) this.waiting.shift();
    this.tell();
    this.schedule();
  }

  skip(number) {
    this.skipped += number;
    this.tell();
  }

  tell() {
    const left = this.skipped > 0 ? `; ${count(this.skipped)} more came too fast to be shown` : "";
    const waits = this.paused && this.waiting.length > 0 ? `; ${count(this.waiting.length)} wait` : "";
    if (this.seen > 0) setText(this.status, `${counted(this.seen, "handshake")} since this page was opened${left}${waits}.`);
  }

  /** Many records in one moment are drawn once. */
  schedule() {
    if (this.paused || this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame(() => {
      this.scheduled = false;
      if (this.paused) return;
      this.body.prepend(...this.waiting.splice(0).reverse().map(row));
      while (this.body.childElementCount > MOST) this.body.lastElementChild.remove();
    });
  }
}
