// A form whose work is planned before it can be started: what a new training and a new sweep share.

import { fill, h } from "./dom.js";
import { t } from "./i18n.js";

const POLL_MS = 500;

/**
 * A form says what it asks with `planning(signal)` and `starting()`, which are requests; with
 * `shown(plan)`, what to show of a plan, and `isToBegin(plan)`; and with `hasBegun(job)`, which
 * looks for what the job has made, goes there and says whether it has. `dialog` is what it is in.
 */
export class PlannedForm {
  constructor(begin, beginning) {
    this.beginning = beginning;
    this.plan = h("div", { class: "plan", "aria-live": "polite" });
    this.error = h("p", { class: "error", role: "alert" });
    this.check = h("button", { type: "submit", class: "tonal" }, t("run.plan"));
    this.begin = h("button", { type: "button", class: "primary", disabled: true, onclick: () => this.start() }, begin);
    this.end = [this.plan, this.error, h("div", { class: "dialog-end" }, this.check, this.begin)];
  }

  isToBegin() {
    return true;
  }

  /** What was planned no longer holds. */
  stale() {
    this.aborting?.abort();
    this.begin.disabled = true;
    this.check.disabled = false;
    this.error.textContent = "";
    fill(this.plan);
  }

  async look() {
    this.stale();
    this.check.disabled = true;
    const aborting = (this.aborting = new AbortController());
    this.wait(t("run.planning"));
    try {
      const plan = await this.planning(aborting.signal);
      fill(this.plan, this.shown(plan));
      this.begin.disabled = !this.isToBegin(plan);
      if (!this.begin.disabled) this.begin.focus({ preventScroll: true });
      this.plan.scrollIntoView({ block: "nearest" }); // it stands below what may be a long form
    } catch (failure) {
      if (aborting.signal.aborted) return;
      fill(this.plan);
      this.error.textContent = failure.message;
      this.error.scrollIntoView({ block: "nearest" });
    } finally {
      if (!aborting.signal.aborted) this.check.disabled = false;
    }
  }

  async start() {
    this.begin.disabled = this.check.disabled = true;
    try {
      const job = await this.starting();
      this.wait(this.beginning);
      this.await(job);
    } catch (failure) {
      this.error.textContent = failure.message;
      this.check.disabled = false;
    }
  }

  /** Until the job has made what it is for, or says why it cannot. */
  async await(job) {
    if (!this.dialog.element.open) return;
    const found = await this.hasBegun(job).catch(() => null);
    if (found === true) this.dialog.close();
    else if (found?.state === "failed" || found?.state === "cancelled") {
      fill(this.plan);
      this.error.textContent = found.error ?? t("job.state.cancelled");
      this.check.disabled = false;
    } else setTimeout(() => this.await(job), POLL_MS);
  }

  wait(text) {
    fill(this.plan, h("p", { class: "waiting", role: "status" }, text));
    this.plan.scrollIntoView({ block: "nearest" });
  }
}
