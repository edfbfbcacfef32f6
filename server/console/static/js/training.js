// The training page: all runs and sweeps in lists, whoever started them, and one of them in full.

import { get } from "./api.js";
import { fill, h, icon } from "./dom.js";
import { follow, followChanges } from "./feed.js";
import { t, number, time } from "./i18n.js";
import { short } from "./chart.js";
import { cancelJob, doing, followJobs } from "./jobs_view.js";
import { openTrainingForm } from "./training_form.js";
import { RunView } from "./run_view.js";
import { openSweepForm } from "./sweep_form.js";
import { badge, SweepView } from "./sweep_view.js";

const OVERLAID = "lccc.overlaid";
const SWEEP = "sweep:"; // before a sweep's name, where else is a run's id
const RECENT_S = 3600; // how long a training that failed before it became a run is shown

export function trainingPage(place, id) {
  return new TrainingPage(place, id).end;
}

class TrainingPage {
  constructor(place, id) {
    this.id = id;
    this.runs = [];
    this.jobs = [];
    this.sweeps = [];
    this.beginnings = new Map(); // jobs that are no run yet -> what ends the following of each
    this.overlaid = new Set(JSON.parse(sessionStorage.getItem(OVERLAID) ?? "[]"));
    this.list = h("ul", { class: "runs" });
    this.sweepList = h("ul", { class: "runs" });
    this.sweepPart = h("section", { "aria-label": t("sweeps"), hidden: true }, h("h2", {}, t("sweeps")), this.sweepList);
    this.begun = h("section", { class: "jobs", "aria-label": t("jobs") });
    this.error = h("p", { class: "error", role: "alert" });
    this.view = h("section", { class: "run-view", "aria-label": t("run") });
    const begin = h("button", { type: "button", class: "primary with-icon", onclick: () => openTrainingForm() }, icon("add"), t("run.new"));
    const sweep = h("button", { type: "button", class: "tonal with-icon", onclick: () => this.said(openSweepForm()) }, icon("compare"), t("sweep.new"));
    const head = h("div", { class: "page-head" }, h("h1", {}, t("page.training")), h("div", { class: "buttons" }, sweep, begin));
    fill(place, h("div", { class: "page" }, head, this.error, this.begun, h("div", { class: "split-view" }, h("nav", { class: "card runs-card", "aria-label": t("runs") }, this.sweepPart, h("h2", {}, t("runs")), this.list), this.view)));
    // A sweep that is conducted tells of itself.
    const isBegun = (job) => this.sweeps.some((each) => each.is_running && each.name === job.subject);
    this.jobList = followJobs(this.begun, ["sweep"], { isShown: (job) => !isBegun(job), isTold: (job) => job.state === "failed" });
    this.unfollow = followChanges((what) => {
      if (["runs", "jobs", "sweeps"].some((each) => what.includes(each))) this.ask();
    });
    this.end = () => {
      this.isEnded = true;
      this.unfollow();
      this.jobList.end();
      for (const end of this.beginnings.values()) end();
      this.run?.end();
      this.sweep?.end();
    };
    this.ask();
  }

  async ask() {
    try {
      const [runs, jobs, sweeps] = await Promise.all([get("/admin/runs"), get("/admin/jobs"), get("/admin/sweeps")]);
      if (this.isEnded) return;
      this.runs = runs.data;
      this.jobs = jobs.data;
      this.sweeps = sweeps.data;
      this.error.textContent = Object.values(sweeps.broken).join(" ");
      this.show();
      this.sweep?.ask();
    } catch (failure) {
      this.error.textContent = failure.message;
    }
  }

  said(doing) {
    this.error.textContent = "";
    doing.catch((failure) => (this.error.textContent = failure.message));
  }

