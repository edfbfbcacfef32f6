// A field for a file whose words are the console's own: a browser's are in the browser's language.

import { h } from "./dom.js";
import { t } from "./i18n.js";

/** `input`, which is of type file, laid unseen over what says what is chosen. */
export function fileChoice(input) {
  const name = h("span", { class: "file-name" }, t("data.file.none"));
  input.addEventListener("change", () => (name.textContent = input.files[0]?.name ?? t("data.file.none")));
  return h("span", { class: "file" }, input, h("span", { class: "button tonal", "aria-hidden": "true" }, t("data.file.choose")), name);
}
