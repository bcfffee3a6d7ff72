// Charts of an hour by minutes, of the host and of one server name alike.

import { Chart, roundUp } from "./chart.js";
import { clock, count, counted, duration, percent } from "./format.js";

const whole = () => 1;
/** Whole percents, for axes, where tenths would be noise. */
const axisPercent = (ratio) => `${Math.round(ratio * 100)}\u00a0%`;
const few = (max) => Math.max(roundUp(max), 5);

/** The minutes since the agent started: of those before nothing is known, which an empty chart would hide. */
function watched({ points, step_seconds: step }, started) {
  const first = points.findIndex((point) => started === null || point.timestamp_seconds + step > started);
  return first < 0 ? points : points.slice(first);
}

/** Quota, and the number of handshakes that it is made of. */
export class QuotaCharts {
  constructor(parent, { target }) {
    this.hasTarget = target;
    this.quota = new Chart(parent, {
      title: "Resumption quota by minute", x: "time", height: 190, write: percent, axis: axisPercent, top: whole,
      series: [
        { key: "quota", label: "Quota", color: "resumed", fill: "resumed-wash" },
        ...(target ? [{ key: "target", label: "Target", color: "ink-2", dash: [5, 4], width: 1.5 }] : []),
      ],
    });
    this.volume = new Chart(parent, {
      title: "Handshakes by minute", x: "time", height: 120, write: count, top: few,
      axis: (value) => (Number.isInteger(value) ? count(value) : ""),
      // Drawn from the whole to the part, one over the other, which stacks them.
      series: [
        { key: "all", column: "failed", label: "Failed", color: "failed", kind: "bars" },
        { key: "completed", column: "full", label: "Full", color: "full", kind: "bars" },
        { key: "resumed", label: "Resumed", color: "resumed", kind: "bars" },
      ],
    });
  }

  update(history, target = null, started = null) {
    const points = watched(history, started);
    const x = points.map((point) => point.timestamp_seconds);
    const pick = (read) => points.map(read);
    const known = points.filter((point) => point.quota !== null);
    const last = known.at(-1);
    const low = known.reduce((worst, point) => (worst === null || point.quota < worst.quota ? point : worst), null);
    this.quota.update(x, { quota: pick((point) => point.quota), target: pick(() => target) },
      last === undefined ? "No handshake completed in these minutes." :
        `${percent(last.quota)} in the minute of ${clock(last.timestamp_seconds)}; ` +
        `lowest ${percent(low.quota)} at ${clock(low.timestamp_seconds)}` +
        `${this.hasTarget && target !== null ? `; target ${percent(target)}` : ""}.`);
    const sum = (key) => points.reduce((total, point) => total + point[key], 0);
    this.volume.update(x, {
      all: pick((point) => point.resumed + point.full + point.failed),
      completed: pick((point) => point.resumed + point.full),
      failed: pick((point) => point.failed), full: pick((point) => point.full), resumed: pick((point) => point.resumed),
    }, `${counted(sum("resumed"), "resumed handshake")}, ${count(sum("full"))} full, ${count(sum("failed"))} failed in these minutes.`);
  }

  remove() {
    this.quota.remove();
    this.volume.remove();
  }
}

/** Medians of full and of resumed handshakes, one chart a quantity. */
export class CostCharts {
  constructor(parent) {
    const chart = (title) => new Chart(parent, {
      title, x: "time", height: 160, write: duration, top: roundUp,
      series: [
        { key: "full", label: "Full", color: "full", dash: [5, 3] },
        { key: "resumed", label: "Resumed", color: "resumed" },
      ],
    });
    this.charts = [["first_byte_seconds", chart("Time to first byte by minute, median")], ["cpu_seconds", chart("CPU time of a handshake by minute, median")]];
  }

  update(history, started = null) {
    const points = watched(history, started);
    const x = points.map((point) => point.timestamp_seconds);
    for (const [field, chart] of this.charts) {
      const columns = { full: points.map((point) => point[field].full), resumed: points.map((point) => point[field].resumed) };
      const latest = (kind) => columns[kind].findLast((value) => value !== null);
      const say = (kind) => (latest(kind) === undefined ? `no figure of ${kind} handshakes` : `${kind} ${duration(latest(kind))}`);
      chart.update(x, columns, `Latest: ${say("full")}, ${say("resumed")}.`);
    }
  }

  remove() {
    for (const [, chart] of this.charts) chart.remove();
  }
}
