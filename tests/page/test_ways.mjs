// test_ways.mjs - going about: addresses that are shared, back and forward, the keyboard alone, themes.
import { assert, equal, test } from "./lib.mjs";

test("address: the key leaves it at once", async (v) => {
  const page = await v.open({ c: "demo" });
  assert(!page.url().includes("asc_"), page.url());
  equal(await page.evaluate(() => sessionStorage.getItem("ascribe.key")), v.server.key);
  equal(await page.evaluate(() => Object.keys(localStorage).some((k) => localStorage[k].includes("asc_"))), false);
  assert(!v.requests.some((r) => r.includes("asc_")), "no request carries the key in its address");
  await page.goBack().catch(() => null);
  assert(!page.url().includes("asc_"), "nor does the step back");
});

test("address: shared, it shows the same", async (v) => {
  const state = { c: "demo", v: "answer", q: "knife", m: "cosine,words", k: "3", o: "1", f: 'meta.source = "everyday"', g: "meta.source" };
  await v.open(state);
  const text = () => v.page.locator("[data-test=column]").evaluateAll((all) => all.map((c) =>
    [...c.querySelectorAll("[data-test=card]")].map((x) => x.dataset.id).join()));
  const mine = await text();
  const link = new URL(v.page.url()).hash.slice(1);
  assert(mine.join().length > 10, "there is an answer");
  await v.context.close();
  v.page = null;
  await v.open(Object.fromEntries(new URLSearchParams(link)));
  equal(await text(), mine, "columns");
  equal(await v.hook("filter").inputValue(), state.f);
});

test("address: back and forward", async (v) => {
  await v.open({ c: "demo" });
  await v.page.locator('[data-test="query"][data-name="haydn"]').click();
  await v.hook("column").first().waitFor();
  await v.settled();
  await v.hook("card-id").first().click();
  await v.hook("example-id").waitFor();
  await v.page.goBack();
  await v.hook("column").first().waitFor();
  equal(v.state().q, "haydn");
  await v.page.goBack();
  await v.hook("query").first().waitFor();
  await v.page.goForward();
  await v.hook("column").first().waitFor();
  equal(v.state().q, "haydn");
});

test("queries: search, kinds and tags", async (v) => {
  await v.open({ c: "demo" });
  const count = () => v.hook("query").count();
  equal(await count(), 17);
  await v.hook("kind-arithmetic").click();
  equal(await count(), 4);
  equal(await v.hook("kind-arithmetic").getAttribute("aria-pressed"), "true");
  await v.hook("kind-arithmetic").click();
  await v.hook("search").fill("haydn");
  equal(await count(), 1);
  equal(v.state().s, "haydn");
  await v.hook("search").fill("no such words");
  await v.hook("empty").waitFor();
  await v.axe("nothing found");
});

test("keyboard: from the list to an example and back, without a mouse", async (v) => {
  const page = await v.open({ c: "demo" });
  await page.keyboard.press("/");
  equal(await page.evaluate(() => document.activeElement.dataset.test), "search");
  await page.keyboard.type("plus");
  await page.keyboard.press("Escape");
  await page.keyboard.press("j");
  await page.keyboard.press("j");
  equal(await page.evaluate(() => document.activeElement.dataset.test), "query");
  await page.keyboard.press("k");
  await page.keyboard.press("Enter");
  await v.hook("column").first().waitFor();
  await v.settled();
  const first = v.state().q;
  await page.keyboard.press("j");
  await page.waitForFunction((q) => !location.hash.includes(`q=${q}`), first);
  await v.settled();
  await page.keyboard.press("k");
  await page.waitForFunction((q) => location.hash.includes(`q=${q}`), first);
  await v.settled();
  await page.keyboard.press("?");
  await v.hook("help-dialog").waitFor();
  await v.axe("help");
  await v.shot("help", false);
  await page.keyboard.press("Escape");
  await v.hook("help-dialog").waitFor({ state: "hidden" });
  await page.keyboard.press("u");
  await v.hook("query").first().waitFor();
});

test("keyboard: tab reaches everything, and shows where it is", async (v) => {
  const page = await v.open({ c: "demo", v: "answer", q: "haydn", m: "cosine", k: "1", o: "0" });
  const want = await page.evaluate(() => [...document.querySelectorAll("a[href],button,input,select,textarea,summary")]
    .filter((e) => e.checkVisibility() && !e.disabled && e.tabIndex >= 0).length);
  const seen = new Set();
  for (let i = 0; i < want + 10; i++) {
    await page.keyboard.press("Tab");
    const at = await page.evaluate(() => {
      const e = document.activeElement;
      if (e === document.body) return null;
      const s = getComputedStyle(e);
      e.dataset.reached ??= String(Math.random());
      return { id: e.dataset.reached, seen: s.outlineStyle !== "none" || s.boxShadow !== "none" || e.type === "checkbox", what: e.outerHTML.slice(0, 80) };
    });
    if (!at) continue;
    assert(at.seen, `no ring around ${at.what}`);
    seen.add(at.id);
  }
  equal(seen.size, want, "reached");
});

test("keyboard: the skip link comes first", async (v) => {
  const page = await v.open({ c: "demo" });
  await page.keyboard.press("Tab");
  equal(await page.evaluate(() => document.activeElement.dataset.test), "skip");
  await page.keyboard.press("Enter");
  equal(await page.evaluate(() => document.querySelector("main").contains(document.activeElement) || document.activeElement.tagName === "MAIN"), true);
});

test("theme: follows the system, switches, and stays", async (v) => {
  const page = await v.open({ c: "demo" }, { theme: "light" });
  const paper = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor + getComputedStyle(document.body).backgroundColor);
  const light = await paper();
  await page.emulateMedia({ colorScheme: "dark" });
  const dark = await paper();
  assert(light !== dark, "follows the system");
  await page.emulateMedia({ colorScheme: "light" });
  for (let i = 0; i < 3 && (await paper()) !== dark; i++) await v.hook("theme").click();
  equal(await paper(), dark, "switched");
  await page.reload();
  await v.settled();
  equal(await paper(), dark, "after a reload");
});

test("corpus: chosen in the frame", async (v) => {
  await v.open({ c: "demo" });
  await v.hook("corpus").selectOption("empty");
  await v.page.waitForFunction(() => location.hash.includes("c=empty"));
  await v.settled();
  equal(await v.hook("query").count(), 0);
});
