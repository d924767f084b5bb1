/* norms.js - how long the stored gradients are: bins that grow in proportion, drawn by the
 * logarithm. */
import { s } from "../dom.js";
import { count, figure as digits } from "../words.js";
import { axisBelow, d3, figure } from "./plot.js";

const H = 150,
    SIDE = 10,
    TOP = 16,
    FOOT = 22;

/* width: of the place, in pixels. */
export function norms(data, width) {
    const W = Math.max(200, Math.min(width, 544));
    const bins = data.bins.filter((b) => b.to > b.from && b.from > 0);
    const from = bins[0]?.from ?? 1,
        to = bins.at(-1)?.to ?? 10;
    const x = d3.scaleLog([from, to > from ? to : from * 10], [SIDE, W - SIDE]);
    const y = d3.scaleLinear([0, d3.max(bins, (b) => b.count) || 1], [H - FOOT, TOP]);
    const svg = figure(
        "norms",
        W,
        H,
        "Lengths of the stored vectors",
        `${count(d3.sum(bins, (b) => b.count))} vectors from ${digits(data.min)} to ${digits(data.max)}, median ${digits(data.median)}. The axis is logarithmic.`,
    );
    for (const b of bins)
        if (b.count)
            svg.append(
                s("rect.bar", {
                    x: x(b.from),
                    width: Math.max(0.6, x(b.to) - x(b.from) - 0.6),
                    y: y(b.count),
                    height: H - FOOT - y(b.count),
                }),
            );
    const some = [];
    const powers = x
        .ticks(8)
        .filter((v) => Number.isInteger(Math.round(Math.log10(v) * 1e9) / 1e9));
    for (const v of powers.length > 1 ? powers : x.ticks(8))
        /* those that leave each other room */
        if (!some.length || x(v) - x(some.at(-1)) > 40) some.push(v);
    svg.append(
        s("line.base", { x1: SIDE, x2: W - SIDE, y1: H - FOOT, y2: H - FOOT }),
        axisBelow(x, H - FOOT, some, digits),
    );
    if (data.median > 0)
        svg.append(
            s("line.mark.pro", { x1: x(data.median), x2: x(data.median), y1: 2, y2: H - FOOT }),
            s(
                "text.name",
                {
                    x: x(data.median) + (x(data.median) > W * 0.7 ? -5 : 5),
                    y: 10,
                    "text-anchor": x(data.median) > W * 0.7 ? "end" : "start",
                },
                `median ${digits(data.median)}`,
            ),
        );
    return svg;
}
