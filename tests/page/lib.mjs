// lib.mjs - what every test of the page stands on: one browser, a fresh context a test, and ears for
// what must never happen: an error on the console, a request beyond the server, a dialog, markup that
// ran. Nothing waits for luck: every wait has a condition.
import fs from "node:fs";
import path from "node:path";
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const npm = process.env.PAGE_NPM;
const { chromium } = require(path.join(npm, "node_modules/playwright-core"));
const axeSource = fs.readFileSync(path.join(npm, "node_modules/axe-core/axe.min.js"), "utf8");

export const config = JSON.parse(fs.readFileSync(process.env.PAGE_CONFIG, "utf8"));
export const tests = [];

// Registers a test. Its name is what test_page.py finds in the source.
export function test(name, run) {
  tests.push({ name, run });
}

export function assert(right, what) {
  if (!right) throw new Error(what);
}

export function equal(got, want, what) {
  const a = JSON.stringify(got), b = JSON.stringify(want);
  if (a !== b) throw new Error(`${what ?? "value"}: ${a}, not ${b}`);
}

export async function start() {
  const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"];
  return chromium.launch({ executablePath: config.chromium, headless: true, args });
}

// Before the page's own scripts: what is moved after it was drawn is summed up.
function watchLayout() {
  window.shifted = 0;
  window.shifts = [];
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) {
      if (entry.hadRecentInput) continue;
      window.shifted += entry.value;
      window.shifts.push(entry.sources.map((s) => s.node?.className || s.node?.nodeName).join(" "));
    }
  }).observe({ type: "layout-shift", buffered: true });
}

// One test's browser: a page, and what was heard.
export class Visit {
  constructor(browser) {
    this.browser = browser;
    this.heard = [];
    this.allowed = [];
    this.requests = [];
    this.flying = 0;
  }

  // options: theme "light" or "dark", width, height, scale, server (a config entry), touch
  async begin(options = {}) {
    this.server = config.servers[options.server ?? "main"];
    this.context = await this.browser.newContext({
      viewport: { width: options.width ?? 1280, height: options.height ?? 900 },
      colorScheme: options.theme ?? "light",
      deviceScaleFactor: options.scale ?? 1,
      reducedMotion: "reduce",
      acceptDownloads: true,
    });
    await this.context.addInitScript(watchLayout);
    this.page = await this.context.newPage();
    this.page.setDefaultTimeout(config.patience);
    this.listen(this.page);
    return this.page;
  }

  listen(page) {
    page.on("console", (m) => {
      if (m.type() === "error" || m.type() === "warning") this.hear(`console: ${m.text()}`);
    });
    page.on("pageerror", (e) => this.hear(`error: ${e.message}`));
    page.on("dialog", (d) => {
      this.hear(`dialog: ${d.message()}`);
      d.dismiss();
    });
    const over = () => { this.flying--; };
    page.on("requestfinished", over);
    page.on("requestfailed", over);
    page.on("request", (r) => {
      this.flying++;
      const url = new URL(r.url());
      this.requests.push(`${r.method()} ${url.pathname}${url.search}`);
      if (url.origin !== this.server.url && !["data:", "blob:"].includes(url.protocol))
        this.hear(`request beyond the server: ${r.url()}`);
    });
  }

  hear(what) {
    if (!this.allowed.some((pattern) => pattern.test(what))) this.heard.push(what);
  }

  // The browser itself writes refused answers to the console; a test says which it provokes.
  allow(...patterns) {
    this.allowed.push(...patterns);
  }

  address(state = {}, key = this.server.key) {
    const members = new URLSearchParams(state).toString();
    return `${this.server.url}/#${[key ? `key=${key}` : "", members].filter(Boolean).join("&")}`;
  }

  // Opens a view with the key, and waits until nothing loads any more.
  async open(state = { c: "demo" }, options = {}) {
    if (!this.page) await this.begin(options);
    await this.page.goto(this.address(state, options.key === undefined ? this.server.key : options.key));
    await this.settled();
    return this.page;
  }

  hook(name, more = "") {
    return this.page.locator(`[data-test="${name}"]${more}`);
  }

  // Nothing loads, no request is under way, and all that came is drawn.
  async settled() {
    for (let calm = 0; calm < 3;) {
      await this.page.waitForFunction(() => !document.querySelector('[data-test="loading"],[data-test="encoding"]') &&
        document.querySelector("main")?.childElementCount > 0);
      await this.page.evaluate(() => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 10))));
      calm = this.flying <= 0 ? calm + 1 : 0;
    }
  }

  // The state in the address, as an object.
  state() {
    return Object.fromEntries(new URLSearchParams(new URL(this.page.url()).hash.slice(1)));
  }

  // Zero violations, best practices among them.
  async axe(what) {
    const found = await this.page.evaluate(`(() => { ${axeSource}; })(), axe.run(document, {
      runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] })`);
    const bad = found.violations.map((v) => `${v.id} (${v.impact}): ${v.nodes.slice(0, 3)
      .map((n) => `${n.target.join(" ")}: ${n.failureSummary.replace(/\s+/g, " ")}`).join("; ")}`);
    assert(bad.length === 0, `${what}: axe: ${bad.join("\n  ")}`);
    assert(found.passes.length > 10, `${what}: axe looked at nothing`);
  }

  // Nothing wider than the window.
  async fits(what) {
    const wide = await this.page.evaluate(() => {
      const room = document.documentElement.clientWidth;
      if (document.documentElement.scrollWidth <= room) return null;
      const out = [...document.body.querySelectorAll("*")].filter((e) => e.getBoundingClientRect().right > room + 1);
      return `${document.documentElement.scrollWidth} of ${room}: ${out.slice(0, 4)
        .map((e) => `${e.nodeName}.${e.className?.baseVal ?? e.className}`).join(", ")}`;
    });
    assert(!wide, `${what} scrolls sideways: ${wide}`);
  }

  async still(what) {
    const { shifted, shifts } = await this.page.evaluate(() => ({ shifted, shifts }));
    assert(shifted < 0.05, `${what}: layout moved by ${shifted.toFixed(3)}: ${shifts.join(" | ")}`);
  }

  async shot(name, whole = true) {
    fs.mkdirSync(config.shots, { recursive: true });
    await this.page.screenshot({ path: path.join(config.shots, `${name}.png`), fullPage: whole });
  }

  async end() {
    const hurt = this.page && !this.page.isClosed() &&
      (await this.page.evaluate(() => window.hurt).catch(() => undefined));
    await this.context?.close();
    if (hurt) this.heard.push("markup in a text ran");
    assert(this.heard.length === 0, this.heard.join("\n  "));
  }
}

// A request of the test's own, beside the page.
export async function api(method, route, body, { server = "main", key } = {}) {
  const s = config.servers[server];
  const reply = await fetch(s.url + route, {
    method,
    headers: { Authorization: `Bearer ${key ?? s.key}`, ...(body ? { "Content-Type": "application/json" } : {}) },
    body: body ? JSON.stringify(body) : undefined,
  });
  const text = await reply.text();
  if (!reply.ok) throw new Error(`${method} ${route}: ${reply.status} ${text}`);
  return text ? JSON.parse(text) : null;
}
