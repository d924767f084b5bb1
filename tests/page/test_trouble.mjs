// test_trouble.mjs - what goes wrong: keys, a server that is busy, slow or gone, texts that are
// markup, and the policy that the server sends along.
import { api, assert, equal, test } from "./lib.mjs";

test("key: a wrong one is refused in words", async (v) => {
  v.allow(/status of 401/);
  await v.begin();
  await v.page.goto(v.address({ c: "demo" }, `asc_0000000000000000_${"0".repeat(64)}`));
  await v.hook("key-refused").waitFor();
  await v.axe("a wrong key");
  await v.shot("key-refused");
  await v.hook("key").fill(v.server.key);
  await v.hook("key-go").click();
  await v.hook("query").first().waitFor();
});

test("key: one that was revoked while the page is open", async (v) => {
  v.allow(/status of 401/);
  const key = await api("POST", "/v1/admin/keys", { scope: "read", label: "to be revoked" });
  await v.open({ c: "demo" }, { key: key.key });
  await api("DELETE", `/v1/admin/keys/${key.id}`);
  await v.page.locator('[data-test="query"]').first().click();
  await v.hook("key-refused").waitFor();
  assert(v.page.url().includes("v=answer"), "the view is kept for when there is a key");
  await v.hook("key").fill(v.server.key);
  await v.hook("key-go").click();
  await v.hook("column").first().waitFor();
});

test("key: one that has expired", async (v) => {
  v.allow(/status of 401/);
  const key = await api("POST", "/v1/admin/keys", { scope: "read", label: "short", expires_s: 1 });
  await new Promise((resolve) => setTimeout(resolve, 1500));
  await v.begin();
  await v.page.goto(v.address({ c: "demo" }, key.key));
  await v.hook("key-refused").waitFor();
  const text = await v.page.locator("main").textContent();
  assert(/ended|expired/i.test(text), text.slice(0, 300));
  await v.shot("key-expired");
});

test("takedown: not with a read key", async (v) => {
  const key = await api("POST", "/v1/admin/keys", { scope: "read", label: "reader" });
  await v.open({ c: "demo", v: "example", id: "sum-1" }, { key: key.key });
  equal(await v.hook("takedown").count(), 0);
  await v.hook("takedown-scope").waitFor();
});

test("takedown: asked twice, then gone", async (v) => {
  v.allow(/status of 404/);
  await v.open({ c: "demo", v: "example", id: "sum-1" });
  await v.hook("takedown").click();
  await v.hook("takedown-dialog").waitFor();
  await v.axe("takedown");
  await v.shot("takedown", false);
  const go = v.hook("takedown-go");
  assert(await go.isDisabled(), "nothing typed yet");
  await v.hook("takedown-confirm").fill("sum-2");
  assert(await go.isDisabled(), "another id");
  await v.hook("takedown-cancel").click();
  equal((await api("GET", "/v1/corpora/demo/examples/sum-1")).id, "sum-1");
  await v.hook("takedown").click();
  await v.hook("takedown-confirm").fill("sum-1");
  await go.click();
  await v.hook("takedown-dialog").waitFor({ state: "hidden" });
  await v.settled();
  let gone = false;
  await api("GET", "/v1/corpora/demo/examples/sum-1").catch((e) => { gone = e.message.includes("404"); });
  assert(gone, "it is gone in the server");
});

test("states: loading shows what is to come", async (v) => {
  await v.begin();
  let free;
  const held = new Promise((resolve) => { free = resolve; });
  await v.page.route("**/query?**", async (route) => { await held; await route.continue(); });
  await v.page.route("**/query", async (route) => { await held; await route.continue(); });
  await v.page.goto(v.address({ c: "demo", v: "answer", q: "haydn", m: "cosine" }));
  await v.hook("loading").first().waitFor();
  await v.axe("loading");
  await v.shot("loading");
  free();
  await v.hook("card").first().waitFor();
  await v.settled();
  await v.still("an answer that came late");
});

