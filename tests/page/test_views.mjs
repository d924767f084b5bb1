// test_views.mjs - every view with real data: what stands there, that it is accessible in both themes,
// fits 360 px, and does not move once it is drawn.
import { api, assert, config, equal, test } from "./lib.mjs";

const VIEWS = {
  queries: { c: "demo" },
  answer: { c: "demo", v: "answer", q: "haydn", m: "task:facts,cosine,words", k: "5", o: "3" },
  corpus: { c: "demo", v: "corpus" },
  examples: { c: "demo", v: "example" },
  example: { c: "demo", v: "example", id: "sum-3" },
  pair: { c: "demo", v: "pair" },
};

async function look(visit, name, theme, width) {
  await visit.open(VIEWS[name], { theme, width, height: width < 500 ? 780 : 900 });
  await visit.still(name);
  await visit.fits(name);
  await visit.axe(`${name} ${theme} ${width}`);
  await visit.shot(`${name}-${theme}-${width}`);
}

test("queries: light, wide", (v) => look(v, "queries", "light", 1280));
test("queries: dark, narrow", (v) => look(v, "queries", "dark", 360));
test("answer: light, wide", (v) => look(v, "answer", "light", 1280));
test("answer: dark, wide", (v) => look(v, "answer", "dark", 1280));
test("answer: light, narrow", (v) => look(v, "answer", "light", 360));
test("corpus: light, wide", (v) => look(v, "corpus", "light", 1280));
test("corpus: dark, narrow", (v) => look(v, "corpus", "dark", 360));
test("examples: light, narrow", (v) => look(v, "examples", "light", 360));
test("example: dark, wide", (v) => look(v, "example", "dark", 1280));
test("example: light, narrow", (v) => look(v, "example", "light", 360));
test("pair: dark, wide", (v) => look(v, "pair", "dark", 1280));
test("pair: light, narrow", (v) => look(v, "pair", "light", 360));

test("key: asked for when there is none", async (v) => {
  v.allow(/status of 401/);
  await v.begin({ theme: "dark", width: 360 });
  await v.page.goto(v.address({ c: "demo" }, null));
  await v.hook("key").waitFor();
  await v.axe("key");
  await v.fits("key");
  await v.shot("key-dark-360");
  await v.hook("key").fill(v.server.key);
  await v.hook("key-go").click();
  await v.hook("query").first().waitFor();
});

test("empty store: says what to do", async (v) => {
  await v.begin({ server: "fresh" });
  await v.page.goto(v.address({}));
  await v.settled();
  await v.hook("empty").first().waitFor();
  await v.axe("empty store");
  await v.shot("empty-store");
});

test("empty corpus: every view says so", async (v) => {
  for (const view of ["queries", "corpus", "example", "pair"]) {
    await v.open({ c: "empty", v: view });
    await v.axe(`empty ${view}`);
    await v.shot(`empty-${view}`);
  }
  equal(await v.hook("query").count(), 0);
});

test("answer: columns, cards and what they say are the server's", async (v) => {
  const page = await v.open(VIEWS.answer);
  equal(await v.hook("column").evaluateAll((all) => all.map((c) => c.dataset.method)), ["task:facts", "cosine", "words"]);
  const right = await api("POST", "/v1/corpora/demo/query?saved=haydn&task=facts&k=5&opponents=3");
  const column = v.hook("column", '[data-method="task:facts"]');
  const side = (s) => column.locator(`[data-test=card][data-side=${s}]`).evaluateAll((all) => all.map((c) => c.dataset.id));
  equal(await side("pro"), right.results[0].proponents.map((x) => x.id));
  equal(await side("con"), right.results[0].opponents.map((x) => x.id));
  const words = await api("POST", "/v1/corpora/demo/search", { text: "Haydn: prolific Austrian composer", k: 1 });
  assert(words.results.length, "the words find something");
  // ranks in the other columns are exact
  const id = right.results[0].proponents[0].id;
  const rank = (await api("POST", "/v1/corpora/demo/query", { saved: "haydn", k: 0, ids: [id] })).results[0].ids[0].rank;
  const card = column.locator(`[data-test=card][data-id="${id}"]`);
  await card.locator("[data-test=ranks] b", { hasText: new RegExp(`^${rank}$`) }).first().waitFor();
  await card.locator("[data-test=by-block] summary").click();
  const rows = card.locator("[data-test=blocks] tr");
  await rows.first().waitFor();
  const shares = await rows.count();
  assert(shares >= 4, `${shares} blocks`);
  await v.axe("answer with blocks open");
  assert(await v.hook("histogram").count() >= 2, "each column of gradients has its histogram");
  assert(await v.hook("overlap").count() === 1, "the lists are compared");
});