  show() {
    this.jobList.show();
    this.sweepPart.hidden = !this.sweeps.length;
    fill(this.sweepList, this.sweeps.map((sweep) => this.sweepRow(sweep)));
    const begun = this.jobs.filter((job) => job.kind === "train" && !job.run && (job.state === "running" || (job.state === "failed" && Date.now() / 1000 - job.started < RECENT_S)));
    this.followBeginnings(begun.filter((job) => job.state === "running"));
    if (!this.runs.length && !begun.length) fill(this.list, h("li", { class: "hint" }, t("runs.none")));
    else fill(this.list, begun.map((job) => this.beginning(job)), this.runs.map((run) => this.row(run)));
    if (this.id.startsWith(SWEEP)) {
      this.sweep ??= new SweepView(this.view, this.id.slice(SWEEP.length));
      this.sweep.jobsChanged(this.jobs);
      return;
    }
    const chosen = this.id || this.runs[0]?.id;
    if (!chosen || this.run?.id === chosen) {
      this.run?.overlay(this.others(chosen));
      this.run?.jobsChanged(this.jobs);
      return;
    }
    this.run?.end();
    this.run = new RunView(this.view, chosen, this.others(chosen), this.jobs);
  }

  /** What a training tells before it has a run. */
  followBeginnings(begun) {
    for (const [id, end] of this.beginnings) {
      if (begun.some((job) => job.id === id)) continue;
      end();
      this.beginnings.delete(id);
    }
    for (const { id } of begun) {
      if (this.beginnings.has(id)) continue;
      this.beginnings.set(id, follow(`job ${id}`, () => ({ watch: "job", job: id }), ({ job }) => {
        this.jobs = this.jobs.map((each) => (each.id === id ? job : each));
        this.show();
      }));
    }
  }

  others(chosen) {
    const known = new Set(this.runs.map((run) => run.id));
    return [...this.overlaid].filter((id) => id !== chosen && known.has(id));
  }

  beginning(job) {
    const isRunning = job.state === "running";
    return h(
      "li",
      { class: "run" },
      h("div", { class: "run-name" }, job.subject),
      h("span", { class: `badge ${isRunning ? "" : "broken"}` }, t(isRunning ? "run.beginning" : "run.state.failed")),
      job.error ? h("p", { class: "error" }, job.error) : h("small", {}, job.progress ? doing(job.progress) : t("run.beginning.hint")),
      isRunning && job.progress ? h("progress", { max: "1", value: String(job.progress.share), "aria-label": job.subject, "aria-valuetext": doing(job.progress) }) : null,
      isRunning ? h("button", { type: "button", class: "chip", disabled: job.is_asked_to_cancel, onclick: () => cancelJob(job, () => this.ask(), this.error) }, t(job.is_asked_to_cancel ? "job.cancelling" : "cancel")) : null,
    );
  }

  sweepRow(sweep) {
    const id = SWEEP + sweep.name;
    const isChosen = id === this.id;
    return h(
      "li",
      { class: `run${isChosen ? " current" : ""}` },
      h("a", { class: "run-name", href: `#/training/${encodeURIComponent(id)}`, "aria-current": isChosen ? "true" : null }, sweep.name),
      badge(sweep),
      h("small", {}, `${t("sweep.trials.of", number(sweep.completed + sweep.failed), number(sweep.trials))} · ${t("curve.validation_nll")} ${short(sweep.validation_nll)}`),
      h("small", {}, `${sweep.base} · ${sweep.dataset}`),
    );
  }

  row(run) {
    const isChosen = run.id === (this.id || this.runs[0].id);
    const canOverlay = !isChosen && !this.id.startsWith(SWEEP);
    const share = run.total_steps ? run.step / run.total_steps : 0;
    const box = !canOverlay ? null : h("input", { type: "checkbox", checked: this.overlaid.has(run.id), "aria-label": t("run.overlay", run.id), title: t("run.overlay", run.id), onchange: (event) => this.overlay(run.id, event.target.checked) });
    return h(
      "li",
      { class: `run${isChosen ? " current" : ""}` },
      h("a", { class: "run-name", href: `#/training/${encodeURIComponent(run.id)}`, "aria-current": isChosen ? "true" : null }, run.id),
      box,
      h("small", {}, h("span", { class: `badge run-${run.state}` }, t(`run.state.${run.state}`)), ` ${number(run.step)} / ${number(run.total_steps)} · ${t("run.loss", short(run.validation_nll))}`),
      h("small", {}, `${run.base} · ${run.dataset} · ${time(run.started)}`),
      run.state === "running" ? h("progress", { max: "1", value: String(share), "aria-label": run.id }) : null,
    );
  }

  overlay(id, isOn) {
    if (isOn) this.overlaid.add(id);
    else this.overlaid.delete(id);
    sessionStorage.setItem(OVERLAID, JSON.stringify([...this.overlaid]));
    this.show();
  }
}
