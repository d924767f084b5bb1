/* safetensors.js - the little of the format that the page needs: reading one float32 tensor with its
 * metadata, as the encoder's answer comes. */

export function readTensors(bytes) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (bytes.byteLength < 8)
        throw new Error("a safetensors file that ends within its first 8 bytes");
    const length = Number(view.getBigUint64(0, true));
    if (length > bytes.byteLength - 8 || length > 1 << 20)
        throw new Error("a safetensors file whose header is longer than the file");
    const header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(8, 8 + length)));
    const meta = header.__metadata__ ?? {};
    const tensors = {};
    for (const [name, t] of Object.entries(header)) {
        if (name === "__metadata__")
            continue;
        const [from, to] = t.data_offsets;
        if (!(from >= 0 && from <= to && 8 + length + to <= bytes.byteLength))
            throw new Error(`tensor ${name} lies outside its file`);
        tensors[name] = { dtype: t.dtype, shape: t.shape, bytes: bytes.slice(8 + length + from, 8 + length + to) };
    }
    return { meta, tensors };
}

export function floats(tensor) {
    if (!tensor || tensor.dtype !== "F32" || tensor.bytes.byteLength % 4)
        throw new Error("a tensor of float32 was expected");
    return new Float32Array(tensor.bytes.buffer);
}
