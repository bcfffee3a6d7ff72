// Ticket keys on a line of time: when each was first seen, last issued, last accepted, until when its
// tickets are promised to be good, and how long neighbours overlapped.
//
// The pictures say nothing that the words beside them and the table below do not say too.

import { byId, el, figure, hiddenText, put, svg } from "./dom.js";
import { ago, count, counted, duration, moment } from "./format.js";
import { SortableTable } from "./table.js";
import { keyMeaning } from "./words.js";

/** Width of a picture in its own units; the browser stretches it. */
const WIDTH = 1000;

/** From the first sight of a key to now, or to the last promise where that is later. */
function range(keys, now) {
  const begin = Math.min(...keys.map((key) => key.first_seen_timestamp_seconds));
  const promised = Math.max(now, ...keys.map((key) => key.valid_until_timestamp_seconds ?? 0));
  // A promise of weeks would squeeze what was seen into a corner: it may take half of the width.
  const end = Math.min(promised, now + Math.max(now - begin, 60));
  return { begin, end: Math.max(end, begin + 60), now };
}

const place = ({ begin, end }, at) => Math.round(((Math.min(Math.max(at, begin), end) - begin) / (end - begin)) * WIDTH * 10) / 10;

function track(key, span) {
  const bar = (from, to, name, y, height) => {
    if (from === null || to === null) return null;
    const x = place(span, from);
    return svg("rect", { class: name, x, y, height, width: Math.max(place(span, to) - x, 3) });
  };
  const first = key.first_seen_timestamp_seconds;
  const now = place(span, span.now);
  return svg("svg", { class: "track", viewBox: `0 0 ${WIDTH} 24`, preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("rect", { class: "lane", x: 0, y: 11.5, width: WIDTH, height: 1 }),
    bar(key.last_seen_timestamp_seconds, key.valid_until_timestamp_seconds, "valid", 9, 6),
    bar(first, key.last_seen_timestamp_seconds, "seen", 9, 6),
    bar(first, key.last_issued_timestamp_seconds, "issued", 3, 8),
    bar(first, key.last_accepted_timestamp_seconds, "accepted", 13, 8),
    svg("rect", { class: "now", x: Math.min(now, WIDTH - 2), y: 0, width: 2, height: 24 }));
}

const keyName = (key) => (keyMeaning(key) === null ? el("code", {}, key) : el("span", {}, keyMeaning(key)));

function facts(key, now) {
  const parts = [
    `${count(key.issued)} issued`, `${count(key.accepted)} accepted`, `${count(key.rejected)} rejected`,
  ];
  // Several keys share these lanes, and no age.
  const seconds = now - key.first_seen_timestamp_seconds;
  if (keyMeaning(key.key) === null) parts.push(`age ${duration(Math.max(0, Math.floor(seconds < 60 ? seconds : seconds - (seconds % 60))))}`);
  const until = key.valid_until_timestamp_seconds;
  if (until !== null) parts.push(until > now ? `tickets good for ${duration(Math.ceil(until - now))} more` : `its tickets ended ${ago(until, now)}`);
  return parts.join(" · ");
}

function warnings(key) {
  const list = [];
  if (key.weak === true) list.push(el("strong", { class: "chip error" }, "✖ can be guessed"));
  if (key.refused_early > 0) list.push(el("strong", { class: "chip warning" }, `▲ ${count(key.refused_early)} refused while still valid`));
  return list;
}

/** How long an older key's tickets were still taken after its successor appeared. */
function overlaps(keys) {
  const named = keys.filter(({ key }) => keyMeaning(key) === null)
    .toSorted((one, other) => one.first_seen_timestamp_seconds - other.first_seen_timestamp_seconds);
  return named.slice(1).map((next, index) => {
    const former = named[index];
    const begun = next.first_seen_timestamp_seconds;
    const accepted = former.last_accepted_timestamp_seconds;
    const words = accepted !== null && accepted > begun
      ? `was still accepted for ${duration(Math.max(1, Math.floor(accepted - begun)))} after`
      : former.refused_early > 0 ? "was refused, though still valid, once" : "was not accepted any more once";
    return el("li", {}, el("code", {}, former.key), ` ${words} `, el("code", {}, next.key), " appeared.");
  });
}

function service({ service, keys }, now) {
  const span = range(keys, now);
  const latest = keys.toSorted((one, other) => other.first_seen_timestamp_seconds - one.first_seen_timestamp_seconds);
  const turns = overlaps(keys);
  const middle = (span.begin + span.end) / 2;
  return el("div", { class: "service" },
    el("h3", {}, service, el("span", { class: "quiet" }, ` ${counted(keys.length, "key")}`)),
    el("ol", { class: "lanes" }, ...latest.map((key) => el("li", {},
      el("div", { class: "lane-words" }, el("span", { class: "key-name" }, hiddenText("Key "), keyName(key.key)), el("span", { class: "quiet" }, facts(key, now)), ...warnings(key)),
      track(key, span)))),
    el("div", { class: "scale", "aria-hidden": "true" },
      ...[span.begin, middle, span.end].map((at) => el("span", {}, `${moment(at, now)}${at - now > 1 ? " ⇢" : ""}`))),
    turns.length > 0 ? el("ul", { class: "quiet overlaps" }, ...turns) : null);
}

export class Keys {
  constructor() {
    const number = (id, title) => ({ id, title, number: true, value: (row) => row[id], show: (row) => count(row[id]) });
    const time = (id, title, why) => ({
      id, title, value: (row) => row[id], show: (row) => figure(row[id], (at) => moment(at, this.now), why),
    });
    this.table = new SortableTable({
      caption: "Ticket keys by service", sort: "first_seen_timestamp_seconds", direction: "descending",
      key: ({ service, key }) => JSON.stringify([service, key]),
      columns: [
        { id: "key", title: "Key", header: true, value: (row) => row.key, show: (row) => keyName(row.key) },
        { id: "service", title: "Service", value: (row) => row.service, show: (row) => row.service },
        time("first_seen_timestamp_seconds", "First seen", ""),
        time("last_issued_timestamp_seconds", "Last issued", "no ticket of it was seen to be issued; TLS 1.3 hides them"),
        time("last_accepted_timestamp_seconds", "Last accepted", "none was accepted"),
        time("valid_until_timestamp_seconds", "Good until", "no lifetime of its tickets is known"),
        number("issued", "Issued"), number("accepted", "Accepted"), number("rejected", "Rejected"), number("refused_early", "Refused early"),
        { id: "weak", title: "Weak", value: (row) => (row.weak === null ? null : Number(row.weak)),
          show: (row) => figure(row.weak, (weak) => (weak ? "yes" : "no"), "not tried; --check-weak-keys does") },
      ],
    });
    this.lanes = el("div");
    const mark = (name, text) => el("span", { class: `key lane-${name}` }, el("i"), text);
    this.body = el("div", {},
      el("p", { class: "quiet" }, "Fingerprints of the keys' names, never a key. Tickets of TLS 1.3 are encrypted, so that only those of TLS 1.2 are seen being issued."),
      el("div", { class: "legend", "aria-hidden": "true" }, mark("issued", "issued"), mark("accepted", "accepted"), mark("seen", "seen, also rejected"), mark("valid", "promised to be accepted"), mark("now", "now")),
      this.lanes,
      el("details", { class: "figures" }, el("summary", {}, "Ticket keys as a table"),
        el("div", { class: "scroll", role: "region", "aria-label": "Ticket keys as a table", tabindex: "0" }, this.table.node)));
  }

  update({ services, timestamp_seconds: now }) {
    this.now = now;
    const some = services.filter(({ keys }) => keys.length > 0);
    if (some.length === 0) {
      put(byId("keys-body"), el("p", { class: "quiet" }, "No ticket that names a key was seen so far. Servers without tickets have none, and docs/tickets.md says whose tickets name theirs."));
      return;
    }
    const host = byId("keys-body");
    if (this.body.parentNode !== host) host.replaceChildren(this.body);
    put(this.lanes, el("div", {}, ...some.map((one) => service(one, now))));
    this.table.update(some.flatMap(({ service, keys }) => keys.map((key) => ({ service, ...key }))));
  }
}
