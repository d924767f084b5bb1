/* ask.js - the box for a live prompt: words in, an answer out, if the server has an encoder. */
import { go, view } from "../address.js";
import { fill, h } from "../dom.js";
import { goOn } from "../live.js";
import { aborted, wordsFor } from "../server.js";
import { shortened } from "../words.js";

const TOKENS = 8;

function stateWords(coder) {
    switch (coder.state) {
        case "ready":
            return coder.model
                ? `Answered by ${coder.name ?? "the encoder"}, model ${shortened(coder.model)}`
                : "The encoder is ready";
        case "starting":
            return "The encoder is starting; you can type already.";
        case "failed":
            return `The encoder failed and is being started again${coder.error ? `: ${coder.error}` : "."}`;
        default:
            return null;
    }
}

export function askBox(coder, signal) {
    if (!coder || coder.state === "none")
        return h(
            "section.ask.off",
            { "aria-label": "Ask", test: "ask-none" },
            h(
                "p.quiet",
                {},
                "To ask in your own words the server needs an encoder, a program that turns words into a gradient: ",
                h("code", {}, "ascribed --encoder 'ascribe-lm serve --model model.ckpt'"),
                ". The saved queries below work without.",
            ),
        );
    if (coder.state === "forbidden")
        return h(
            "section.ask.off",
            { "aria-label": "Ask", test: "ask-none" },
            h(
                "p.quiet",
                {},
                "The key of this page is for this corpus alone and may not ask in new words. The saved queries below work.",
            ),
        );
    const prompt = h("textarea", {
        id: "prompt",
        rows: 2,
        test: "prompt",
        maxlength: 20000,
        placeholder: "Lincoln: 16th President of",
    });
    const target = h("input", {
        id: "target",
        type: "text",
        test: "target",
        maxlength: 20000,
        autocomplete: "off",
        placeholder: "the United States",
    });
    const state = h(
        "p.fine",
        { role: "status", test: "ask-state", title: coder.model ?? null },
        stateWords(coder),
    );
    const more = h(
        "button",
        { type: "button", test: "continue", on: { click: letItGoOn } },
        "Let the model continue",
    );
    const canGoOn = !coder.verbs?.length || coder.verbs.includes("continue");

    async function letItGoOn() {
        if (!prompt.value.trim()) {
            fill(state, "Type a prompt first.");
            prompt.focus();
            return;
        }
        more.disabled = true;
        fill(state, "The model is writing\u2026");
        try {
            const answer = await goOn(prompt.value, TOKENS, signal);
            target.value = answer.output;
            fill(state, "The model\u2019s own words: ask why it said them, or change them.");
            target.focus();
        } catch (error) {
            if (aborted(error)) return;
            const words = wordsFor(error);
            fill(
                state,
                h("span.warn", {}, `${words.title}. ${words.text ?? ""} ${words.detail ?? ""}`),
            );
        }
        more.disabled = false;
    }
    function ask(event) {
        event.preventDefault();
        if (!prompt.value.trim() || !target.value.trim()) {
            fill(state, "Both are needed: what the model was given, and what it said.");
            (prompt.value.trim() ? target : prompt).focus();
            return;
        }
        /* a target goes on where the prompt ends: one space, unless the person wrote it
         * otherwise */
        const gap = /\s$/.test(prompt.value) || /^[\s.,;:!?)]/.test(target.value) ? "" : " ";
        go(view("answer", { prompt: prompt.value, target: gap + target.value }));
    }
    return h(
        "section.ask",
        { "aria-labelledby": "ask-title" },
        h("h2", { id: "ask-title" }, "Ask"),
        h(
            "form",
            { test: "ask", on: { submit: ask } },
            h("label", { for: "prompt" }, "What the model was given"),
            prompt,
            h("label", { for: "target" }, "What it said"),
            h(
                "div.row",
                {},
                target,
                canGoOn && more,
                h("button.primary", { type: "submit", test: "ask-go" }, "Why?"),
            ),
        ),
        state,
    );
}
