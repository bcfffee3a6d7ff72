// Server names: a table to sort and search, each row a way into the name's own view.

import { announce, byId, el, figure, hiddenText, setText, svg, unknown } from "./dom.js";
import { count, counted, duration, share } from "./format.js";
import { nameLink } from "./findings.js";
import { SortableTable } from "./table.js";
import { nameMeaning } from "./words.js";

/** Rows shown at first. */
const STEP = 20;

const NO_HOUR = "this name is not among those with an hour of their own; see the figures since the start";
const NONE_COMPLETED = "none completed";
const UNMEASURED = "no such handshake of this name was measured";

/** A quota with a bar beside it. */
function quotaCell(counts) {
  if (counts === null) return unknown(NO_HOUR);
  const text = share(counts.resumed, counts.full + counts.resumed);
  if (text === null) return unknown(NONE_COMPLETED);
  return el("span", { class: "quota-cell" }, text,
    svg("svg", { class: "spark", viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" },
      svg("rect", { class: "track", width: 100, height: 8 }), svg("rect", { class: "fill", width: counts.quota * 100, height: 8 })));
}

export const rowKey = ({ role, server_name: name }) => `${role}:${name}`;

export class NamesTable {
  constructor() {
    this.period = "hour";
    this.answer = { names: [] };
    const counts = (row) => row[this.period];
    const number = (id, title, read, more = {}) => ({
      id, title, number: true, value: (row) => (counts(row) === null ? null : read(counts(row))),
      show: (row) => figure(counts(row) === null ? null : read(counts(row)), count, NO_HOUR), ...more,
    });
    const time = (field, kind, title) => ({
      id: `${field}.${kind}`, title, number: true, wide: true, value: (row) => row[field][kind],
      show: (row) => figure(row[field][kind], duration, UNMEASURED),
    });
    this.table = new SortableTable({
      caption: "Server names with their handshakes.", key: rowKey, sort: "completed", direction: "descending",
      columns: [
        {
          id: "server_name", title: "Server name", header: true, value: (row) => row.server_name,
          show: ({ role, server_name: name }) => {
            const meaning = nameMeaning(name);
            return el("span", {}, nameLink(role, name), meaning ? el("span", { class: "quiet" }, ` ${meaning}`) : null);
          },
        },
        { id: "role", title: "Role", wide: true, value: (row) => row.role, show: (row) => row.role },
        { id: "quota", title: "Quota", number: true, value: (row) => counts(row)?.quota ?? null, show: (row) => quotaCell(counts(row)) },
        number("completed", "Completed", ({ full, resumed }) => full + resumed),
        number("resumed", "Resumed", ({ resumed }) => resumed, { wide: true }),
        number("full", "Full", ({ full }) => full, { wide: true }),
        number("failed", "Failed", ({ failed }) => failed, { wide: true }),
        number("offered", "Offered", ({ offered }) => offered, { wide: true }),
        time("first_byte_seconds", "full", "TTFB full"),
        time("first_byte_seconds", "resumed", "TTFB resumed"),
        time("cpu_seconds", "full", "CPU full"),
        time("cpu_seconds", "resumed", "CPU resumed"),
      ],
    });
    this.build();
  }

  build() {
    const option = (value, text) => el("option", { value }, text);
    this.search = el("input", { type: "search", id: "names-search", autocomplete: "off", spellcheck: "false", placeholder: "part of a name" });
    this.search.addEventListener("input", () => {
      this.limit = STEP;
      this.render();
      clearTimeout(this.telling);
      // Once the typing rests: not every letter's result is worth reading out.
      this.telling = setTimeout(() => announce(this.found.textContent), 600);
    });
    this.role = el("select", { id: "names-role" }, option("", "both"), option("server", "server"), option("client", "client"));
    this.role.addEventListener("change", () => this.render());
    const period = el("select", { id: "names-period" }, option("hour", "last hour"), option("total", "since the start"));
    period.addEventListener("change", () => {
      this.period = period.value;
      this.render();
    });
    this.limit = STEP;
    this.found = el("p", { class: "quiet" });
    this.more = el("button", { type: "button", hidden: true }, "Show more");
    this.more.addEventListener("click", () => {
      // What was asked for once is asked for again: each press shows twice as many.
      this.limit *= 2;
      this.render();
    });
    const field = (control, label) => el("label", { for: control.id }, label, control);
    byId("names-body").append(
      el("div", { class: "controls", role: "search", "aria-label": "Search among server names" }, field(this.search, "Search"), field(this.role, "Role"), field(period, "Figures of")),
      this.found,
      el("div", { class: "scroll", role: "region", "aria-label": "Table of server names", tabindex: "0" }, this.table.node),
      this.more,
      el("p", { class: "quiet" }, "TTFB is the time to first byte as the client sees it, CPU the time of the server's thread; both are medians. ",
        el("code", {}, "_other"), " stands for all names that are not among the busiest.", hiddenText(" A name is a link to its details.")));
  }

  update(answer) {
    this.answer = answer;
    this.render();
  }

  render() {
    const wanted = this.search.value.trim().toLowerCase();
    const { names } = this.answer;
    const rows = names.filter((row) =>
      row.server_name.toLowerCase().includes(wanted) && (this.role.value === "" || row.role === this.role.value));
    this.table.update(rows, this.limit);
    this.more.hidden = rows.length <= this.limit;
    const of = rows.length === names.length ? counted(rows.length, "row") : `${count(rows.length)} of ${counted(names.length, "row")}`;
    setText(this.found, names.length === 0 ? "No name seen so far."
      : rows.length > this.limit ? `${of}; the first ${count(this.limit)} are shown.` : `${of}.`);
  }

  /** Puts the focus back on a name from whose view the user returns. */
  focus(key) {
    const link = this.table.body.kept?.get(key)?.querySelector("a");
    link?.focus();
    return Boolean(link);
  }
}

