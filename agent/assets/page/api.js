// The agent's API: questions, and the stream of events.
//
// The agent ends its stream every few seconds, which is no fault. So a stream that ends is opened
// again at once, and only silence counts as a loss.

/** Without a sign of life for so long the page says so; twice what the agent's pause and a new connection take. */
const SILENCE_MS = 8_000;
/** Pause before a stream is opened again after it could not be; grows to the second. */
const RETRY_MS = [500, 5_000];

/** An answer that takes longer is none. */
const TIMEOUT_MS = 10_000;
/** A stream that ends sooner did not end as agents end theirs. */
const SHORT_MS = 2_000;

export class HttpError extends Error {
  constructor(status, text) {
    super(`${status} ${text}`);
    this.status = status;
  }
}

/** Asks for JSON at `path`, e.g. `names`. */
export async function ask(path, parameters = {}) {
  const query = new URLSearchParams(parameters).toString();
  const response = await fetch(`api/v1/${path}${query ? `?${query}` : ""}`, { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
  if (!response.ok) throw new HttpError(response.status, (await response.text()).trim().slice(0, 200));
  return response.json();
}

/**
 * Follows the events. `on.overview`, `on.handshake` and `on.skipped` get their data, `on.state` hears
 * "live", "polling" (too many follow already, so that figures are asked for) or "lost".
 */
export function follow(on) {
  let source = null;
  let retry = RETRY_MS[0];
  let timer = 0;
  let silence = 0;
  let state = null;

  const say = (next) => {
    if (next !== state) on.state((state = next));
  };
  const alive = (next) => {
    clearTimeout(silence);
    silence = setTimeout(() => say("lost"), SILENCE_MS);
    say(next);
  };
  const later = (milliseconds) => {
    clearTimeout(timer);
    timer = setTimeout(open, milliseconds);
  };
  const handle = (name, handler) =>
    source.addEventListener(name, (event) => {
      alive("live");
      handler(JSON.parse(event.data));
    });

  function open() {
    close();
    source = new EventSource("api/v1/events");
    let opened = Infinity;
    source.onopen = () => (opened = performance.now());
    source.onerror = () => {
      source.close();
      if (performance.now() - opened > SHORT_MS) {
        retry = RETRY_MS[0];
        return later(50);
      }
      poll();
      later(retry);
      retry = Math.min(retry * 2, RETRY_MS[1]);
    };
    handle("overview", on.overview);
    handle("handshake", on.handshake);
    handle("skipped", on.skipped);
  }

  // The stream may be refused to one more follower, while questions are still answered.
  async function poll() {
    try {
      const data = await ask("overview");
      if (document.hidden) return;
      alive("polling");
      on.overview(data);
    } catch {
      // Silence tells.
    }
  }

  function close() {
    clearTimeout(timer);
    source?.close();
  }

  // A page that nobody sees asks nothing: browsers keep few connections to one host for all of their tabs.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      clearTimeout(silence);
      close();
    } else {
      alive(state);
      open();
    }
  });
  silence = setTimeout(() => say("lost"), SILENCE_MS);
  open();
}

/** Asks for something again and again while it is wanted, one question at a time. */
export class Poll {
  constructor(path, seconds, wanted, update) {
    Object.assign(this, { path, period: seconds * 1000, wanted, update, due: 0 });
  }

  /** Due at the next tick. */
  soon() {
    this.due = 0;
  }

  async tick() {
    const now = performance.now();
    if (now < this.due || !this.wanted()) return;
    this.due = now + this.period;
    const parameters = this.parameters?.() ?? {};
    try {
      this.update(await ask(this.path, parameters), null);
    } catch (error) {
      this.update(null, error);
    }
  }
}
