/* jobs.js - long work of the server: what runs, how far it is, what it ended in. */
import { h } from "../dom.js";
import { bytes, duration } from "../words.js";

const STATES = {
    queued: "waiting",
    running: "running",
    succeeded: "done",
    failed: "failed",
    cancelled: "cancelled",
};

function row(job) {
    const percent = Math.round((job.progress ?? 0) * 100);
    const rate = job.rate ? `, ${bytes(job.rate)}/s` : "";
    const left = Number.isFinite(job.eta_s) ? `, ${duration(job.eta_s)} left` : "";
    return h(
        "li.job",
        { test: "job", "data-state": job.state },
        h("span.job-name", {}, h("b", {}, job.kind), " ", h("code", {}, job.id)),
        h("span", {}, STATES[job.state] ?? job.state),
        job.state === "running"
            ? h("progress", { max: 100, value: percent, "aria-label": `${job.kind} ${job.id}` })
            : h("span"),
        h(
            "span.fine",
            {},
            job.state === "running"
                ? `${percent} %${rate}${left}`
                : job.error
                  ? String(job.error.detail ?? job.error)
                  : (job.created ?? ""),
        ),
    );
}

export function jobs(list) {
    if (!list.length) return h("p.quiet", {}, "None since the server was started.");
    return h("ul.jobs", { test: "jobs" }, list.slice(0, 12).map(row));
}
