// How figures are written. What is cut and what is rounded matters: 100.0 % says "every one".

const grouped = new Intl.NumberFormat("en");

export const count = (value) => grouped.format(value);

/** "1 handshake", "2 handshakes". */
export const counted = (value, noun) => `${count(value)} ${noun}${value === 1 ? "" : "s"}`;

/** Tenths of a percent, cut: 99.99 % is 99.9 %, and only all is 100.0 %. */
export function percent(ratio) {
  if (ratio >= 1) return "100.0\u00a0%";
  // 0.57 is a little less than 57 hundredths in binary; what is added is far below what is shown.
  const tenths = Math.min(999, Math.floor(ratio * 1000 + 1e-9));
  return `${(tenths / 10).toFixed(1)}\u00a0%`;
}

/** Of counts rather than of a ratio: exact. */
export const share = (part, whole) => (whole > 0 ? percent(part / whole) : null);

/** Three digits of a short duration, or two units of a long one. */
export function duration(seconds) {
  if (seconds < 0) return `\u2212${duration(-seconds)}`;
  if (seconds === 0) return "0\u00a0s";
  if (seconds < 0.9995e-3) return `${digits(seconds * 1e6)}\u00a0µs`;
  if (seconds < 0.9995) return `${digits(seconds * 1e3)}\u00a0ms`;
  if (seconds < 59.95) return `${digits(seconds)}\u00a0s`;
  const whole = Math.round(seconds);
  for (const [size, unit, smaller, small] of [
    [86_400, "d", 3_600, "h"],
    [3_600, "h", 60, "min"],
    [60, "min", 1, "s"],
  ]) {
    if (whole >= size) {
      const rest = Math.floor((whole % size) / smaller);
      return `${count(Math.floor(whole / size))}\u00a0${unit}${rest > 0 ? ` ${rest}\u00a0${small}` : ""}`;
    }
  }
  return `${whole}\u00a0s`;
}

function digits(value) {
  if (value < 9.995) return value.toFixed(2);
  return value < 99.95 ? value.toFixed(1) : value.toFixed(0);
}

const pad = (value) => String(value).padStart(2, "0");

/** Hours and minutes of this browser's zone. */
export function clock(unix) {
  const time = new Date(unix * 1000);
  return `${pad(time.getHours())}:${pad(time.getMinutes())}`;
}

export const clockSeconds = (unix) => `${clock(unix)}:${pad(new Date(unix * 1000).getSeconds())}`;

/** A time of day, with its date where that is another one than `now`'s. */
export function moment(unix, now) {
  const time = new Date(unix * 1000);
  const date = `${time.getFullYear()}-${pad(time.getMonth() + 1)}-${pad(time.getDate())}`;
  return time.toDateString() === new Date(now * 1000).toDateString() ? clock(unix) : `${date} ${clock(unix)}`;
}

/** In whole minutes beyond the first: the seconds of an hour ago would only make the page flicker. */
export function ago(unix, now) {
  const seconds = Math.floor(now - unix);
  if (seconds < 1) return "just now";
  return `${duration(seconds < 60 ? seconds : seconds - (seconds % 60))} ago`;
}

/** Bytes in binary units, as memory is counted. */
export function bytes(value) {
  if (value < 1024) return `${value}\u00a0B`;
  const step = Math.min(3, Math.floor(Math.log2(value) / 10));
  return `${digits(value / 1024 ** step)}\u00a0${["B", "KiB", "MiB", "GiB"][step]}`;
}
