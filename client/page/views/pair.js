/* pair.js - result files in the schema of the PAIR viewer: looked at, held against live answers
 * by query id, and written. A file stays on the machine of whoever opened it: nothing of it is
 * sent. */
import { changed, go, read, view } from "../address.js";
import { corpus, savedQueries, tasks } from "../data.js";
import { fill, h, say, visible } from "../dom.js";
import { setKeys } from "../keys.js";
import { choose, known, list } from "../methods.js";
import { indexFile, nameOf, readRecord } from "../pairfile.js";
import { card } from "../parts/card.js";
import { exporter } from "../parts/exporter.js";
import { fileColumn } from "../parts/filecolumn.js";
import { overlap } from "../parts/overlap.js";
import { empty, failed, loading, section } from "../parts/states.js";
import { aborted } from "../server.js";
import { count, plural } from "../words.js";

const PAGE = 50;
let opened = null; /* {file, entries, bad, badCount}: outlives the view, never the page */

function badLines() {
    if (!opened.badCount) return null;
    return h(
        "details.fold.warn",
        { test: "bad-lines", open: opened.badCount <= 5 },
        h(
            "summary",
            {},
            `${plural(opened.badCount, "line")} could not be read and ${opened.badCount === 1 ? "was" : "were"} left out`,
        ),
        h(
            "ul",
            {},
            opened.bad.map((b) => h("li", {}, `line ${count(b.line)}: ${b.why}`)),
            opened.badCount > opened.bad.length &&
                h("li", {}, `and ${count(opened.badCount - opened.bad.length)} more`),
        ),
    );
}

async function open(file, place, state, signal) {
    const bar = h("progress", { max: 1, value: 0, "aria-label": "Reading the file" });
    fill(place, h("p", { role: "status" }, `Reading ${file.name}\u2026 `, bar));
    try {
        const found = await indexFile(
            file,
            (part) => {
                bar.value = part;
            },
            signal,
        );
        opened = { file, ...found };
        say(`${plural(found.entries.length, "record")} read`);
        go(changed({ r: null }));
    } catch (error) {
        if (aborted(error)) return;
        fill(
            place,
            h(
                "p.warn",
                { role: "alert", test: "pair-error" },
                `${file.name} could not be read: ${error.message}`,
            ),
        );
    }
}

function chooser(state, signal) {
    const status = h("div");
    const input = h("input", {
        type: "file",
        id: "file",
        accept: ".jsonl,.json,.ndjson,application/jsonl",
        test: "pair-file",
        on: { change: () => input.files[0] && open(input.files[0], status, state, signal) },
    });
    const drop = h(
        "div.drop",
        {
            on: {
                dragover: (event) => {
                    event.preventDefault();
                    drop.classList.add("over");
                },
                dragleave: () => drop.classList.remove("over"),
                drop: (event) => {
                    event.preventDefault();
                    drop.classList.remove("over");
                    if (event.dataTransfer.files[0])
                        open(event.dataTransfer.files[0], status, state, signal);
                },
            },
        },
        h(
            "label",
            { for: "file" },
            opened ? "Another file of results" : "A file of results (JSON Lines)",
        ),
        input,
        h("p.fine", {}, "Drop it here, or choose it. It stays on your machine."),
        status,
    );
    return drop;
}

/* The saved query of the same id, as it is or as names are written. */
async function partner(c, record) {
    const all = await savedQueries(c);
    return (
        all.find((q) => q.name === record.id) ??
        all.find((q) => q.name === nameOf(record.id)) ??
        null
    );
}

async function compare(state, record, place, signal) {
    const query = await partner(state.c, record);
    const left = fileColumn(record, opened.file.name);
    if (!query) {
        fill(
            place,
            h(
                "p.quiet",
                { test: "no-partner" },
                `No saved query is called \u201c${record.id}\u201d in ${state.c}: there is nothing live to compare with. Save one under that name.`,
            ),
            h("div.columns.beside", { css: { "--columns": 1 } }, left),
        );
        return;
    }
    const [here, lenses] = await Promise.all([corpus(state.c), tasks(state.c)]);
    const all = known(here, lenses),
        method = choose(state.m, all).chosen[0] ?? all[0];
    const subject = { ...query, saved: query.name };
    const right = h("section.column", {
        "aria-labelledby": "live-column",
        test: "column",
        "data-method": method.key,
    });
    const shared = h("div.summary-part", { css: { "--pairs": 1 } });
    const pick = h(
        "select",
        {
            "aria-label": "Live method",
            test: "pair-method",
            on: { change: () => go(changed({ m: pick.value })) },
        },
        all.map((m) => h("option", { value: m.key, selected: m === method }, m.label)),
    );
    fill(
        right,
        h("div.column-head", {}, h("h2", { id: "live-column" }, "Live")),
        h("p.note", {}, pick),
        loading("the answer", 4, "bone-card"),
    );
    fill(
        place,
        h("div.summary", {}, shared),
        h("div.columns.beside", { css: { "--columns": 2 } }, left, right),
    );
    try {
        const k = Math.min(1000, Math.max(1, record.proponents.length));
        const answer = await list(
            state.c,
            method,
            subject,
            { k, opponents: Math.min(1000, record.opponents.length), filter: "" },
            signal,
        );
        const make = (side) => (hit) => card({ hit, side, method, subject, explain: null }).node;
        fill(
            right,
            h("div.column-head", {}, h("h2", { id: "live-column" }, "Live")),
            h("p.note", {}, pick),
            h(
                "div",
                {},
                h("h3", {}, "Proponents"),
                h("ol.cards", {}, answer.proponents.map(make("pro"))),
            ),
            answer.opponents.length > 0 &&
                h(
                    "div",
                    {},
                    h("h3", {}, "Opponents"),
                    h("ol.cards", {}, answer.opponents.map(make("con"))),
                ),
        );
        fill(
            shared,
            overlap(
                [
                    { label: "the file", ids: record.proponents.map((x) => x.id) },
                    { label: method.short, ids: answer.proponents.map((x) => x.id) },
                ],
                k,
            ),
        );
    } catch (error) {
        if (!aborted(error))
            fill(
                right,
                h("div.column-head", {}, h("h2", { id: "live-column" }, "Live")),
                h("p.note", {}, pick),
                failed(error, () => compare(state, record, place, signal)),
            );
    }
}

