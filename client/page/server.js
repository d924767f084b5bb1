/* server.js - everything that is asked of the server: the key, waiting while it is busy, and
 * errors in words for people. */

const KEY = "ascribe.key";
const BUSY_TRIES = 8,
    LOST_TRIES = 4;

export class Problem extends Error {
    constructor(status, code, detail, more = {}) {
        super(detail);
        this.status = status;
        this.code = code;
        this.detail = detail;
        this.field = more.field ?? null;
        this.index = more.index ?? null;
        this.requestId = more.request_id ?? null;
    }
}

/* "waiting" {seconds, why}, "on" (an answer came), "refused" (the key) */
export const news = new EventTarget();

function tell(name, detail) {
    news.dispatchEvent(new CustomEvent(name, { detail }));
}

export function key() {
    try {
        return sessionStorage.getItem(KEY);
    } catch {
        return key.kept ?? null;
    }
}

export function keepKey(text) {
    key.kept = text;
    try {
        if (text) sessionStorage.setItem(KEY, text);
        else sessionStorage.removeItem(KEY);
    } catch {
        /* no storage: it lives as long as this page */
    }
}

export function path(...segments) {
    return `v1/${segments.map(encodeURIComponent).join("/")}`;
}

function address(where, query) {
    const url = new URL(where, document.baseURI);
    url.hash = "";
    url.search = "";
    for (const [name, value] of Object.entries(query ?? {}))
        if (value !== null && value !== undefined && value !== "")
            url.searchParams.set(name, value);
    return url;
}

function pause(ms, signal) {
    return new Promise((resolve, reject) => {
        const stop = () => {
            clearTimeout(timer);
            news.removeEventListener("hurry", done);
            reject(signal.reason);
        };
        const done = () => {
            clearTimeout(timer);
            news.removeEventListener("hurry", done);
            signal?.removeEventListener("abort", stop);
            resolve();
        };
        const timer = setTimeout(done, ms);
        news.addEventListener("hurry", done);
        if (signal?.aborted) stop();
        signal?.addEventListener("abort", stop, { once: true });
    });
}

/* Ends the present pause: somebody pressed "try now". */
export function hurry() {
    tell("hurry");
}

async function problemOf(reply) {
    let body = {};
    try {
        body = await reply.json();
    } catch {
        /* a proxy's page: the status has to do */
    }
    return new Problem(
        reply.status,
        body.code ?? "http",
        body.detail ?? `${reply.status} ${reply.statusText}`,
        body,
    );
}

async function once(method, url, options) {
    const headers = {};
    let body = options.body;
    if (key()) headers.Authorization = `Bearer ${key()}`;
    if (options.json !== undefined) {
        headers["Content-Type"] = "application/json";
        body = JSON.stringify(options.json);
    } else if (body) {
        headers["Content-Type"] = "application/octet-stream";
    }
    try {
        return await fetch(url, {
            method,
            headers,
            body,
            signal: options.signal,
            cache: "no-store",
            credentials: "omit",
            redirect: "error",
        });
    } catch (error) {
        if (options.signal?.aborted) throw error;
        throw new Problem(0, "network", "the server does not answer");
    }
}

async function answerOf(reply, as) {
    if (reply.status === 204) return null;
    if (as === "bytes") return new Uint8Array(await reply.arrayBuffer());
    return reply.json();
}

/* Asks, and asks again while the server says that it is busy (503 or 429, with Retry-After) or
 * is gone; every request of this page may be sent twice. options: query, json or body (bytes),
 * as ("json" or "bytes"), signal, patient (false: one try). Throws a Problem, or the signal's
 * reason. */
