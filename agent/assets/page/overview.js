// The headline: quota of the last hour, what it is made of, and what it was worth.

import { byId, el, hiddenText, put, setText, svg, unknown } from "./dom.js";
import { ago, count, counted, duration, percent, share } from "./format.js";
import { QuotaCharts } from "./history.js";

const NOTHING = "no handshake completed in this hour";

/** Label, figure and a line of explanation. */
function tile(label, figure, note) {
  return el("div", {}, el("dt", {}, label), el("dd", {}, el("strong", {}, figure), note ? el("span", {}, note) : null));
}

/** A bar of the quota with a mark at the target. */
function meter(quota, target) {
  const shape = { y: 0, height: 10 };
  return svg("svg", { class: "meter", viewBox: "0 0 1000 10", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("rect", { ...shape, class: "track", x: 0, width: 1000 }),
    svg("rect", { ...shape, class: "fill", x: 0, width: (quota ?? 0) * 1000 }),
    svg("rect", { ...shape, class: "mark", x: Math.min(target * 1000, 996), width: 4 }));
}

/** How the quota stands against what is aimed at, in words. */
function verdict(quota, target) {
  if (quota === null) return el("p", { class: "verdict" }, `Target ${percent(target)}`);
  const missing = target - quota;
  // Points are cut like percents: "0.0 points below" would be a riddle.
  const text = missing <= 0 ? `▲ at or above the target of ${percent(target)}`
    : `▼ ${missing < 0.001 ? "just" : `${(Math.floor(missing * 1000) / 10).toFixed(1)} points`} below the target of ${percent(target)}`;
  return el("p", { class: `verdict ${missing <= 0 ? "good" : "short"}` }, text);
}

function figures({ server, client, target, saved, lost, started_timestamp_seconds: started, timestamp_seconds: now }) {
  const completed = server.full + server.resumed;
  const since = now - started < 3600 ? ` (the agent started ${ago(started, now)})` : "";
  const cpu = (value) => (value === null ? unknown("full and resumed handshakes were not both measured yet") : duration(value));
  const waited = (value, word) =>
    (value === null ? "CPU time, since the start; what users waited is not known yet" : `CPU time; users waited ${duration(value)} ${word}, since the start`);
  const opened = client.full + client.resumed;
  const offered = share(server.offered, completed);
  return el("div", { class: "summary" },
    el("p", { class: "quota" },
      el("strong", { id: "quota" }, server.quota === null ? unknown(NOTHING) : share(server.resumed, completed) ?? percent(server.quota)),
      hiddenText(" resumption quota")),
    meter(server.quota, target), verdict(server.quota, target),
    el("p", { class: "quiet" }, `${count(server.resumed)} of ${counted(completed, "completed handshake")} that this host accepted resumed${since}.`),
    el("dl", { class: "tiles" },
      tile("Offered to resume", offered ?? unknown(NOTHING), `${count(server.offered)} clients had something to resume`),
      tile("Failed", count(server.failed), "not part of the quota"),
      tile("Opened by this host", client.quota === null ? unknown("this host opened no TLS connection in this hour") : percent(client.quota),
        opened === 0 ? "no connection completed in this hour" : `of ${counted(opened, "connection")} resumed`),
      tile("Spared by resumption", cpu(saved.cpu_seconds), waited(saved.wait_seconds, "less")),
      tile("Lost to refusals", cpu(lost.cpu_seconds), waited(lost.wait_seconds, "more"))));
}

export class Overview {
  constructor() {
    this.charts = new QuotaCharts(byId("trend"), { target: true });
  }

  update(overview) {
    const { server, client, labels, version } = overview;
    put(byId("figures"), figures(overview));
    this.charts.update(overview.history, overview.target, overview.started_timestamp_seconds);
    const isEmpty = [server, client].every(({ full, resumed, failed }) => full + resumed + failed === 0);
    byId("empty").hidden = !isEmpty;
    byId("headline").hidden = isEmpty;
    const shown = Object.entries({ host: location.host, ...labels, version });
    const list = byId("labels");
    if (list.childElementCount !== shown.length) list.replaceChildren(...shown.map(() => el("li")));
    shown.forEach(([label, value], index) => setText(list.children[index], label === "host" ? value : `${label} ${value}`));
  }
}
