// One sweep: how far it is, and its trials in a table with the best one marked.

import { get, post } from "./api.js";
import { short } from "./chart.js";
import { confirmed } from "./dialog.js";
import { fill, h, icon } from "./dom.js";
import { duration, number, t } from "./i18n.js";

const LONG = 14; // characters in the head of a column
const ENDED = ["completed", "failed"];

export class SweepView {
  constructor(place, name) {
    this.name = name;
    this.job = null; // the last one that was started here, for its log
    this.words = h("div", {});
    this.refusal = h("p", { class: "error", role: "alert" });
    this.buttons = h("div", { class: "buttons" });
    this.head = h("div", { class: "card run-head" }, this.words, this.refusal, this.buttons);
    this.table = h("section", { class: "card" });
    fill(place, this.head, this.table);
    this.ask();
  }

  jobsChanged(jobs) {
    this.job = jobs.find((job) => job.kind === "sweep" && job.subject === this.name)?.id ?? null;
  }

  async ask() {
    const path = `/admin/sweeps/${encodeURIComponent(this.name)}`;
    const asked = (this.asked = (this.asked ?? 0) + 1);
    try {
      const detail = await get(path);
      if (this.isEnded || asked !== this.asked) return;
      const { sweep, trials, duplicates } = detail;
      this.isRunning = sweep.is_running;
      const best = trials.find((each) => each.id === sweep.best);
      if (this.isUnheard) this.refusal.textContent = "";
      this.isUnheard = false;
      this.renew(this.words, [sweep, best, duplicates], () => this.showWords(sweep, best, duplicates));
      // Made anew only where they differ: a click would miss a button that every trial replaces.
      const offered = this.offered(sweep);
      this.renew(this.buttons, offered, () => this.showButtons(offered));
      this.renew(this.table, [sweep.fields, sweep.best, trials], () => this.showTrials(sweep, trials));
    } catch (failure) {
      if (this.isEnded) return;
      this.isUnheard = true;
      this.refusal.textContent = failure.message;
    }
  }

  /** `show()` in `place` what `state` says, where that is new; who reads or uses it is left where they are. */
  renew(place, state, show) {
    const said = JSON.stringify(state);
    if (said === place.said) return;
    place.said = said;
    const { scrollLeft = 0 } = place.querySelector(".scrolled") ?? {};
    const held = place.contains(document.activeElement) ? nameOf(document.activeElement) : null;
    show();
    const region = place.querySelector(".scrolled");
    if (region) region.scrollLeft = scrollLeft;
    if (held) [...place.querySelectorAll("a, button, [tabindex]")].find((each) => nameOf(each) === held)?.focus();
  }

  showWords(sweep, best, duplicates) {
    const ended = sweep.completed + sweep.failed;
    const done = t("sweep.trials.of", number(ended), number(sweep.trials));
    fill(
      this.words,
      h("header", {}, h("h2", {}, sweep.name), badge(sweep)),
      h("p", { class: "hint" }, t("sweep.about", sweep.base, sweep.dataset, t(`sweep.search.${sweep.search}`), sweep.fields.join(", "))),
      h("div", { class: "progress" }, h("progress", { max: String(sweep.trials), value: String(ended), "aria-label": sweep.name, "aria-valuetext": done }), h("span", {}, done)),
      best ? h("p", { class: "hint" }, t("sweep.best.is", short(best.validation_nll), said(best.values))) : null,
      sweep.registered ? h("p", { class: "hint" }, t("sweep.registered", sweep.registered)) : null,
      duplicates ? h("p", { class: "hint" }, t("sweep.duplicates", number(duplicates))) : null,
    );
  }

  /** What can be done with the sweep as it stands. */
  offered(sweep) {
    const canGoOn = !sweep.is_running && sweep.can_go_on;
    return {
      stop: sweep.is_running,
      isStopping: sweep.is_asked_to_stop,
      resume: canGoOn && !isWhole(sweep),
      retry: canGoOn && sweep.failed > 0,
      log: this.job,
    };
  }

