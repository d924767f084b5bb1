// test_live.mjs - asking in words: the model goes on, its words become a gradient, an answer comes; and
// encoders that fail. Then files of results: opened, compared, written.
import fs from "node:fs";
import path from "node:path";
import { api, assert, config, equal, test } from "./lib.mjs";

test("live: the model continues, and the answer says why", async (v) => {
  await v.open({ c: "demo" });
  await v.hook("prompt").fill("7 plus 5 is");
  await v.hook("continue").click();
  await v.page.waitForFunction(() => document.querySelector('[data-test="target"]').value.trim() !== "");
  await v.axe("asking");
  await v.hook("ask-go").click();
  await v.hook("card").first().waitFor();
  await v.settled();
  equal(v.state().prompt, "7 plus 5 is");
  const ids = await v.hook("column").first().locator("[data-test=card][data-side=pro]").evaluateAll((all) => all.map((c) => c.dataset.id));
  assert(ids.length === 10, ids.join());
  await v.axe("a live answer");
  await v.shot("live");
});

test("live: both parts are asked for", async (v) => {
  await v.open({ c: "demo" });
  await v.hook("ask-go").click();
  assert((await v.hook("ask-state").textContent()).length > 10, "it says what is missing");
  equal(v.state().v ?? "queries", "queries");
});

test("live: tokens share out the score", async (v) => {
  await v.open({ c: "demo", v: "answer", q: "haydn", m: "task:facts", k: "2", o: "1" });
  const card = v.hook("card").first();
  await card.locator("[data-test=by-token] summary").click();
  await card.locator("[data-test=heat]").waitFor();
  const text = (await card.locator("[data-test=heat]").textContent()).replace(/\s+/g, " ");
  assert(text.length > 10, text);
  equal(await v.hook("heat-differs").count(), 0, "the encoder's model is the corpus's");
  await v.axe("heat");
  await v.shot("heat");
});

test("live: an encoder that prints garbage", (v) => wild(v, "garbage"));
test("live: an encoder that dies", (v) => wild(v, "die"));
test("live: an encoder that refuses", (v) => wild(v, "refuse"));

async function wild(v, mode) {
  v.allow(/status of 50[24]/);
  fs.writeFileSync(path.join(config.folder, "wild"), mode);
  await v.open({ c: "demo" }, { server: "wild" });
  await v.hook("prompt").fill("A knife is used for");
  await v.hook("continue").click();
  await v.hook("ask-state").filter({ hasText: /encoder/i }).waitFor();
  await v.hook("target").fill("cutting");
  await v.hook("ask-go").click();
  await v.hook("error", '[data-code="encoder_failed"]').waitFor();
  assert((await v.page.locator("main").textContent()).includes("A knife is used for"), "the words are not lost");
  await v.axe(`encoder: ${mode}`);
  await v.shot(`encoder-${mode}`);
  await v.open({ c: "demo", v: "answer", q: "haydn", m: "cosine" });
  await v.hook("card").first().waitFor();
}

test("live: without an encoder the page says how to have one", async (v) => {
  await api("PUT", "/v1/corpora/plain", { dim: 4 }, { server: "fresh" }).catch(() => 0);
  await v.open({ c: "plain" }, { server: "fresh" });
  await v.hook("ask-none").waitFor();
  await v.axe("no encoder");
});

test("pair: written, opened again, compared", async (v) => {
  const page = await v.open({ c: "demo", v: "pair" });
  await v.hook("export-method").selectOption("cosine");
  await v.hook("export-k").fill("3");
  const [download] = await Promise.all([page.waitForEvent("download"), v.hook("export").click()]);
  const file = path.join(config.folder, "export.jsonl");
  await download.saveAs(file);
  const lines = fs.readFileSync(file, "utf8").trim().split("\n").map((line) => JSON.parse(line));
  equal(lines.length, 17, "a line a query");
  fs.appendFileSync(file, "{not json\n[1,2]\n");
  await v.hook("pair-file").setInputFiles(file);
  await v.hook("record").first().waitFor();
  equal(await v.hook("record").count(), 17);
  await v.hook("bad-lines").waitFor();
  const bad = await v.hook("bad-lines").textContent();
  assert(bad.includes("18") && bad.includes("19"), `bad lines by number: ${bad}`);
  await v.axe("a file");
  await v.shot("pair-list");
  await v.hook("record").nth(3).click();
  await v.hook("question").waitFor();
  await v.settled();
  await v.axe("a record");
  await v.fits("a record");
  await v.shot("pair-record");
});

test("pair: a file that is none", async (v) => {
  await v.open({ c: "demo", v: "pair" });
  const file = path.join(config.folder, "picture.jsonl");
  fs.writeFileSync(file, Buffer.from([0x89, 0x50, 0x4e, 0x47, 0, 1, 2, 255, 10, 13, 10]));
  await v.hook("pair-file").setInputFiles(file);
  await v.hook("pair-error").or(v.hook("bad-lines")).first().waitFor();
  await v.axe("no file of results");
  await v.shot("pair-bad");
});
