/* takedown.js - taking an example down: asked twice, the second time by its id. It cannot be
 * undone, and says so. */
import { fill, fresh, h, say } from "../dom.js";
import { aborted, call, path, wordsFor } from "../server.js";

const LONG = 40; /* an id longer than this is shown, and "take it down" typed instead */

/* done() once it is down. */
export function takedown(c, id, done, signal) {
    const word = id.length > LONG || /[^\x20-\x7e]/.test(id) ? "take it down" : id;
    const field = fresh("confirm");
    const said = h("p.fine", { role: "status" });
    const typed = h("input", {
        id: field,
        type: "text",
        autocomplete: "off",
        spellcheck: "false",
        autocapitalize: "off",
        test: "takedown-confirm",
        on: { input: check },
    });
    const go = h(
        "button.danger",
        { type: "submit", disabled: true, test: "takedown-go" },
        "Take down",
    );
    const dialog = h(
        "dialog",
        { "aria-labelledby": `${field}-title`, test: "takedown-dialog" },
        h(
            "form",
            { on: { submit } },
            h("h2", { id: `${field}-title` }, "Take this example down?"),
            h(
                "p",
                {},
                "It leaves every answer from now on, for everybody. This cannot be undone, and the example cannot be restored from here.",
            ),
            h("p", {}, h("label", { for: field }, "Type ", h("code", {}, word), " to go on")),
            typed,
            said,
            h(
                "div.row",
                {},
                h(
                    "button",
                    {
                        type: "button",
                        test: "takedown-cancel",
                        on: { click: () => dialog.close() },
                    },
                    "Keep it",
                ),
                go,
            ),
        ),
    );

    function check() {
        go.disabled = typed.value.trim() !== word;
    }
    async function submit(event) {
        event.preventDefault();
        if (typed.value.trim() !== word) return;
        go.disabled = true;
        fill(said, "Taking it down\u2026");
        try {
            await call("DELETE", path("corpora", c, "examples", id), { signal });
            dialog.close();
            say("The example was taken down");
            done();
        } catch (error) {
            if (aborted(error)) return;
            const words = wordsFor(error);
            fill(said, h("span.warn", {}, `${words.title}. ${words.detail ?? words.text ?? ""}`));
            go.disabled = false;
        }
    }
    return h(
        "div",
        {},
        h(
            "button.danger",
            {
                type: "button",
                test: "takedown",
                on: {
                    click: () => {
                        typed.value = "";
                        said.replaceChildren();
                        check();
                        dialog.showModal();
                    },
                },
            },
            "Take down\u2026",
        ),
        dialog,
    );
}
