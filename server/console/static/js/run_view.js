// One run: how it stands, its curves with those of others over them, and what it has made.

import { get, post } from "./api.js";
import { fill, h, icon, iconButton, field } from "./dom.js";
import { Chart, colour, short } from "./chart.js";
import { RunCurves, envelope, smoothed } from "./curves.js";
import { openRegister, talkPath } from "./adapter_dialogs.js";
import { confirmed } from "./dialog.js";
import { followChanges } from "./feed.js";
import { bytes, duration, number, t, time } from "./i18n.js";

const SMALL = ["learning_rate", "gradient_norm", "tokens_per_s", "memory_bytes"];
const SETTINGS = "lccc.curves";
const ASK_MS = 300;
const RESUMABLE = ["stopped", "failed", "interrupted"];
const FORMATS = { memory_bytes: bytes };

export class RunView {
  constructor(place, id, others, jobs) {
    this.id = id;
    this.jobs = jobs;
    this.range = null;
    this.detail = null;
    this.settings = { smoothing: 0.6, isLog: false, ...JSON.parse(localStorage.getItem(SETTINGS) ?? "{}") };
    this.build(place);
    this.curves = new Map();
    this.adapters = []; // what this run's adapter is registered as: {name, base}
    this.overlay(others);
    this.unlisten = followChanges((what) => {
      if (what.includes("models")) this.askNames();
    });
    this.ask();
  }

  build(place) {
    this.refusal = h("p", { class: "error", role: "alert" });
    this.buttons = h("div", { class: "buttons" });
    this.said = [];
    this.bar = h("progress");
    this.reached = h("span");
    this.head = h("div", { class: "card run-head" }, this.refusal, this.buttons);
    this.tiles = h("div", { class: "tiles" });
    this.tip = h("p", { class: "tip", "aria-hidden": "true" });
    this.legend = h("ul", { class: "legend" });
    this.main = h("div", { class: "chart", role: "img", "aria-label": t("curve.loss") });
    this.small = SMALL.map((name) => h("div", { class: "chart", role: "img", "aria-label": t(`curve.${name}`) }));
    this.table = h("div", { class: "scrolled", tabindex: "0" });
    this.made = h("div", { class: "made" });
    const losses = h("section", { class: "card" }, this.tools(), this.legend, this.main, this.tip, h("details", { class: "numbers", ontoggle: () => this.showTable() }, h("summary", {}, t("curve.table")), this.table));
    const rest = h("div", { class: "small-charts" }, SMALL.map((name, index) => h("section", { class: "card" }, h("h3", {}, t(`curve.${name}`)), this.small[index])));
    fill(place, this.head, this.tiles, losses, rest, this.made);
    const onzoom = (from, to) => this.zoom(from, to);
    this.chart = new Chart(this.main, { height: 300, onzoom });
    this.chart.tip = (step, rows) => this.point(step, rows);
    this.charts = this.small.map((each, index) => new Chart(each, { height: 150, onzoom, format: FORMATS[SMALL[index]] ?? short }));
  }

  tools() {
    const value = h("output", {}, String(this.settings.smoothing));
    const smoothing = h("input", { type: "range", min: "0", max: "0.99", step: "0.01", value: String(this.settings.smoothing), oninput: (event) => this.set({ smoothing: Number(event.target.value) }, () => (value.textContent = event.target.value)) });
    const log = h("input", { type: "checkbox", checked: this.settings.isLog, onchange: (event) => this.set({ isLog: event.target.checked }) });
    return h(
      "div",
      { class: "chart-tools" },
      h("h2", {}, t("curve.loss")),
      h("label", { class: "inline" }, t("curve.smoothing"), smoothing, value),
      h("label", { class: "inline" }, log, t("curve.log")),
      h(
        "span",
        { class: "zoom", role: "group", "aria-label": t("curve.zoom") },
        iconButton("left", t("curve.left"), () => this.chart.moved(-0.25)),
        iconButton("minus", t("curve.out"), () => this.chart.scaled(2)),
        iconButton("add", t("curve.in"), () => this.chart.scaled(0.5)),
        iconButton("right", t("curve.right"), () => this.chart.moved(0.25)),
        iconButton("whole", t("curve.whole"), () => this.zoom(null, null)),
      ),
    );
  }

  set(change, then = () => {}) {
    Object.assign(this.settings, change);
    localStorage.setItem(SETTINGS, JSON.stringify(this.settings));
    then();
    this.draw();
  }

