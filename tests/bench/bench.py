"""bench.py - what tests/bench/run.sh runs; see there. One run, one disk, one machine, side by side."""
import argparse
import json
import os
import shutil
import subprocess
import tempfile

import book
import contend
import data as rows
import serving
from book import h

K, MANY = 10, 200
SIZES = {"standard": (20000, 16384), "large": (10000, 65536), "small": (500, 4096)}


def memory_rate(book_):
    """The roof: how fast memory can be read, one thread and all."""
    done = subprocess.run([os.path.join(h.BUILD, "bench_memory")], capture_output=True, text=True, check=True)
    rates = json.loads(done.stdout)["gb_s"]
    for threads, r in rates.items():
        book_.add(f"memory, {threads.split('_')[1]} thread(s)", f"best {r['best']:.1f} GB/s, median {r['median']:.1f}", threads=int(threads.split("_")[1]), gb_s=r)
    return rates[max(rates)]["best"]


def plane_bytes(dim):
    """Bytes a row of what each tier reads, docs/format.md: dimensions padded to 256; 32 bytes of factors."""
    padded = -(-dim // 256) * 256
    return {"bits": padded / 8 + 32, "six": padded * 3 / 4 + 32, "low": padded / 4 + 32, "exact": dim * 4}


def roofline(book_, entries, dim, roof):
    """Bytes a query read by tier, the rate that is, and the time they would take at the roof."""
    each = plane_bytes(dim)
    for e in entries:
        if not e.ms or not e.work or e.engine not in ("scan", "certified", "probabilistic"):
            continue  # the others read copies of their own
        read = {tier: e.work.get(tier, 0) / e.lists * each[tier] for tier in each}
        total, p50 = sum(read.values()), book.quantile(e.ms, .5)
        book_.add(f"{e.name}: what it reads", f"{total / 1e6:9.1f} MB a query, {total / p50 / 1e6:5.1f} GB/s of {roof:.1f}; "
                  f"at the roof {total / roof / 1e6:.2f} ms of {p50:.2f}   " + ", ".join(f"{t} {b / 1e6:.1f} MB" for t, b in read.items()),
                  engine=e.name, bytes=read, gb_s=total / p50 / 1e6, roof_gb_s=roof, roof_ms=total / roof / 1e6, p50=p50)


def kernels(book_):
    """Every integer kernel of every table this processor runs."""
    book.title("kernels (bench_kern)")
    done = subprocess.run([os.path.join(h.BUILD, "bench_kern")], capture_output=True, text=True, check=True)
    for line in done.stdout.splitlines():
        print("  " + line)
        book_.add("kernel", None, **json.loads(line))


def own_entries(data):
    mine = contend.ours(data)
    return {name: contend.Entry(f"ascribe {name}", mine, name) for name in ("scan", "certified", "probabilistic", "flat")}


def both_ends(book_, mine, rounds):
    """k proponents and k opponents against k proponents alone."""
    oracle = contend.Entry("scan", mine, "scan", opponents=K)
    pairs = [[contend.Entry(f"ascribe {engine}", mine, engine, opponents=n) for n in (0, K)] for engine in ("certified", "probabilistic")]
    contend.contest(sum(pairs, []), oracle, rows.QUERIES, rounds, 1, K)
    for alone, both in pairs:
        ratio = book.quantile(both.ms, .5) / book.quantile(alone.ms, .5)
        book_.add(f"{both.name}, {K} opponents as well", f"{book.told(both.ms)}   {ratio:.2f}x   same answers {both.same}/{both.lists}",
                  section="both", engine=both.name, ms=book.spread(both.ms), alone=book.spread(alone.ms), ratio=ratio, same=both.same, lists=both.lists)


def in_process(book_, data, roof, rounds, many=256):
    """Every peer and every engine, turn by turn, on the same rows and queries."""
    mine = own_entries(data)
    # Each FAISS and USearch holds a copy of the rows: where those are large, one FAISS has to do.
    want = contend.PEERS if data.count * data.dim * 4 < 2 << 30 else ("faiss", "usearch", "lancedb")
    entries = list(mine.values()) + contend.peers(data, want)
    against = ("FAISS", "USearch")
    try:
        book.title(f"in process, one query, top {K}, {data.count:,} x {data.dim:,}, {rounds} rounds in turn")
        contend.contest(entries, mine["scan"], rows.QUERIES, rounds, 1, K)
        contend.tell(book_, entries, against, section="single", batch=1, k=K)
        roofline(book_.on(section="roofline"), entries, data.dim, roof)

        many_queries = MANY if want == contend.PEERS else MANY // 4
        book.title(f"{many_queries} queries, each another one")
        pair = [mine["certified"], mine["probabilistic"]]
        contend.contest(pair, mine["scan"], rows.QUERIES, many_queries, 1, K)
        contend.tell(book_, pair, (), section="queries", batch=1, k=K)

        book.title("both ends, in turn with one")
        both_ends(book_, mine["scan"].contender, 2 * rounds)

        book.title(f"in process, batches of {many}")
        some = [e for e in entries if e.name not in ("LanceDB", "USearch")]
        mine["scan"].most = 1  # slow, and here for its answers: two windows of queries, asked again and again
        contend.contest(some, mine["scan"], rows.QUERIES, 3, many, K)
        contend.tell(book_, some, against, section="batch", batch=many, k=K)
    finally:
        contend.close(entries)


ENGINES = (("FAISS", "faiss"), ("ascribe scan", "scan"), ("ascribe certified", "certified"), ("ascribe probabilistic", "probabilistic"))
CURVES = {  # name: points of (rows, dimensions, k, batch, threads; None: all)
    "N": [(n, 4096, 10, 1, None) for n in (5000, 20000, 80000, 160000)],
    "d": [(20000, d, 10, 1, None) for d in (1024, 4096, 16384)] + [(10000, d, 10, 1, None) for d in (32768, 65536)],
    "k": [(20000, 8192, k, 1, None) for k in (1, 10, 100, 1000)],
    "batch": [(20000, 8192, 10, b, None) for b in (1, 4, 16, 64, 256)],
    "threads": [(20000, 8192, 10, 1, t) for t in range(1, os.cpu_count() + 1)],
}


def scaling(book_):
    """Made-up rows (rows.h): one thing varies at a time. Rows are made again only when they change."""
    mine, made = None, None
    for name, points in CURVES.items():
        book.title(f"scaling: {name}")
        for count, dim, k, batch, threads in points:
            if made != (count, dim, threads):
                if mine:
                    mine.close()
                mine, made = contend.ours(None, made=(count, dim, 256), threads=threads), (count, dim, threads)
            entries = [contend.Entry(n, mine, e) for n, e in ENGINES]
            contend.contest(entries, entries[1], 256, 12 if batch == 1 else 3, batch, k)
            for e in entries:
                book_.add(f"{e.name}, {count} x {dim}, k {k}, batch {batch}", f"{book.told(e.ms)}   same {e.same}/{e.lists}", section="scaling", curve=name,
                          engine=e.name, n=count, d=dim, k=k, batch=batch, threads=threads or os.cpu_count(), ms=book.spread(e.ms), same=e.same, lists=e.lists)
    mine.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", choices=SIZES, default="standard")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--only", default="machine,inside,http,task", help="of machine, inside, http, task, kernels, scaling, larger")
    args = parser.parse_args()
    only = args.only.split(",")
    count, dim = SIZES[args.size]
    base = os.environ.get("BENCH_DIR", os.path.join(h.ROOT, "build/bench"))
    os.makedirs(base, exist_ok=True)
    book_ = book.Book(size=args.size)
    print(f"ascribe bench, {args.size}: {book_.about['machine']}, {book_.about['cores']} cores, {book_.about['memory_gib']} GiB, commit {book_.about['commit']}, load {os.getloadavg()[0]:.1f}")
    where = tempfile.mkdtemp(prefix="run-", dir=base)
    try:
        roof = memory_rate(book_.on(section="machine"))
        real = rows.real(count, dim) if {"inside", "http", "task", "larger"} & set(only) else None
        if real:
            book_ = book_.on(**real.about())
        if "inside" in only:
            in_process(book_, real, roof, args.rounds)
        if "http" in only:
            serving.serve(book_, real, where)
        if "task" in only:
            book.title("a task, over HTTP, on the fitted corpus: gradients asked, whitened by the server")
            serving.task(book_, real)
        if "kernels" in only:
            kernels(book_.on(section="kernels"))
        if "scaling" in only:
            scaling(book_.on(data="made up"))
        if "larger" in only:
            import larger
            larger.run(book_.on(section="larger"), real, where)
    finally:
        shutil.rmtree(where, ignore_errors=True)
    print(f"\nkept in {os.path.relpath(book.RESULTS, h.ROOT)}; tests/bench/report.py makes docs/performance.md of it")


if __name__ == "__main__":
    main()