test("answer: marks the target's words, and tail-patch where it is stored", async (v) => {
  await v.open({ ...VIEWS.answer, f: 'id in ["markup", "sum-3"]' });
  const text = await v.hook("card", '[data-id="markup"]').first().textContent();
  assert(text.includes("tail-patch"), text);
  assert(await v.page.locator("[data-test=card] mark").count() > 0, "overlap is marked");
});

test("answer: methods are added and taken away", async (v) => {
  await v.open({ ...VIEWS.answer, m: "cosine" });
  equal(await v.hook("column").count(), 1);
  await v.hook("add-method").selectOption("dot");
  await v.page.waitForFunction(() => document.querySelectorAll('[data-test="column"]').length === 2);
  equal(v.state().m, "cosine,dot");
  await v.settled();
  await v.hook("remove-method").first().click();
  await v.page.waitForFunction(() => document.querySelectorAll('[data-test="column"]').length === 1);
  equal(v.state().m, "dot");
});

test("answer: a filter is applied, and its error shown where it is", async (v) => {
  v.allow(/status of 400/);
  await v.open({ ...VIEWS.answer, m: "cosine" });
  await v.hook("filter").fill('meta.source = "arithmetic"');
  await v.hook("filter").press("Enter");
  await v.page.waitForFunction(() => location.hash.includes("arithmetic"));
  await v.settled();
  const ids = await v.hook("card", "[data-side=pro]").evaluateAll((all) => all.map((c) => c.dataset.id));
  assert(ids.length === 5 && ids.every((i) => i.startsWith("sum-")), ids.join());
  await v.hook("filter").fill('meta.source = = "x"');
  await v.hook("filter-go").click();
  await v.hook("filter-error").waitFor();
  equal(await v.hook("filter-error").getAttribute("data-index"), "14");
  await v.axe("a filter that cannot be read");
  await v.shot("filter-error");
});

test("answer: sums by a field over the whole corpus", async (v) => {
  await v.open({ ...VIEWS.answer, m: "cosine", g: "meta.source" });
  await v.hook("groups").first().waitFor();
  const right = (await api("POST", "/v1/corpora/demo/query?saved=haydn&k=0&group=meta.source")).results[0].groups;
  const text = await v.hook("groups").first().textContent();
  for (const g of right) assert(text.includes(String(g.value ?? "none")) || g.value === null, `${g.value} in ${text}`);
  await v.axe("groups");
  await v.shot("groups");
});

test("corpus: numbers, planes, jobs, tasks and fingerprint", async (v) => {
  await api("POST", "/v1/admin/verify");
  await v.open(VIEWS.corpus);
  const right = await api("GET", "/v1/corpora/demo");
  const text = (await v.page.locator("main").textContent()).replace(/[\u202f\u00a0,]/g, "");
  assert(text.includes(String(right.examples)), `${right.examples} examples in ${text.slice(0, 400)}`);
  assert(text.includes(right.fingerprint), "the whole fingerprint");
  const words = (await v.hook("fingerprint").textContent()).trim();
  assert(/^[a-z]+(-[a-z]+){3,}$/.test(words), `words for it: ${words}`);
  assert(await v.hook("planes").count() === 1, "planes");
  assert(await v.hook("job").count() >= 1, "the job is listed");
  assert(await v.hook("task").count() >= 1, "the task");
});

test("example: text, nearest ones, and the way there", async (v) => {
  await v.open(VIEWS.example);
  equal((await v.hook("example-id").textContent()).includes("sum-3"), true);
  const right = await api("POST", "/v1/corpora/demo/query?like=sum-3&k=8");
  const near = await v.hook("near").first().locator("a").evaluateAll((all) => all.map((a) => a.textContent));
  assert(near.length >= 3, "nearest examples");
  assert(right.results[0].proponents.slice(1, 3).some((x) => near.join(" ").includes(x.id)), near.join(" "));
});
