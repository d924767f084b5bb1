/* blocks.js - what each block of the gradient adds to a score: bars on one line of zero. */
import { h } from "../dom.js";
import { diverging } from "./diverging.js";
import { aligned } from "../words.js";

const SHOWN = 16;

export function blocks(list) {
    const bar = diverging(list.map((b) => b.share));
    const keep = new Set(
        [...list].sort((a, b) => Math.abs(b.share) - Math.abs(a.share)).slice(0, SHOWN),
    );
    const rest = list.filter((b) => !keep.has(b));
    const score = aligned(list.map((b) => b.share));
    return h(
        "table.blocks",
        { test: "blocks" },
        h("caption.unseen", {}, "Share of the score by block"),
        h(
            "thead.unseen",
            {},
            h(
                "tr",
                {},
                h("th", { scope: "col" }, "block"),
                h("th", { scope: "col" }, "bar"),
                h("th", { scope: "col" }, "share"),
            ),
        ),
        h(
            "tbody",
            {},
            list
                .filter((b) => keep.has(b))
                .map((b) =>
                    h(
                        "tr",
                        {},
                        h("th", { scope: "row" }, b.name),
                        h("td.bars", {}, bar(b.share)),
                        h("td.n", {}, score(b.share)),
                    ),
                ),
            rest.length > 0 &&
                h(
                    "tr",
                    {},
                    h("th", { scope: "row" }, `${rest.length} more`),
                    h("td"),
                    h("td.n", {}, score(rest.reduce((sum, b) => sum + b.share, 0))),
                ),
        ),
    );
}
