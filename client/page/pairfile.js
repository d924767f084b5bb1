/* pairfile.js - files in the schema of the PAIR viewer: one JSON object a line, a query with its
 * proponents and opponents. A file is read in a stream and may be larger than memory: of each
 * record only its place and its words are kept, the rest is read again when it is looked at. */

const LINE_MOST = 64 << 20;

/* What stands in a file may be of any type: words of it, and a list or none. */
const word = (value) =>
    typeof value === "object" && value !== null ? JSON.stringify(value) : String(value ?? "");
const list = (value) => (Array.isArray(value) ? value : []);

function summary(record) {
    if (typeof record !== "object" || record === null || Array.isArray(record))
        throw new Error("not a JSON object");
    if (!Array.isArray(record.proponents) && !Array.isArray(record.proponent_ids))
        throw new Error("no proponents: not a result of this schema");
    return {
        id: word(record.example_id),
        prompt: word(record.inputs_plaintext),
        target: word(record.targets_plaintext),
        set: word(record.query_set),
    };
}

/* Cuts a stream of bytes into lines: each(bytes, from, to, number). */
async function lines(file, each, onProgress, signal) {
    const reader = file.stream().getReader();
    let rest = [],
        held = 0,
        at = 0,
        number = 0,
        read = 0;
    const end = (piece, to) => {
        const line = new Uint8Array(held + piece.length);
        let put = 0;
        for (const one of [...rest, piece]) {
            line.set(one, put);
            put += one.length;
        }
        number += 1;
        each(line, at, to, number);
        rest = [];
        held = 0;
        at = to + 1;
    };
    for (;;) {
        signal.throwIfAborted();
        const { value, done } = await reader.read();
        if (done) break;
        let from = 0;
        for (let nl; (nl = value.indexOf(10, from)) >= 0; from = nl + 1)
            end(value.subarray(from, nl), read + nl);
        if (from < value.length) {
            rest.push(value.slice(from));
            held += value.length - from;
            if (held > LINE_MOST)
                throw new Error(
                    `line ${number + 1} is longer than 64 MiB: this is not a file of JSON Lines`,
                );
        }
        read += value.length;
        onProgress(read / Math.max(1, file.size));
    }
    if (held) end(new Uint8Array(0), read);
}

/* {entries: [{line, from, to, id, prompt, target, set}], bad: [{line, why}], badCount}. */
export async function indexFile(file, onProgress, signal) {
    const entries = [],
        bad = [];
    let badCount = 0;
    const decode = new TextDecoder("utf-8", { fatal: true });
    await lines(
        file,
        (bytes, from, to, number) => {
            try {
                const text = decode.decode(bytes).trim();
                if (text) entries.push({ line: number, from, to, ...summary(JSON.parse(text)) });
            } catch (error) {
                badCount += 1;
                if (bad.length < 100) bad.push({ line: number, why: error.message });
            }
        },
        onProgress,
        signal,
    );
    return { entries, bad, badCount };
}

function side(record, plural, singular) {
    const texts = list(record[plural]),
        ids = list(record[`${singular}_ids`]),
        scores = list(record[`${singular}_scores`]);
    const all = Math.max(texts.length, ids.length);
    return Array.from({ length: all }, (_, i) => ({
        rank: i + 1,
        id: word(ids[i]),
        text: texts[i] === undefined || texts[i] === null ? null : word(texts[i]),
        score: typeof scores[i] === "number" ? scores[i] : null,
        correct: singular === "proponent" ? (record.proponent_correct?.[i] ?? null) : null,
        ais: singular === "proponent" ? (record.proponent_ais_scores?.[i] ?? null) : null,
    }));
}

const SIDES = [
    "example_id",
    "query_set",
    "inputs_plaintext",
    "targets_plaintext",
    "proponents",
    "proponent_ids",
    "proponent_scores",
    "opponents",
    "opponent_ids",
    "opponent_scores",
    "proponent_correct",
    "proponent_ais_scores",
];

/* The record of an entry: {prompt, target, proponents, opponents, other: members that are
 * neither}. */
export async function readRecord(file, entry) {
    const record = JSON.parse(await file.slice(entry.from, entry.to).text());
    return {
        ...entry,
        proponents: side(record, "proponents", "proponent"),
        opponents: side(record, "opponents", "opponent"),
        other: Object.fromEntries(Object.entries(record).filter(([name]) => !SIDES.includes(name))),
    };
}

/* A live answer as a record. */
export function answerRecord(subject, method, answer) {
    const put = (hits, plural, singular) => ({
        [plural]: hits.map((x) => x.text ?? ""),
        [`${singular}_ids`]: hits.map((x) => x.id),
        [`${singular}_scores`]: hits.map((x) => x.score),
    });
    return {
        example_id: subject.name ?? `${subject.prompt ?? ""}${subject.target ?? ""}`,
        query_set: method,
        inputs_plaintext: subject.prompt ?? "",
        targets_plaintext: subject.target ?? "",
        ...put(answer.proponents, "proponents", "proponent"),
        ...(answer.opponents.length ? put(answer.opponents, "opponents", "opponent") : {}),
    };
}

/* Names of saved queries are a-z, 0-9, _ and -; ids of files are anything. */
export function nameOf(id) {
    return id
        .toLowerCase()
        .replace(/[^a-z0-9_-]+/g, "-")
        .replace(/^[-_]+|-+$/g, "")
        .slice(0, 63);
}

export function download(name, parts) {
    const url = URL.createObjectURL(new Blob(parts, { type: "application/jsonl" }));
    const link = document.createElement("a");
    link.href = url;
    link.download = name;
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
}
