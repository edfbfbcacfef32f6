// What one does with adapters, in dialogs: from the models page, and from a run's.

import { del, get, post } from "./api.js";
import { confirmed, formDialog } from "./dialog.js";
import { field, fill, h } from "./dom.js";
import { t } from "./i18n.js";

const NAME = "[A-Za-z0-9][A-Za-z0-9._\\-]{0,127}";
const path = (name) => `/admin/adapters/${encodeURIComponent(name)}`;
const named = (value, more = {}) => h("input", { required: true, value, autocomplete: "off", pattern: NAME, ...more });
const options = (pairs, chosen) => pairs.map(([value, text]) => h("option", { value, selected: value === chosen }, text));

/**
 * Register what `run` has made; without one, of a run or a directory that is chosen. What
 * `isRegistered` already needs another name, which is asked for.
 */
export async function openRegister(run = null, isRegistered = false) {
  const runs = run ? [run] : (await get("/admin/runs")).data.filter((each) => each.state === "completed");
  const choice = h("select", { required: true }, options(runs.map((each) => [each.id, `${each.id} (${each.adapter})`])));
  const name = named(isRegistered ? "" : (runs[0]?.adapter ?? ""));
  choice.addEventListener("change", () => (name.value = runs[choice.selectedIndex].adapter));
  const directory = h("input", { required: true, autocomplete: "off", placeholder: "/…", pattern: "/.*" });
  const assumed = h("input", { type: "checkbox" });
  const replaces = h("input", { type: "checkbox" });
  const source = h("select", { name: "source", onchange: () => show() }, options([["run", t("adapter.from.run")], ["path", t("adapter.from.path")]]));
  const from = h("div");
  const show = () => {
    if (source.value === "path") fill(from, field(t("adapter.path"), directory, t("adapter.path.hint")), h("label", { class: "inline" }, assumed, t("adapter.assumed")));
    else fill(from, runs.length ? field(t("run"), choice) : h("p", {}, t("adapter.none")));
  };
  if (!runs.length) source.value = "path";
  show();
  const fields = [run ? null : field(t("adapter.from"), source), from, field(t("adapter.name"), name), h("label", { class: "inline" }, replaces, t("adapter.replaces"))];
  const title = t(isRegistered ? "run.register.other" : "run.register");
  formDialog(title, fields, t("run.register"), () => {
    const origin = source.value === "path" ? { path: directory.value.trim(), assume_base: assumed.checked } : { run: choice.value };
    return post("/admin/adapters", { name: name.value.trim(), replaces: replaces.checked, ...origin });
  });
  if (isRegistered) name.focus();
}

export function openRename(name) {
  const to = named(name);
  formDialog(t("adapter.rename"), [field(t("adapter.name"), to, t("adapter.rename.hint"))], t("adapter.rename"), () => post(`${path(name)}/rename`, { to: to.value.trim() }));
  to.select();
}

/** Make a base of the adapter `name` and its base, in a job. */
export async function openMerge(name, base) {
  const datasets = (await get("/admin/datasets")).data;
  const to = named(`${base}-${name}`.replace(/[^A-Za-z0-9._-]+/g, "-"), { name: "to" });
  const dtype = h("select", { name: "dtype" }, options([["bf16", "bf16"], ["fp16", "fp16"], ["fp32", "fp32"]]));
  const dataset = h("select", { name: "dataset" }, options([["", t("merge.dataset.usual")], ...datasets.map((each) => [each.name, each.name])]));
  const fields = [h("p", { class: "hint" }, t("merge.hint", name)), field(t("merge.to"), to, t("merge.to.hint")), h("div", { class: "grid" }, field(t("merge.dtype"), dtype), field(t("merge.dataset"), dataset))];
  formDialog(t("adapter.merge.of", name), fields, t("merge"), () => post(`${path(name)}/merge`, { to: to.value.trim(), dtype: dtype.value, dataset: dataset.value || null }));
}

/** Measure some of `adapters` on a dataset beside their `base`, in a job. */
export async function openEvaluation(base, adapters) {
  const datasets = (await get("/admin/datasets")).data;
  const boxes = adapters.map((name) => [name, h("input", { type: "checkbox", name: "model", value: name, checked: true })]);
  const ofBase = h("input", { type: "checkbox", name: "base", checked: true });
  const dataset = h("select", { name: "dataset", required: true }, options(datasets.map((each) => [each.name, each.name])));
  const split = h("select", { name: "split" }, options([["", t("evaluate.split.usual")], ["test", t("split.test")], ["validation", t("split.validation")]]));
  const count = (name, value, min = "0") => h("input", { type: "number", name, value, min, required: true });
  const numbers = { dialogues: count("dialogues", "1000"), replies: count("replies", "100"), max_tokens: count("max_tokens", "100", "1") };
  const fields = [
    h("p", { class: "hint" }, t("evaluate.hint")),
    h("fieldset", { class: "choices" }, h("legend", {}, t("page.models")), h("label", { class: "inline" }, ofBase, `${base} (${t("model.base")})`), boxes.map(([name, box]) => h("label", { class: "inline" }, box, name))),
    h("div", { class: "grid" }, field(t("dataset"), dataset), field(t("data.split"), split), field(t("evaluate.dialogues"), numbers.dialogues), field(t("evaluate.replies"), numbers.replies), field(t("sampling.max_tokens"), numbers.max_tokens)),
    datasets.length ? null : h("p", { class: "error" }, t("data.none")),
  ];
  formDialog(t("evaluate"), fields, t("evaluate.start"), () => {
    const models = boxes.filter(([, box]) => box.checked).map(([name]) => name);
    const counts = Object.fromEntries(Object.entries(numbers).map(([name, input]) => [name, Number(input.value)]));
    return post("/admin/evaluations", { models, includes_base: ofBase.checked, dataset: dataset.value, split: split.value || null, ...counts });
  });
}

export async function askToRemove(name) {
  if (await confirmed(t("adapter.remove"), t("adapter.remove.hint", name), t("remove"))) await del(path(name));
}

export const downloadPath = (name) => `${path(name)}/download`;

/** The place of a new conversation with these models. */
export const talkPath = (...names) => `#/chat/${encodeURIComponent(names.join(","))}`;
