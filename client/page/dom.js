/* dom.js - making elements. Texts of a corpus are hostile: whatever comes from the server
 * becomes a text node or an attribute here, and nothing on this page is ever parsed as HTML. */

const SVG = "http://www.w3.org/2000/svg";

function put(node, name, value) {
    if (value === null || value === undefined || value === false) return;
    if (name === "on")
        for (const [event, run] of Object.entries(value)) node.addEventListener(event, run);
    else if (name === "css")
        /* by the object model: the policy forbids style attributes */
        for (const [property, text] of Object.entries(value))
            node.style.setProperty(property, text);
    else if (name === "set") Object.assign(node, value);
    else
        node.setAttribute(
            name === "test" ? "data-test" : name,
            value === true ? "" : String(value),
        );
}

export function add(node, ...children) {
    for (const child of children.flat(Infinity)) {
        if (child === null || child === undefined || child === false) continue;
        node.append(child instanceof Node ? child : document.createTextNode(String(child)));
    }
    return node;
}

function make(node, classes, props, children) {
    if (classes.length) node.setAttribute("class", classes.join(" "));
    for (const [name, value] of Object.entries(props ?? {})) put(node, name, value);
    return add(node, ...children);
}

/* h("p.quiet", {id: "x", on: {click}, css: {width: "3em"}, test: "hook"}, "text", node, [more]) */
export function h(tag, props, ...children) {
    const [name, ...classes] = tag.split(".");
    return make(document.createElement(name), classes, props, children);
}

/* The same for SVG. */
export function s(tag, props, ...children) {
    const [name, ...classes] = tag.split(".");
    return make(document.createElementNS(SVG, name), classes, props, children);
}

export function fill(node, ...children) {
    node.replaceChildren();
    return add(node, ...children);
}

/* Characters that turn a line around or move the pen, and that nobody sees: shown as what they
 * are. */
const HIDDEN =
    /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]/gu;

export function visible(text) {
    const out = [];
    let at = 0;
    for (const m of (text ?? "").matchAll(HIDDEN)) {
        const name = `U+${m[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
        out.push(
            text.slice(at, m.index),
            h("span.hidden-character", { title: "a character that is not seen" }, name),
        );
        at = m.index + m[0].length;
    }
    out.push((text ?? "").slice(at));
    return out.filter((piece) => piece !== "");
}

let serial = 0;
export function fresh(prefix) {
    serial += 1;
    return `${prefix}-${serial}`;
}

/* Tells who listens to the page instead of seeing it. */
export function say(text) {
    const said = document.getElementById("said");
    said.textContent = "";
    setTimeout(() => {
        said.textContent = text;
    }, 30);
}
