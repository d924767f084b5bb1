/* identity.js - what a corpus is: its manifest as a sentence, and its fingerprint to read and to
 * say. */
import { h } from "../dom.js";
import { count, plural, shortened, spoken } from "../words.js";

function sentence(manifest, whitened) {
    const blocks = manifest.blocks?.length ?? 1,
        p = manifest.projection,
        second = manifest.second_moment;
    return [
        `Vectors of ${count(manifest.dim)} numbers (${manifest.dtype}) in ${plural(blocks, "block")}`,
        manifest.model && ` from the model ${manifest.model}`,
        manifest.loss && `, loss by ${manifest.loss}`,
        p &&
            `; ${p.kind ?? "projected"}${p.p ? `, ${p.p} \u00d7 ${p.p}` : ""}${p.seed !== undefined ? `, seed ${p.seed}` : ""}`,
        second && `; second moment by ${second.kind ?? JSON.stringify(second)}`,
        manifest.encoded
            ? "; encoded before they came."
            : whitened
              ? "; whitened here."
              : "; not whitened yet.",
    ]
        .filter(Boolean)
        .join("");
}

export function identity(now) {
    return h(
        "div",
        {},
        h(
            "p",
            { test: "fingerprint-words", title: now.manifest.model ?? null },
            shortened(sentence(now.manifest, now.whitened)),
        ),
        h(
            "p",
            {},
            h("b.spoken", { test: "fingerprint" }, spoken(now.fingerprint)),
            " ",
            h("span.fine", {}, "to compare aloud: the first 64 bits of"),
        ),
        h("p", {}, h("code.hash", {}, now.fingerprint)),
    );
}
