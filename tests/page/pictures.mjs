// pictures.mjs - the pictures of README and docs: the page with the demo's store, at twice the pixels.
//
//   node tests/page/pictures.mjs URL KEY docs/pictures    after make demo and make serve; needs pngquant
//
// ONLY=word takes the one of that name. PAGE_NPM names the folder with playwright-core (build/page/npm, which make page-test fills).
import { execFileSync } from "node:child_process";
import { createRequire } from "node:module";
import fs from "node:fs";
import path from "node:path";

const [url, key, out] = process.argv.slice(2);
const npm = path.resolve(process.env.PAGE_NPM ?? "build/page/npm");
const { chromium } = createRequire(import.meta.url)(path.join(npm, "node_modules/playwright-core"));
const ANSWER = { c: "demo", v: "answer", q: "monet", m: "task:facts,cosine,words", k: "5", o: "2" };

const PICTURES = [
  { name: "page-answer", state: ANSWER, width: 1240, height: 980 },
  { name: "page-queries", state: { c: "demo" }, width: 1000, height: 760 },
  { name: "page-tokens", state: { ...ANSWER, m: "task:facts,cosine", k: "2", o: "1" }, width: 1100, height: 980, theme: "dark",
    async act(page) {
      for (const hook of ["by-token", "by-block"]) await page.locator(`[data-test=card] [data-test=${hook}] summary`).first().click();
      await page.locator("[data-test=heat]").first().waitFor();
      await page.locator("[data-test=column]").first().evaluate((e) => window.scrollTo(0, e.getBoundingClientRect().top - 16));
    } },
  { name: "page-corpus", state: { c: "demo", v: "corpus" }, width: 1100, height: 860 },
  { name: "page-narrow", state: { ...ANSWER, q: "umbrella", m: "task:commonsense,words" }, width: 390, height: 844, theme: "dark",
    act: (page) => page.locator("[data-test=column]").first().evaluate((e) => window.scrollTo(0, e.offsetTop - 20)) },
];

const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", headless: true,
  args: ["--no-sandbox", "--disable-gpu", "--font-render-hinting=none"] });
fs.mkdirSync(out, { recursive: true });
const only = process.env.ONLY;
for (const { name, state, width, height, theme, act } of PICTURES) {
  if (only && !name.includes(only)) continue;
  const context = await browser.newContext({ viewport: { width, height }, deviceScaleFactor: 2, colorScheme: theme ?? "light",
    reducedMotion: "reduce" });
  const page = await context.newPage();
  page.setDefaultTimeout(60000);
  await page.goto(`${url}/#key=${key}&${new URLSearchParams(state)}`);
  await page.waitForLoadState("networkidle");
  await page.waitForFunction(() => !document.querySelector('[data-test="loading"]'));
  await act?.(page);
  await page.waitForTimeout(500); // what moves softly has come to rest
  const file = path.join(out, `${name}.png`);
  await page.screenshot({ path: file });
  execFileSync("pngquant", ["--force", "--quality=70-95", "--speed=1", "--strip", "--output", file, file]);
  console.log(`${file}: ${fs.statSync(file).size} bytes`);
  await context.close();
}
await browser.close();
