// A table that sorts by any column, is updated in place, and is worked by keyboard: headers are buttons,
// `aria-sort` says what holds.

import { el, put, reconcile, setAttribute } from "./dom.js";

const texts = new Intl.Collator("en", { numeric: true });

/**
 * `columns`: each with `id`, `title`, `value(row)` to sort by (null sorts last either way), `show(row)` as
 * text or element; `number`, `wide` (left out on phones), `header` (the cell that names the row), `first`
 * ("ascending" unless it is a number).
 */
export class SortableTable {
  constructor({ caption, columns, key, sort, direction, note = null }) {
    Object.assign(this, { columns, key, sort, direction, rows: [] });
    this.body = el("tbody");
    this.headers = columns.map((column) => {
      const button = el("button", { type: "button", onclick: () => this.sortBy(column) }, column.title, el("i", { "aria-hidden": "true" }));
      return el("th", { scope: "col", class: this.classes(column) }, button);
    });
    this.node = el("table", { class: "sortable" }, el("caption", { class: note ? null : "sr" }, caption, note ? ` ${note}` : null),
      el("thead", {}, el("tr", {}, ...this.headers)), this.body);
    this.markHeaders();
  }

  classes({ number, wide, header }) {
    return [number && "number", wide && "wide", header && "name"].filter(Boolean).join(" ") || null;
  }

  sortBy(column) {
    const natural = column.number ? "descending" : "ascending";
    if (this.sort === column.id) this.direction = this.direction === "ascending" ? "descending" : "ascending";
    else Object.assign(this, { sort: column.id, direction: natural });
    this.markHeaders();
    this.update(this.rows);
  }

  markHeaders() {
    this.columns.forEach((column, index) =>
      setAttribute(this.headers[index], "aria-sort", column.id === this.sort ? this.direction : null));
  }

  sorted() {
    const { value } = this.columns.find((column) => column.id === this.sort);
    const sign = this.direction === "ascending" ? 1 : -1;
    const compare = (one, other) => {
      const [a, b] = [value(one), value(other)];
      if (a === null || b === null) return (a === null) - (b === null);
      return sign * (typeof a === "string" ? texts.compare(a, b) : a - b);
    };
    return this.rows.toSorted((one, other) => compare(one, other) || texts.compare(this.key(one), this.key(other)));
  }

  /** All rows, of which at most `limit` are shown. */
  update(rows, limit = this.limit ?? Infinity) {
    Object.assign(this, { rows, limit });
    reconcile(this.body, this.sorted().slice(0, limit), {
      key: this.key,
      create: () => el("tr", {}, ...this.columns.map((column) =>
        el(column.header ? "th" : "td", { scope: column.header ? "row" : null, class: this.classes(column) }))),
      update: (tr, row) => this.columns.forEach((column, index) => put(tr.children[index], column.show(row))),
    });
  }
}
