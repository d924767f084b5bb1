/* keys.js - single keys as shortcuts: the present view's, and those that always work. Never
 * while somebody types, never with a modifier. */

let ofView = {},
    always = {};

export function setKeys(map) {
    ofView = map;
}

export function alwaysKeys(map) {
    always = map;
}

function typing(node) {
    return (
        node?.closest?.("input, textarea, select, [contenteditable]") ||
        document.querySelector("dialog[open]")
    );
}

export function listen() {
    document.addEventListener("keydown", (event) => {
        if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
        if (event.key === "Escape" && document.activeElement?.matches?.("input, textarea")) {
            document.activeElement.blur();
            return;
        }
        if (typing(event.target)) return;
        const run = ofView[event.key] ?? always[event.key];
        if (run && run(event) !== false) event.preventDefault();
    });
}
