/* columns.js - methods side by side: lists first, as each comes; then, when all are there, one
 * pass over every score for ranks across methods, percentiles, distributions and groups. */
import { fill, h, say } from "../dom.js";
import { explain, list, whole } from "../methods.js";
import { aborted } from "../server.js";
import { column } from "./column.js";
import { groups } from "./groups.js";
import { overlap } from "./overlap.js";
import { failed, loading } from "./states.js";

const SETTLE_MS = 120; /* somebody leafing through answers asks for no full pass on the way */

function later(ms, signal) {
    return new Promise((resolve, reject) => {
        const timer = setTimeout(resolve, ms);
        signal.addEventListener(
            "abort",
            () => {
                clearTimeout(timer);
                reject(signal.reason);
            },
            { once: true },
        );
    });
}

/* what: {c, subject, methods, k, opponents, filter, group, explains, removeHref(method),
 * onFilterError, onLists(columns)}. Gives {summary, node}: the two parts of the page; both fill
 * themselves until the signal. */
export function columns(what, signal) {
    const { c, subject, methods } = what;
    const asked = { k: what.k, opponents: what.opponents, filter: what.filter };
    const ofLists = h("div.summary-part", {
        css: { "--pairs": (methods.length * (methods.length - 1)) / 2 },
    });
    const ofGroups = what.group
        ? h("div.summary-part.grouped", {}, loading("the groups", 4))
        : null;
    const summary = h("div.summary", {}, methods.length > 1 && ofLists, ofGroups);
    const all = methods.map((method) =>
        column(method, subject, {
            ...asked,
            again: () => run().catch(quiet),
            remove: methods.length > 1 ? () => what.remove(method) : null,
            failed: (error) => error.code === "bad_filter" && what.onFilterError(error),
            explain: what.explains ? (id) => explain(c, method, subject, id, signal) : null,
        }),
    );
    const node = h(
        `div.columns.placed${methods.length > 3 ? ".many" : ""}`,
        { css: { "--columns": Math.min(methods.length, 4) } },
        all.map((one) => one.node),
    );

    function quiet(error) {
        if (!aborted(error)) console.error(error);
    }

    async function places(done) {
        const ids = [...new Set(done.flatMap((one) => one.ids()))].sort();
        const found = await Promise.all(
            done.map(async (one) => {
                const want = { ids, filter: what.filter };
                const group = one.method.gradient && what.group ? what.group : undefined;
                const ask = (more) =>
                    whole(c, one.method, subject, { ...want, ...more }, signal).catch((error) => {
                        if (aborted(error)) throw error;
                        return { places: new Map(), error };
                    });
                const got = await ask({ group });
                return got.error && group
                    ? { ...(await ask({})), error: got.error }
                    : got; /* a bad field must not cost the ranks */
            }),
        );
        done.forEach((one, i) =>
            one.place(
                found[i],
                done
                    .map((o, j) => ({ method: o.method, whole: found[j] }))
                    .filter((o, j) => j !== i),
            ),
        );
        if (ofGroups) showGroups(done, found);
    }

    function showGroups(done, found) {
        const at = done.findIndex(
            (one, i) => one.method.gradient && (found[i].groups || found[i].error),
        );
        if (at < 0)
            fill(
                ofGroups,
                h("p.quiet", {}, "Words alone cannot be summed: add a method of gradients."),
            );
        else if (found[at].error) fill(ofGroups, failed(found[at].error));
        else
            fill(
                ofGroups,
                h("h2", {}, `By ${what.group}, ${done[at].method.label}`),
                groups(found[at].groups, found[at].groups_other, what.group),
            );
    }

    async function run() {
        const good = await Promise.all(
            all.map((one) => one.load(() => list(c, one.method, subject, asked, signal))),
        );
        const done = all.filter((one, i) => good[i]);
        what.onLists?.(done);
        if (!done.length) {
            ofGroups?.replaceChildren();
            return;
        }
        fill(
            ofLists,
            done.length > 1 &&
                overlap(
                    done.map((one) => ({ label: one.method.short, ids: one.best() })),
                    what.k,
                ),
        );
        say(done.map((one) => `${one.method.label}: ${one.best().length} examples`).join(". "));
        await later(SETTLE_MS, signal);
        await places(done);
    }
    return { summary, node, run };
}
