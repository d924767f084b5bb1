/* card.js - one example in an answer: where it stands here and by the other methods, and why. */
import { view } from "../address.js";
import { fill, h, visible } from "../dom.js";
import { aborted, wordsFor } from "../server.js";
import { count, score, standing } from "../words.js";
import { blocks } from "./blocks.js";
import { heat } from "./heat.js";
import { strip } from "./histogram.js";
import { metaList, passage } from "./text.js";

const FEW = 100; /* of fewer, a place says more than a percentage */

function patchOf(subject, id) {
    const all = subject.methods?.tail_patch;
    const value = all && Object.hasOwn(all, id) ? all[id] : null;
    if (typeof value !== "number") return null;
    return h(
        "span.chip",
        {
            title: "Tail-patch: how much one step of training on this example moves the probability of the target",
        },
        `tail-patch ${value < 0 ? "\u2212" : "+"}${Math.abs(value * 100).toFixed(2)} %`,
    );
}

function fold(label, hook, make) {
    const body = h("div.fold-body");
    const node = h(
        "details.fold",
        {
            test: hook,
            on: {
                toggle: () => {
                    if (node.open && !body.firstChild) make(body);
                },
            },
        },
        h("summary", {}, label),
        body,
    );
    return node;
}

/* hit: as the server gave it. side: "pro" or "con". explain(id): a promise of the tokens, or
 * null when none can be asked for. Gives {node, place(whole, others)}: others is [{method,
 * whole}], see methods.js. */
export function card({ hit, side, method, subject, explain }) {
    const ranks = h("span.ranks", { test: "ranks" });
    const place = h("span.place");
    const node = h(
        "li.card",
        { test: "card", "data-id": hit.id, "data-side": side },
        h(
            "div.card-head",
            {},
            h(
                "span.rank",
                {},
                h(
                    "span",
                    { "aria-hidden": "true" },
                    side === "pro" ? "\u25b2\u2009" : "\u25bd\u2009",
                ),
                h("span.unseen", {}, side === "pro" ? "Proponent " : "Opponent "),
                hit.rank,
            ),
            h("a.id", { href: view("example", { id: hit.id }), test: "card-id" }, visible(hit.id)),
            h(
                "span.score",
                { test: "score", title: `${method.label}: ${hit.score}` },
                method.gradient ? score(hit.score) : hit.score.toFixed(2),
            ),
        ),
        hit.damaged
            ? h("p.text.none", {}, "The text of this example is damaged and cannot be read.")
            : passage(hit.text, subject),
        h("div.where", {}, place, ranks),
        metaList(hit.meta),
        h(
            "div.why",
            {},
            patchOf(subject, hit.id),
            hit.blocks?.length > 1 &&
                fold("By block", "by-block", (body) => fill(body, blocks(hit.blocks))),
            explain &&
                method.gradient &&
                hit.text &&
                fold("By token", "by-token", (body) => tokens(body, hit, explain)),
        ),
    );
    return {
        node,
        id: hit.id,
        /* fills in what needed every score */
        place(whole, others) {
            const here = whole?.places?.get(hit.id);
            if (here?.percentile !== undefined && whole.histogram)
                fill(
                    place,
                    whole.examples < FEW
                        ? `${count(here.rank)} of ${count(whole.examples)}`
                        : [
                              strip(whole.histogram, hit.score, side),
                              h("span", {}, standing(here.percentile, whole.examples)),
                          ],
                );
            fill(
                ranks,
                others.length > 0 && h("span", {}, "rank"),
                others.map((o) => otherRank(o, hit.id)),
            );
        },
    };
}

function otherRank({ method, whole }, id) {
    const there = whole?.places?.get(id);
    const text = there
        ? count(there.rank)
        : whole?.depth
          ? `> ${count(whole.depth)}`
          : whole
            ? "\u2013"
            : "";
    return h(
        "span.other",
        { title: there ? `Rank ${there.rank} by ${method.label}` : `Not found by ${method.label}` },
        h("b", {}, text || "\u2026"),
        ` by ${method.short}`,
    );
}

async function tokens(body, hit, explain) {
    fill(body, h("p.fine", { "aria-busy": "true" }, "Asking the encoder\u2026"));
    try {
        fill(body, heat(hit.text, await explain(hit.id)));
    } catch (error) {
        if (aborted(error)) return;
        const words = wordsFor(error);
        fill(
            body,
            h(
                "p.fine.warn",
                { role: "alert" },
                `${words.title}. ${words.text ?? words.detail ?? ""}`,
            ),
        );
    }
}