  /** Show these runs' curves too. */
  overlay(others) {
    const wanted = [this.id, ...others];
    for (const [id, curves] of this.curves) {
      if (wanted.includes(id)) continue;
      curves.end();
      this.curves.delete(id);
    }
    for (const id of wanted) {
      if (!this.curves.has(id)) this.curves.set(id, new RunCurves(id, (events) => this.changed(id, events)));
    }
    this.draw();
  }

  get own() {
    return this.curves.get(this.id);
  }

  changed(id, events = []) {
    if (id === this.id && (!this.detail || events.some((event) => event.kind !== "train"))) this.ask();
    this.draw();
  }

  jobsChanged(jobs) {
    this.jobs = jobs;
    this.showHead();
  }

  async ask() {
    this.isStale = true;
    if (this.isAsking) return; // the answer that comes is followed by another question
    this.isAsking = true;
    while (this.isStale && !this.isEnded) {
      this.isStale = false;
      await this.askOnce();
      await new Promise((resolve) => setTimeout(resolve, ASK_MS));
    }
    this.isAsking = false;
  }

  async askOnce() {
    try {
      const detail = await get(`/admin/runs/${encodeURIComponent(this.id)}`);
      if (this.isEnded) return;
      const hadAdapter = this.detail?.has_adapter;
      this.detail = detail;
      if (detail.has_adapter && !hadAdapter) this.askNames();
      if (this.isUnheard) this.refusal.textContent = "";
      this.isUnheard = false;
      this.showHead();
      this.showMade();
    } catch (failure) {
      if (this.isEnded) return;
      this.isUnheard = true;
      this.refusal.textContent = failure.message;
    }
  }

  /** Under which names the registry has what this run has made. */
  async askNames() {
    if (!this.detail?.has_adapter) return;
    try {
      const { base, data } = await get("/admin/adapters");
      if (this.isEnded) return;
      const { id, digest } = this.detail.run;
      this.adapters = data.filter((each) => each.run?.id === id || each.digest === digest).map(({ name }) => ({ name, base: base.name }));
      this.showHead();
    } catch {
      // the shell tells that the server cannot be reached
    }
  }

  get run() {
    return this.own?.status ?? this.detail?.run;
  }

  // What is shown

