/* heat.js - a text whose tokens are coloured by what each adds to the score. */
import { h, visible } from "../dom.js";
import { score } from "../words.js";

const MOST = 4000; /* tokens drawn; a text may be a mebibyte */

/* What lies between tokens (offsets are of bytes) belongs to no one and stays plain. */
function pieces(text, tokens) {
    const raw = new TextEncoder().encode(text),
        read = new TextDecoder();
    const out = [];
    let at = 0;
    for (const t of tokens) {
        if (t.from > at) out.push({ text: read.decode(raw.subarray(at, t.from)), score: null });
        out.push({ text: read.decode(raw.subarray(t.from, t.to)), score: t.score });
        at = Math.max(at, t.to);
    }
    if (at < raw.length) out.push({ text: read.decode(raw.subarray(at)), score: null });
    return out;
}

export function heat(text, answer) {
    const tokens = answer.tokens.slice(0, MOST);
    const most = Math.max(...tokens.map((t) => Math.abs(t.score)), 1e-300);
    const strongest = tokens.reduce((a, t) => (Math.abs(t.score) > Math.abs(a) ? t.score : a), 0);
    const off = Math.abs(answer.sum - answer.score) > 0.01 * Math.max(Math.abs(answer.score), 1e-6);
    return h(
        "div.heat",
        { test: "heat" },
        h(
            "p.text",
            { lang: "und" },
            pieces(text, tokens).map((p) =>
                p.score === null
                    ? visible(p.text)
                    : h(
                          `span.token.${p.score < 0 ? "con" : "pro"}`,
                          {
                              css: { "--heat": Math.sqrt(Math.abs(p.score) / most).toFixed(3) },
                              title: score(p.score),
                          },
                          visible(p.text),
                      ),
            ),
        ),
        h(
            "p.fine",
            {},
            `Tokens add up to ${score(answer.sum)}; the strongest adds ${score(strongest)}.`,
            answer.tokens.length > MOST && ` The first ${MOST} of ${answer.tokens.length} tokens.`,
        ),
        off &&
            h(
                "p.fine.warn",
                { test: "heat-differs" },
                `The stored score is ${score(answer.score)}. The encoder's model is not the one the corpus was made with, or has changed since: read the colours as a hint.`,
            ),
    );
}
