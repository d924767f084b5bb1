/* methods.js - the ways to find examples: what each is called, what it asks of the server, and what
 * comes back, in one shape for all. No elements here.
 *
 * A method in the address: "task:NAME" (TrackStar), "cosine", "dot", "words".
 * A subject is what is asked about: {prompt, target} with `saved` (a name), `like` (an example's id),
 * or `body` and `gradient` (a live one). */
import { writeTensors } from "./safetensors.js";
import { call, path } from "./server.js";

const WORD_DEPTH = 1000; /* ranks by words are known so deep */
const BINS = 64;
const IDS_MOST = 1000;

export function known(corpus, tasks) {
    const fitted = corpus.whitened;
    return [
        ...tasks
            .filter((t) => t.state === "ready")
            .map((t) => ({
                key: `task:${t.name}`,
                label: `TrackStar \u00b7 ${t.name}`,
                short: t.name,
                task: t.name,
                gradient: true,
                note: `whitened; the task\u2019s own directions held down (\u03bb ${t.lambda?.toPrecision(2) ?? "?"})`,
            })),
        {
            key: "cosine",
            label: fitted ? "TrackStar \u00b7 corpus only" : "Cosine",
            short: fitted ? "corpus only" : "cosine",
            gradient: true,
            score: "cosine",
            note: fitted
                ? "cosine of gradients whitened by the corpus\u2019s Hessian"
                : corpus.manifest?.encoded
                  ? "cosine of encodings, as they were given"
                  : "cosine of gradients; the corpus is not fitted",
        },
        {
            key: "dot",
            label: "Dot product",
            short: "dot",
            gradient: true,
            score: "dot",
            note: "lengths left in: a few long gradients win",
        },
        {
            key: "words",
            label: "Words \u00b7 BM25",
            short: "words",
            gradient: false,
            note: "texts with the same words; knows no model",
        },
    ];
}

/* The methods that an address names, in its order; of those that are not there, their names. */
export function choose(text, all) {
    const first = all.find((m) => m.task);
    const names = text
        ? text.split(",").filter(Boolean)
        : [first?.key, "cosine", "words"].filter(Boolean);
    const unique = [...new Set(names)];
    return {
        chosen: unique.map((name) => all.find((m) => m.key === name)).filter(Boolean),
        missing: unique.filter((name) => !all.some((m) => m.key === name)),
    };
}

const answers = new Map();
const ANSWERS_MOST = 120,
    ANSWERS_MS = 60000; /* the corpus may be growing */

/* Leafing back and changing one column asks nothing twice, for a minute. */
async function remembered(name, ask) {
    const had = answers.get(name);
    if (had && performance.now() - had.at < ANSWERS_MS) return had.answer;
    const answer = await ask();
    answers.delete(name);
    answers.set(name, { at: performance.now(), answer });
    if (answers.size > ANSWERS_MOST) answers.delete(answers.keys().next().value);
    return answer;
}

export function forgetAnswers() {
    answers.clear();
}

export function subjectKey(subject) {
    return subject.saved
        ? `saved ${subject.saved}`
        : subject.like
          ? `like ${subject.like}`
          : `live ${JSON.stringify([subject.prompt, subject.target])}`;
}

function searchText(subject) {
    return `${subject.prompt ?? ""} ${subject.target ?? ""}`.trim();
}

function byWords(c, subject, options, signal) {
    const text = searchText(subject).slice(0, 8000);
    if (!text) return { results: [], matches: 0 };
    return call("POST", path("corpora", c, "search"), {
        json: { text, k: options.k, filter: options.filter || undefined, texts: options.texts },
        signal,
    });
}

/* Numbers and names go by the address; a filter that may be long, and lists of ids, as JSON:
 * alone, or in a tensor beside the gradient of a live query. */
function ask(c, method, subject, params, extra, signal) {
    const query = { ...params, task: method.task, score: method.score === "dot" ? "dot" : null };
    const where = path("corpora", c, "query");
    if (subject.saved)
        return call("POST", where, {
            query: { ...query, saved: subject.saved },
            json: extra,
            signal,
        });
    if (subject.like)
        return call("POST", where, {
            query: { ...query, like: subject.like },
            json: extra,
            signal,
        });
    const options = new TextEncoder().encode(JSON.stringify(extra));
    const body = writeTensors([
        { name: "queries", ...subject.gradient },
        ...(Object.keys(extra).length
            ? [{ name: "options", dtype: "U8", shape: [options.length], bytes: options }]
            : []),
    ]);
    return call("POST", where, { query, body, signal });
}

