// What the agent's words mean, for those who read them for the first time.

/** Why a handshake did not resume: a name, and what that says. */
const REASONS = {
  never_offered: ["Never offered", "The client brought no ticket and no session ID: it is new, forgot, or does not resume."],
  key_unknown: ["Key unknown", "The server does not hold the key of the ticket: rotated away, restarted, or another server's."],
  ticket_corrupt: ["Ticket corrupt", "The ticket could not be decrypted, although its key is known."],
  expired: ["Expired", "The ticket or session was older than the server allows."],
  parameters_changed: ["Parameters changed", "Version, cipher or context differ from those of the session."],
  cache_miss: ["Cache miss", "The session is not (or no longer) in the server's cache."],
  not_supported: ["Not supported", "The server resumes nothing of the kind that was offered."],
  unknown: ["Unknown", "Refused, and what is visible does not tell why."],
};

export const reasonName = (reason) => REASONS[reason]?.[0] ?? reason;
export const reasonMeaning = (reason) => REASONS[reason]?.[1] ?? "";

/** Names of the aggregate that are no host names. */
const NAMES = {
  _none: "no server name sent",
  _invalid: "no valid host name",
  _other: "all names that are not among the busiest",
};

export const nameMeaning = (name) => NAMES[name] ?? null;

const KEYS = { _none: "tickets without a key name", _other: "other keys" };

export const keyMeaning = (key) => KEYS[key] ?? null;

const OFFERS = { none: "nothing", session_id: "session ID", ticket: "ticket", psk: "PSK" };

export const offerName = (offer) => OFFERS[offer] ?? offer;

export const RESULTS = { full: "full", resumed: "resumed", failed: "failed" };

const SERVERS = {
  any: "any server", nginx: "nginx", apache: "Apache", haproxy: "HAProxy", envoy: "Envoy", kubernetes: "Kubernetes",
};

export const adviceName = (server) => SERVERS[server] ?? server;
