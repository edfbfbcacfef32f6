// What is set for a conversation: its system prompt and its sampling; and which keys do what.

import { field, h, iconButton } from "./dom.js";
import { t } from "./i18n.js";
import { samplingFields } from "./sampling.js";

const KEYS = [
  ["Enter", "keys.send"],
  ["Shift+Enter", "keys.line"],
  ["↑", "keys.edit"],
  ["Esc", "keys.escape"],
  ["Shift+Esc", "keys.focus"],
  ["Ctrl/⌘+Shift+O", "keys.new"],
  ["F2", "keys.rename"],
];

/** The panel's content; `set(change, isShown)` makes a change, and shows it anew if it has to. */
export function settingsPanel(conversation, defaults, set, close) {
  const system = h("textarea", {
    rows: "4",
    value: conversation.system,
    placeholder: defaults?.system_prompt ?? "",
    onchange: (event) => set(() => (conversation.system = event.target.value)),
  });
  const numbers = samplingFields(conversation.sampling, defaults?.sampling, (name, value) => set(() => (conversation.sampling[name] = value)));
  return [
    h("header", {}, h("h2", {}, t("settings")), iconButton("close", t("close"), close)),
    field(t("system"), system, t("system.hint")),
    h("p", { class: "hint" }, t(conversation.models.length > 1 ? "sampling.hint.compared" : "sampling.hint")),
    h("div", { class: "grid" }, numbers),
    h("button", { type: "button", class: "tonal", onclick: () => set(() => (conversation.sampling = {}), true) }, t("sampling.reset")),
    h("details", { class: "keys" }, h("summary", {}, t("keys")), h("dl", {}, KEYS.map(([key, does]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, t(does))]))),
  ];
}