/* {proponents, opponents, exact, delta, engine, took_ms, examples, matches?, damaged?} of one
 * method. options: k, opponents, filter. */
export function list(c, method, subject, options, signal) {
    const name = `list ${c} ${method.key} ${subjectKey(subject)} ${JSON.stringify(options)}`;
    return remembered(name, async () => {
        if (!method.gradient) {
            const found = await byWords(
                c,
                subject,
                { k: options.k, filter: options.filter, texts: true },
                signal,
            );
            return {
                proponents: found.results,
                opponents: [],
                took_ms: found.took_ms,
                matches: found.matches,
                examples: found.examples,
                missing: found.missing,
                damaged: found.damaged,
            };
        }
        const params = {
            k: options.k,
            opponents: options.opponents,
            blocks: options.blocks === false ? null : 1,
        };
        const extra = options.filter ? { filter: options.filter } : {};
        const answer = await ask(c, method, subject, params, extra, signal);
        return {
            ...answer.results[0],
            exact: answer.exact,
            delta: answer.delta,
            engine: answer.engine,
            reason: answer.engine_reason,
            took_ms: answer.took_ms,
            examples: answer.examples,
            damaged: answer.damaged,
        };
    });
}

/* What an older server does not take: left out, once for all. */
const refusedHere = new Set();

async function askWhole(c, method, subject, want, signal) {
    const params = { k: 0, opponents: 0, text: 0 },
        extra = {};
    if (!refusedHere.has("histogram")) params.histogram = BINS;
    if (want.group) params.group = want.group;
    if (!refusedHere.has("ids") && want.ids.length) extra.ids = want.ids.slice(0, IDS_MOST);
    if (want.filter) extra.filter = want.filter;
    try {
        return await ask(c, method, subject, params, extra, signal);
    } catch (error) {
        if (error.code !== "invalid_request" && error.code !== "bad_json") throw error;
        const field = ["histogram", "ids"].find(
            (f) => !refusedHere.has(f) && (error.field === f || error.detail?.includes(f)),
        );
        if (!field) throw error;
        refusedHere.add(field);
        return askWhole(c, method, subject, want, signal);
    }
}

/* What needs every score: {histogram, places: Map id -> {score, rank, percentile}, groups,
 * groups_other, examples}. want: ids, group, filter. For words the places alone, so deep as is
 * asked. */
export function whole(c, method, subject, want, signal) {
    const name = `whole ${c} ${method.key} ${subjectKey(subject)} ${JSON.stringify(want)}`;
    return remembered(name, async () => {
        if (!method.gradient) {
            const found = await byWords(
                c,
                subject,
                { k: WORD_DEPTH, filter: want.filter, texts: false },
                signal,
            );
            const places = new Map(
                found.results.map((hit) => [hit.id, { rank: hit.rank, score: hit.score }]),
            );
            return { places, depth: found.matches > WORD_DEPTH ? WORD_DEPTH : null };
        }
        const answer = await askWhole(c, method, subject, want, signal);
        const result = answer.results[0];
        return {
            histogram: result.histogram ?? null,
            groups: result.groups ?? null,
            groups_other: result.groups_other ?? null,
            examples: answer.examples,
            places: new Map(
                (result.ids ?? []).filter((one) => !one.missing).map((one) => [one.id, one]),
            ),
        };
    });
}

/* Can this server say how all scores lie? Known after the first whole answer. */
export function lacking() {
    return [...refusedHere];
}

export function explain(c, method, subject, id, signal) {
    const query = { task: method.task, score: method.score === "dot" ? "dot" : null };
    const where = path("corpora", c, "examples", id, "explain");
    return subject.saved
        ? call("POST", where, { query: { ...query, saved: subject.saved }, signal })
        : call("POST", where, { query, body: subject.body, signal });
}
