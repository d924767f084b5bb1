/* diverging.js - bars on one line of zero, which lies where the values need it. */
import { h } from "../dom.js";

/* Gives bar(value), an element as wide as its place. */
export function diverging(values) {
    const low = Math.min(0, ...values),
        high = Math.max(0, ...values),
        range = high - low || 1;
    return (value) =>
        h(`div.diverging.${value < 0 ? "con" : "pro"}`, {
            css: {
                "--from": (Math.min(0, value) - low) / range,
                "--part": Math.abs(value) / range,
            },
        });
}
