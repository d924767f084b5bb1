/* data.js - what several views ask for: asked once, kept for a while. */
import { call, path } from "./server.js";

const KEEP_MS = 30000;
const kept = new Map();

function remember(name, ask) {
    const had = kept.get(name);
    if (had && performance.now() - had.at < KEEP_MS) return had.answer;
    const answer = ask();
    kept.set(name, { at: performance.now(), answer });
    answer.catch(() => kept.delete(name));
    return answer;
}

export function forget(prefix = "") {
    for (const name of [...kept.keys()]) if (name.startsWith(prefix)) kept.delete(name);
}

export function info() {
    return remember("info", () => call("GET", path("info")));
}

export function corpora() {
    return remember("corpora", async () => (await call("GET", path("corpora"))).corpora);
}

export function corpus(c) {
    return remember(`corpus ${c}`, () => call("GET", path("corpora", c)));
}

export function tasks(c) {
    return remember(
        `tasks ${c}`,
        async () => (await call("GET", path("corpora", c, "tasks"))).tasks,
    );
}

/* {state: "none"} as well where the server knows no encoders, "forbidden" where the key is for
 * one corpus alone. */
export function encoder() {
    return remember("encoder", async () => {
        try {
            return await call("GET", path("encoder"));
        } catch (error) {
            if (error.code === "unknown_route") return { state: "none" };
            if (error.code === "forbidden")
                return {
                    state: "forbidden",
                    verbs: ["explain"],
                }; /* which is asked of an example of the corpus */
            throw error;
        }
    });
}

export function scope(key) {
    return key?.scope ?? null;
}

/* May the key of this page do what needs `least`? Unknown (an older server): the server will
 * say. */
export async function may(least) {
    const order = ["read", "write", "admin"];
    const have = scope((await info()).key);
    return have === null ? true : order.indexOf(have) >= order.indexOf(least);
}

/* Every saved query of a corpus, by name: at most 10,000, a thousand a request. */
export function savedQueries(c) {
    return remember(`saved ${c}`, async () => {
        const all = [];
        let after = null;
        do {
            const page = await call("GET", path("corpora", c, "queries"), {
                query: { limit: 1000, after },
            });
            all.push(...page.queries);
            after = page.next;
        } while (after !== null);
        return all;
    });
}

export function savedQuery(c, q) {
    return remember(`query ${c} ${q}`, async () => {
        const all = kept.get(`saved ${c}`);
        const known = all && (await all.answer).find((entry) => entry.name === q);
        return known ?? call("GET", path("corpora", c, "queries", q));
    });
}

export function kindOf(query) {
    return (query.tags ?? []).find((tag) => tag.startsWith("kind:"))?.slice(5) ?? null;
}

export function plainTags(query) {
    return (query.tags ?? []).filter((tag) => !tag.startsWith("kind:"));
}
