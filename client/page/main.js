/* main.js - starts the page: takes the key, follows the address, shows one view at a time. A
 * view is show(root, state, signal, settled): it fills root, says settled() once its frame
 * stands, and stops whatever it does when the signal says so. */
import { go, read, replace, takeKey, view } from "./address.js";
import { corpora, forget } from "./data.js";
import { fill, h, say } from "./dom.js";
import { alwaysKeys, listen, setKeys } from "./keys.js";
import { makeBar } from "./parts/bar.js";
import { help } from "./parts/help.js";
import { watch } from "./parts/notices.js";
import { empty, failed, loading } from "./parts/states.js";
import { aborted, keepKey, key, news } from "./server.js";
import * as answer from "./views/answer.js";
import * as corpusView from "./views/corpus.js";
import * as example from "./views/example.js";
import { askKey } from "./views/key.js";
import * as pair from "./views/pair.js";
import * as queries from "./views/queries.js";

const VIEWS = { queries, answer, corpus: corpusView, example, pair };
const main = document.getElementById("main");
let running = null,
    shown = null,
    refused = null,
    bar = null;

/* The corpus of the address, else the first that has examples. Null: there is none. */
async function withCorpus(state) {
    if (state.c) return state;
    const list = await corpora();
    if (!list.length) return null;
    replace({ c: (list.find((one) => one.examples > 0) ?? list[0]).name });
    return read();
}

function noCorpus() {
    fill(
        main,
        h("h1", {}, "No corpus yet"),
        empty(
            "This store is empty.",
            h("p", {}, "Make a corpus of your gradients, and come back:"),
            h(
                "pre",
                {},
                "ascribe corpus create mine --dim 16384\nascribe ingest mine --gradients grads.npy --examples texts.jsonl",
            ),
        ),
    );
}

/* After a change of view the heading takes the focus, so that a screen reader begins there;
 * within one view the focus returns to the control that had it. */
function refocus(sameView, hook) {
    if (document.activeElement !== document.body && main.contains(document.activeElement))
        return; /* the view has put it where it is needed */
    if (sameView && hook) {
        main.querySelector(`[data-test="${CSS.escape(hook)}"]`)?.focus({ preventScroll: true });
    } else if (!sameView && shown !== null) {
        main.querySelector("h1")?.setAttribute("tabindex", "-1");
        main.querySelector("h1")?.focus({ preventScroll: true });
    }
}

async function render() {
    running?.abort();
    running = new AbortController();
    const { signal } = running;
    const hook = main.contains(document.activeElement) ? document.activeElement.dataset.test : null;
    setKeys({});
    news.dispatchEvent(new CustomEvent("quiet"));
    if (!key() || refused) {
        askKey(main, refused, start);
        shown = "key";
        return;
    }
    bar.follow();
    try {
        if (!main.firstChild || shown === "key")
            fill(main, h("h1.unseen", {}, "ascribe"), loading("the page", 6));
        const state = await withCorpus(read());
        if (signal.aborted) return;
        if (!state) {
            noCorpus();
            shown = "none";
            return;
        }
        const name = Object.hasOwn(VIEWS, state.v ?? "queries")
            ? (state.v ?? "queries")
            : "queries";
        const place = `${state.c} ${name}`;
        if (shown !== place) scrollTo(0, 0);
        const same = shown === place;
        let settled = () => {
            settled = () => {};
            refocus(same, hook);
            shown = place;
        };
        await VIEWS[name].show(main, state, signal, () => !signal.aborted && settled());
        settled();
    } catch (error) {
        if (signal.aborted || aborted(error) || error.status === 401) return;
        fill(
            main,
            h("h1", {}, "Something went wrong"),
            failed(error, () => {
                forget();
                render();
            }),
        );
        shown = null;
    }
}

function start(newKey) {
    keepKey(newKey);
    refused = null;
    forget();
    render();
}

function boot() {
    const found = takeKey();
    if (found) keepKey(found);
    bar = makeBar(document.getElementById("bar"), help);
    watch(document.getElementById("notices"));
    news.addEventListener("refused", ({ detail }) => {
        if (refused) return;
        refused = detail;
        keepKey(null);
        render();
        say("The key was refused");
    });
    listen();
    alwaysKeys({
        "?": help,
        t: () => document.querySelector('[data-test="theme"]').click(),
        u: () => go(view(read().v === "example" ? "corpus" : "queries")),
    });
    document.querySelector(".skip").addEventListener("click", (event) => {
        event.preventDefault(); /* the fragment is the address */
        main.focus();
    });
    addEventListener("hashchange", () => {
        const more = takeKey();
        if (more) {
            start(more);
            return;
        }
        render();
    });
    render();
}

boot();