  /** All that curves show, at the next frame: events may come in hundreds. */
  draw() {
    if (this.frame || this.isEnded) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.showHead();
      this.showTiles();
      this.showLegend();
      this.chart.show(this.losses(), this.range, this.settings.isLog);
      this.describe(this.main, "loss");
      this.small.forEach((place, index) => this.describe(place, SMALL[index]));
      this.charts.forEach((chart, index) => chart.show(this.each((curves, ink) => this.lines(curves, SMALL[index], ink)), this.range, false));
      this.showTable();
    });
  }

  /** Other steps of the same curves, at the next frame: nothing else is drawn anew. */
  move() {
    if (this.moving || this.isEnded) return;
    this.moving = requestAnimationFrame(() => {
      this.moving = 0;
      for (const chart of [this.chart, ...this.charts]) chart.look(this.range);
    });
  }

  each(make) {
    return [...this.curves.values()].flatMap((curves, index) => make(curves, colour(index)));
  }

  losses() {
    const { smoothing } = this.settings;
    return this.each((curves, ink) => {
      const points = curves.points("loss");
      const series = [{ label: `${curves.id} ${t("curve.train")}`, colour: ink, ...(smoothing ? smoothed(points, smoothing) : envelope(points)) }];
      if (smoothing) series.unshift({ label: "", colour: ink, faint: true, ...envelope(points) });
      const validation = curves.points("validation_nll");
      if (validation.length) series.push({ label: `${curves.id} ${t("curve.validation_nll")}`, colour: ink, dashed: true, ...envelope(validation) });
      return series;
    });
  }

  lines(curves, name, ink) {
    const points = curves.points(name);
    const { smoothing } = this.settings;
    if (!smoothing) return [{ label: curves.id, colour: ink, ...envelope(points) }];
    return [{ label: "", colour: ink, faint: true, ...envelope(points) }, { label: curves.id, colour: ink, ...smoothed(points, smoothing) }];
  }

  /** A chart in words, for who does not see it. */
  describe(place, name) {
    const points = this.own?.whole[name] ?? [];
    const label = t(`curve.${name}`);
    const words = points.length ? t("curve.described", label, number(points.length), number(points[0][0]), number(points.at(-1)[1]), short(points.at(-1)[4])) : label;
    if (place.getAttribute("aria-label") !== words) place.setAttribute("aria-label", words);
  }

  zoom(from, to) {
    this.range = from === null ? null : [from, to];
    for (const curves of this.curves.values()) curves.look(from, to);
    this.move();
  }

  point(step, rows) {
    const texts = rows.map(([series, value]) => h("span", {}, h("i", { class: "dot" }), `${series.label} ${short(value)}`));
    texts.forEach((each, index) => (each.firstChild.style.background = rows[index][0].colour));
    fill(this.tip, step === null ? [] : [h("b", {}, t("curve.step", number(step))), texts]);
  }

  showLegend() {
    const entries = this.each((curves, ink) => {
      const dot = h("i", { class: "dot" });
      dot.style.background = ink;
      return [h("li", {}, dot, curves.id)];
    });
    fill(this.legend, entries, h("li", { class: "hint" }, h("i", { class: "dash" }), t("curve.validation_nll")), h("li", { class: "hint" }, t("curve.hint")));
  }

  showTiles() {
    const { last = {}, left } = this.own ?? {};
    const tile = (name, value) => h("div", { class: "card tile" }, h("span", { class: "field-label" }, name), h("strong", {}, value));
    fill(
      this.tiles,
      tile(t("curve.train"), short(last.loss)),
      tile(t("curve.validation_nll"), short(last.validation_nll)),
      tile(t("curve.learning_rate"), short(last.learning_rate)),
      tile(t("curve.gradient_norm"), short(last.gradient_norm)),
      tile(t("curve.tokens_per_s"), last.tokens_per_s ? number(Math.round(last.tokens_per_s)) : "–"),
      tile(t("curve.memory_bytes"), last.memory_bytes ? bytes(last.memory_bytes) : "–"),
      tile(t("run.left"), left === null || left === undefined ? "–" : duration(left)),
    );
  }

  showHead() {
    const { run } = this;
    if (!run || !this.detail) return;
    this.showStep(run);
    // A process may outlive its run's end for a moment, and a new one takes one to begin.
    const busy = run.state === "running" ? undefined : this.jobs.find((job) => job.run === run.id && job.state === "running");
    const state = JSON.stringify([run, this.detail.has_adapter, this.adapters, this.failure(), busy?.kind]);
    if (state === this.shownHead) return;
    this.shownHead = state;
    const problem = run.error ?? this.failure();
    this.say(
      h("header", {}, h("h2", {}, run.id), h("span", { class: `badge run-${run.state}` }, t(`run.state.${run.state}`))),
      h("p", { class: "hint" }, t("run.about", run.adapter, run.base, run.dataset, time(run.started))),
      h("label", { class: "progress" }, this.bar, this.reached),
      run.best_step ? h("p", { class: "hint" }, t("run.best", short(run.validation_nll), number(run.best_step))) : null,
      this.adapters.length ? h("p", { class: "registered" }, icon("check"), t("run.registered"), this.adapters.map(talkLinks)) : null,
      problem ? h("p", { class: "error", role: "alert" }, problem) : null,
    );
    // Made anew only where they differ: a click would miss a button that every step replaces.
    const offered = JSON.stringify([run.state, run.is_asked_to_stop, this.detail.has_adapter, this.adapters.length, busy?.kind]);
    if (offered === this.offered) return;
    this.offered = offered;
    this.refusal.textContent = "";
    fill(
      this.buttons,
      run.state === "running" ? h("button", { type: "button", class: "tonal with-icon", disabled: run.is_asked_to_stop, onclick: () => this.stop() }, icon("stop"), t(run.is_asked_to_stop ? "run.stopping" : "run.stop")) : null,
      RESUMABLE.includes(run.state) ? h("button", { type: "button", class: "tonal with-icon", disabled: Boolean(busy), onclick: () => this.act("resume") }, icon("play"), t(busy?.kind === "resume" ? "run.beginning" : "run.resume")) : null,
      this.detail.has_adapter ? h("button", { type: "button", class: "chip", onclick: () => openRegister(run, this.adapters.length > 0) }, t(this.adapters.length ? "run.register.other" : "run.register")) : null,
      h("a", { class: "button chip", href: `#/logs/${encodeURIComponent(`run:${run.id}`)}` }, t("run.log")),
    );
  }

  /** How far it is, in place: the curves know it before the record does, which is written less often. */
  showStep(run) {
    const step = Math.max(run.step, this.own?.step ?? 0);
    this.bar.max = run.total_steps || 1;
    this.bar.value = step;
    this.reached.textContent = t("run.steps", number(step), number(run.total_steps));
  }

  /** Put `said` in front of the buttons, in place of what stood there. */
  say(...said) {
    for (const old of this.said) old.remove();
    this.said = said.filter(Boolean);
    this.refusal.before(...this.said);
  }

  /** What kept the last resumption from beginning. */
  failure() {
    const last = this.jobs.find((job) => job.run === this.id);
    return last?.kind === "resume" && last.state === "failed" && this.run?.state !== "running" && last.started > this.run.updated ? last.error : null;
  }

  async stop() {
    const isMeant = await confirmed(t("run.stop"), t("run.stop.hint"), t("run.stop"));
    if (isMeant && this.run.state === "running") this.act("stop"); // else it has ended while that was asked
  }

  async act(verb) {
    try {
      await post(`/admin/runs/${encodeURIComponent(this.id)}/${verb}`);
    } catch (failure) {
      // 409: the run is no longer as shown here, because it has just ended, say; how it is now comes.
      if (failure.status !== 409) this.refusal.textContent = failure.message;
    }
    this.ask();
  }

  showTable() {
    if (!this.table.closest("details").open) return;
    const { whole } = this.own;
    const rows = whole.loss.slice(-20).reverse().map((point) => {
      const at = (name) => whole[name].findLast((each) => each[1] <= point[1])?.[4];
      return h("tr", {}, h("th", { scope: "row" }, number(point[1])), ["loss", "validation_nll", "learning_rate", "gradient_norm", "tokens_per_s"].map((name) => h("td", {}, short(at(name)))));
    });
    const heads = ["curve.steps", "curve.train", "curve.validation_nll", "curve.learning_rate", "curve.gradient_norm", "curve.tokens_per_s"];
    fill(this.table, h("table", {}, h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, t(head))))), h("tbody", {}, rows)));
  }

  showMade() {
    const { checkpoints, samples, warnings, changed, recipe } = this.detail;
    const fields = changed.map((name) => [name, recipe[name.split(".")[0]][name.split(".")[1]]]);
    fill(
      this.made,
      warnings.length ? h("section", { class: "card" }, h("h2", {}, t("run.warnings")), warnings.map((each) => h("p", { class: "warning" }, `${t("curve.step", number(each.step))}：${each.message}`))) : null,
      samples.length ? h("section", { class: "card" }, h("h2", {}, t("run.samples")), h("p", { class: "hint" }, t("run.samples.hint")), samplesTable(samples)) : null,
      checkpoints.length ? h("section", { class: "card scrolled", tabindex: "0" }, h("h2", {}, t("run.checkpoints")), checkpointsTable(checkpoints)) : null,
      h("section", { class: "card" }, h("h2", {}, t("run.recipe")), h("p", { class: "hint" }, t("run.recipe.hint")), fields.length ? h("dl", { class: "recipe" }, fields.map(([name, value]) => [h("dt", {}, h("code", {}, name)), h("dd", {}, said(value))])) : h("p", {}, t("run.recipe.default"))),
    );
  }

  end() {
    this.isEnded = true;
    this.unlisten();
    cancelAnimationFrame(this.frame);
    cancelAnimationFrame(this.moving);
    for (const curves of this.curves.values()) curves.end();
    for (const chart of [this.chart, ...this.charts]) chart.end();
  }
}

