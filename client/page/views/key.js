/* key.js - without a key nothing is shown: where to get one, and a field for it. */
import { fill, h } from "../dom.js";

export function askKey(root, refused, start) {
    const ended = refused?.code === "key_expired";
    const field = h("input", {
        id: "key",
        type: "password",
        autocomplete: "off",
        spellcheck: "false",
        test: "key",
        placeholder: "asc_\u2026",
        "aria-describedby": "key-help",
    });
    fill(
        root,
        h(
            "div.alone",
            {},
            h(
                "h1",
                {},
                refused
                    ? ended
                        ? "This key has ended"
                        : "This key is not known here"
                    : "Which training examples made the model say that?",
            ),
            refused &&
                h(
                    "p",
                    { role: "alert", test: "key-refused" },
                    ended
                        ? "It was given for a limited time, and that is over. "
                        : "The server refused it. It may have been revoked, or it belongs to another store. ",
                    "Ask whoever runs the server for a new link.",
                ),
            h(
                "form.key",
                {
                    on: {
                        submit: (event) => {
                            event.preventDefault();
                            if (field.value.trim()) start(field.value.trim());
                        },
                    },
                },
                h("label", { for: "key" }, "Key"),
                h(
                    "div.row",
                    {},
                    field,
                    h("button.primary", { type: "submit", test: "key-go" }, "Open"),
                ),
                h(
                    "p.fine",
                    { id: "key-help" },
                    "It stays in this tab, and is gone when the tab is closed.",
                ),
            ),
            h(
                "p",
                {},
                "On the machine of the server, this prints a link that opens the page with its key:",
            ),
            h("pre", { tabindex: "0", "aria-label": "Command" }, "ascribe --store DIR page"),
        ),
    );
}
