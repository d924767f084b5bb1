/* text.js - a text of the corpus, with the words it shares with prompt and target marked, and
 * folded when it is long. */
import { h, visible } from "../dom.js";
import { marked } from "../words.js";

const FOLD = 420,
    WHOLE = 200000;

function nodes(text, subject) {
    return marked(text, subject?.prompt, subject?.target).map((p) =>
        p.mark ? h(`mark.${p.mark}`, {}, p.text) : visible(p.text),
    );
}

/* Where to begin a folded text: a little before the first word of the target, if that is far in. */
function opening(text, subject) {
    let at = 0;
    for (const p of marked(text.slice(0, 20000), "", subject?.target)) {
        if (p.mark === "target") break;
        at += p.text.length;
    }
    return at < text.length && at > FOLD * 0.7
        ? text.lastIndexOf(" ", Math.max(0, at - 120)) + 1
        : 0;
}

export function passage(text, subject, folded = true) {
    if (text === null || text === undefined || text === "")
        return h("p.text.none", {}, "This example has no text.");
    if (!folded || text.length <= FOLD * 1.2)
        return h(
            "p.text",
            { dir: "auto" },
            nodes(text.slice(0, WHOLE), subject),
            text.length > WHOLE && " \u2026",
        );
    const from = opening(text, subject);
    const part = text.slice(from, from + FOLD);
    const p = h("p.text", { dir: "auto" }, from > 0 && "\u2026 ", nodes(part, subject), " \u2026 ");
    p.append(
        h(
            "button.plain",
            {
                type: "button",
                test: "whole-text",
                on: {
                    click: () => {
                        p.replaceChildren(...nodes(text.slice(0, WHOLE), subject));
                        p.setAttribute("tabindex", "-1");
                        p.focus({ preventScroll: true });
                    },
                },
            },
            "whole text",
        ),
    );
    return p;
}

/* Members of meta as label and value; deep ones as JSON. */
export function metaList(meta, most = 6) {
    const all = Object.entries(meta ?? {});
    if (!all.length) return null;
    const shown = all.slice(0, most);
    return h(
        "dl.meta",
        {
            title: all
                .map(([name, value]) => `${name}: ${plain(value)}`)
                .join("\n")
                .slice(0, 2000),
        },
        shown.map(([name, value]) =>
            h("div", {}, h("dt", {}, visible(name)), h("dd", {}, visible(plain(value)))),
        ),
        all.length > most &&
            h("div.fine", {}, h("dt", {}, "and"), h("dd", {}, `${all.length - most} more`)),
    );
}

function plain(value) {
    if (Array.isArray(value) && value.every((one) => typeof one !== "object"))
        return value.join(", ");
    return typeof value === "string" ? value : JSON.stringify(value);
}
