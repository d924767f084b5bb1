/* overlap.js - how much the lists of the methods agree: of the k best of each, how many are in
 * both. */
import { h } from "../dom.js";

function both(a, b) {
    const other = new Set(b);
    return a.filter((id) => other.has(id)).length;
}

/* lists: [{label, ids}], two or more. One line: every pair with its count and Jaccard index. */
export function overlap(lists, k) {
    const pairs = lists.flatMap((a, i) =>
        lists.slice(i + 1).map((b) => {
            const n = both(a.ids, b.ids),
                all = a.ids.length + b.ids.length - n;
            return { a: a.label, b: b.label, n, share: all ? n / all : 0 };
        }),
    );
    return h(
        "div.overlap",
        {
            test: "overlap",
            title: "Examples that are in both lists, and the Jaccard index: those in both over those in either",
        },
        h("span.fine", { id: "overlap-title" }, `In both, of ${k}:`),
        h(
            "ul",
            { "aria-labelledby": "overlap-title" },
            pairs.map((p) =>
                h(
                    "li",
                    { css: { "--share": p.share }, "data-count": p.n },
                    h("span.pair", {}, `${p.a} \u00b7 ${p.b} `),
                    h("b", {}, p.n),
                    h("span.fine", {}, ` ${p.share.toFixed(2)}`),
                ),
            ),
        ),
    );
}
