/* live.js - words become a gradient: the encoder behind the server, asked once for each pair of
 * prompt and target. */
import { savedQuery } from "./data.js";
import { readTensors } from "./safetensors.js";
import { call, path } from "./server.js";

const made = new Map();
const MADE_MOST = 20;

export async function encode(prompt, target, signal) {
    const name = JSON.stringify([prompt, target]);
    if (!made.has(name)) {
        const body = await call("POST", path("encoder", "encode"), {
            json: { prompt, target },
            as: "bytes",
            signal,
        });
        const { meta, tensors } = readTensors(body);
        made.set(name, {
            prompt,
            target,
            body,
            gradient: tensors.queries,
            loss: meta.loss ? Number(meta.loss) : null,
            took_ms: meta.took_ms ? Number(meta.took_ms) : null,
        });
        if (made.size > MADE_MOST) made.delete(made.keys().next().value);
    }
    return made.get(name);
}

export function isMade(prompt, target) {
    return made.has(JSON.stringify([prompt, target]));
}

export function goOn(prompt, tokens, signal) {
    return call("POST", path("encoder", "continue"), { json: { prompt, tokens }, signal });
}

/* What an address asks about: {prompt, target, output, name, tags, methods, saved | body,
 * gradient}. */
export async function subjectOf(state, signal) {
    if (state.q) {
        const query = await savedQuery(state.c, state.q);
        return {
            ...query,
            saved: query.name,
            prompt: query.prompt ?? "",
            target: query.target ?? query.output ?? "",
        };
    }
    return {
        ...(await encode(state.prompt ?? "", state.target ?? "", signal)),
        tags: [],
        methods: {},
        live: true,
    };
}
