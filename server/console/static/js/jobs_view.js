// Jobs of some kinds: those that run, with a way to end them, and those that ended lately.

import { get, post } from "./api.js";
import { confirmed } from "./dialog.js";
import { fill, h, icon } from "./dom.js";
import { followChanges } from "./feed.js";
import { duration, t } from "./i18n.js";

const INTERVAL_MS = 1000; // while one runs: how far it is
const RECENT_S = 3600;
const MOST_ENDED = 3;

/**
 * Show jobs of `kinds` in `place`, of those that have ended what `isTold(job)` says; `onend(job)` is
 * told of each that ends meanwhile. Returns what ends it.
 */
export function followJobs(place, kinds, { onend = () => {}, isTold = () => true } = {}) {
  const running = new Set();
  const rows = new Map(); // id -> {said, element}: only what has changed is made anew, and read out
  let timer = 0;
  let asked = 0;
  let isLeft = false;

  async function ask() {
    clearTimeout(timer);
    const number = ++asked;
    let jobs = [];
    try {
      jobs = (await get("/admin/jobs")).data.filter((job) => kinds.includes(job.kind));
    } catch {
      timer = setTimeout(ask, INTERVAL_MS); // the shell tells that the server cannot be reached
      return;
    }
    if (isLeft || number !== asked) return;
    show(jobs);
    for (const job of jobs) {
      if (job.state === "running") running.add(job.id);
      else if (running.delete(job.id)) onend(job);
    }
    if (running.size) timer = setTimeout(ask, INTERVAL_MS);
  }

  function show(jobs) {
    const now = Date.now() / 1000;
    const ended = jobs.filter((job) => job.state !== "running" && now - job.started < RECENT_S && isTold(job)).slice(0, MOST_ENDED);
    const shown = [...jobs.filter((job) => job.state === "running"), ...ended];
    const elements = shown.map((job) => {
      const said = JSON.stringify(job);
      if (rows.get(job.id)?.said !== said) rows.set(job.id, { said, element: row(job, ask) });
      const { element } = rows.get(job.id);
      for (const each of element.querySelectorAll(".elapsed")) each.textContent = duration(now - job.started);
      return element;
    });
    if (elements.length !== place.childElementCount || elements.some((each, index) => each !== place.children[index])) {
      const held = document.activeElement?.dataset?.job;
      fill(place, elements);
      if (held) place.querySelector(`[data-job="${CSS.escape(held)}"]`)?.focus();
    }
    place.hidden = !elements.length;
  }

  place.hidden = true;
  const unfollow = followChanges((what) => {
    if (what.includes("jobs")) ask();
  });
  ask();
  return () => {
    isLeft = true;
    clearTimeout(timer);
    unfollow();
  };
}

function row(job, ask) {
  const isRunning = job.state === "running";
  const refusal = h("p", { class: "error", role: "alert" });
  return h(
    "div",
    { class: "card job", role: "group", "aria-label": `${t(`job.${job.kind}`)} ${job.subject}` },
    h("header", {}, h("strong", {}, `${t(`job.${job.kind}`)} · ${job.subject}`), h("span", { class: `badge job-${job.state}`, role: "status" }, t(job.is_asked_to_cancel ? "job.cancelling" : `job.state.${job.state}`))),
    isRunning ? progress(job) : null,
    isRunning && job.said ? h("p", { class: "hint" }, job.said) : null,
    job.error ? h("p", { class: "error" }, job.error) : null,
    job.result ? h("p", {}, t(`job.result.${job.kind}`), " ", h("code", {}, job.result)) : null,
    refusal,
    h(
      "div",
      { class: "buttons" },
      isRunning ? h("button", { type: "button", class: "tonal with-icon", "data-job": job.id, disabled: job.is_asked_to_cancel, onclick: () => cancelJob(job, ask, refusal) }, icon("stop"), t("job.cancel")) : null,
      h("a", { class: "button chip", href: `#/logs/${encodeURIComponent(`job:${job.id}`)}` }, t("run.log")),
    ),
  );
}

/** How far it is, where its last line says `done/all`, and since when it runs. */
function progress(job) {
  const [, done, all] = /(\d+)\/(\d+)/.exec(job.said) ?? [];
  const bar = all ? { max: all, value: done } : {};
  return h("label", { class: "progress" }, h("progress", { ...bar, "aria-label": t(`job.${job.kind}`) }), h("span", { class: "elapsed" }));
}

/** Ask whether to end a job, and have it ended; `then()` comes after it. */
export async function cancelJob(job, then, refusal) {
  if (!(await confirmed(t("job.cancel"), t(`job.cancel.hint.${job.kind}`), t("job.cancel")))) return;
  try {
    await post(`/admin/jobs/${job.id}/cancel`);
  } catch (failure) {
    refusal.textContent = failure.message;
  }
  then();
}
