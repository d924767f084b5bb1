/* histogram.js - how the scores of all examples lie, and where the shown ones stand among them. */
import { s } from "../dom.js";
import { count, score } from "../words.js";
import { axisBelow, d3, figure } from "./plot.js";

const H = 98,
    LEFT = 6,
    RIGHT = 6,
    TOP = 6,
    FOOT = 22;

/* data: {from, to, counts}; marks: [{score, side}], side "pro" or "con". Counts are drawn by
 * their logarithm: the shown examples lie where there are few. width: of the place, in pixels,
 * so that letters keep their size. */
export function histogram(data, marks, width) {
    const W = Math.max(200, width);
    const total = d3.sum(data.counts),
        most = d3.max(data.counts) || 1;
    const from = Math.min(data.from, d3.min(marks, (m) => m.score) ?? data.from);
    const to = Math.max(data.to, d3.max(marks, (m) => m.score) ?? data.to);
    const x = d3.scaleLinear([from, to > from ? to : from + 1], [LEFT, W - RIGHT]);
    const y = d3.scaleLinear([0, Math.log1p(most)], [H - FOOT, TOP]);
    const step = (data.to - data.from) / data.counts.length;
    const ticks = x.ticks(5).filter((v) => x(v) > LEFT + 14 && x(v) < W - RIGHT - 14);
    const svg = figure(
        "histogram",
        W,
        H,
        "All scores",
        `${count(total)} scores from ${score(data.from)} to ${score(data.to)}; ` +
            `${marks.length} shown examples are marked. Heights are logarithmic.`,
    );
    data.counts.forEach((n, i) => {
        if (!n) return;
        const left = x(data.from + i * step),
            right = x(data.from + (i + 1) * step);
        svg.append(
            s("rect.bar", {
                x: left,
                width: Math.max(right - left - 0.6, 0.6),
                y: y(Math.log1p(n)),
                height: H - FOOT - y(Math.log1p(n)),
            }),
        );
    });
    svg.append(
        s("line.base", { x1: LEFT, x2: W - RIGHT, y1: H - FOOT, y2: H - FOOT }),
        axisBelow(x, H - FOOT, ticks, x.tickFormat(5)),
    );
    for (const m of marks)
        svg.append(
            s(`line.mark.${m.side}`, {
                x1: x(m.score),
                x2: x(m.score),
                y1: H - FOOT - 15,
                y2: H - FOOT,
            }),
        );
    return svg;
}

/* The same, as small as a word: a silhouette and one mark. */
export function strip(data, value, side) {
    const w = 76,
        high = 16;
    const x = d3.scaleLinear([Math.min(data.from, value), Math.max(data.to, value)], [1, w - 1]);
    const y = d3.scaleLinear([0, Math.log1p(d3.max(data.counts) || 1)], [high, 1]);
    const step = (data.to - data.from) / data.counts.length;
    const area = d3
        .area()
        .x((n, i) => x(data.from + (i + 0.5) * step))
        .y0(high)
        .y1((n) => y(Math.log1p(n)))
        .curve(d3.curveMonotoneX);
    return s(
        "svg.strip",
        { viewBox: `0 0 ${w} ${high}`, width: w, height: high, "aria-hidden": "true" },
        s("path.bar", { d: area(data.counts) }),
        s(`line.mark.${side}`, { x1: x(value), x2: x(value), y1: 0, y2: high }),
    );
}