export async function call(method, where, options = {}) {
    const url = address(where, options.query);
    for (let busy = 0, lost = 0; ;) {
        let problem;
        try {
            const reply = await once(method, url, options);
            if (reply.ok) {
                const answer = await answerOf(reply, options.as);
                tell("on");
                return answer;
            }
            problem = await problemOf(reply);
            problem.wait = Number(reply.headers.get("Retry-After")) || 1;
        } catch (error) {
            if (!(error instanceof Problem)) throw error;
            problem = error;
        }
        if (problem.status === 401) tell("refused", problem);
        const full = problem.status === 503 || problem.status === 429,
            gone = problem.code === "network";
        busy += full ? 1 : 0;
        lost += gone ? 1 : 0;
        if (options.patient === false || !(full || gone) || busy > BUSY_TRIES || lost > LOST_TRIES)
            throw problem;
        const seconds = full ? Math.min(problem.wait * Math.max(1, busy - 2), 10) : 2 ** (lost - 1);
        tell("waiting", {
            seconds,
            full,
            draining: problem.code === "draining",
            mine: problem.status === 429,
        });
        await pause(seconds * 1000, options.signal);
    }
}

export function aborted(error) {
    return error?.name === "AbortError";
}

const WORDS = {
    unauthorized: [
        "This key is not known here",
        "It may have been revoked, or it belongs to another store.",
    ],
    key_expired: [
        "This key has ended",
        "It was given for a limited time. Ask whoever runs the server for a new link.",
    ],
    rate_limited: [
        "This key has used up its rate",
        "It may ask only so often. Wait a little, and try again.",
    ],
    forbidden: ["This key may not do that", null],
    network: [
        "No answer from the server",
        "It may have been stopped, or the connection is down. Nothing is lost; try again when it is back.",
    ],
    busy: [
        "The server is very busy",
        "It refused several times in a row. Your request was not lost: try again in a moment.",
    ],
    draining: ["The server is shutting down", "Try again once it has been started anew."],
    deadline: [
        "This took too long",
        "The server stops work that passes its time. A filter, or fewer results, makes it quicker.",
    ],
    unknown_corpus: [
        "There is no such corpus",
        "It may have been dropped, or the link is from another server.",
    ],
    unknown_query: [
        "There is no such saved query",
        "It may have been deleted, or the link is from another corpus.",
    ],
    unknown_example: ["There is no such example", "It may have been taken down."],
    unknown_task: ["There is no such task", "Choose another one, or none."],
    unknown_route: [
        "This server cannot do that yet",
        "It is older than this page, or a part of it is not configured.",
    ],
    task_stale: [
        "This task is out of date",
        "The corpus was fitted again after the task was made; put the task again to use it.",
    ],
    no_encoder: [
        "No encoder is configured",
        "The server needs one to turn words into a gradient: start it with --encoder. Saved queries work without.",
    ],
    encoder_failed: ["The encoder failed", "It is being started again."],
    encoder_timeout: ["The encoder took too long", "It is being started again."],
    bad_filter: ["The filter cannot be read", null],
    wrong_dimension: [
        "The gradient does not fit this corpus",
        "The encoder is of another model, or projects to another size, than what the corpus was made with.",
    ],
    fingerprint_mismatch: [
        "The gradient does not fit this corpus",
        "It was made for another corpus, or another model.",
    ],
    corrupt: [
        "Stored data is damaged",
        "Tell whoever runs the server; `ascribe verify` shows the extent.",
    ],
};

/* {title, text, detail} of anything that was thrown. */
export function wordsFor(error) {
    if (!(error instanceof Problem))
        return {
            title: "This page made a mistake",
            text: "Reload it; if that does not help, tell whoever runs the server.",
            detail: String(error?.message ?? error),
        };
    if (error.code === "bad_filter" && error.field === "group")
        return {
            title: "This field cannot be read",
            text: "Fields are written like those of a filter: meta.source",
            detail: error.detail,
        };
    const [title, text] = WORDS[error.code] ?? ["The server refused", null];
    return {
        title,
        text,
        detail: error.code === "network" ? null : error.detail,
        requestId: error.requestId,
    };
}
