// The models page: the base and its adapters, and what is known of each.

import { askToRemove, downloadPath, openRegister, openRename } from "./adapter_dialogs.js";
import { fill, h, icon, iconButton } from "./dom.js";
import { number, t, time } from "./i18n.js";
import { followModels } from "./models_list.js";

export function modelsPage(place) {
  const list = h("div", { class: "cards" });
  const error = h("p", { class: "error", role: "alert" });
  const said = (doing) => doing.catch((failure) => (error.textContent = failure.message));
  const register = h("button", { type: "button", class: "primary with-icon", onclick: () => said(openRegister()) }, icon("add"), t("run.register"));
  fill(place, h("div", { class: "page" }, h("div", { class: "page-head" }, h("h1", {}, t("page.models")), register), h("p", { class: "hint" }, t("models.hint")), error, list));
  return followModels((models) => fill(list, models.map((model) => card(model, said))));
}

function card(model, said) {
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
    model.parent ? actions(model.id, said) : null,
  );
}

function actions(name, said) {
  return h(
    "div",
    { class: "buttons" },
    iconButton("edit", t("adapter.rename.of", name), () => openRename(name)),
    h("a", { class: "icon-button", href: downloadPath(name), download: `${name}.zip`, "aria-label": t("adapter.download.of", name), title: t("adapter.download.of", name) }, icon("download")),
    iconButton("remove", t("adapter.remove.of", name), () => said(askToRemove(name))),
  );
}

function sampling(defaults) {
  const given = Object.entries(defaults).filter(([, value]) => value !== null);
  return given.map(([name, value]) => `${name} ${value}`).join(", ");
}
