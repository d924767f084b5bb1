/* corpus.js - what is in a corpus: counts, bytes, lengths, the fit, tasks, jobs. Numbers that
 * move are asked for every two seconds while the page is looked at. */
import { view } from "../address.js";
import { fill, h } from "../dom.js";
import { call, aborted, path } from "../server.js";
import { jobs } from "../parts/jobs.js";
import { identity } from "../parts/identity.js";
import { norms } from "../parts/norms.js";
import { planes } from "../parts/planes.js";
import { spectrum } from "../parts/spectrum.js";
import { empty, fact, failed, loading, section } from "../parts/states.js";
import { bytes, count, figure, plural } from "../words.js";

const EVERY_MS = 2000;

function numbers(now) {
    const rate = now.ingest;
    return h(
        "dl.facts",
        { test: "facts" },
        fact(
            "examples",
            count(now.examples),
            now.deleted ? `${count(now.deleted)} taken down` : null,
        ),
        fact("dimensions", count(now.manifest.dim), now.manifest.dtype),
        fact(
            "on disk",
            bytes(now.bytes),
            `${plural(now.shards, "shard")}, ${plural(now.chunks, "chunk")}`,
        ),
        fact("batches", count(now.batches)),
        fact(
            "coded",
            now.examples ? `${Math.round((100 * now.coded) / now.examples)} %` : "\u2013",
            "with codes for quick scans",
        ),
        fact(
            "ingest now",
            rate ? (rate.rows_per_s > 0 ? `${count(rate.rows_per_s)} rows/s` : "none") : "\u2013",
            rate?.bytes_per_s > 0 ? `${bytes(rate.bytes_per_s)}/s` : "over the last minute",
        ),
    );
}

function fitTable(fit) {
    if (!fit)
        return h(
            "p.quiet",
            {},
            "Not fitted: scores are plain cosines. ",
            h("code", {}, "ascribe fit"),
            " estimates the Hessian and whitens every row.",
        );
    return h(
        "div",
        {},
        h(
            "p",
            {},
            `Fit ${fit.epoch}: the Hessian of ${count(fit.rows)} of ${count(fit.of)} rows, damped by ${fit.damping} of each block\u2019s mean eigenvalue.`,
        ),
        h(
            "details.fold",
            { test: "fit-blocks" },
            h("summary", {}, plural(fit.blocks.length, "block")),
            h(
                "div.scroll",
                { tabindex: "0", role: "region", "aria-label": "Eigenvalues by block" },
                h(
                    "table.plain-table",
                    {},
                    h(
                        "thead",
                        {},
                        h(
                            "tr",
                            {},
                            [
                                "block",
                                "dimensions",
                                "mean eigenvalue",
                                "damping",
                                "largest",
                                "smallest",
                            ].map((t, i) => h(i ? "th.n" : "th", { scope: "col" }, t)),
                        ),
                    ),
                    h(
                        "tbody",
                        {},
                        fit.blocks.map((b) =>
                            h(
                                "tr",
                                {},
                                h("th", { scope: "row" }, b.name),
                                [
                                    count(b.dim),
                                    figure(b.mean_eigenvalue),
                                    figure(b.damp),
                                    figure(b.largest),
                                    figure(b.smallest),
                                ].map((t) => h("td.n", {}, t)),
                            ),
                        ),
                    ),
                ),
            ),
        ),
    );
}

function taskCard(task, width) {
    return h(
        "article.task",
        { test: "task" },
        h("h3", {}, task.name, task.state !== "ready" && h("span.chip", {}, task.state)),
        h(
            "p.fine",
            {},
            [
                `\u03bb ${figure(task.lambda)}${task.clamped ? " (at its limit)" : ""}`,
                task.k && `k ${count(task.k)}`,
                plural(task.rows, "evaluation row"),
                `rank ${count(task.rank)}`,
                task.bytes && bytes(task.bytes),
            ]
                .filter(Boolean)
                .join(" \u00b7 "),
        ),
        task.spectra &&
            h(
                "figure",
                {},
                spectrum(task, width),
                h(
                    "figcaption.fine",
                    {},
                    h("span.key.train", {}, "the corpus"),
                    " ",
                    h("span.key.eval", {}, "the evaluation set"),
                    ", eigenvalues",
                ),
            ),
    );
}

