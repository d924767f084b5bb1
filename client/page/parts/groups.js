/* groups.js - the sums of all scores of a corpus by a field of its examples: which sources push
 * which way. */
import { h } from "../dom.js";
import { diverging } from "./diverging.js";
import { aligned, count, score } from "../words.js";

const SHOWN = 24;

function nameOf(value) {
    return value === null
        ? "without it"
        : typeof value === "string"
          ? value
          : JSON.stringify(value);
}

/* groups: [{value, count, sum, mean}]; one bar each. */
export function groups(list, other, field) {
    const cut =
        list.length > SHOWN ? [...list.slice(0, SHOWN / 2), ...list.slice(-SHOWN / 2)] : list;
    const bar = diverging(cut.map((g) => g.sum));
    const sum = aligned(cut.map((g) => g.sum)),
        mean = aligned(cut.map((g) => g.mean));
    return h(
        "div.scroll",
        { tabindex: "0", role: "region", "aria-label": `Sums by ${field}` },
        h(
            "table.groups",
            { test: "groups" },
            h(
                "caption",
                {},
                `All scores, summed by ${field}`,
                list.length > SHOWN && `: the highest and lowest ${SHOWN / 2} of ${list.length}`,
            ),
            h(
                "thead",
                {},
                h(
                    "tr",
                    {},
                    h("th", { scope: "col" }, field),
                    h("th.bars", { scope: "col" }, h("span.unseen", {}, "bar")),
                    h("th.n", { scope: "col" }, "sum"),
                    h("th.n", { scope: "col" }, "mean"),
                    h("th.n", { scope: "col" }, "examples"),
                ),
            ),
            h(
                "tbody",
                {},
                cut.map((g) =>
                    h(
                        "tr",
                        {},
                        h("th", { scope: "row" }, nameOf(g.value)),
                        h("td.bars", {}, bar(g.sum)),
                        h("td.n", {}, sum(g.sum)),
                        h("td.n", {}, mean(g.mean)),
                        h("td.n", {}, count(g.count)),
                    ),
                ),
            ),
        ),
        other &&
            h(
                "p.fine",
                {},
                `${count(other.count)} examples with further values together: ${score(other.sum)}`,
            ),
    );
}
