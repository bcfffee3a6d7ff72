// Findings: what of good ticket practice does not hold, why that is believed, and what to do.

import { announce, byId, el, hiddenText, prose, put, reconcile, setText } from "./dom.js";
import { ago, counted, duration, moment } from "./format.js";
import { adviceName } from "./words.js";

/** A sign and a word besides the colour. */
const SEVERITIES = { error: ["✖", "Error"], warning: ["▲", "Warning"], info: ["●", "Note"] };

async function copy(button, text) {
  try {
    await navigator.clipboard.writeText(text);
    announce("Copied");
    setText(button, "Copied");
  } catch {
    // Browsers give the clipboard to pages over TLS and on localhost alone; a selection is always ours to make.
    const code = button.parentElement.querySelector("code");
    getSelection().selectAllChildren(code);
    announce("Selected; copy it with your keyboard");
    setText(button, "Selected");
  }
  setTimeout(() => setText(button, "Copy"), 2_000);
}

function configuration(server, config) {
  const button = el("button", { type: "button", class: "small", "aria-label": `Copy the configuration of ${adviceName(server)}` }, "Copy");
  button.addEventListener("click", () => copy(button, config));
  return el("div", { class: "config" },
    el("pre", { tabindex: "0", role: "group", "aria-label": `Configuration of ${adviceName(server)}` }, el("code", {}, config)), button);
}

/** What to do, one fold for each server: readers have one of them. */
function advice(all, title) {
  return el("div", { class: "advice" }, el("span", { class: "quiet", "aria-hidden": "true" }, "What to do:"), ...all.map(({ server, text, config }) => el("details", {},
    el("summary", {}, hiddenText("What to do, "), adviceName(server), hiddenText(`: ${title}`)),
    el("p", {}, prose(text)), config === null ? null : configuration(server, config))));
}

function effect({ wait_seconds_per_hour: wait, cpu_seconds_per_hour: cpu }) {
  const parts = [];
  if (wait !== null) parts.push(`users wait ${duration(wait)} longer an hour, all together`);
  if (cpu !== null) parts.push(`servers spend ${duration(cpu)} of CPU time an hour`);
  return parts.length > 0 ? `Costs: ${parts.join("; ")}.` : "What it costs is not known yet.";
}

/** A link to the name's own view. */
export const nameLink = (role, name) =>
  el("a", { href: `#name?${new URLSearchParams({ role, server_name: name })}` }, name);

function where({ server_name, service }) {
  const parts = [];
  if (server_name !== null) parts.push(nameLink("server", server_name));
  if (service !== null) parts.push(el("span", {}, `service ${service}`));
  return el("p", { class: "quiet where" }, ...parts.flatMap((part, index) => (index > 0 ? [" · ", part] : [part])));
}

function create({ severity, title, advice: all, ...finding }) {
  const [sign, word] = SEVERITIES[severity] ?? ["●", severity];
  const item = el("li", { class: `finding ${severity in SEVERITIES ? severity : "info"}` },
    el("h3", {}, el("span", { class: "severity" }, el("span", { "aria-hidden": "true" }, sign), ` ${word}`), hiddenText(": "), title),
    where(finding), el("p", { class: "evidence" }), el("p", { class: "effect" }),
    advice(all, title));
  item.advised = JSON.stringify(all);
  return item;
}

function update(item, finding, now) {
  put(item.querySelector(".evidence"), prose(finding.evidence));
  put(item.querySelector(".effect"), `${effect(finding.effect)} Since ${moment(finding.since_timestamp_seconds, now)}, ${ago(finding.since_timestamp_seconds, now)}.`);
  const advised = JSON.stringify(finding.advice);
  if (item.advised !== advised) {
    item.advised = advised;
    item.querySelector(".advice").replaceWith(advice(finding.advice, finding.title));
  }
}

/** A list of findings that is updated in place; `quiet` is said where there are none. */
export class FindingList {
  constructor(quiet) {
    this.none = el("p", { class: "quiet" }, quiet);
    this.list = el("ul", { class: "findings" });
    this.node = el("div", {}, this.none, this.list);
  }

  update({ findings, timestamp_seconds: now }) {
    this.none.hidden = findings.length > 0;
    this.list.hidden = findings.length === 0;
    reconcile(this.list, findings, {
      // A finding of another severity is told anew.
      key: ({ id, severity, title, server_name, service }) => JSON.stringify([id, severity, title, server_name, service]),
      create, update: (item, finding) => update(item, finding, now),
    });
  }
}

export class Findings {
  constructor() {
    this.list = new FindingList("Nothing found: what was seen here keeps to good ticket practice.");
  }

  update(answer) {
    put(byId("findings-body"), this.list.node);
    this.list.update(answer);
  }

  /** The number beside the link at the top of the page. */
  count({ error, warning, info }) {
    const badge = byId("findings-count");
    badge.hidden = error + warning + info === 0;
    badge.className = `badge ${error > 0 ? "error" : warning > 0 ? "warning" : "info"}`;
    put(badge, el("span", {}, String(error + warning + info),
      hiddenText(` (${counted(error, "error")}, ${counted(warning, "warning")}, ${counted(info, "note")})`)));
  }
}
