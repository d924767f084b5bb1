// lines.js - the contender's side of tests/bench/contend.py: prints {"ready":...}, then answers each
// line `ENGINE FROM COUNT K OPPONENTS` on standard input with one line of JSON.
"use strict";
const fs = require("fs");
const readline = require("readline");

// {rows, queries, dim, ...} from --name value
exports.options = () => {
  const out = {};
  for (let i = 2; i + 1 < process.argv.length; i += 2) out[process.argv[i].slice(2)] = process.argv[i + 1];
  out.dim = Number(out.dim);
  return out;
};

// `count` floats of a raw file from number `from` on (all: no more arguments) as one Float32Array. Read
// in parts: one read is at most 2 GiB.
exports.floats = (path, from = 0, count = fs.statSync(path).size / 4 - from) => {
  const out = new Float32Array(count);
  const fd = fs.openSync(path, "r");
  for (let at = 0; at < out.byteLength; ) {
    const some = new Uint8Array(out.buffer, at, Math.min(out.byteLength - at, 1 << 28));
    at += fs.readSync(fd, some, 0, some.length, from * 4 + at);
  }
  fs.closeSync(fd);
  return out;
};

// search(from, count, k) -> lists of row numbers, one a query; may be async. Only it is timed.
exports.serve = async (ready, search) => {
  console.log(JSON.stringify({ ready: true, ...ready }));
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [, from, count, k] = line.split(" ").map(Number);
    const began = process.hrtime.bigint();
    const found = await search(from, count, k);
    const ms = Number(process.hrtime.bigint() - began) / 1e6;
    console.log(JSON.stringify({ ms, ...found() }));
  }
};

// The version that peers/package.json pins.
exports.version = (name) => require("./package.json").dependencies[name];
