// run.mjs - runs the tests of the files named, one after the other in one browser, and prints a JSON
// line for each: {"name","ok","error","seconds"}. PAGE_CONFIG and PAGE_NPM: see test_page.py.
import path from "node:path";
import { config, start, tests, Visit } from "./lib.mjs";

for (const file of process.argv.slice(2)) await import(path.resolve(file));
const browser = await start();
for (const { name, run } of tests) {
  if (config.only && !name.includes(config.only)) continue;
  const began = Date.now(), visit = new Visit(browser);
  let error = null;
  try {
    await run(visit);
    await visit.end();
  } catch (e) {
    error = e.stack ?? String(e);
    if (visit.heard.length) error += `\nheard: ${visit.heard.join("\n  ")}`;
    await visit.page?.screenshot({ path: path.join(config.shots, `failed-${name.replace(/\W+/g, "-")}.png`) }).catch(() => 0);
    await visit.context?.close().catch(() => 0);
  }
  console.log(JSON.stringify({ name, ok: !error, error, seconds: (Date.now() - began) / 1000 }));
}
await browser.close();
