/* notices.js - one line at the top while the server keeps us waiting, gone when it answers. */
import { fill, h } from "../dom.js";
import { hurry, news } from "../server.js";

export function watch(root) {
    let timer = null;
    function clear() {
        clearInterval(timer);
        timer = null;
        root.replaceChildren();
    }
    news.addEventListener("waiting", ({ detail }) => {
        const until = performance.now() + detail.seconds * 1000;
        const why = detail.draining
            ? "The server is shutting down."
            : detail.mine
              ? "This key has used up its rate."
              : detail.full
                ? "The server is busy with other requests."
                : "The server does not answer.";
        const left = h("span", { "aria-hidden": "true" });
        clearInterval(timer);
        fill(
            root,
            h(
                "div.notice",
                { test: detail.full ? "busy" : "offline" },
                h("span", {}, `${why} Trying again by itself. `),
                left,
                h(
                    "button.plain",
                    { type: "button", test: "try-now", on: { click: hurry } },
                    "Try now",
                ),
            ),
        );
        const tick = () => {
            left.textContent = `In ${Math.max(0, Math.ceil((until - performance.now()) / 1000))} s.`;
        };
        tick();
        timer = setInterval(tick, 250);
    });
    news.addEventListener("on", clear);
    news.addEventListener("quiet", clear);
    return clear;
}
