// The models page: the base and its adapters, and what is known of each.

import { fill, h } from "./dom.js";
import { number, t, time } from "./i18n.js";
import { followModels } from "./models_list.js";

export function modelsPage(place) {
  const list = h("div", { class: "cards" });
  fill(place, h("div", { class: "page" }, h("h1", {}, t("page.models")), h("p", { class: "hint" }, t("models.hint")), list));
  return followModels((models) => fill(list, models.map(card)));
}

function card(model) {
  const facts = [
    ["models.kind", model.parent ? t("models.adapter.of", model.parent) : t("model.base")],
    ["models.rank", model.rank],
    ["models.context", number(model.max_model_len)],
    ["models.created", time(model.created)],
    ["models.digest", h("code", { title: model.digest }, model.digest.slice(0, 12))],
    ["models.sampling", sampling(model.sampling)],
    ["system", model.system_prompt],
  ];
  const rows = facts.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return h(
    "article",
    { class: "card" },
    h("header", {}, h("h2", {}, model.id), h("span", { class: `badge ${model.state}` }, t(`state.${model.state}`))),
    model.reason ? h("p", { class: "error" }, model.reason) : null,
    h("dl", {}, rows.map(([name, value]) => [h("dt", {}, t(name)), h("dd", {}, value)])),
  );
}

function sampling(defaults) {
  const given = Object.entries(defaults).filter(([, value]) => value !== null);
  return given.map(([name, value]) => `${name} ${value}`).join(", ");
}
