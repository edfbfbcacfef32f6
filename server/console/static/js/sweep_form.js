// A new sweep: the file that `lccc-admin sweep` takes, chosen or typed; planned before it can be started.

import { get, post } from "./api.js";
import { openDialog } from "./dialog.js";
import { fill, h, field } from "./dom.js";
import { fileChoice } from "./file_choice.js";
import { bytes, duration, number, t } from "./i18n.js";
import { PlannedForm } from "./planned_form.js";
import { shown } from "./sweep_view.js";

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

class SweepForm extends PlannedForm {
  constructor(text) {
    super(t("sweep.start"), t("sweep.beginning"));
    this.file = h("input", { type: "file", accept: ".toml,.txt", onchange: () => this.read() });
    this.definition = h("textarea", { name: "definition", class: "definition", rows: "12", required: true, spellcheck: "false", value: text });
    const submit = (event) => {
      event.preventDefault();
      this.look();
    };
    this.form = h("form", { class: "training-form", onsubmit: submit }, h("p", { class: "hint" }, t("sweep.hint")), field(t("sweep.file"), fileChoice(this.file)), field(t("sweep.definition"), this.definition), this.end);
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

  planning(signal) {
    return post("/admin/sweeps/plan", { definition: this.definition.value }, { signal });
  }

  starting() {
    return post("/admin/sweeps", { definition: this.definition.value });
  }

  shown(plan) {
    return planned(plan);
  }

  isToBegin(plan) {
    return plan.to_run > 0;
  }

  /** It may have ended by the time that somebody looks. */
  async hasBegun({ id, subject }) {
    const [job, sweeps] = await Promise.all([get(`/admin/jobs/${id}`), get("/admin/sweeps")]);
    const isThere = sweeps.data.find((each) => each.name === subject)?.is_running || job.state === "completed";
    if (job.state === "failed" || job.state === "cancelled" || !isThere) return job;
    location.hash = `#/training/${encodeURIComponent(`sweep:${subject}`)}`;
    return true;
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
