/* safetensors.js - the little of the format that the page needs: tensors with their metadata out
 * of a file, as the encoder's answer comes, and into one, as a query goes. Tensors stay bytes:
 * no number is looked at. */

export function readTensors(bytes) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (bytes.byteLength < 8)
        throw new Error("a safetensors file that ends within its first 8 bytes");
    const length = Number(view.getBigUint64(0, true));
    if (length > bytes.byteLength - 8 || length > 1 << 20)
        throw new Error("a safetensors file whose header is longer than the file");
    const header = JSON.parse(
        new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(8, 8 + length)),
    );
    const meta = header.__metadata__ ?? {};
    const tensors = {};
    for (const [name, t] of Object.entries(header)) {
        if (name === "__metadata__") continue;
        const [from, to] = t.data_offsets;
        if (!(from >= 0 && from <= to && 8 + length + to <= bytes.byteLength))
            throw new Error(`tensor ${name} lies outside its file`);
        tensors[name] = {
            dtype: t.dtype,
            shape: t.shape,
            bytes: bytes.slice(8 + length + from, 8 + length + to),
        };
    }
    return { meta, tensors };
}

/* A file of tensors: [{name, dtype, shape, bytes}]. */
export function writeTensors(tensors) {
    const header = {};
    let at = 0;
    for (const t of tensors) {
        header[t.name] = {
            dtype: t.dtype,
            shape: t.shape,
            data_offsets: [at, at + t.bytes.byteLength],
        };
        at += t.bytes.byteLength;
    }
    const text = new TextEncoder().encode(JSON.stringify(header));
    const out = new Uint8Array(8 + text.length + at);
    new DataView(out.buffer).setBigUint64(0, BigInt(text.length), true);
    out.set(text, 8);
    at = 8 + text.length;
    for (const t of tensors) {
        out.set(t.bytes, at);
        at += t.bytes.byteLength;
    }
    return out;
}
