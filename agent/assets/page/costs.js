// Full against resumed handshakes: what either costs, and what the gap between them is really worth.

import { byId, el, figure, put } from "./dom.js";
import { duration } from "./format.js";
import { CostCharts } from "./history.js";

const FEW = "fewer than ten handshakes of either kind, or no two of like round-trip time, in the last ten minutes";

/** Which of the two gaps to believe, for the first service that has both. */
function sentence(gaps) {
  const both = gaps.find((gap) => gap.matched_gap_seconds !== null && gap.plain_gap_seconds !== null);
  if (!both) return null;
  const where = `${both.service}, TLS ${both.version}`;
  return `Between connections of like round-trip time, a full handshake of ${where} delays the first byte by ` +
    `${duration(both.matched_gap_seconds)} (matched gap); the plain difference of ${duration(both.plain_gap_seconds)} also holds that ` +
    "clients which resume are often nearer and ask for other things.";
}

function gapTable(gaps) {
  const cell = (value) => el("td", { class: "number" }, figure(value, duration, FEW));
  return el("div", {},
    el("p", { class: "quiet" }, sentence(gaps) ?? "The matched gap compares connections of like round-trip time; it needs ten handshakes of each kind within ten minutes."),
    el("div", { class: "scroll", role: "region", "aria-label": "Gaps in time to first byte", tabindex: "0" }, el("table", {},
      el("caption", {}, "Time to first byte: full less resumed"),
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Service"), el("th", { scope: "col" }, "TLS"),
        el("th", { scope: "col", class: "number" }, "Matched gap"), el("th", { scope: "col", class: "number" }, "Plain difference"))),
      el("tbody", {}, ...gaps.map((gap) => el("tr", {},
        el("th", { scope: "row" }, gap.service), el("td", {}, `${gap.version} ${gap.transport === "quic" ? "QUIC" : "TCP"}`),
        cell(gap.matched_gap_seconds), cell(gap.plain_gap_seconds)))))));
}

export class Costs {
  constructor() {
    this.charts = new CostCharts(byId("costs-body"));
  }

  update({ history, gaps, started_timestamp_seconds: started }) {
    this.charts.update(history, started);
    put(byId("gaps"), gaps.length > 0 ? gapTable(gaps)
      : el("p", { class: "quiet" }, "No gap is known yet: it takes ten full and ten resumed handshakes of one service within ten minutes."));
  }
}
