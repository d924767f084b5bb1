/* fuzz_pair.mjs MODULE SEED COUNT - files in PAIR's schema, damaged by chance: the reader of the page (pairfile.js, given
 * as a module) indexes each, and every record it lists can be opened, as words and lists of a bounded length. */
const [path, seed, count] = process.argv.slice(2);
const { indexFile, readRecord } = await import(path);

let state = Number(seed) >>> 0;
const dice = (n) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0; // Numerical Recipes' generator: the same run for a seed
    return Math.floor((state / 2 ** 32) * n);
};
const whole = JSON.stringify({
    example_id: "q1", query_set: "s", inputs_plaintext: "who", targets_plaintext: "they", extra: 1,
    proponents: ["a", "b"], proponent_ids: ["1", "2"], proponent_scores: [0.5, 0.25], proponent_correct: [true, null],
    opponents: ["c"], opponent_ids: ["3"], opponent_scores: [-0.5],
});
const words = ["null", "[]", "{}", '{"length":4294967295}', '{"toString":1}', "1e999", '"\\ud800"', "-0", "true", "\n", "\0", "[[[[", "{"];
const values = /"[^"]*"(?=[,\]}])|\[[^\]]*\]|-?[0-9.]+|true|null/g;

function damaged() {
    let text = whole + "\n" + whole;
    for (let n = 1 + dice(4); n > 0; n--) {
        const places = [...text.matchAll(values)];
        const at = places[dice(places.length)] ?? { index: dice(text.length), 0: "" };
        const from = dice(3) ? at.index : dice(text.length);
        text = text.slice(0, from) + words[dice(words.length)] + text.slice(from + (dice(3) ? at[0].length : dice(4)));
    }
    return text;
}

let listed = 0,
    refused = 0;
for (let i = 0; i < Number(count); i++) {
    const text = damaged();
    try {
        const file = new Blob([text]);
        const { entries, badCount } = await indexFile(file, () => {}, new AbortController().signal);
        refused += badCount;
        for (const entry of entries) {
            const record = await readRecord(file, entry);
            listed += 1;
            for (const one of [...record.proponents, ...record.opponents])
                if (typeof one.id !== "string" || record.proponents.length > text.length) throw new Error("no words");
        }
    } catch (error) {
        console.error(`seed ${seed}, file ${i}: ${error.stack}\n${text}`);
        process.exit(1);
    }
}
console.log(`${count} files, ${listed} records opened, ${refused} lines refused`);
