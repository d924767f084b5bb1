/* queries.js - what was asked: saved queries with search, tags, kinds and pages; and a box to
 * ask anew. */
import { changed, go, replace, view } from "../address.js";
import { encoder, kindOf, plainTags, savedQueries } from "../data.js";
import { fill, h, say, visible } from "../dom.js";
import { setKeys } from "../keys.js";
import { askBox } from "../parts/ask.js";
import { empty, failed, loading } from "../parts/states.js";
import { aborted } from "../server.js";
import { plural } from "../words.js";

const PAGE = 50;

/* The queries that an address asks for, in the server's order. */
export function filtered(list, { s, tag, kind }) {
    const words = (s ?? "").toLowerCase().split(/\s+/).filter(Boolean);
    return list.filter((q) => {
        const text =
            `${q.name} ${q.prompt ?? ""} ${q.target ?? ""} ${q.output ?? ""}`.toLowerCase();
        return (
            words.every((word) => text.includes(word)) &&
            (!tag || (q.tags ?? []).includes(tag)) &&
            (!kind || kindOf(q) === kind)
        );
    });
}

function row(q, state) {
    const said = (q.target ?? q.output ?? "").trim();
    return h(
        "li.query",
        {},
        h(
            "a",
            {
                href: view("answer", {
                    q: q.name,
                    s: state.s,
                    tag: state.tag,
                    kind: state.kind,
                    p: state.p > 1 ? state.p : null,
                }),
                test: "query",
                "data-name": q.name,
            },
            h("span.prompt", { dir: "auto" }, visible(q.prompt || q.name)),
            " ",
            said && h("span.said", {}, visible(said)),
            h(
                "span.query-foot.fine",
                {},
                h("code", {}, q.name),
                kindOf(q) && h("span.chip.kind", {}, kindOf(q)),
                plainTags(q).map((tag) => h("span.chip", {}, tag)),
            ),
        ),
    );
}

/* Buttons that turn one value of a list on or off. */
function choices(label, name, values, now, set) {
    if (!values.length) return null;
    return h(
        "div.choices",
        { role: "group", "aria-label": label },
        h("span.fine", {}, label),
        values.map(([value, n]) =>
            h(
                "button.chip",
                {
                    type: "button",
                    "aria-pressed": String(value === now),
                    test: `${name}-${value}`,
                    on: { click: () => set(value === now ? null : value) },
                },
                value,
                h("span.fine", {}, ` ${n}`),
            ),
        ),
    );
}

function tally(list, of) {
    const counts = new Map();
    for (const q of list)
        for (const value of of(q)) counts.set(value, (counts.get(value) ?? 0) + 1);
    return [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).slice(0, 20);
}

function keysOf(body, search) {
    const links = () => [...body.querySelectorAll(".query a")];
    const move = (by) => {
        const all = links(),
            at = all.indexOf(document.activeElement);
        const to =
            at < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(all.length - 1, Math.max(0, at + by));
        all[to]?.focus();
    };
    const arrow = (by) => () => (links().includes(document.activeElement) ? move(by) : false);
    setKeys({
        j: () => move(1),
        k: () => move(-1),
        ArrowDown: arrow(1),
        ArrowUp: arrow(-1),
        "/": () => {
            search.focus();
            search.select();
        },
    });
}

function pages(total, p, turn) {
    const last = Math.ceil(total / PAGE);
    if (last < 2) return null;
    return h(
        "nav.pages",
        { "aria-label": "Pages" },
        h(
            "button",
            {
                type: "button",
                disabled: p <= 1,
                test: "page-previous",
                on: { click: () => turn(p - 1) },
            },
            "\u2190 Previous",
        ),
        h("span", {}, `Page ${p} of ${last}`),
        h(
            "button",
            {
                type: "button",
                disabled: p >= last,
                test: "page-next",
                on: { click: () => turn(p + 1) },
            },
            "Next \u2192",
        ),
    );
}

