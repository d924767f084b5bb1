/* plot.js - d3, and what every plot here shares. Plots are SVG with a title and a description,
 * so that they can be heard; colours come from the style sheet. */
import "../d3.js";
import { fresh, s } from "../dom.js";

export const { d3 } = globalThis;

/* An SVG of `width` x `height` pixels; where its place becomes narrower or wider later, it
 * follows. */
export function figure(kind, width, height, title, text) {
    const t = fresh("plot"),
        d = fresh("plot");
    return s(
        `svg.plot.${kind}`,
        { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-labelledby": `${t} ${d}` },
        s("title", { id: t }, title),
        s("desc", { id: d }, text),
    );
}

/* Marks and labels below a plot. */
export function axisBelow(scale, y, ticks, format) {
    return s(
        "g.axis",
        { "aria-hidden": "true" },
        ticks.map((v) =>
            s(
                "g",
                { transform: `translate(${scale(v)},${y})` },
                s("line", { y2: 3 }),
                s("text", { y: 14, "text-anchor": "middle" }, format(v)),
            ),
        ),
    );
}

export function axisLeft(scale, x, ticks, format) {
    return s(
        "g.axis",
        { "aria-hidden": "true" },
        ticks.map((v) =>
            s(
                "g",
                { transform: `translate(${x},${scale(v)})` },
                s("line", { x1: -3 }),
                s("text", { x: -6, dy: "0.32em", "text-anchor": "end" }, format(v)),
            ),
        ),
    );
}
