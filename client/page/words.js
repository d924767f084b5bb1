/* words.js - numbers and times as people read them, and words shared by two texts. Pure
 * functions. */

const MINUS = "\u2212"; /* a real minus: as wide as a plus */

export function count(n) {
    return n === null || n === undefined ? "\u2013" : Math.round(n).toLocaleString("en");
}

export function bytes(n) {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let at = 0;
    while (n >= 1024 && at < units.length - 1) {
        n /= 1024;
        at += 1;
    }
    return `${at && n < 100 ? n.toFixed(1) : Math.round(n)} ${units[at]}`;
}

/* A score with its sign and enough digits: near 1 four decimals, else four figures. */
export function score(x) {
    if (x === null || x === undefined || !Number.isFinite(x)) return "\u2013";
    const size = Math.abs(x);
    const text =
        size >= 1e5 || (size < 1e-4 && size > 0)
            ? size.toExponential(3)
            : size < 10
              ? size.toFixed(4)
              : size.toPrecision(6);
    return (x < 0 ? MINUS : "+") + text;
}

/* Writes numbers that stand in one column: with the decimals that the largest of them needs. */
export function aligned(values) {
    const most = Math.max(...values.map(Math.abs).filter(Number.isFinite), 0);
    const decimals = most > 0 ? 3 - Math.ceil(Math.log10(most)) : 0;
    return (x) =>
        !Number.isFinite(x)
            ? "\u2013"
            : decimals > 8
              ? score(x)
              : (x < 0 ? MINUS : "+") + Math.abs(x).toFixed(Math.max(0, decimals));
}

export function figure(x) {
    if (x === null || x === undefined || !Number.isFinite(x)) return "\u2013";
    const size = Math.abs(x);
    const text =
        size !== 0 && (size >= 1e5 || size < 1e-3)
            ? size.toExponential(2)
            : String(Number(size.toPrecision(4)));
    return (x < 0 ? MINUS : "") + text;
}

/* Two figures of a small share: 0.012 %, 3.4 %. */
function share(x) {
    const percent = x * 100;
    if (percent >= 10) return `${percent.toFixed(0)} %`;
    if (percent < 1e-4) return "< 0.0001 %";
    return `${Number(percent.toPrecision(2))} %`;
}

/* Where a score stands: `below` is the fraction of scores that are lower, of `of` in all. */
export function standing(below, of) {
    const above = 1 - below;
    const least = of ? 1 / of : 0;
    return below >= 0.5
        ? `top ${share(Math.max(above, least))}`
        : `lowest ${share(Math.max(below, least))}`;
}

export function duration(seconds) {
    if (!Number.isFinite(seconds) || seconds < 0) return "\u2013";
    if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
    if (seconds < 90) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
    if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
    return `${(seconds / 3600).toFixed(1)} h`;
}

export function plural(n, one, many = `${one}s`) {
    return `${count(n)} ${n === 1 ? one : many}`;
}

/* 64 bits of a hash as four words that can be read out: consonants and vowels take turns. */
export function spoken(hex) {
    const con = "bdfghjklmnprstvz",
        vow = "aiou";
    const out = [];
    for (let i = 0; i + 4 <= Math.min(hex.length, 16); i += 4) {
        const n = parseInt(hex.slice(i, i + 4), 16);
        out.push(
            con[n >> 12] +
                vow[(n >> 10) & 3] +
                con[(n >> 6) & 15] +
                vow[(n >> 4) & 3] +
                con[n & 15],
        );
    }
    return out.join("-");
}

/* Long runs of hexadecimal digits, as names of models have them, by their first twelve. */
export function shortened(text) {
    return text.replace(/[0-9a-f]{20,}/g, (hex) => `${hex.slice(0, 12)}\u2026`);
}

const STOP = new Set(
    (
        "a an and are as at be been but by can could did do does for from had has have he her his " +
        "if in into is it its no nor not of on or our she so than that the their them then there these they this " +
        "those to too was we were what when where which who whom whose why will with would you your"
    ).split(" "),
);
const WORD = /[\p{L}\p{N}]+/gu;

function plain(word) {
    return word.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
}

export function wordsOf(text) {
    return new Set(
        [...(text ?? "").matchAll(WORD)]
            .map((m) => plain(m[0]))
            .filter((w) => w.length > 1 && !STOP.has(w)),
    );
}

/* What of `text` to mark: [{text, mark: null | "shared" | "target"}], in order and without gaps. */
export function marked(text, prompt, target) {
    const shared = wordsOf(prompt),
        aim = wordsOf(target);
    const phrase = plain((target ?? "").trim());
    const out = [];
    let at = 0;
    for (const m of text.matchAll(WORD)) {
        const word = plain(m[0]);
        const mark =
            aim.has(word) || (phrase && word === phrase)
                ? "target"
                : shared.has(word)
                  ? "shared"
                  : null;
        if (!mark) continue;
        if (m.index > at) out.push({ text: text.slice(at, m.index), mark: null });
        out.push({ text: m[0], mark });
        at = m.index + m[0].length;
    }
    if (at < text.length) out.push({ text: text.slice(at), mark: null });
    return out;
}

/* The place in a JavaScript string of a byte of its UTF-8. */
export function placeOfByte(text, byte) {
    let at = 0;
    for (const ch of text) {
        if (byte <= 0) break;
        const code = ch.codePointAt(0);
        byte -= code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
        at += ch.length;
    }
    return at;
}
