// Why handshakes did not resume: bars that are a table, so that everybody reads the same.

import { el, put, svg } from "./dom.js";
import { count, share } from "./format.js";
import { reasonMeaning, reasonName } from "./words.js";

/** A table of reasons with their bars; `caption` says of what. */
export function reasonTable(reasons, caption) {
  const whole = reasons.reduce((sum, { count }) => sum + count, 0);
  const most = Math.max(1, ...reasons.map(({ count }) => count));
  const bar = (part) => svg("svg", { class: "bar-picture", viewBox: "0 0 1000 10", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("rect", { class: "fill", x: 0, y: 0, height: 10, width: Math.max(4, (part / most) * 1000) }));
  return el("table", { class: "bars" },
    el("caption", { class: "sr" }, caption),
    el("thead", { class: "sr" }, el("tr", {}, ...["Reason", "Handshakes", "Share"].map((title) => el("th", { scope: "col" }, title)))),
    el("tbody", {}, ...reasons.map((one) => el("tr", { class: one.reason === "never_offered" ? "offer" : "refusal" },
      el("th", { scope: "row" }, el("b", {}, reasonName(one.reason)), el("span", { class: "quiet" }, reasonMeaning(one.reason)), bar(one.count)),
      el("td", { class: "number" }, count(one.count)),
      el("td", { class: "number" }, share(one.count, whole) ?? "–")))));
}

export class Reasons {
  constructor(host) {
    this.host = host;
  }

  update({ reasons, server }) {
    const some = reasons.filter(({ count }) => count > 0);
    if (some.length > 0) put(this.host, reasonTable(some, "Handshakes of the last hour that did not resume, by reason"));
    else put(this.host, el("p", { class: "quiet" }, server.full + server.resumed === 0 ? "No handshake completed in this hour." : "Every completed handshake of this hour resumed."));
  }
}
