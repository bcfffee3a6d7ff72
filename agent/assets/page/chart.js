// Charts by uPlot, with what a canvas lacks: a summary for screen readers, the figures as a table, a
// legend that does not rest on colour alone, and colours that follow the light or dark theme.
/* global uPlot */

import { el, setAttribute, setText } from "./dom.js";
import { clock } from "./format.js";

const FONT = "12px system-ui, sans-serif";
const charts = new Set();
/** Fewest seconds that an axis of time shows, and the steps of its marks: figures are by minute. */
const LEAST = 540;
const STEPS = [60, 120, 300, 600, 900, 1_200, 1_800];

/** The colour that the stylesheet gives a name now; canvas knows no variables. */
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const chart of charts) chart.plot?.redraw();
});

/** Where a value stands alone: no line reaches it, so it needs a point. */
function alone(values) {
  const points = [];
  for (let at = 0; at < values.length; at++) {
    if (values[at] != null && values[at - 1] == null && values[at + 1] == null) points.push(at);
  }
  return points;
}

function series({ label, color, kind = "line", dash, width = 2, fill }) {
  const stroke = () => colour(color);
  if (kind === "bars") {
    return { label, stroke, width: 0, fill: stroke, paths: uPlot.paths.bars({ size: [0.8, 20] }), points: { show: false } };
  }
  if (kind === "bound") return { label, stroke: () => "transparent", width: 0, points: { show: false } };
  return {
    label, stroke, width, dash, fill: fill && (() => colour(fill)),
    points: { size: 6, fill: stroke, filter: (plot, index) => alone(plot.data[index]) },
  };
}

/**
 * A chart in a figure of its own.
 *
 * `spec`: `title`; `series`, each with `key`, `label`, `color` (a variable of the stylesheet), `kind`
 * (`line`, `bars`, `bound`), and `column` where the figure to be told is another than the one that is
 * drawn (stacked bars); `write` makes text of a figure; `top(max)` is the upper end of the axis;
 * `x`: `time`, or `{ write, log }`; `bands`, as uPlot has them; `marks()`: vertical lines.
 */
export class Chart {
  constructor(parent, spec) {
    this.spec = spec;
    this.values = spec.series.map(() => el("span", { class: "value" }));
    this.at = el("span", { class: "at" });
    this.host = el("div", { class: "plot", role: "img", "aria-label": spec.title });
    this.body = el("tbody");
    this.table = el(
      "details", { class: "figures" },
      el("summary", {}, `Figures: ${spec.title}`),
      el("div", { class: "scroll", role: "region", "aria-label": `Figures: ${spec.title}`, tabindex: "0" },
        el("table", {},
          el("thead", {}, el("tr", {}, el("th", { scope: "col" }, this.xTitle()),
            ...spec.series.map((one) => el("th", { scope: "col", class: "number" }, one.label)))),
          this.body)),
    );
    // Sixty rows that nobody looks at need not be made every two seconds.
    this.table.addEventListener("toggle", () => this.fillTable());
    const legend = el("div", { class: "legend", "aria-hidden": "true" },
      ...spec.series.map((one, index) =>
        el("span", { class: `key key-${one.color} key-${one.dash ? "dash" : one.kind ?? "line"}` }, el("i"), one.label, this.values[index])),
      this.at);
    parent.append(el("figure", { class: "chart" }, el("figcaption", {}, spec.title), legend, this.host, this.table));
    this.size = new ResizeObserver(() => this.resize());
    this.size.observe(this.host);
    charts.add(this);
  }

  xTitle() {
    return this.spec.x === "time" ? "Minute" : this.spec.x.title;
  }

  xText(value) {
    return this.spec.x === "time" ? clock(value) : this.spec.x.write(value);
  }

  /** New figures: `x` and one array for each series, nulls where nothing is known. */
  update(x, columns, summary) {
    this.data = [x, ...this.spec.series.map(({ key }) => columns[key])];
    this.told = this.spec.series.map(({ key, column }) => columns[column ?? key]);
    setAttribute(this.host, "aria-label", `${this.spec.title}. ${summary}`);
    if (this.plot) this.plot.setData(this.data);
    else this.resize();
    this.fillTable();
  }

