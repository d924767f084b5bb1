/* help.js - the keys, and what influence is and is not. A dialog, made when it is first asked
 * for. */
import { h } from "../dom.js";

const KEYS = [
    ["j  k", "next, previous: in the list of queries, and from answer to answer"],
    ["\u2192  \u2190", "the same, on an answer"],
    ["Enter", "open the query that is chosen"],
    ["/", "search, or the filter of an answer"],
    ["u", "up: from an answer or example back to the list"],
    ["t", "light or dark"],
    ["?", "this help"],
    ["Esc", "leave a field, close this"],
];

let dialog = null;

function make() {
    dialog = h(
        "dialog",
        { "aria-labelledby": "help-title", test: "help-dialog" },
        h("h2", { id: "help-title" }, "What you are looking at"),
        h(
            "p",
            {},
            "A language model said something; here are the training examples that made it say so. ",
            h("b", {}, "Proponents"),
            " pushed the model towards its words, ",
            h("b", {}, "opponents"),
            " away from them. Scores are exact: nothing is sampled, nothing approximated.",
        ),
        h(
            "p",
            {},
            "Influence is not attribution: an example may push a model towards a fact without stating it. " +
                "The column of words (BM25) finds texts that say the same; where the two differ is where it gets interesting.",
        ),
        h(
            "p",
            {},
            "In a text, ",
            h("mark.target", {}, "words of the target"),
            " and ",
            h("mark.shared", {}, "words of the prompt"),
            " are marked.",
        ),
        h("h2", {}, "Keyboard"),
        h(
            "dl.keys",
            {},
            KEYS.map(([key, what]) =>
                h(
                    "div",
                    {},
                    h(
                        "dt",
                        {},
                        key.split("  ").map((one) => [h("kbd", {}, one), " "]),
                    ),
                    h("dd", {}, what),
                ),
            ),
        ),
        h(
            "button",
            { type: "button", test: "help-close", on: { click: () => dialog.close() } },
            "Close",
        ),
    );
    document.body.append(dialog);
}

export function help() {
    if (!dialog) make();
    if (!dialog.open) dialog.showModal();
}
