/* planes.js - the bytes of a corpus by what they serve: a bar, and a table that says what each
 * part is for. */
import { h } from "../dom.js";
import { bytes } from "../words.js";

const PLANES = [
    ["rows", "vectors, whole", "read for the exact score"],
    ["low", "low bits", "settle what six bits leave open"],
    ["six", "six bits", "the first scan"],
    ["bits", "one bit", "the scan of probabilistic answers"],
    ["factors", "factors", "bounds of the codes"],
    ["texts", "texts", "and meta, compressed"],
];

export function planes(now) {
    const have = PLANES.filter(([name]) => now.planes?.[name] > 0),
        total = have.reduce((sum, [name]) => sum + now.planes[name], 0);
    if (!total)
        return h(
            "p.quiet",
            {},
            now.planes
                ? "Nothing is stored yet."
                : "This server does not say which bytes serve what.",
        );
    return h(
        "div",
        {},
        h(
            "div.stack",
            { "aria-hidden": "true" },
            have.map(([name]) =>
                h(`span.plane-${name}`, { css: { "flex-grow": now.planes[name] / total } }),
            ),
        ),
        h(
            "table.plain-table",
            { test: "planes" },
            h("caption.unseen", {}, "Bytes by tier"),
            h(
                "thead.unseen",
                {},
                h(
                    "tr",
                    {},
                    h("th", { scope: "col" }, "tier"),
                    h("th", { scope: "col" }, "bytes"),
                    h("th", { scope: "col" }, "use"),
                ),
            ),
            h(
                "tbody",
                {},
                have.map(([name, label, use]) =>
                    h(
                        "tr",
                        {},
                        h(
                            "th",
                            { scope: "row" },
                            h(`span.swatch.plane-${name}`, { "aria-hidden": "true" }),
                            label,
                        ),
                        h("td.n", {}, bytes(now.planes[name])),
                        h("td.fine", {}, use),
                    ),
                ),
            ),
        ),
    );
}
