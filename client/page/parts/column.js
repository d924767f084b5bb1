/* column.js - one method's answer: how all scores lie, then proponents, then opponents. */
import { fill, fresh, h } from "../dom.js";
import { aborted } from "../server.js";
import { count, duration, plural } from "../words.js";
import { card } from "./card.js";
import { histogram } from "./histogram.js";
import { damage, failed, loading } from "./states.js";

const FEW = 10; /* fewer scores have no distribution to speak of */

function how(answer, method) {
    if (!method.gradient)
        return `${plural(answer.matches ?? 0, "text")} with any of the words \u00b7 ${duration(answer.took_ms / 1000)}`;
    const exact =
        answer.exact === "probabilistic" ? `exact but for a chance of ${answer.delta}` : "exact";
    return `${exact}, over ${plural(answer.examples, "example")} \u00b7 ${answer.engine} \u00b7 ${duration(answer.took_ms / 1000)}`;
}

function side(title, cards, none) {
    const id = fresh("side");
    return h(
        "div",
        {},
        h("h3", { id }, title),
        cards.length
            ? h(
                  "ol.cards",
                  { "aria-labelledby": id },
                  cards.map((c) => c.node),
              )
            : h("p.quiet", {}, none),
    );
}

/* {node, load(ask), ids(), place(own, others)}. remove(): takes the method away, or null. */
export function column(method, subject, options) {
    const id = fresh("column");
    const spread = h("div.spread", { test: "histogram" });
    const about = h("p.fine.how", {}, "\u00a0");
    const body = h(
        "div.column-body",
        { "aria-live": "off" },
        loading(method.label, Math.min(options.k, 6), "bone-card"),
    );
    const node = h(
        "section.column",
        { "aria-labelledby": id, test: "column", "data-method": method.key },
        h(
            "div.column-head",
            {},
            h("h2", { id }, method.label),
            options.remove &&
                h(
                    "button.plain.close",
                    {
                        type: "button",
                        "aria-label": `Remove ${method.label}`,
                        test: "remove-method",
                        on: { click: options.remove },
                    },
                    h("span", { "aria-hidden": "true" }, "\u00d7"),
                ),
        ),
        h("p.note", {}, method.note),
        about,
        spread,
        body,
    );
    let cards = [],
        answer = null,
        against = [];

    function show() {
        const make = (kind) => (hit) =>
            card({ hit, side: kind, method, subject, explain: options.explain });
        const above = new Set(answer.proponents.map((hit) => hit.id));
        against = answer.opponents.filter(
            (hit) => !above.has(hit.id),
        ); /* of few examples both lists are made */
        const pro = answer.proponents.map(make("pro")),
            con = against.map(make("con"));
        cards = [...pro, ...con];
        about.textContent = how(answer, method);
        fill(
            body,
            damage(answer.damaged),
            answer.missing > 0 &&
                h(
                    "p.fine",
                    {},
                    `${plural(answer.missing, "text")} not searched yet: the index of words is catching up.`,
                ),
            side(
                method.gradient ? "Proponents" : "Best matches",
                pro,
                method.gradient ? "No example takes part." : "No text has any of these words.",
            ),
            options.opponents > 0 &&
                method.gradient &&
                side(
                    "Opponents",
                    con,
                    above.size
                        ? `Only ${plural(answer.examples, "example")} took part: all are above.`
                        : "None.",
                ),
        );
    }

    /* ask(): a promise of methods.list. True when there is an answer. */
    async function load(ask) {
        try {
            answer = await ask();
            show();
            return true;
        } catch (error) {
            if (aborted(error)) throw error;
            if (error.code === "bad_filter")
                fill(body, h("p.quiet", {}, "Waiting for a filter that can be read."));
            else
                fill(
                    body,
                    failed(error, () => {
                        fill(body, loading(method.label, 4, "bone-card"));
                        options.again();
                    }),
                );
            options.failed?.(error);
            return false;
        }
    }
    function marks() {
        return [
            ...(answer?.proponents ?? []).map((x) => ({ score: x.score, side: "pro" })),
            ...against.map((x) => ({ score: x.score, side: "con" })),
        ];
    }
    function place(own, others) {
        if (own?.histogram && own.examples < FEW)
            fill(
                spread,
                h("p.quiet", {}, `${plural(own.examples, "score")}: too few for a distribution.`),
            );
        else if (own?.histogram)
            fill(spread, histogram(own.histogram, marks(), Math.min(544, spread.clientWidth)));
        else if (own && method.gradient)
            fill(spread, h("p.quiet", {}, "This server does not say how all scores lie."));
        cards.forEach((c) => c.place(own, others));
    }
    if (!method.gradient)
        fill(
            spread,
            h(
                "p.quiet",
                {},
                "Words have no opponents, and no distribution: a text without any of them has no score.",
            ),
        );
    return {
        node,
        load,
        place,
        method,
        get answer() {
            return answer;
        },
        ids: () => cards.map((c) => c.id),
        best: () => (answer?.proponents ?? []).map((x) => x.id),
        count: () => count(cards.length),
    };
}