  resize() {
    const width = Math.floor(this.host.clientWidth);
    if (width === 0 || !this.data) return;
    const height = this.spec.height ?? 180;
    if (this.plot) this.plot.setSize({ width, height });
    else this.plot = new uPlot(this.options(width, height), this.data, this.host);
  }

  options(width, height) {
    const { spec } = this;
    const isTime = spec.x === "time";
    const axis = { stroke: () => colour("ink-2"), font: FONT, grid: { stroke: () => colour("grid"), width: 1 }, ticks: { show: false } };
    return {
      width, height, padding: [10, 10, 0, 0], legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false } },
      scales: {
        // Half a minute on either side leaves the outer bars whole; ten minutes at least keep them apart.
        x: { time: isTime, distr: !isTime && spec.x.log ? 3 : 1, range: (plot, min, max) => (isTime ? [Math.min(min, max - LEAST) - 30, max + 30] : [min ?? 1, max ?? 2]) },
        y: { range: (plot, min, max) => [0, spec.top(max ?? 0)] },
      },
      axes: [
        { ...axis, grid: { show: false }, size: 28, gap: 6, space: 56, values: (plot, splits) => splits.map((at) => (at === null ? null : this.xText(at))),
          ...(isTime ? { incrs: STEPS } : { splits: () => spec.x.splits(this.data[0], this.host.clientWidth), filter: (plot, splits) => splits }) },
        { ...axis, size: 58, space: 34, values: (plot, splits) => splits.map(spec.axis ?? spec.write) },
      ],
      series: [{}, ...spec.series.map(series)],
      bands: spec.bands?.map(({ series, color }) => ({ series, fill: () => colour(color) })),
      hooks: { setCursor: [(plot) => this.point(plot.cursor.idx)], draw: [(plot) => this.mark(plot)] },
    };
  }

  /** The figures under the pointer, beside their names. */
  point(index) {
    const none = index === null || index === undefined;
    setText(this.at, none ? "" : this.xText(this.data[0][index]));
    this.values.forEach((node, at) => setText(node, none ? "" : this.text(this.told[at][index])));
  }

  text(value) {
    return value === null || value === undefined ? "–" : this.spec.write(value);
  }

  /** Vertical lines with a word, e.g. the lifetime of today. */
  mark(plot) {
    for (const { at, text } of this.spec.marks?.() ?? []) {
      const x = Math.round(plot.valToPos(at, "x", true));
      const { left, top, width, height } = plot.bbox;
      if (!(x >= left && x <= left + width)) continue;
      const { ctx } = plot;
      const ratio = devicePixelRatio;
      ctx.save();
      ctx.strokeStyle = ctx.fillStyle = colour("ink-2");
      ctx.lineWidth = ratio;
      ctx.setLineDash([3 * ratio, 3 * ratio]);
      ctx.beginPath();
      ctx.moveTo(x, top);
      ctx.lineTo(x, top + height);
      ctx.stroke();
      ctx.font = `${12 * ratio}px system-ui, sans-serif`;
      ctx.textBaseline = "bottom";
      ctx.textAlign = x > left + width / 2 ? "right" : "left";
      ctx.fillText(text, x + (x > left + width / 2 ? -6 : 6) * ratio, top + height - 6 * ratio);
      ctx.restore();
    }
  }

  fillTable() {
    if (!this.table.open || !this.data) return;
    const [x] = this.data;
    const rows = Array.from(x, (at, index) => {
      const cells = this.told.map((column) => el("td", { class: "number" }, this.text(column[index])));
      return el("tr", {}, el("th", { scope: "row" }, this.xText(at)), ...cells);
    });
    // Time runs downwards from now; lifetimes grow.
    this.body.replaceChildren(...(this.spec.x === "time" ? rows.reverse() : rows));
  }

  remove() {
    this.size.disconnect();
    this.plot?.destroy();
    charts.delete(this);
  }
}

/** Upper ends of axes that do not wander with every update: 1, 2, 5, 10, … */
export function roundUp(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value) ?? value;
}
