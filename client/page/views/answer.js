/* answer.js - why the model said that: one query, and the examples that each method finds for
 * it. */
import { changed, go, view } from "../address.js";
import { corpus, encoder, kindOf, plainTags, savedQueries, tasks } from "../data.js";
import { fill, h, visible } from "../dom.js";
import { setKeys } from "../keys.js";
import { isMade, subjectOf } from "../live.js";
import { choose, known } from "../methods.js";
import { answerRecord, download } from "../pairfile.js";
import { columns } from "../parts/columns.js";
import { filterBox } from "../parts/filter.js";
import { failed, loading } from "../parts/states.js";
import { aborted } from "../server.js";
import { duration } from "../words.js";
import { filtered } from "./queries.js";

const COUNTS = [1, 3, 5, 10, 20, 50, 100];

function number(text, fallback, least) {
    const n = Number(text);
    return text !== undefined && Number.isInteger(n) && n >= least && n <= 1000 ? n : fallback;
}

function question(subject) {
    const said = (subject.output ?? "").trim(),
        aim = (subject.target ?? "").trim();
    return h(
        "header.question",
        {},
        h(
            "h1",
            { test: "question", dir: "auto" },
            h(
                "span.prompt",
                {},
                visible(subject.prompt || subject.name || "A query without words"),
            ),
            " ",
            h("mark.target", {}, visible((subject.target || subject.output || "").trim())),
        ),
        h(
            "p.fine.question-facts",
            {},
            said && said !== aim && h("span", {}, "the model said: ", h("q", {}, said)),
            subject.live &&
                h(
                    "span",
                    {},
                    subject.took_ms
                        ? `encoded just now, in ${duration(subject.took_ms / 1000)}`
                        : "encoded just now",
                ),
            typeof (subject.loss ?? subject.methods?.loss) === "number" &&
                h("span", {}, `loss ${(subject.loss ?? subject.methods.loss).toFixed(3)}`),
            subject.name && h("code", {}, subject.name),
            kindOf(subject) && h("span.chip.kind", {}, kindOf(subject)),
            plainTags(subject).map((tag) => h("span.chip", {}, tag)),
        ),
    );
}

function crumbs(state, around) {
    const at = (entry, label, rel, hook) =>
        entry
            ? h(
                  "a",
                  {
                      href: changed({ q: entry.name, prompt: null, target: null }),
                      rel,
                      test: hook,
                      title: entry.prompt ?? entry.name,
                  },
                  label,
              )
            : h("span.off", { test: hook }, label);
    return h(
        "div.crumbs",
        {},
        h(
            "a",
            {
                href: view("queries", { s: state.s, tag: state.tag, kind: state.kind, p: state.p }),
                test: "back",
            },
            "\u2039 Queries",
        ),
        around &&
            h(
                "nav",
                { "aria-label": "Other queries" },
                at(around.before, "\u2190 previous", "prev", "previous"),
                h("span.fine", {}, around.where),
                at(around.after, "next \u2192", "next", "next"),
            ),
    );
}

async function neighbours(state) {
    if (!state.q) return null;
    const list = filtered(await savedQueries(state.c), state);
    const at = list.findIndex((entry) => entry.name === state.q);
    return at < 0
        ? null
        : { before: list[at - 1], after: list[at + 1], where: `${at + 1} of ${list.length}` };
}

function pick(label, hook, value, options, set) {
    const node = h(
        "select",
        { test: hook, on: { change: () => set(node.value) } },
        options.map(([v, text]) =>
            h("option", { value: v, selected: String(v) === String(value) }, text),
        ),
    );
    return h("label.pick", {}, h("span", {}, label), node);
}

function tools(state, all, chosen, box, options) {
    const rest = all.filter((m) => !chosen.includes(m));
    const add = h(
        "select",
        {
            test: "add-method",
            on: {
                change: () =>
                    add.value &&
                    go(changed({ m: [...chosen.map((m) => m.key), add.value].join(",") })),
            },
        },
        h("option", { value: "" }, rest.length ? "Add\u2026" : "All are shown"),
        rest.map((m) => h("option", { value: m.key }, m.label)),
    );
    const counts = (extra, now) =>
        [...new Set([...extra, ...COUNTS, now])].sort((a, b) => a - b).map((n) => [n, String(n)]);
    const group = pick(
        "Group by",
        "group",
        state.g ?? "",
        [["", "nothing"], ...(state.g ? [[state.g, state.g]] : [])],
        (g) => go(changed({ g })),
    );
    return {
        group: group.querySelector("select"),
        node: h(
            "div.tools-row",
            { role: "group", "aria-label": "How to look" },
            h("label.pick", {}, h("span", {}, "Methods"), add),
            pick("Proponents", "k", options.k, counts([], options.k), (k) => go(changed({ k }))),
            pick("Opponents", "o", options.opponents, counts([0], options.opponents), (o) =>
                go(changed({ o })),
            ),
            group,
            box.node,
        ),
    };
}

