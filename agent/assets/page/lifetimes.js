// What if tickets lived longer, or shorter: the quota to expect by lifetime, with its interval.

import { byId, el, put, setText } from "./dom.js";
import { Chart } from "./chart.js";
import { counted, duration, percent } from "./format.js";

const UNITS = { min: 60, h: 3_600, d: 86_400 };

/** Marks of a logarithmic axis that people think in, as many as there is room for. */
const ROUND = [1, 10, 60, 300, 900, 3_600, 4 * 3_600, 12 * 3_600, 86_400, 3 * 86_400, 7 * 86_400, 28 * 86_400];

function splits(lifetimes, width) {
  const inside = ROUND.filter((at) => at >= lifetimes[0] && at <= lifetimes.at(-1));
  const every = Math.ceil(inside.length / Math.max(2, Math.floor(width / 70)));
  return inside.filter((_, index) => index % every === 0);
}

const interval = ({ low, high }) => (low === null || high === null ? "–" : `${percent(low)} … ${percent(high)}`);

export class Lifetimes {
  constructor() {
    this.select = el("select", { id: "lifetimes-service" });
    this.select.addEventListener("change", () => this.show());
    this.amount = el("input", { type: "number", id: "lifetimes-amount", min: "0", step: "any", inputmode: "decimal" });
    this.unit = el("select", { id: "lifetimes-unit" }, ...Object.keys(UNITS).map((unit) => el("option", { value: unit, selected: unit === "h" }, unit)));
    for (const control of [this.amount, this.unit]) control.addEventListener("change", () => this.onask());
    this.answer = el("p");
    this.about = el("p", { class: "quiet" });
    const chart = el("div", { class: "charts" });
    this.body = el("div", {},
      el("div", { class: "controls" },
        el("label", { for: "lifetimes-service" }, "Service", this.select),
        el("label", { for: "lifetimes-amount" }, "One more lifetime", this.amount), el("label", { for: "lifetimes-unit" }, "Unit", this.unit)),
      this.about, this.answer, chart,
      el("p", { class: "quiet" }, "A longer life resumes more and exposes more: whoever steals a key can read what was recorded while it was in use, and for one lifetime after."));
    this.chart = new Chart(chart, {
      title: "Quota by ticket lifetime, with its 95 % interval or what is certain", height: 220, write: percent, axis: (ratio) => `${Math.round(ratio * 100)}\u00a0%`, top: () => 1,
      x: { title: "Lifetime", write: duration, log: true, splits },
      series: [
        { key: "quota", label: "Expected quota", color: "resumed" },
        { key: "low", label: "At least", color: "resumed", kind: "bound" },
        { key: "high", label: "At most", color: "resumed", kind: "bound" },
      ],
      bands: [{ series: [3, 2], color: "resumed-wash" }],
      marks: () => (this.today ? [{ at: this.today, text: `today ${duration(this.today)}` }] : []),
    });
    this.onask = () => {};
  }

  /** What the question is to hold besides. */
  parameters() {
    const seconds = this.amount.valueAsNumber * UNITS[this.unit.value];
    return Number.isFinite(seconds) && seconds > 0 ? { lifetime: seconds } : {};
  }

  update({ services }) {
    this.services = services;
    const host = byId("lifetimes-body");
    if (services.length === 0) {
      put(host, el("p", { class: "quiet" }, "No client came back with a ticket whose age is known so far; that is what this is drawn from."));
      return;
    }
    if (this.body.parentNode !== host) host.replaceChildren(this.body);
    const names = services.map(({ service }) => service);
    if (JSON.stringify(names) !== this.names) {
      this.names = JSON.stringify(names);
      const chosen = this.select.value;
      this.select.replaceChildren(...names.map((name) => el("option", { value: name, selected: name === chosen }, name)));
    }
    this.show();
  }

  show() {
    const one = this.services.find(({ service }) => service === this.select.value) ?? this.services[0];
    const points = one.points.filter((point) => point.lifetime_seconds > 0).toSorted((a, b) => a.lifetime_seconds - b.lifetime_seconds);
    this.today = one.lifetime_seconds;
    const today = one.lifetime_seconds === null ? "How long its tickets live today is not known." : `Its tickets live ${duration(one.lifetime_seconds)} today.`;
    setText(this.about, `${today} From ${counted(one.returns, "return")} with a ticket of known age, among ${counted(one.completed, "completed handshake")} since the start.`);
    setText(this.answer, this.asked(one.asked));
    const known = points.filter((point) => point.quota !== null);
    const told = known.length === 0 ? "No quota can be told for any lifetime yet."
      : `From ${percent(known[0].quota)} with ${duration(known[0].lifetime_seconds)} to ${percent(known.at(-1).quota)} with ${duration(known.at(-1).lifetime_seconds)}.`;
    const column = (key) => points.map((point) => point[key]);
    this.chart.update(column("lifetime_seconds"), { quota: column("quota"), low: column("low"), high: column("high") }, told);
  }

  asked(asked) {
    if (asked === null) return "";
    const expected = asked.quota === null ? "the quota cannot be told: returns so late cannot be seen with tickets of today" : `expect a quota of ${percent(asked.quota)}`;
    return `With ${duration(asked.lifetime_seconds)}, ${expected}${asked.low === null || asked.high === null ? "" : ` (95 % interval, or what is certain: ${interval(asked)})`}.`;
  }
}
