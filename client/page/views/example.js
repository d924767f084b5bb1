/* example.js - one training example, whole; without an id, the examples of a corpus page by
 * page. */
import { changed, go, view } from "../address.js";
import { corpus, forget, may, tasks } from "../data.js";
import { fill, h, visible } from "../dom.js";
import { choose, forgetAnswers, known, list } from "../methods.js";
import { setKeys } from "../keys.js";
import { card } from "../parts/card.js";
import { filterBox } from "../parts/filter.js";
import { damage, empty, fact, failed, loading, section } from "../parts/states.js";
import { takedown } from "../parts/takedown.js";
import { metaList, passage } from "../parts/text.js";
import { aborted, call, path } from "../server.js";
import { count, figure } from "../words.js";

const NEAR = 10,
    PAGE = 50;

async function nearest(state, example, place, signal) {
    fill(place, loading("its neighbours", 4, "bone-card"));
    try {
        const [here, lenses] = await Promise.all([corpus(state.c), tasks(state.c)]);
        const all = known(here, lenses).filter((m) => m.gradient);
        const method = choose(state.m, all).chosen[0] ?? all.find((m) => m.key === "cosine");
        const answer = await list(
            state.c,
            method,
            { like: example.id, prompt: example.text ?? "", target: "" },
            { k: NEAR + 1, opponents: 0, filter: "" },
            signal,
        );
        const near = answer.proponents.filter((hit) => hit.id !== example.id).slice(0, NEAR);
        const pick = h(
            "select",
            {
                "aria-label": "Nearest by",
                test: "near-method",
                on: { change: () => go(changed({ m: pick.value })) },
            },
            all.map((m) => h("option", { value: m.key, selected: m === method }, m.label)),
        );
        fill(
            place,
            h("p", {}, "by ", pick, " ", h("span.fine", {}, method.note)),
            near.length
                ? h(
                      "ol.cards.grid",
                      { test: "near" },
                      near.map(
                          (hit, i) =>
                              card({
                                  hit: { ...hit, rank: i + 1 },
                                  side: "pro",
                                  method,
                                  subject: { prompt: example.text ?? "", target: "" },
                                  explain: null,
                              }).node,
                      ),
                  )
                : h("p.quiet", {}, "There is no other example."),
        );
    } catch (error) {
        if (aborted(error)) return;
        const older = error.code === "invalid_request" && error.field === "like";
        fill(
            place,
            older
                ? h("p.quiet", {}, "This server cannot take an example as a query.")
                : failed(error, () => nearest(state, example, place, signal)),
        );
    }
}

function gone(root, state) {
    forget();
    forgetAnswers();
    fill(
        root,
        h("h1", { tabindex: "-1" }, "Taken down"),
        empty(
            "This example is in no answer any more.",
            h("p", {}, h("a", { href: view("example", { id: null }) }, "Back to the examples")),
        ),
    );
    root.querySelector("h1").focus();
    setKeys({});
    document.title = `${state.c} \u00b7 ascribe`;
}

async function one(root, state, signal, settled) {
    fill(root, h("h1", {}, state.id), loading("the example", 6));
    let example, whitened, allowed;
    try {
        [example, { whitened }, allowed] = await Promise.all([
            call("GET", path("corpora", state.c, "examples", state.id), { signal }),
            corpus(state.c),
            may("write"),
        ]);
    } catch (error) {
        if (aborted(error) || error.status === 401) throw error;
        fill(
            root,
            h("h1", {}, state.id),
            failed(error, error.status === 404 ? null : () => one(root, state, signal, settled)),
        );
        return;
    }
    const near = h("div");
    fill(
        root,
        h(
            "div.crumbs",
            {},
            h("a", { href: view("corpus"), test: "back" }, "\u2039 Corpus"),
            h("a", { href: view("example", { id: null }) }, "All examples"),
        ),
        h("h1.id", { test: "example-id" }, visible(example.id)),
        h("div.whole", { test: "example-text" }, passage(example.text, null, false)),
        metaList(example.meta, 1000),
        h(
            "dl.facts",
            {},
            fact(
                "self-influence",
                figure(example.self_influence),
                whitened
                    ? "g\u1d40 R\u207b\u00b9 g: how much it moves its own loss"
                    : "squared length of its gradient",
            ),
            fact("length", figure(example.norm), "before it was normalised"),
            fact("place", count(example.sequence + 1), "in the order of ingest"),
        ),
        section(
            "Takedown",
            {},
            allowed
                ? takedown(state.c, example.id, () => gone(root, state), signal)
                : h(
                      "p.quiet",
                      { test: "takedown-scope" },
                      "The key of this page may only read. Taking an example down needs the scope \u201cwrite\u201d.",
                  ),
        ),
        section("Nearest examples", { test: "near-part" }, near),
    ); /* last: it grows */
    document.title = `${example.id} \u00b7 ascribe`;
    settled();
    await nearest(state, example, near, signal);
}

async function browse(root, state, signal, settled) {
    const box = filterBox(state.f ?? "", (f) => go(changed({ f })));
    const rows = h("ol.cards.grid", { test: "examples" }),
        more = h("div.pages"),
        status = h("div", { role: "status" }, loading("the examples", 6, "bone-card"));
    fill(
        root,
        h("div.crumbs", {}, h("a", { href: view("corpus"), test: "back" }, "\u2039 Corpus")),
        h("h1", {}, `Examples of ${state.c}`),
        h("div.tools-row", {}, box.node),
        rows,
        status,
        more,
    );
    setKeys({ "/": () => box.field.focus() });
    document.title = `${state.c} \u00b7 ascribe`;
    settled();
    let after = null,
        shown = 0;
    async function next() {
        try {
            const page = await call("GET", path("corpora", state.c, "examples"), {
                query: { limit: PAGE, after, filter: state.f },
                signal,
            });
            shown += page.examples.length;
            after = page.next;
            rows.append(
                ...page.examples.map((x) =>
                    h(
                        "li.card",
                        {},
                        h(
                            "div.card-head",
                            {},
                            h(
                                "a.id",
                                { href: view("example", { id: x.id }), test: "card-id" },
                                visible(x.id),
                            ),
                        ),
                        passage(x.text, null),
                        metaList(x.meta, 4),
                    ),
                ),
            );
            fill(
                status,
                damage(page.damaged),
                shown
                    ? null
                    : empty(
                          state.f
                              ? "No example passes this filter."
                              : "This corpus has no examples yet.",
                      ),
            );
            fill(
                more,
                after !== null &&
                    h("button", { type: "button", test: "more", on: { click: next } }, "More"),
            );
        } catch (error) {
            if (aborted(error) || error.status === 401) throw error;
            fill(status, error.code === "bad_filter" ? null : failed(error, next));
            if (error.code === "bad_filter") box.fail(error);
        }
    }
    await next();
}

export function show(root, state, signal, settled) {
    return state.id ? one(root, state, signal, settled) : browse(root, state, signal, settled);
}
