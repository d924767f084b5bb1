/* filecolumn.js - a record of an opened file as a column: what another run or tool found, and
 * how it was judged there. */
import { h } from "../dom.js";
import { card } from "./card.js";

function fileCard(hit, side, record) {
    const made = card({
        hit: { ...hit, score: hit.score ?? NaN, meta: null },
        side,
        method: { key: "file", label: "the file", gradient: true },
        subject: record,
        explain: null,
    }).node;
    const extra = [
        hit.correct === true && h("span.chip", {}, "correct"),
        hit.correct === false && h("span.chip", {}, "not correct"),
        typeof hit.ais === "number" && h("span.chip", {}, `AIS ${hit.ais.toFixed(2)}`),
    ].filter(Boolean);
    made.querySelector(".why").append(...extra);
    return made;
}

/* record: of pairfile.js; name: of its file. */
export function fileColumn(record, name) {
    const pro = record.proponents,
        con = record.opponents;
    const listOf = (title, hits, side) =>
        h(
            "div",
            {},
            h("h3", {}, title),
            h(
                "ol.cards",
                {},
                hits.map((hit) => fileCard(hit, side, record)),
            ),
        );
    return h(
        "section.column",
        { "aria-labelledby": "file-column", test: "column", "data-method": "file" },
        h("div.column-head", {}, h("h2", { id: "file-column" }, "The file")),
        h("p.note", {}, name),
        pro.length ? listOf("Proponents", pro, "pro") : h("p.quiet", {}, "It lists no proponents."),
        con.length > 0 && listOf("Opponents", con, "con"),
    );
}