test("states: a busy server is waited for", async (v) => {
  v.allow(/status of 503/);
  await v.begin();
  let refused = 0;
  await v.page.route("**/v1/corpora/demo/query*", async (route) => {
    if (refused++ < 2)
      await route.fulfill({ status: 503, headers: { "Retry-After": "1" }, contentType: "application/problem+json",
        body: JSON.stringify({ status: 503, code: "busy", detail: "256 requests wait", title: "Service Unavailable", type: "about:blank", request_id: "x" }) });
    else await route.continue();
  });
  await v.page.goto(v.address({ c: "demo", v: "answer", q: "haydn", m: "cosine" }));
  await v.hook("busy").waitFor();
  await v.axe("busy");
  await v.shot("busy");
  await v.hook("card").first().waitFor();
  assert(refused > 2, "asked again");
});

test("states: a server that is gone, and comes back", async (v) => {
  v.allow(/ERR_FAILED|ERR_CONNECTION|net::/);
  await v.open({ c: "demo" });
  let away = true;
  await v.page.route("**/v1/**", (route) => (away ? route.abort() : route.continue()));
  await v.page.locator('[data-test="query"]').first().click();
  await v.hook("offline").waitFor();
  await v.axe("offline");
  await v.shot("offline");
  away = false;
  await v.hook("try-now").click();
  await v.hook("card").first().waitFor();
});

test("states: an error says what to do", async (v) => {
  v.allow(/status of 404/);
  for (const [state, code] of [[{ c: "nothing" }, "unknown_corpus"], [{ c: "demo", v: "answer", q: "nobody" }, "unknown_query"],
    [{ c: "demo", v: "example", id: "nobody" }, "unknown_example"]]) {
    await v.open(state);
    await v.hook("error", `[data-code="${code}"]`).waitFor();
    await v.axe(code);
    await v.shot(`error-${code}`);
  }
});

test("hostile: texts, ids, prompts and tags stay text", async (v) => {
  await v.open({ c: "demo" });
  await v.hook("search").fill("window.hurt");
  await v.page.locator('[data-test="query"][data-name="hostile"]').waitFor();
  await v.shot("hostile-queries");
  await v.open({ c: "demo", v: "answer", q: "hostile", m: "cosine,words", f: 'meta.source = "<u>hostile</u>"' });
  assert((await v.page.locator("main").textContent()).includes("<img src=x onerror="), "markup is shown as it is");
  equal(await v.page.locator("main img, main script, main u, main i, main b img").count(), 0, "no element came of it");
  await v.fits("hostile texts");
  await v.axe("hostile texts");
  await v.shot("hostile-answer");
  for (const id of ["<b>id & \"quotes\" 'too'</b>", "javascript:alert(1)", "markup", "long", "bare"]) {
    await v.open({ c: "demo", v: "example", id });
    assert((await v.hook("example-id").textContent()).includes(id), id);
    await v.fits(id);
  }
  for (const href of await v.page.locator("a").evaluateAll((all) => all.map((a) => a.protocol)))
    assert(["http:", "https:", "blob:"].includes(href), href);
});

test("hostile: a long text fits a narrow screen", async (v) => {
  await v.open({ c: "demo", v: "answer", q: "haydn", m: "words,cosine", f: 'id in ["long", "markup", "bare"]' }, { width: 360 });
  await v.fits("a long word");
  await v.axe("a long word");
  await v.shot("hostile-360");
});

test("policy: strict, and in force", async (v) => {
  v.allow(/Content Security Policy/, /Refused to/, /violates/);
  await v.begin();
  const reply = await v.page.goto(v.address({ c: "demo" }));
  const csp = reply.headers()["content-security-policy"];
  for (const part of ["default-src 'none'", "script-src 'self'", "connect-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"])
    assert(csp.includes(part), `${part} in ${csp}`);
  assert(!csp.includes("unsafe"), csp);
  equal(reply.headers()["x-content-type-options"], "nosniff");
  equal(reply.headers()["referrer-policy"], "no-referrer");
  await v.settled();
  const ran = await v.page.evaluate(async () => {
    const s = document.createElement("script");
    s.textContent = "window.inline = 1";
    document.head.append(s);
    const far = await fetch("http://127.0.0.1:9/").then(() => "went", () => "stopped");
    return { inline: window.inline ?? null, far };
  });
  equal(ran, { inline: null, far: "stopped" });
  v.heard = v.heard.filter((h) => !h.includes("127.0.0.1:9"));
});

test("page: no address but the server's, nothing asked twice without need", async (v) => {
  await v.open({ c: "demo" });
  const files = v.requests.filter((r) => r.includes("/page/"));
  equal(new Set(files).size, files.length, "each file once");
  assert(v.requests.length < 80, `${v.requests.length} requests`);
});