  showButtons({ stop, isStopping, resume, retry, log }) {
    const goOn = (retries) => () => this.act(`resume?retry_failed=${retries}`);
    this.refusal.textContent = "";
    fill(
      this.buttons,
      stop ? h("button", { type: "button", class: "tonal with-icon", disabled: isStopping, onclick: () => this.stop() }, icon("stop"), t(isStopping ? "run.stopping" : "sweep.stop")) : null,
      resume ? h("button", { type: "button", class: "tonal with-icon", onclick: goOn(false) }, icon("play"), t("sweep.resume")) : null,
      retry ? h("button", { type: "button", class: "chip", onclick: goOn(true) }, t("sweep.retry")) : null,
      log ? h("a", { class: "button chip", href: `#/logs/${encodeURIComponent(`job:${log}`)}` }, t("run.log")) : null,
    );
  }

  showTrials(sweep, trials) {
    const heads = [t("sweep.trial"), ...sweep.fields, t("sweep.state"), t("curve.validation_nll"), t("sweep.at"), t("sweep.time")];
    const failed = trials.filter((each) => each.error);
    fill(
      this.table,
      h("h2", {}, t("sweep.trials")),
      h("p", { class: "hint" }, t("sweep.trials.hint")),
      h(
        "div",
        { class: "scrolled", tabindex: "0", role: "region", "aria-label": t("sweep.trials") },
        h("table", { class: "trials" }, h("thead", {}, h("tr", {}, heads.map(column))), h("tbody", {}, trials.map((each) => row(each, sweep)))),
      ),
      failed.map((each) => h("p", { class: "error" }, `${each.id}: ${each.error}`)),
    );
  }

  async stop() {
    const isMeant = await confirmed(t("sweep.stop"), t("sweep.stop.hint"), t("sweep.stop"));
    if (isMeant && this.isRunning) this.act("stop"); // else it has ended while that was asked
  }

  async act(verb) {
    try {
      await post(`/admin/sweeps/${encodeURIComponent(this.name)}/${verb}`);
    } catch (failure) {
      // 409: the sweep is no longer as shown here, because it has just ended, say; how it is now comes.
      if (failure.status !== 409) this.refusal.textContent = failure.message;
    }
    this.ask();
  }

  end() {
    this.isEnded = true;
  }
}

/** What tells an element that can have the focus from the others. */
const nameOf = (element) => element.getAttribute("aria-label") ?? element.textContent;

const isWhole = (sweep) => sweep.completed + sweep.failed === sweep.trials;

/** How a sweep stands, in a word. */
export function badge(sweep) {
  const state = sweep.is_running ? "running" : isWhole(sweep) ? "completed" : "stopped";
  return h("span", { class: `badge run-${state}` }, t(`run.state.${state}`));
}

function row(trial, sweep) {
  const isBest = trial.id === sweep.best;
  const isUnderWay = trial.total_steps !== null && !ENDED.includes(trial.state);
  const state = t(`sweep.state.${trial.state}`) + (isUnderWay ? ` ${number(trial.step)} / ${number(trial.total_steps)}` : "");
  const loss = trial.validation_nll === null ? "–" : trial.validation_nll.toFixed(4);
  const name = trial.has_run ? h("a", { href: `#/training/${encodeURIComponent(trial.run)}` }, trial.id) : trial.id;
  return h(
    "tr",
    { class: isBest ? "best" : null },
    h("th", { scope: "row" }, name, isBest ? [" ", h("span", { class: "badge" }, t("sweep.best"))] : null),
    sweep.fields.map((field) => h("td", {}, field in trial.values ? shown(trial.values[field]) : "–")),
    h("td", {}, h("span", { class: `badge run-${trial.state}` }, state)),
    h("td", {}, isBest ? h("strong", {}, loss) : loss),
    h("td", {}, trial.best_step === null ? "–" : number(trial.best_step)),
    h("td", {}, trial.seconds === null ? "–" : duration(trial.seconds)),
  );
}

/** The head of a column; a long name of a field goes on in the next line after its dot. */
function column(text) {
  if (text.length < LONG) return h("th", { scope: "col" }, text);
  return h("th", { scope: "col", class: "long" }, text.split(/(?<=\.)/).map((part) => [part, h("wbr")]));
}

const said = (values) => Object.entries(values).map(([name, value]) => `${name} ${shown(value)}`).join(", ");

/** A value of a recipe's field as one reads it. */
export function shown(value) {
  if (Array.isArray(value)) return value.map(shown).join("+");
  if (typeof value === "number" && !Number.isInteger(value)) return String(Number(value.toPrecision(6)));
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
