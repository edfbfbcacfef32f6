// Adapter against adapter, and the base: what `lccc-admin evaluate` has measured of each, side by side.

import { fill, h } from "./dom.js";
import { number, t, time } from "./i18n.js";

// How the figures are shown, and which is the better one: the lower (-1), the higher (1), neither.
const FIGURES = {
  perplexity_per_character: -1,
  nll_per_character: -1,
  nll_per_token: -1,
  bleu_2_characters: 1,
  bleu_4_characters: 1,
  rouge_l_characters: 1,
  distinct_1_characters: 1,
  distinct_2_characters: 1,
  reply_characters: 0,
  repetition_4_characters: -1,
  copied_from_training: 0,
  echoed: -1,
  unfinished: -1,
};

/**
 * Show the figures of what is `known` (`GET /admin/adapters`) in `place`; who is left out is `hidden`,
 * which a person changes.
 */
export function showEvaluations(place, { base, data: adapters, broken }, hidden) {
  const lost = broken[base?.name] ? h("p", { class: "error" }, broken[base.name]) : null;
  const models = [...(base ? [{ ...base, isBase: true }] : []), ...adapters];
  const measured = models.filter((each) => each.evaluations.length);
  if (!measured.length) {
    const names = [...(base ? [base.name] : []), ...adapters.slice(0, 2).map((each) => each.name)].join(" ") || "ADAPTER";
    fill(place, h("h2", {}, t("evaluations")), lost, h("p", { class: "hint" }, t("evaluations.none")), h("pre", { class: "command", tabindex: "0" }, `lccc-admin evaluate ${names} --data ${adapters.find((each) => each.run)?.run.dataset ?? "DATASET"}`));
    return;
  }
  const choose = (name, isOn) => {
    if (isOn) hidden.delete(name);
    else hidden.add(name);
    showEvaluations(place, { base, data: adapters, broken }, hidden);
    place.querySelector(`input[value="${CSS.escape(name)}"]`)?.focus();
  };
  const boxes = measured.map(({ name }) => h("label", { class: "inline" }, h("input", { type: "checkbox", value: name, checked: !hidden.has(name), onchange: (event) => choose(name, event.target.checked) }), name));
  const tables = subjects(measured.filter(({ name }) => !hidden.has(name))).map(table);
  fill(place, h("h2", {}, t("evaluations")), lost, h("p", { class: "hint" }, t("evaluations.hint")), h("fieldset", { class: "choices" }, h("legend", {}, t("evaluations.of")), boxes), tables);
}

/** What was measured on the same split of the same data belongs together; the newest comes first. */
function subjects(models) {
  const found = new Map();
  for (const { name, isBase, evaluations } of models) {
    for (const each of evaluations) {
      const key = `${each.dataset_sha256} ${each.split}`;
      if (!found.has(key)) found.set(key, []);
      found.get(key).push({ name, isBase, ...each });
    }
  }
  const newest = (columns) => Math.max(...columns.map((each) => each.measured));
  return [...found.values()].sort((a, b) => newest(b) - newest(a));
}

function table(columns) {
  const { dataset, split, dataset_sha256: digest } = columns[0];
  const names = Object.keys(FIGURES).filter((name) => columns.some((each) => name in each.metrics));
  const others = [...new Set(columns.flatMap((each) => Object.keys(each.metrics)))].filter((name) => !(name in FIGURES));
  const about = [
    [t("evaluations.counts"), (each) => t("evaluations.counts.of", number(each.dialogues), number(each.replies))],
    [t("evaluations.conditions"), (each) => each.conditions],
    [t("evaluations.measured"), (each) => time(each.measured)],
  ];
  return h(
    "div",
    { class: "scrolled", tabindex: "0", role: "region", "aria-label": `${dataset}, ${split}` },
    h(
      "table",
      { class: "evaluations" },
      h("caption", {}, `${dataset} · ${t(`split.${split}`)} `, h("code", { title: digest }, digest.slice(0, 12))),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, t("evaluations.figure")), columns.map(({ name, isBase }) => h("th", { scope: "col" }, name, isBase ? h("small", {}, ` ${t("model.base")}`) : null)))),
      h("tbody", {}, [...names, ...others].map((name) => figure(name, columns)), about.map(([label, text]) => h("tr", { class: "about" }, h("th", { scope: "row" }, label), columns.map((each) => h("td", {}, text(each)))))),
    ),
  );
}

function figure(name, columns) {
  const values = columns.map((each) => each.metrics[name]);
  const known = values.filter((value) => value !== undefined);
  const better = FIGURES[name] ?? 0;
  const best = better && new Set(known).size > 1 ? (better > 0 ? Math.max(...known) : Math.min(...known)) : null;
  const cell = (value) => {
    if (value === undefined) return h("td", {}, "–");
    const digits = name.includes("nll") || name.includes("perplexity") ? 3 : 1;
    const text = value < 1e6 ? value.toFixed(digits) : value.toExponential(2);
    return h("td", {}, value === best ? h("strong", {}, text) : text);
  };
  return h("tr", {}, h("th", { scope: "row" }, name in FIGURES ? t(`figure.${name}`) : name), values.map(cell));
}