/* Fields of meta that the shown examples have: what one may group by. */
function offerGroups(select, done) {
    const have = new Set([...select.options].map((o) => o.value));
    for (const hit of done.flatMap((one) => one.answer.proponents))
        for (const [name, value] of Object.entries(hit.meta ?? {})) {
            const field = `meta.${/^[\p{L}\p{N}_-]+$/u.test(name) ? name : JSON.stringify(name)}`;
            if (
                have.size < 40 &&
                !have.has(field) &&
                (typeof value !== "object" || value === null)
            ) {
                have.add(field);
                select.append(h("option", { value: field }, field));
            }
        }
}

/* Waits for words to become a gradient, counting the seconds aloud now and then. */
async function subjectWith(root, state, signal) {
    if (state.q || isMade(state.prompt ?? "", state.target ?? "")) return subjectOf(state, signal);
    const began = performance.now(),
        clock = h("span", { "aria-hidden": "true" });
    fill(
        root,
        crumbs(state, null),
        h(
            "header.question",
            {},
            h(
                "h1",
                {},
                h("span.prompt", {}, state.prompt ?? ""),
                " ",
                h("mark.target", {}, (state.target ?? "").trim()),
            ),
        ),
        h(
            "div.state",
            { role: "status", test: "encoding" },
            h("p.state-title", {}, "The encoder turns these words into a gradient. ", clock),
            h("progress", { "aria-label": "Encoding" }),
        ),
        loading("the answer", 4, "bone-card"),
    );
    const timer = setInterval(() => {
        clock.textContent = duration((performance.now() - began) / 1000);
    }, 200);
    try {
        return await subjectOf(state, signal);
    } finally {
        clearInterval(timer);
    }
}

export async function show(root, state, signal, settled) {
    if (!state.q && state.prompt === undefined && state.target === undefined) {
        go(view("queries"));
        return;
    }
    fill(root, h("h1.unseen", {}, state.q ?? state.prompt ?? "Answer"), loading("the answer", 6));
    let subject, here, ready, coder, around;
    try {
        [subject, here, ready, coder, around] = await Promise.all([
            subjectWith(root, state, signal),
            corpus(state.c),
            tasks(state.c),
            encoder(),
            neighbours(state),
        ]);
    } catch (error) {
        if (aborted(error) || error.status === 401) throw error;
        fill(
            root,
            crumbs(state, null),
            h("h1", {}, state.q ?? state.prompt ?? "Query"),
            failed(error, () => go(location.hash)),
        );
        return;
    }
    if (signal.aborted) return;
    const all = known(here, ready),
        { chosen, missing } = choose(state.m, all);
    const options = { k: number(state.k, 10, 1), opponents: number(state.o, 5, 0) };
    const box = filterBox(state.f ?? "", (f) => go(changed({ f })));
    const bar = tools(state, all, chosen, box, options);
    let done = [];
    const parts = columns(
        {
            c: state.c,
            subject,
            methods: chosen,
            ...options,
            filter: state.f ?? "",
            group: state.g,
            explains: (coder.verbs ?? []).includes("explain"),
            remove: (method) =>
                go(
                    changed({
                        m: chosen
                            .filter((m) => m !== method)
                            .map((m) => m.key)
                            .join(","),
                    }),
                ),
            onFilterError: (error) => box.fail(error),
            onLists: (lists) => {
                done = lists;
                offerGroups(bar.group, lists);
            },
        },
        signal,
    );
    fill(
        root,
        crumbs(state, around),
        question(subject),
        bar.node,
        missing.length > 0 &&
            h("p.quiet", { role: "status" }, `Not in this corpus: ${missing.join(", ")}.`),
        chosen.length
            ? [parts.summary, parts.node]
            : h("p.quiet", {}, "No method is chosen: add one."),
        h(
            "p.foot",
            {},
            h(
                "button.plain",
                {
                    type: "button",
                    test: "export-answer",
                    on: { click: () => exportAnswer(state, subject, done) },
                },
                "Save this answer as JSON Lines (PAIR)",
            ),
        ),
    );
    const step = (entry) => entry && go(changed({ q: entry.name, prompt: null, target: null }));
    const after = () => step(around?.after),
        before = () => step(around?.before);
    setKeys({
        j: after,
        k: before,
        ArrowRight: after,
        ArrowLeft: before,
        "/": () => box.field.focus(),
    });
    document.title = `${subject.prompt || state.q} \u00b7 ascribe`;
    settled();
    await parts.run();
}

function exportAnswer(state, subject, done) {
    const records = done.map((one) =>
        JSON.stringify(answerRecord(subject, one.method.key, one.answer)),
    );
    download(`${state.q ?? "live"}.jsonl`, [`${records.join("\n")}\n`]);
}
