/* exporter.js - the saved queries of a corpus, answered by one method, as a file in the schema
 * of the PAIR viewer. */
import { corpus, savedQueries, tasks } from "../data.js";
import { fill, h } from "../dom.js";
import { known, list } from "../methods.js";
import { answerRecord, download } from "../pairfile.js";
import { aborted } from "../server.js";
import { count, plural } from "../words.js";
import { section } from "./states.js";

/* Runs saved queries by one method and writes a file as the viewer reads it. */
export function exporter(state, signal) {
    const status = h("p.fine", { role: "status", test: "export-status" });
    const pick = h("select", { id: "export-method", test: "export-method" });
    const k = h("input", {
        id: "export-k",
        type: "number",
        min: 1,
        max: 1000,
        value: 10,
        test: "export-k",
    });
    const button = h(
        "button",
        { type: "button", test: "export", on: { click: run } },
        "Write the file",
    );
    let all = [];
    Promise.all([corpus(state.c), tasks(state.c)]).then(
        ([here, lenses]) => {
            all = known(here, lenses);
            fill(
                pick,
                all.map((m) => h("option", { value: m.key }, m.label)),
            );
        },
        () => {
            button.disabled = true;
        },
    );
    async function run() {
        button.disabled = true;
        const method = all.find((m) => m.key === pick.value),
            most = Math.min(1000, Math.max(1, Number(k.value) || 10)),
            out = [];
        try {
            const queries = await savedQueries(state.c);
            for (const query of queries) {
                const subject = { ...query, saved: query.name };
                const opponents = method.gradient ? most : 0;
                const options = { k: most, opponents, filter: "", blocks: false };
                const answer = await list(state.c, method, subject, options, signal);
                out.push(`${JSON.stringify(answerRecord(subject, method.key, answer))}\n`);
                status.textContent = `${count(out.length)} of ${plural(queries.length, "query", "queries")}`;
            }
            if (out.length) download(`${state.c}-${method.key.replace(":", "-")}.jsonl`, out);
            else status.textContent = "No query is saved in this corpus yet.";
        } catch (error) {
            if (aborted(error)) return;
            status.textContent = `Stopped after ${count(out.length)}: ${error.detail ?? error.message}`;
        }
        button.disabled = false;
    }
    return section(
        "Write a file",
        { test: "export-part" },
        h(
            "p",
            {},
            "Every saved query of this corpus with its proponents and opponents, in the same schema.",
        ),
        h(
            "div.row",
            {},
            h("label.pick", { for: "export-method" }, h("span", {}, "Method"), pick),
            h("label.pick", { for: "export-k" }, h("span", {}, "Of each side"), k),
            button,
        ),
        status,
    );
}