const said = (value) => (Array.isArray(value) ? value.join(" ") : typeof value === "object" ? JSON.stringify(value) : String(value));

/** An adapter's name, which leads to a talk with it, and the way to one beside its base. */
function talkLinks({ name, base }) {
  const both = t("models.compare", name);
  return h("span", { class: "inline" }, h("a", { href: talkPath(name), title: t("models.talk", name) }, name), h("a", { class: "icon-button", href: talkPath(base, name), "aria-label": both, title: both }, icon("compare")));
}

/** Prompts in rows, steps below each other, so that one sees them change. */
function samplesTable(samples) {
  const prompts = [...new Set(samples.map((each) => each.prompt))];
  return prompts.map((prompt) => {
    const own = samples.filter((each) => each.prompt === prompt);
    return h(
      "article",
      { class: "sample" },
      h("p", { class: "bubble" }, prompt),
      h("dl", {}, own.slice(0, 6).map((each) => [h("dt", {}, t("curve.step", number(each.step))), h("dd", {}, each.reply || "…")]), h("dt", {}, t("run.samples.expected")), h("dd", { class: "hint" }, own[0].expected)),
    );
  });
}

function checkpointsTable(checkpoints) {
  const rows = checkpoints.map((each) => h("tr", {}, h("th", { scope: "row" }, number(each.step)), h("td", {}, time(each.written)), h("td", {}, bytes(each.size_bytes)), h("td", {}, each.is_best ? t("run.checkpoints.best") : "")));
  const heads = ["curve.steps", "run.checkpoints.written", "run.checkpoints.size", "run.checkpoints.note"];
  return h("table", {}, h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, t(head))))), h("tbody", {}, rows));
}
