// A new sweep: the file that `lccc-admin sweep` takes, chosen or typed; planned before it can be started.

import { get, post } from "./api.js";
import { openDialog } from "./dialog.js";
import { fill, h, field } from "./dom.js";
import { bytes, duration, number, t } from "./i18n.js";
import { shown } from "./sweep_view.js";

const POLL_MS = 500;

/** Open the form, with a sweep over what is here as an example. */
export async function openSweepForm() {
  const [datasets, recipes] = await Promise.all([get("/admin/datasets"), get("/admin/recipes")]);
  const [base] = recipes.bases;
  const recipe = recipes.data.find((each) => each.name === base) ?? recipes.data[0];
  new SweepForm(example(datasets.data[0]?.name ?? "DATASET", base, recipe.name));
}

const quoted = (text) => JSON.stringify(text);
const example = (data, base, recipe) => `name = "rates"
data = ${quoted(data)}
base = ${quoted(base)}
recipe = ${quoted(recipe)}

[fields]
"training.learning_rate" = [1e-4, 3e-4, 1e-3]
"lora.r, lora.alpha" = [[8, 16], [16, 32]]
`;

class SweepForm {
  constructor(text) {
    this.file = h("input", { type: "file", accept: ".toml,.txt", onchange: () => this.read() });
    this.definition = h("textarea", { name: "definition", class: "definition", rows: "12", required: true, spellcheck: "false", value: text });
    this.plan = h("div", { class: "plan", "aria-live": "polite" });
    this.error = h("p", { class: "error", role: "alert" });
    this.check = h("button", { type: "submit", class: "tonal" }, t("run.plan"));
    this.begin = h("button", { type: "button", class: "primary", disabled: true, onclick: () => this.start() }, t("sweep.start"));
    const submit = (event) => {
      event.preventDefault();
      this.look();
    };
    this.form = h("form", { class: "training-form", onsubmit: submit }, h("p", { class: "hint" }, t("sweep.hint")), field(t("sweep.file"), this.file), field(t("sweep.definition"), this.definition), this.plan, this.error, h("div", { class: "dialog-end" }, this.check, this.begin));
    this.definition.addEventListener("input", () => this.stale());
    this.dialog = openDialog(t("sweep.new"), this.form, () => this.aborting?.abort());
    this.definition.focus();
  }

  async read() {
    const [file] = this.file.files;
    if (!file) return;
    this.definition.value = await file.text();
    this.stale();
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
    fill(this.plan, h("p", { class: "waiting", role: "status" }, t("run.planning")));
    try {
      const plan = await post("/admin/sweeps/plan", { definition: this.definition.value }, { signal: aborting.signal });
      fill(this.plan, planned(plan));
      this.begin.disabled = !plan.to_run;
      if (plan.to_run) this.begin.focus();
    } catch (failure) {
      if (aborting.signal.aborted) return;
      fill(this.plan);
      this.error.textContent = failure.message;
    } finally {
      if (!aborting.signal.aborted) this.check.disabled = false;
    }
  }

  async start() {
    this.begin.disabled = this.check.disabled = true;
    try {
      const job = await post("/admin/sweeps", { definition: this.definition.value });
      fill(this.plan, h("p", { class: "waiting", role: "status" }, t("sweep.beginning")));
      this.await(job);
    } catch (failure) {
      this.error.textContent = failure.message;
      this.check.disabled = false;
    }
  }

  /** Until the sweep is conducted, or says why it cannot be. */
  async await({ id, subject }) {
    if (!this.dialog.element.open) return;
    const [job, sweeps] = await Promise.all([get(`/admin/jobs/${id}`), get("/admin/sweeps")]).catch(() => [null, null]);
    const sweep = sweeps?.data.find((each) => each.name === subject);
    if (job?.state === "failed" || job?.state === "cancelled") {
      fill(this.plan);
      this.error.textContent = job.error ?? t("job.state.cancelled");
      this.check.disabled = false;
    } else if (sweep?.is_running || job?.state === "completed") {
      this.dialog.close();
      location.hash = `#/training/${encodeURIComponent(`sweep:${subject}`)}`;
    } else {
      setTimeout(() => this.await({ id, subject }), POLL_MS);
    }
  }
}

function planned(plan) {
  const rows = [
    [t("sweep.trials"), t("sweep.plan.trials", number(plan.trials.length), number(plan.to_run))],
    [t("sweep.plan.duplicates"), plan.duplicates ? number(plan.duplicates) : null],
    [t("plan.steps"), number(plan.steps)],
    [t("plan.time"), plan.seconds === null ? t("plan.time.unknown") : duration(plan.seconds)],
    [t("plan.disk"), bytes(plan.disk)],
  ];
  const fields = [...new Set(plan.trials.flatMap((each) => Object.keys(each.values)))];
  const cells = (each) => fields.map((name) => h("td", {}, name in each.values ? shown(each.values[name]) : "–"));
  const table = h("table", {}, h("thead", {}, h("tr", {}, [t("sweep.trial"), ...fields, t("sweep.state")].map((head) => h("th", { scope: "col" }, head)))), h("tbody", {}, plan.trials.map((each) => h("tr", {}, h("th", { scope: "row" }, each.name.slice(plan.name.length + 1)), cells(each), h("td", {}, t(`sweep.state.${each.state}`))))));
  return [
    h("h3", {}, t("plan")),
    h("dl", {}, rows.filter(([, value]) => value !== null).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
    h("details", {}, h("summary", {}, t("sweep.trials")), h("div", { class: "scrolled", tabindex: "0", role: "region", "aria-label": t("sweep.trials") }, table)),
  ];
}
