// lancedb.js - LanceDB flat search, dot product, no index, over a table made here from the rows (kept
// beside them). Only ids and distances are selected: the vectors themselves stay where they are.
"use strict";
const fs = require("fs");
const arrow = require("apache-arrow");
const lancedb = require("@lancedb/lancedb");
const { options, floats, serve, version } = require("./lines.js");

const PART = 500; // rows added at a time

function part(o, from, to) {
  const child = arrow.makeData({ type: new arrow.Float32(), data: floats(o.rows, from * o.dim, (to - from) * o.dim) });
  const type = new arrow.FixedSizeList(o.dim, new arrow.Field("item", new arrow.Float32(), true));
  const vectors = arrow.makeVector(arrow.makeData({ type, length: to - from, child }));
  const ids = arrow.makeVector(Int32Array.from({ length: to - from }, (_, i) => from + i));
  return new arrow.Table({ id: ids, vector: vectors });
}

async function open(o) {
  const db = await lancedb.connect(o.table);
  if (fs.existsSync(o.table + "/complete")) return db.openTable("rows");
  const count = fs.statSync(o.rows).size / 4 / o.dim;
  let table = null;
  for (let at = 0; at < count; at += PART) {
    const some = part(o, at, Math.min(count, at + PART));
    if (table) await table.add(some);
    else table = await db.createTable("rows", some, { mode: "overwrite" });
  }
  fs.writeFileSync(o.table + "/complete", "");
  return table;
}

(async () => {
  const o = options();
  const table = await open(o);
  const queries = floats(o.queries);
  const one = (n, k) =>
    table.query().nearestTo(queries.subarray(n * o.dim, (n + 1) * o.dim)).distanceType("dot")
      .bypassVectorIndex().select(["id", "_distance"]).limit(k).toArray();
  await serve({ peer: "LanceDB", version: version("@lancedb/lancedb") }, async (from, count, k) => {
    const found = [];
    for (let n = from; n < from + count; n++) found.push(await one(n, k));
    return () => ({ ids: found.map((f) => f.map((r) => r.id)), scores: found.map((f) => f.map((r) => 1 - r._distance)) });
  });
})();