async function whatTasks(c, place, signal) {
    try {
        const { tasks } = await call("GET", path("corpora", c, "tasks"), { signal });
        const whole = await Promise.all(
            tasks.map((t) =>
                t.spectra ? t : call("GET", path("corpora", c, "tasks", t.name), { signal }),
            ),
        );
        fill(
            place,
            whole.length
                ? h(
                      "div.tasks",
                      {},
                      whole.map((task) => taskCard(task, Math.min(384, place.clientWidth))),
                  )
                : h(
                      "p.quiet",
                      {},
                      "None. A task holds down the directions that a whole evaluation set shares: ",
                      h("code", {}, `ascribe task put ${c} facts eval.npy`),
                  ),
        );
    } catch (error) {
        if (!aborted(error)) fill(place, failed(error));
    }
}

async function whatNorms(c, place, signal) {
    try {
        const data = await call("GET", path("corpora", c, "norms"), {
            query: { bins: 64 },
            signal,
        });
        fill(
            place,
            norms(data, place.clientWidth),
            h("p.fine", {}, `from ${figure(data.min)} to ${figure(data.max)}`),
        );
    } catch (error) {
        if (aborted(error)) return;
        fill(
            place,
            error.code === "unknown_route"
                ? h("p.quiet", {}, "This server does not say how long its vectors are.")
                : failed(error),
        );
    }
}

/* Asks again while somebody looks. */
async function follow(parts, c, signal) {
    while (!signal.aborted) {
        await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
        if (signal.aborted || document.hidden) continue;
        try {
            const [now, work] = await Promise.all([
                call("GET", path("corpora", c), { signal }),
                call("GET", path("jobs"), { signal }),
            ]);
            parts.draw(now, work.jobs);
        } catch (error) {
            if (aborted(error) || error.status === 401 || error.status === 404) return;
        }
    }
}

export async function show(root, state, signal, settled) {
    const { c } = state;
    document.title = `${c} \u00b7 ascribe`;
    fill(root, h("h1", {}, c), loading("the corpus", 8));
    let now, work;
    try {
        [now, work] = await Promise.all([
            call("GET", path("corpora", c), { signal }),
            call("GET", path("jobs"), { signal }),
        ]);
    } catch (error) {
        if (aborted(error) || error.status === 401) throw error;
        fill(
            root,
            h("h1", {}, c),
            failed(error, () => show(root, state, signal, settled)),
        );
        return;
    }
    const top = h("div"),
        bars = h("div"),
        doing = h("div"),
        length = h("div.norms-place", {}, loading("the lengths", 3)),
        lenses = h("div", {}, loading("the tasks", 3));
    let last = "";
    const draw = (fresh, list) => {
        const text = JSON.stringify([fresh, list]);
        if (text === last) return;
        last = text;
        fill(top, numbers(fresh));
        fill(bars, planes(fresh));
        fill(doing, jobs(list));
    };
    draw(now, work.jobs);
    fill(
        root,
        h("h1", {}, c),
        now.examples === 0 &&
            empty(
                "This corpus is empty.",
                h(
                    "pre",
                    { tabindex: "0" },
                    `ascribe ingest ${c} --gradients grads.npy --examples texts.jsonl`,
                ),
            ),
        top,
        h(
            "p",
            {},
            h(
                "a",
                { href: view("example", { id: null }), test: "browse" },
                "Look through the examples",
            ),
            " \u00b7 ",
            h("a", { href: view("queries") }, "queries"),
        ),
        h(
            "div.two",
            {},
            section("Bytes by tier", {}, bars),
            section("Lengths of vectors", {}, length),
        ),
        h(
            "div.two",
            {},
            section("What it is", {}, identity(now)),
            section("Hessian", {}, fitTable(now.fit)),
        ),
        section("Jobs", { test: "jobs-part" }, doing),
        section("Tasks", { test: "tasks-part" }, lenses),
    );
    settled();
    follow({ draw }, c, signal);
    await Promise.all([
        now.examples
            ? whatNorms(c, length, signal)
            : fill(length, h("p.quiet", {}, "No vectors yet.")),
        whatTasks(c, lenses, signal),
    ]);
}
