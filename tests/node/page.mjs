// Drives the built-in page with a browser: commands on standard input, answers on standard output, one
// JSON object a line. What is done and what must hold is the test's business.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { setTimeout } from "node:timers/promises";
import { chromium } from "playwright-core";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** How long a condition may take to hold. */
const PATIENCE_MS = 30_000;

const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
  ],
});

let page = null;
let seen = null;

/** Everything that a user would find in the browser's console or its list of requests. */
async function listen() {
  seen = { messages: [], failures: [], transferred_bytes: 0, decoded_bytes: 0 };
  page.on("console", (message) => seen.messages.push(`${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => seen.messages.push(String(error.stack)));
  page.on("requestfailed", (request) => seen.failures.push(`${request.url()}: ${request.failure()?.errorText}`));
  page.on("response", (response) => {
    if (response.status() >= 400) seen.failures.push(`${response.url()}: ${response.status()}`);
  });
  const session = await page.context().newCDPSession(page);
  await session.send("Network.enable");
  session.on("Network.dataReceived", ({ dataLength }) => (seen.decoded_bytes += dataLength));
  session.on("Network.loadingFinished", ({ encodedDataLength }) => (seen.transferred_bytes += encodedDataLength));
}

const commands = {
  async open({ url, scheme, width, height }) {
    await page?.context().close();
    const context = await browser.newContext({ colorScheme: scheme, viewport: { width, height }, reducedMotion: "reduce" });
    page = await context.newPage();
    page.setDefaultTimeout(PATIENCE_MS);
    await listen();
    await page.goto(url);
  },
  evaluate: ({ script }) => page.evaluate(script),
  // The script's value once it is not false; asked from here, as the page's policy forbids it to run text.
  async wait({ script, milliseconds = PATIENCE_MS }) {
    const end = performance.now() + milliseconds;
    for (;;) {
      const value = await page.evaluate(script);
      if (value) return value;
      if (performance.now() > end) throw new Error(`waited in vain for ${script}`);
      await setTimeout(50);
    }
  },
  press: ({ key }) => page.keyboard.press(key),
  type: ({ text }) => page.keyboard.type(text),
  back: () => page.goBack().then(() => null),
  // What was seen since the page was opened.
  seen: () => seen,
  async axe() {
    await page.evaluate(axe);
    const { violations } = await page.evaluate("axe.run(document, { resultTypes: ['violations'] })");
    return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ target, failureSummary }) => `${target.join(" ")} (${failureSummary})`).join("; ")}`);
  },
  screenshot: ({ path, whole }) => page.screenshot({ path, fullPage: whole ?? false }).then(() => null),
};

for await (const line of createInterface({ input: process.stdin })) {
  const { command, ...parameters } = JSON.parse(line);
  let answer;
  try {
    answer = { value: (await commands[command](parameters)) ?? null };
  } catch (error) {
    answer = { error: String(error.message) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await browser.close();
