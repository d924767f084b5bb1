/* bar.js - the head of the page: corpus, views, theme, help. Made once; follows the address. */
import { go, read, view } from "../address.js";
import { corpora } from "../data.js";
import { fill, h, say } from "../dom.js";

const VIEWS = [
    ["queries", "Queries"],
    ["corpus", "Corpus"],
    ["pair", "Compare a file"],
];
/* An answer belongs to the queries, an example to the corpus. */
const HOME = { answer: "queries", example: "corpus" };

function themeButton() {
    const root = document.documentElement;
    const dark = () =>
        (root.dataset.theme ??
            (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
    const button = h("button.icon", { type: "button", test: "theme", on: { click: turn } });
    function show() {
        button.setAttribute("aria-label", dark() ? "Light theme" : "Dark theme");
        button.title = dark() ? "Light theme" : "Dark theme";
        fill(
            button,
            h("span", { "aria-hidden": "true" }, dark() ? "\u2600\ufe0e" : "\u263e\ufe0e"),
        );
    }
    function turn() {
        root.dataset.theme = dark() ? "light" : "dark";
        try {
            localStorage.setItem("ascribe.theme", root.dataset.theme);
        } catch {
            /* it lasts as long as the page */
        }
        show();
        say(dark() ? "Dark theme" : "Light theme");
    }
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
    show();
    return button;
}

export function makeBar(root, help) {
    const pick = h("select", {
        id: "corpus",
        test: "corpus",
        "aria-label": "Corpus",
        on: {
            change: () =>
                go(
                    `#c=${encodeURIComponent(pick.value)}&v=${HOME[read().v] ?? read().v ?? "queries"}`,
                ),
        },
    });
    const links = VIEWS.map(([name, label]) => h("a", { test: `nav-${name}` }, label));
    fill(
        root,
        h("a.brand", { href: "#", test: "home" }, "ascribe"),
        pick,
        h("nav", { "aria-label": "Views" }, links),
        h(
            "div.tools",
            {},
            themeButton(),
            h(
                "button.icon",
                {
                    type: "button",
                    "aria-label": "Help and keyboard",
                    title: "Help and keyboard (?)",
                    test: "help",
                    on: { click: help },
                },
                h("span", { "aria-hidden": "true" }, "?"),
            ),
        ),
    );

    async function follow() {
        const state = read(),
            v = state.v ?? "queries";
        VIEWS.forEach(([name], i) => {
            links[i].href = view(name, { q: null });
            if (name === (HOME[v] ?? v)) links[i].setAttribute("aria-current", "page");
            else links[i].removeAttribute("aria-current");
        });
        let list = [];
        try {
            list = await corpora();
        } catch {
            /* the view says what is wrong */
        }
        const names = list.map((one) => one.name);
        if (state.c && !names.includes(state.c)) names.unshift(state.c);
        fill(
            pick,
            names.length
                ? names.map((name) => h("option", { value: name }, name))
                : h("option", { value: "" }, "no corpus"),
        );
        pick.disabled = names.length < 2;
        if (state.c) pick.value = state.c;
    }
    return { follow };
}
