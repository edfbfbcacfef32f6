// Jobs of some kinds: those that run, with their progress and a way to end them, and those that ended lately.

import { get, post } from "./api.js";
import { confirmed } from "./dialog.js";
import { fill, h, icon } from "./dom.js";
import { follow, followChanges } from "./feed.js";
import { bytes, duration, known, number, t } from "./i18n.js";

const AGAIN_MS = 1000; // after a question that failed
const TICK_MS = 1000; // of the clock that shows how long a job has run
const RECENT_S = 3600;
const MOST_ENDED = 3;
const MOST_FOLLOWED = 16; // of what runs; the list tells of the end of others

/**
 * Show jobs of `kinds` in `place`: those that run where `isShown(job)`, and of those that have ended
 * what `isTold(job)` says; `onend(job)` is told of each that ends meanwhile. Returns `show`, for when
 * these would say something else, and what ends it.
 */
export function followJobs(place, kinds, { onend = () => {}, isShown = () => true, isTold = () => true } = {}) {
  const running = new Map(); // id -> what ends the following of it
  const rows = new Map(); // id -> Row: only what has changed is made anew, and read out
  let jobs = [];
  let timer = 0;
  let asked = 0;
  let isLeft = false;

  async function ask() {
    clearTimeout(timer);
    const number = ++asked;
    try {
      const found = (await get("/admin/jobs")).data.filter((job) => kinds.includes(job.kind));
      if (isLeft || number !== asked) return;
      jobs = found;
    } catch {
      if (!isLeft) timer = setTimeout(ask, AGAIN_MS); // the shell tells that the server cannot be reached
      return;
    }
    for (const job of jobs) noted(job);
    show();
  }

  /** Follow a job that runs, and tell of one that has run. */
  function noted(job) {
    const end = running.get(job.id);
    if (job.state !== "running") {
      if (running.delete(job.id)) {
        end();
        onend(job);
      }
    } else if (!end && running.size < MOST_FOLLOWED) {
      running.set(job.id, follow(`job ${job.id}`, () => ({ watch: "job", job: job.id }), (news) => told(news.job)));
    }
  }

  function told(job) {
    jobs = jobs.map((each) => (each.id === job.id ? job : each));
    noted(job);
    show();
  }

  function show() {
    const now = Date.now() / 1000;
    const ended = jobs.filter((job) => job.state !== "running" && now - job.started < RECENT_S && isTold(job)).slice(0, MOST_ENDED);
    const shown = [...jobs.filter((job) => job.state === "running" && isShown(job)), ...ended];
    const elements = shown.map((job) => {
      if (!rows.has(job.id)) rows.set(job.id, new Row(ask));
      return rows.get(job.id).show(job);
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
  const clock = setInterval(() => {
    for (const row of rows.values()) row.tick();
  }, TICK_MS);
  ask();
  const end = () => {
    isLeft = true;
    clearTimeout(timer);
    clearInterval(clock);
    unfollow();
    for (const leave of running.values()) leave();
  };
  return { show, end };
}

/** One job; its progress moves in place. */
class Row {
  constructor(ask) {
    this.ask = ask;
    this.doing = h("p", { class: "hint" });
    this.elapsed = h("span", { class: "elapsed" });
  }

  show(job) {
    this.job = job;
    const { progress, said, ...rest } = job;
    const state = JSON.stringify(rest);
    if (state !== this.state) {
      this.state = state;
      const held = this.element?.contains(document.activeElement) ? document.activeElement.dataset.job : null;
      const made = this.made();
      this.element?.replaceWith(made);
      this.element = made;
      if (held) made.querySelector("[data-job]")?.focus();
    }
    this.move();
    this.tick();
    return this.element;
  }

  made() {
    const { job } = this;
    const isRunning = job.state === "running";
    const refusal = h("p", { class: "error", role: "alert" });
    const name = `${t(`job.${job.kind}`)} ${job.subject}`;
    this.bar = h("progress", { max: "1", "aria-label": name });
    return h(
      "div",
      { class: "card job", role: "group", "aria-label": name },
      h("header", {}, h("strong", {}, `${t(`job.${job.kind}`)} · ${job.subject}`), h("span", { class: `badge job-${job.state}`, role: "status" }, t(job.is_asked_to_cancel ? "job.cancelling" : `job.state.${job.state}`))),
      isRunning ? [h("div", { class: "progress" }, this.bar, this.elapsed), this.doing] : null,
      job.error ? h("p", { class: "error" }, job.error) : null,
      job.result ? h("p", {}, t(`job.result.${job.kind}`), " ", h("code", {}, job.result)) : null,
      refusal,
      h(
        "div",
        { class: "buttons" },
        isRunning ? h("button", { type: "button", class: "tonal with-icon", "data-job": job.id, disabled: job.is_asked_to_cancel, onclick: () => cancelJob(job, this.ask, refusal) }, icon("stop"), t("job.cancel")) : null,
        h("a", { class: "button chip", href: `#/logs/${encodeURIComponent(`job:${job.id}`)}` }, t("run.log")),
      ),
    );
  }

  /** The bar, which says in words too what is done and how far that is. */
  move() {
    const { progress, said } = this.job;
    const words = progress ? doing(progress) : said;
    this.doing.textContent = words;
    if (!progress) return this.bar.removeAttribute("value");
    this.bar.value = progress.share;
    this.bar.setAttribute("aria-valuetext", `${Math.round(100 * progress.share)} % · ${words}`);
  }

  tick() {
    const share = this.job.progress ? `${Math.round(100 * this.job.progress.share)} % · ` : "";
    this.elapsed.textContent = `${share}${duration(Date.now() / 1000 - this.job.started)}`;
  }
}

/** What a job is doing: the stage, how much of it is done, and what it is about. */
export function doing({ stage, subject, done, total }) {
  const shown = subject === "bytes" ? bytes : number;
  const counted = total ? `${shown(done)} / ${shown(total)}` : null;
  return [known(`stage.${stage}`) ? t(`stage.${stage}`) : stage, counted, subject === "bytes" ? null : subject].filter(Boolean).join(" · ");
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
