/* states.js - what stands where there is nothing to show: not yet, nothing there, or something
 * went wrong. */
import { fresh, h } from "../dom.js";
import { wordsFor } from "../server.js";

/* Grey shapes where content will be, as high as it will be. */
export function loading(what, lines = 3, kind = "line") {
    return h(
        "div.loading",
        { "aria-busy": "true", test: "loading" },
        h("span.unseen", {}, `Loading ${what}`),
        Array.from({ length: lines }, () => h(`div.bone.${kind}`, { "aria-hidden": "true" })),
    );
}

export function empty(title, ...more) {
    return h("div.state", { test: "empty" }, h("p.state-title", {}, title), ...more);
}

/* A failure in words, with a button to try again. */
export function failed(error, again) {
    const words = wordsFor(error);
    return h(
        "div.state.failed",
        { role: "alert", test: "error", "data-code": error.code ?? "page" },
        h("p.state-title", {}, words.title),
        words.text && h("p", {}, words.text),
        words.detail && h("p.detail", {}, words.detail),
        words.requestId &&
            h("p.fine", {}, "For the server's log: ", h("code", {}, words.requestId)),
        again && h("button", { type: "button", on: { click: again }, test: "retry" }, "Try again"),
    );
}

/* An answer that damage in the store has made smaller says what is missing from it. */
export function damage(damaged) {
    if (!damaged) return null;
    const ids = damaged.ids ?? [];
    return h(
        "p.fine.warn",
        { role: "note", test: "damaged" },
        `The store is damaged: ${damaged.examples} ${damaged.examples === 1 ? "example is" : "examples are"} missing here` +
            `${ids.length ? ` (${ids.slice(0, 5).join(", ")}${ids.length > 5 || damaged.examples > ids.length ? ", \u2026" : ""})` : ""}. The rest is right.`,
    );
}

/* A section with a heading that names it. */
export function section(title, props, ...children) {
    const id = fresh("part");
    return h("section", { "aria-labelledby": id, ...props }, h("h2", { id }, title), ...children);
}

/* Label and value, in a row of such. */
export function fact(label, value, note) {
    return h(
        "div.fact",
        {},
        h("dt", {}, label),
        h("dd", {}, value, note && h("span.fine", {}, note)),
    );
}