function listOf(state, list, body) {
    const status = h("p.fine", { role: "status", test: "query-count" });
    const rows = h("div");
    const search = h("input", {
        type: "search",
        id: "search",
        test: "search",
        value: state.s ?? "",
        placeholder: "prompt, words, name\u2026",
        autocomplete: "off",
    });
    const now = { s: state.s, tag: state.tag, kind: state.kind, p: Number(state.p) || 1 };
    const boxes = h("div");

    function draw() {
        const found = filtered(list, now),
            last = Math.max(1, Math.ceil(found.length / PAGE));
        now.p = Math.min(Math.max(1, now.p), last);
        status.textContent =
            found.length === list.length
                ? plural(list.length, "saved query", "saved queries")
                : `${plural(found.length, "query", "queries")} of ${list.length}`;
        fill(
            boxes,
            choices(
                "Kind",
                "kind",
                tally(list, (q) => [kindOf(q)].filter(Boolean)),
                now.kind,
                (kind) => set({ kind }),
            ),
            choices("Tag", "tag", tally(list, plainTags), now.tag, (tag) => set({ tag })),
        );
        fill(
            rows,
            found.length
                ? h(
                      "ol.queries",
                      { start: (now.p - 1) * PAGE + 1 },
                      found.slice((now.p - 1) * PAGE, now.p * PAGE).map((q) => row(q, now)),
                  )
                : empty(
                      "No saved query fits.",
                      h(
                          "p",
                          {},
                          h(
                              "button.plain",
                              {
                                  type: "button",
                                  on: {
                                      click: () => {
                                          search.value = "";
                                          set({ s: null, tag: null, kind: null });
                                      },
                                  },
                              },
                              "Show all",
                          ),
                      ),
                  ),
            pages(found.length, now.p, (p) => {
                set({ p });
                rows.scrollIntoView({ block: "nearest" });
            }),
        );
    }
    function set(changes) {
        const hook = document.activeElement?.dataset.test;
        Object.assign(now, { p: 1 }, changes);
        replace({ ...now, p: now.p > 1 ? now.p : null });
        draw();
        if (hook) body.querySelector(`[data-test="${CSS.escape(hook)}"]`)?.focus();
    }
    search.addEventListener("input", () => set({ s: search.value }));
    search.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === "ArrowDown") {
            event.preventDefault();
            rows.querySelector("a")?.focus();
        }
    });
    fill(
        body,
        h(
            "div.search-row",
            { role: "search" },
            h("label", { for: "search" }, "Search"),
            search,
            status,
        ),
        boxes,
        rows,
    );
    draw();
    keysOf(body, search);
}

export async function show(root, state, signal, settled) {
    const body = h("div", {}, loading("the saved queries", 8, "bone-row"));
    document.title = `${state.c} \u00b7 ascribe`;
    fill(root, h("h1", {}, "Why did the model say that?"), loading("the queries", 8, "bone-row"));
    /* known at once, and it decides how high the box is: first, so that nothing moves */
    const asks = await encoder().then(
        (coder) => askBox(coder, signal),
        (error) => failed(error, () => go(location.hash)),
    );
    if (signal.aborted) return;
    fill(
        root,
        h("h1", {}, "Why did the model say that?"),
        asks,
        h(
            "section",
            { "aria-labelledby": "saved-title" },
            h("h2", { id: "saved-title" }, "Saved queries"),
            body,
        ),
    );
    settled();
    try {
        const list = await savedQueries(state.c);
        if (signal.aborted) return;
        if (list.length) listOf(state, list, body);
        else
            fill(
                body,
                empty(
                    "No query is saved in this corpus yet.",
                    h("p", {}, "Keep what a model was asked, what it said, and its gradient:"),
                    h(
                        "pre",
                        { tabindex: "0" },
                        `ascribe saved put ${state.c} carmen query.npy --prompt 'Carmen was written by' --target ' Bizet' --tag kind:facts`,
                    ),
                    h("p", {}, h("a", { href: changed({ v: "corpus" }) }, "Look at the corpus")),
                ),
            );
    } catch (error) {
        if (aborted(error) || error.status === 401) throw error;
        fill(
            body,
            failed(error, () => go(location.hash)),
        );
        say("The saved queries could not be loaded");
    }
}
