/* overlap.js - how much the lists of the methods agree: of the k best of each, how many are in both. */
import { h } from "../dom.js";

function both(a, b) {
    const other = new Set(b);
    return a.filter((id) => other.has(id)).length;
}

/* lists: [{label, ids}] */
export function overlap(lists, k) {
    return h("div.scroll", { tabindex: "0", role: "region", "aria-label": "Overlap of the lists" },
             h("table.overlap", { test: "overlap" },
               h("caption", {}, `In both lists, of the ${k} best (Jaccard index)`),
               h("thead", {}, h("tr", {}, h("td"), lists.slice(1).map((l) => h("th", { scope: "col" }, l.label)))),
               h("tbody", {}, lists.slice(0, -1).map((row, i) =>
                   h("tr", {}, h("th", { scope: "row" }, row.label),
                     lists.slice(1).map((col, j) => {
                         if (j < i)
                             return h("td");
                         const n = both(row.ids, col.ids), all = row.ids.length + col.ids.length - n;
                         return h("td.cell", { css: { "--share": all ? n / all : 0 } },
                                  h("b", {}, n), h("span.fine", {}, all ? ` ${(n / all).toFixed(2)}` : ""));
                     }))))));
}
