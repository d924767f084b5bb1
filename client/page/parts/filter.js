/* filter.js - the box for the server's filters. A filter that cannot be read is shown with a
 * mark where reading stopped; the answer that stood there stays. */
import { fresh, fill, h } from "../dom.js";
import { placeOfByte } from "../words.js";

/* submit(text) when somebody pressed Enter; gives {node, fail(error), clear()}. */
export function filterBox(value, submit) {
    const id = fresh("filter");
    const wrong = h("div.filter-error", { id: `${id}-error`, role: "alert" });
    const field = h("input", {
        id,
        type: "text",
        value,
        spellcheck: "false",
        autocomplete: "off",
        autocapitalize: "off",
        test: "filter",
        placeholder: 'meta.source = "wiki"',
        "aria-describedby": `${id}-error`,
        maxlength: 100000,
    });
    const node = h(
        "form.filter",
        {
            role: "search",
            "aria-label": "Filter",
            on: {
                submit: (event) => {
                    event.preventDefault();
                    submit(field.value.trim());
                },
            },
        },
        h("label", { for: id }, "Filter"),
        h(
            "div.row",
            {},
            field,
            h("button", { type: "submit", test: "filter-go" }, "Apply"),
            value &&
                h(
                    "button.plain",
                    { type: "button", test: "filter-clear", on: { click: () => submit("") } },
                    "Clear",
                ),
        ),
        wrong,
    );
    return {
        node,
        field,
        fail(error) {
            const at = error.index === null ? null : placeOfByte(value, error.index);
            field.setAttribute("aria-invalid", "true");
            fill(
                wrong,
                h("p", { test: "filter-error", "data-index": error.index ?? "" }, error.detail),
                at !== null &&
                    h(
                        "pre",
                        { "aria-hidden": "true" },
                        value.slice(Math.max(0, at - 40), at),
                        h("mark.here", {}, value.slice(at, at + 1) || "\u2423"),
                        value.slice(at + 1, at + 40),
                    ),
            );
            field.focus();
            if (at !== null) field.setSelectionRange(at, Math.min(value.length, at + 1));
        },
        clear() {
            field.removeAttribute("aria-invalid");
            wrong.replaceChildren();
        },
    };
}
