// What one does with adapters, in dialogs: from the models page, and from a run's.

import { del, get, post } from "./api.js";
import { confirmed, formDialog } from "./dialog.js";
import { field, h } from "./dom.js";
import { t } from "./i18n.js";

const path = (name) => `/admin/adapters/${encodeURIComponent(name)}`;

/** Register what `run` has made; without one, of the run that is chosen. */
export async function openRegister(run = null) {
  const runs = run ? [run] : (await get("/admin/runs")).data.filter((each) => each.state === "completed");
  const choice = h("select", { required: true }, runs.map((each) => h("option", { value: each.id }, `${each.id} (${each.adapter})`)));
  const name = h("input", { required: true, value: runs[0]?.adapter ?? "", autocomplete: "off", pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]{0,127}" });
  choice.addEventListener("change", () => (name.value = runs[choice.selectedIndex].adapter));
  const replaces = h("input", { type: "checkbox" });
  const fields = runs.length
    ? [field(t("run"), choice), field(t("adapter.name"), name), h("label", { class: "inline" }, replaces, t("adapter.replaces"))]
    : [h("p", {}, t("adapter.none"))];
  formDialog(t("run.register"), fields, t("run.register"), () => post("/admin/adapters", { name: name.value.trim(), run: choice.value, replaces: replaces.checked }));
}

export function openRename(name) {
  const to = h("input", { required: true, value: name, autocomplete: "off", pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]{0,127}" });
  formDialog(t("adapter.rename"), [field(t("adapter.name"), to, t("adapter.rename.hint"))], t("adapter.rename"), () => post(`${path(name)}/rename`, { to: to.value.trim() }));
  to.select();
}

export async function askToRemove(name) {
  if (await confirmed(t("adapter.remove"), t("adapter.remove.hint", name), t("remove"))) await del(path(name));
}

export const downloadPath = (name) => `${path(name)}/download`;
