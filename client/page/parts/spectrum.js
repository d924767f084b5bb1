/* spectrum.js - the eigenvalues of both Hessians of a task, pooled over blocks: where they cross
 * decides lambda. */
import { s } from "../dom.js";
import { count } from "../words.js";
import { axisBelow, axisLeft, d3, figure } from "./plot.js";

const H = 220,
    LEFT = 44,
    RIGHT = 12,
    TOP = 14,
    FOOT = 34;

/* width: of the place, in pixels. */
export function spectrum(task, width) {
    const W = Math.max(220, Math.min(width, 544));
    const { place, train, eval: ev } = task.spectra;
    const rows = place.map((p, i) => ({ p: p + 1, train: train[i], eval: ev[i] }));
    const values = rows.flatMap((r) => [r.train, r.eval]).filter((v) => v > 0);
    const top = d3.max(values) ?? 1,
        low = Math.max(d3.min(values) ?? 1e-3, top * 1e-7);
    const x = d3.scaleLog([1, Math.max(2, d3.max(rows, (r) => r.p) ?? 2)], [LEFT, W - RIGHT]);
    const y = d3.scaleLog([low, top], [H - FOOT, TOP]).clamp(true);
    const line = (name) =>
        d3
            .line()
            .defined((r) => r[name] > 0)
            .x((r) => x(r.p))
            .y((r) => y(r[name]))(rows);
    const svg = figure(
        "spectrum",
        W,
        H,
        `Eigenvalues of task ${task.name}`,
        `Sorted eigenvalues of the corpus and of the evaluation set, both axes logarithmic. Lambda is ${task.lambda}` +
            (task.k ? `; they cross at place ${count(task.k)}.` : "."),
    );
    const powers = (scale, n) => {
        const [a, b] = scale.domain().map(Math.log10);
        const all = d3.range(Math.ceil(a), Math.floor(b) + 1);
        const every = Math.max(1, Math.ceil(all.length / n));
        return all.filter((e, i) => i % every === 0).map((e) => 10 ** e);
    };
    const power = (v) => (v >= 1 && v < 1e4 ? String(v) : v.toExponential(0).replace("e+", "e"));
    svg.append(
        axisBelow(x, H - FOOT, powers(x, 6), power),
        axisLeft(y, LEFT, powers(y, 5), power),
        s("text.name", { x: (LEFT + W - RIGHT) / 2, y: H - 3, "text-anchor": "middle" }, "place"),
        s("path.line.train", { d: line("train") ?? "" }),
        s("path.line.eval", { d: line("eval") ?? "" }),
    );
    if (task.k)
        svg.append(
            s("line.cross", { x1: x(task.k), x2: x(task.k), y1: TOP, y2: H - FOOT }),
            s("text.name", { x: x(task.k) + 4, y: TOP + 8 }, `k = ${count(task.k)}`),
        );
    return svg;
}
