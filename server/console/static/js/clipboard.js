// Copying text. `navigator.clipboard` is there only where the page came over HTTPS or from this
// machine; elsewhere a selection is copied, as before there was one.

import { openDialog } from "./dialog.js";
import { h } from "./dom.js";
import { t } from "./i18n.js";

/** Copy `text`; where the browser does not let us, say so. */
export async function copy(text) {
  const isCopied = navigator.clipboard ? await written(text) : selected(text);
  if (!isCopied) openDialog(t("copy"), h("p", { role: "alert" }, t("copy.refused")));
}

const written = (text) =>
  navigator.clipboard.writeText(text).then(
    () => true,
    () => false,
  );

function selected(text) {
  const focused = document.activeElement;
  const area = h("textarea", { value: text, readonly: true, class: "unseen" });
  document.body.append(area);
  area.select();
  const isCopied = document.execCommand("copy");
  area.remove();
  focused?.focus();
  return isCopied;
}
