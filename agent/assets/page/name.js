// One server name: its hour, reasons, findings, and what its handshakes are made of.

import { HttpError } from "./api.js";
import { byId, el, figure, put, unknown } from "./dom.js";
import { FindingList } from "./findings.js";
import { count, duration, share } from "./format.js";
import { CostCharts, QuotaCharts } from "./history.js";
import { reasonTable } from "./reasons.js";
import { SortableTable } from "./table.js";
import { nameMeaning, offerName } from "./words.js";

const UNMEASURED = "no such handshake of this name was measured";

function countsRow(title, counts) {
  const number = (text) => el("td", { class: "number" }, text);
  if (counts === null) {
    return el("tr", {}, el("th", { scope: "row" }, title), el("td", { colspan: "6" }, "not kept: the name is not among those with an hour of their own"));
  }
  const { full, resumed, failed, offered } = counts;
  return el("tr", {}, el("th", { scope: "row" }, title), number(share(resumed, full + resumed) ?? unknown("none completed")),
    number(count(full + resumed)), number(count(resumed)), number(count(full)), number(count(failed)), number(count(offered)));
}

function countsTable({ hour, total }) {
  const titles = ["Period", "Quota", "Completed", "Resumed", "Full", "Failed", "Offered"];
  return el("table", {}, el("caption", { class: "sr" }, "Handshakes of this name"),
    el("thead", {}, el("tr", {}, ...titles.map((title, index) => el("th", { scope: "col", class: index > 0 ? "number" : null }, title)))),
    el("tbody", {}, countsRow("Last hour", hour), countsRow("Since the start", total)));
}

function costTable({ first_byte_seconds: first, cpu_seconds: cpu }) {
  const row = (title, pair) => el("tr", {}, el("th", { scope: "row" }, title),
    ...["full", "resumed"].map((kind) => el("td", { class: "number" }, figure(pair[kind], duration, UNMEASURED))));
  return el("table", {}, el("caption", { class: "sr" }, "Medians of full and resumed handshakes"),
    el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Median"), el("th", { scope: "col", class: "number" }, "Full"), el("th", { scope: "col", class: "number" }, "Resumed"))),
    el("tbody", {}, row("Time to first byte", first), row("CPU time", cpu)));
}

function partsTable() {
  const number = (id, title) => ({ id, title, number: true, value: (part) => part[id], show: (part) => count(part[id]) });
  return new SortableTable({
    caption: "Handshakes by service, version and what was offered, since the start", sort: "full", direction: "descending",
    key: ({ service, transport, version, offered }) => JSON.stringify([service, transport, version, offered]),
    columns: [
      { id: "service", title: "Service", header: true, value: (part) => part.service, show: (part) => part.service },
      { id: "version", title: "TLS", value: (part) => part.version, show: (part) => part.version },
      { id: "transport", title: "Over", wide: true, value: (part) => part.transport, show: (part) => part.transport.toUpperCase() },
      { id: "offered", title: "Offered", value: (part) => part.offered, show: (part) => offerName(part.offered) },
      number("full", "Full"), number("resumed", "Resumed"), { ...number("failed", "Failed"), wide: true },
    ],
  });
}

/** The view of one name, made when it is opened and thrown away when it is left. */
export class NameView {
  constructor(role, name) {
    // `started`: when the agent did, as soon as that is known.
    Object.assign(this, { role, name, started: null });
    this.title = el("h1", { tabindex: "-1", class: "server-name" }, name);
    this.message = el("div", {}, el("p", { class: "quiet" }, "Loading …"));
    this.counts = el("div", { class: "scroll", role: "region", "aria-label": "Handshakes of this name", tabindex: "0" });
    this.reasons = el("div");
    this.costs = el("div");
    this.findings = new FindingList("Nothing found for this name.");
    this.parts = partsTable();
    const trend = el("div", { class: "charts" });
    const costCharts = el("div", { class: "charts two" });
    const card = (title, ...children) => {
      const heading = el("h2", {}, title);
      return el("section", { class: "card" }, heading, ...children);
    };
    this.body = el("div", { class: "cards", hidden: true },
      card("Handshakes", this.counts, trend),
      el("div", { class: "pair" }, card("Findings", this.findings.node), card("Why the others did not resume", this.reasons)),
      card("Full against resumed", this.costs, costCharts),
      card("By service, version and offer", el("p", { class: "quiet" }, "Since the start, or since the name was last unheard of."),
        el("div", { class: "scroll", role: "region", "aria-label": "Handshakes by kind", tabindex: "0" }, this.parts.node)));
    const meaning = nameMeaning(name);
    this.node = el("div", { class: "cards" },
      el("p", { class: "back" }, el("a", { href: "#names" }, "← All server names")),
      el("div", { class: "name-title" }, this.title,
        el("p", { class: "quiet" }, `${meaning ? `${meaning}; ` : ""}${role === "server" ? "connections that this host accepted" : "connections that this host opened"}`)),
      this.message, this.body);
    this.trend = new QuotaCharts(trend, { target: false });
    this.costCharts = new CostCharts(costCharts);
    byId("name-view").replaceChildren(this.node);
  }

  update(answer, error) {
    if (error !== null) {
      // What was shown is of another moment; an agent that is not there is told of elsewhere.
      if (error instanceof HttpError) {
        this.body.hidden = true;
        put(this.message, el("p", { class: "notice" }, error.status === 404
          ? "Nothing is known of this name: it was not seen since the agent started, or is not among the busiest." : `The agent answers: ${error.message}`));
      }
      return;
    }
    put(this.message, "");
    this.body.hidden = false;
    put(this.counts, countsTable(answer));
    put(this.costs, costTable(answer));
    put(this.reasons, this.reasonsOf(answer));
    this.findings.update(answer);
    this.parts.update(answer.parts);
    const kept = answer.history.points.length > 0;
    this.trend.quota.host.closest(".charts").hidden = !kept;
    // Costs by minute may be kept of the host alone.
    const known = (pair) => pair.full !== null || pair.resumed !== null;
    const priced = answer.history.points.some((point) => known(point.first_byte_seconds) || known(point.cpu_seconds));
    this.costCharts.charts[0][1].host.closest(".charts").hidden = !priced;
    if (kept) this.trend.update(answer.history, null, this.started);
    if (priced) this.costCharts.update(answer.history, this.started);
  }

  reasonsOf({ reasons, total }) {
    const some = reasons.filter(({ count }) => count > 0);
    if (some.length > 0) return reasonTable(some, "Handshakes of this name that did not resume, by reason");
    return el("p", { class: "quiet" }, total.full + total.resumed === 0 ? "No handshake completed." : "No handshake of this name that did not resume is on record.");
  }

  remove() {
    this.trend.remove();
    this.costCharts.remove();
    this.node.remove();
  }
}
