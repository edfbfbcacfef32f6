// A new training: what, on what, how; planned before it can be started.

import { get, post } from "./api.js";
import { openDialog } from "./dialog.js";
import { fill, h, field } from "./dom.js";
import { bytes, duration, number, t } from "./i18n.js";
import { PlannedForm } from "./planned_form.js";

const FIRST = ["training.epochs", "training.learning_rate", "training.batch_size", "lora.r", "prompt.max_length", "prompt.system"];

/** Open the form; `dataset` is chosen where it is known. */
export async function openTrainingForm(dataset = "") {
  const [datasets, recipes] = await Promise.all([get("/admin/datasets"), get("/admin/recipes")]);
  new TrainingForm(datasets.data, recipes, dataset);
}

class TrainingForm extends PlannedForm {
  constructor(datasets, recipes, dataset) {
    super(t("run.start"), t("run.beginning.hint"));
    this.recipes = recipes.data;
    this.controls = new Map();
    this.form = h("form", { class: "training-form", novalidate: true });
    this.dialog = openDialog(t("run.new"), this.form, () => this.aborting?.abort());
    if (!datasets.length) {
      fill(this.form, h("p", {}, t("data.none")), h("div", { class: "dialog-end" }, h("a", { class: "button primary", href: "#/data", onclick: () => this.dialog.close() }, t("page.data"))));
      return;
    }
    this.build(datasets, recipes.bases, dataset);
    this.choose();
  }

  build(datasets, bases, dataset) {
    const options = (names, chosen) => names.map((name) => h("option", { value: name, selected: name === chosen }, name));
    this.dataset = h("select", { name: "dataset", required: true }, options(datasets.map((each) => each.name), dataset));
    this.adapter = h("input", { name: "adapter", required: true, autocomplete: "off", value: this.dataset.value, pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]{0,127}" });
    this.base = h("select", { name: "base" }, options(bases));
    const own = this.recipes.some((each) => each.name === bases[0]) ? bases[0] : null;
    this.recipe = h("select", { name: "recipe", onchange: () => this.choose() }, options(this.recipes.map((each) => each.name), own));
    this.fields = h("div");
    this.dataset.addEventListener("change", () => (this.adapter.value = this.dataset.value));
    this.form.addEventListener("input", () => this.stale());
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.form.reportValidity()) this.look();
    });
    const grid = h("div", { class: "grid" }, field(t("dataset"), this.dataset), field(t("adapter.name"), this.adapter), field(t("base"), this.base), field(t("recipe"), this.recipe));
    fill(this.form, grid, this.fields, this.end);
  }

  /** The fields of the chosen recipe, empty where they are as it has them. */
  choose() {
    const recipe = this.recipes.find((each) => each.name === this.recipe.value);
    const kept = this.overrides();
    this.controls.clear();
    const made = new Map(recipe.fields.map((each) => [`${each.section}.${each.name}`, this.made(each, kept)]));
    const rest = [...made].filter(([name]) => !FIRST.includes(name));
    const sections = [...new Set(rest.map(([name]) => name.split(".")[0]))];
    const group = (section) => h("fieldset", {}, h("legend", {}, t(`recipe.${section}`)), h("div", { class: "grid" }, rest.filter(([name]) => name.startsWith(`${section}.`)).map(([, element]) => element)));
    fill(this.fields, h("p", { class: "hint" }, t("run.fields.hint")), h("div", { class: "grid" }, FIRST.map((name) => made.get(name))), h("details", {}, h("summary", {}, t("run.fields.all")), sections.map(group)));
    this.stale();
  }

  made(each, kept) {
    const name = `${each.section}.${each.name}`;
    const usual = shown(each);
    const choices = each.kind === "boolean" ? ["true", "false"] : each.choices;
    const control = choices
      ? h("select", { name }, h("option", { value: "" }, t("run.fields.usual", usual)), choices.filter((one) => one !== usual).map((one) => h("option", { value: one, selected: kept[name] === one }, one)))
      : h("input", { name, placeholder: usual, value: kept[name] ?? "", autocomplete: "off", inputmode: each.kind === "number" ? "decimal" : each.kind === "integer" ? "numeric" : null });
    this.controls.set(name, control);
    const label = h("span", {}, t(`recipe.${name}`), " ", h("code", {}, name));
    return h("label", { class: `field${name === "prompt.system" ? " wide-field" : ""}` }, label, control);
  }

  overrides() {
    return Object.fromEntries([...this.controls].map(([name, control]) => [name, control.value.trim()]).filter(([, value]) => value !== ""));
  }

  asked() {
    return { dataset: this.dataset.value, adapter: this.adapter.value.trim(), base: this.base.value, recipe: this.recipe.value, overrides: this.overrides() };
  }

  planning(signal) {
    return post("/admin/recipes/plan", this.asked(), { signal });
  }

  starting() {
    return post("/admin/runs", this.asked());
  }

  shown(plan) {
    return planned(plan);
  }

  async hasBegun({ id }) {
    const job = await get(`/admin/jobs/${id}`);
    if (!job.run) return job;
    location.hash = `#/training/${encodeURIComponent(job.run)}`;
    return true;
  }
}

function shown({ value }) {
  if (Array.isArray(value)) return JSON.stringify(value);
  return typeof value === "object" && value !== null ? "{}" : String(value);
}

function planned(plan) {
  const rows = [
    [t("plan.steps"), t("plan.steps.of", number(plan.steps), number(plan.dialogues_per_step), number(plan.steps_per_epoch))],
    [t("plan.time"), plan.pace ? t("plan.time.as", duration(plan.pace.seconds), number(Math.round(plan.pace.tokens_per_s)), plan.pace.run) : t("plan.time.unknown")],
    [t("plan.memory"), bytes(plan.memory_total)],
    [t("plan.recomputation"), t("plan.recomputation.of", number(plan.recomputation.layers), number(plan.recomputation.of), bytes(plan.recomputation.usable))],
    [t("plan.disk"), bytes(plan.disk)],
    [t("plan.dialogues"), t("plan.dialogues.of", number(plan.dialogues), number(plan.replies), number(plan.tokens_per_epoch))],
    [t("plan.cut"), plan.cut ? number(plan.cut) : null],
    [t("plan.parameters"), number(plan.trainable_parameters)],
    [t("plan.changed"), plan.changed.join(", ") || t("run.recipe.default")],
  ];
  return [h("h3", {}, t("plan")), h("dl", {}, rows.filter(([, value]) => value !== null).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])), plan.is_served ? null : h("p", { class: "warning" }, t("plan.not.served"))];
}
