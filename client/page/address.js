/* address.js - all that is seen stands in the address, behind the "#": it can be copied, kept and
 * sent, and goes to no server's or proxy's log. The key is never part of it.
 *
 *   c  corpus        v  view           q  saved query     prompt, target  a live one
 *   m  methods       k, o  how many    f  filter          g  group by
 *   id  example      r  record of a file                  s, tag, kind, p  the list of queries
 */

const ORDER = [
    "c",
    "v",
    "q",
    "prompt",
    "target",
    "id",
    "r",
    "m",
    "k",
    "o",
    "f",
    "g",
    "task",
    "s",
    "tag",
    "kind",
    "p",
];

function parse(text) {
    const out = {};
    for (const [name, value] of new URLSearchParams(text))
        if (ORDER.includes(name) && value !== "") out[name] = value;
    return out;
}

export function read() {
    return { ...parse(location.search.slice(1)), ...parse(location.hash.slice(1)) };
}

/* encodeURIComponent, but what is harmless in a fragment stays readable. */
function escape(text) {
    return encodeURIComponent(text)
        .replace(/%(3A|2C|2F)/g, (code) => decodeURIComponent(code))
        .replace(/%20/g, "+");
}

export function write(state) {
    const parts = ORDER.filter(
        (name) => state[name] !== undefined && state[name] !== null && state[name] !== "",
    ).map((name) => `${name}=${escape(String(state[name]))}`);
    return `#${parts.join("&")}`;
}

/* The address with some things changed; "" or null takes one away. */
export function changed(changes) {
    return write({ ...read(), ...changes });
}

/* Another view: the corpus and how answers are looked at go along, the rest begins anew. */
export function view(name, params = {}) {
    const { c, m, k, o, f, g } = read();
    return write({ c, m, k, o, f, g, v: name, ...params });
}

export function go(href) {
    if (href === location.hash) dispatchEvent(new HashChangeEvent("hashchange"));
    else location.hash = href;
}

/* Changes the address in place: no step back, nothing drawn again. */
export function replace(changes) {
    history.replaceState(null, "", location.pathname + changed(changes));
}

/* Takes a key out of "#key=..." at once, before anything else can see it. */
export function takeKey() {
    const params = new URLSearchParams(location.hash.slice(1));
    const key = params.get("key");
    if (key !== null || location.search)
        history.replaceState(null, "", location.pathname + write(read()));
    return key;
}
