// usearch.js - USearch exactSearch, inner product, over the rows in memory; all threads.
"use strict";
const { exactSearch, MetricKind } = require("usearch");
const { options, floats, serve, version } = require("./lines.js");

const o = options();
const rows = floats(o.rows);
const queries = floats(o.queries);

serve({ peer: "USearch", version: version("usearch") }, (from, count, k) => {
  // slice, not subarray: the binding reads from the start of the underlying buffer
  const asked = queries.slice(from * o.dim, (from + count) * o.dim);
  const m = exactSearch(rows, asked, o.dim, k, MetricKind.IP, 0);
  return () => {
    const keys = Array.from(m.keys, Number);
    const scores = Array.from(m.distances, (d) => 1 - d);
    const cut = (x) => Array.from({ length: count }, (_, n) => x.slice(n * k, n * k + k));
    return { ids: cut(keys), scores: cut(scores) };
  };
});