async function record(root, state, at, signal, settled) {
    const entry = opened.entries[at],
        place = h("div", {}, loading("the record", 4, "bone-card"));
    const step = (by) => opened.entries[at + by] && go(changed({ r: String(at + by + 1) }));
    const link = (by, label, hook) =>
        opened.entries[at + by]
            ? h("a", { href: changed({ r: String(at + by + 1) }), test: hook }, label)
            : h("span.off", { test: hook }, label);
    fill(
        root,
        h(
            "div.crumbs",
            {},
            h("a", { href: changed({ r: null }), test: "back" }, `\u2039 ${opened.file.name}`),
            h(
                "nav",
                { "aria-label": "Other records" },
                link(-1, "\u2190 previous", "previous"),
                h("span.fine", {}, `${at + 1} of ${opened.entries.length}`),
                link(1, "next \u2192", "next"),
            ),
        ),
        h(
            "header.question",
            {},
            h(
                "h1",
                { test: "question", dir: "auto" },
                h("span.prompt", {}, visible(entry.prompt)),
                " ",
                h("mark.target", {}, visible(entry.target.trim())),
            ),
            h(
                "p.fine.question-facts",
                {},
                h("code", {}, entry.id),
                entry.set && h("span.chip", {}, entry.set),
                h("span", {}, `line ${count(entry.line)}`),
            ),
        ),
        place,
    );
    setKeys({
        j: () => step(1),
        k: () => step(-1),
        ArrowRight: () => step(1),
        ArrowLeft: () => step(-1),
        u: () => go(changed({ r: null })),
    });
    settled();
    await compare(state, await readRecord(opened.file, entry), place, signal);
}

function overview(root, state, signal) {
    const search = h("input", {
        type: "search",
        id: "pair-search",
        test: "search",
        value: state.s ?? "",
        placeholder: "prompt, words, id\u2026",
        autocomplete: "off",
    });
    const rows = h("div");
    function draw() {
        const words = search.value.toLowerCase().split(/\s+/).filter(Boolean),
            p = Math.max(1, Number(read().p) || 1);
        const found = opened.entries
            .map((entry, at) => ({ ...entry, at }))
            .filter((e) =>
                words.every((w) => `${e.id} ${e.prompt} ${e.target}`.toLowerCase().includes(w)),
            );
        const page = found.slice((p - 1) * PAGE, p * PAGE);
        fill(
            rows,
            h(
                "p.fine",
                { role: "status" },
                `${plural(found.length, "record")} of ${count(opened.entries.length)}`,
            ),
            page.length
                ? h(
                      "ol.queries",
                      {},
                      page.map((e) =>
                          h(
                              "li.query",
                              {},
                              h(
                                  "a",
                                  { href: changed({ r: String(e.at + 1) }), test: "record" },
                                  h("span.prompt", { dir: "auto" }, visible(e.prompt || e.id)),
                                  " ",
                                  h("span.said", {}, visible(e.target.trim())),
                                  h(
                                      "span.query-foot.fine",
                                      {},
                                      h("code", {}, e.id),
                                      e.set && h("span.chip", {}, e.set),
                                  ),
                              ),
                          ),
                      ),
                  )
                : empty("No record fits."),
            found.length > PAGE &&
                h(
                    "nav.pages",
                    { "aria-label": "Pages" },
                    p > 1 && h("a", { href: changed({ p: String(p - 1) }) }, "\u2190 Previous"),
                    h("span", {}, `Page ${p} of ${Math.ceil(found.length / PAGE)}`),
                    p * PAGE < found.length &&
                        h("a", { href: changed({ p: String(p + 1) }) }, "Next \u2192"),
                ),
        );
    }
    search.addEventListener("input", draw);
    fill(
        root,
        h("h1", {}, "Compare a file"),
        chooser(state, signal),
        badLines(),
        section(
            opened.file.name,
            { test: "pair-list" },
            h(
                "div.search-row",
                { role: "search" },
                h("label", { for: "pair-search" }, "Search"),
                search,
            ),
            rows,
        ),
        exporter(state, signal),
    );
    draw();
    setKeys({ "/": () => search.focus() });
}

export async function show(root, state, signal, settled) {
    document.title = `Compare a file \u00b7 ascribe`;
    if (!opened) {
        fill(
            root,
            h("h1", {}, "Compare a file"),
            h(
                "p",
                {},
                "Open the results of another run or another tool, in the JSON Lines schema of the PAIR viewer, and hold them against the live answers of ",
                h("b", {}, state.c),
                ", query by query.",
            ),
            state.r &&
                h(
                    "p.quiet",
                    { role: "status" },
                    "The link names a record, but a file is not part of a link: open it first.",
                ),
            chooser(state, signal),
            exporter(state, signal),
            h("p.fine", {}, h("a", { href: view("queries") }, "Queries")),
        );
        return;
    }
    const at = Number(state.r) - 1;
    if (state.r && Number.isInteger(at) && opened.entries[at])
        await record(root, state, at, signal, settled);
    else overview(root, state, signal);
}
