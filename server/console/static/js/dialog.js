// Dialogs: the browser's own, which keep the focus inside and close with Escape.

import { fill, h, iconButton } from "./dom.js";
import { t } from "./i18n.js";

/** Show `body` in a dialog; returns {element, close}. `onclose` is called however it ends. */
export function openDialog(title, body, onclose = () => {}) {
  const heading = h("h2", { id: "dialog-title" }, title);
  const element = h("dialog", { class: "dialog", "aria-labelledby": "dialog-title" });
  const close = () => element.close();
  fill(element, h("header", {}, heading, iconButton("close", t("close"), close)), body);
  addEventListener("hashchange", close); // another page: what was asked is no longer there
  element.addEventListener("close", () => {
    removeEventListener("hashchange", close);
    element.remove();
    onclose();
  });
  document.body.append(element);
  element.showModal();
  return { element, close };
}

/** Close whatever is asked, as when nobody is signed in any more. */
export function closeDialogs() {
  for (const element of document.querySelectorAll("dialog")) element.close();
}

/** Ask for a yes: a promise of true or false. */
export function confirmed(title, text, label) {
  return new Promise((resolve) => {
    let answer = false;
    const yes = h("button", { type: "submit", class: "primary" }, label);
    const submit = (event) => {
      event.preventDefault();
      answer = true;
      dialog.close();
    };
    const form = h("form", { onsubmit: submit }, h("p", {}, text), h("div", { class: "dialog-end" }, h("button", { type: "button", onclick: () => dialog.close() }, t("cancel")), yes));
    const dialog = openDialog(title, form, () => resolve(answer));
    yes.focus();
  });
}

/**
 * A form in a dialog. `send(form data)` may throw what the server refused, which is shown and leaves
 * the dialog open.
 */
export function formDialog(title, fields, label, send) {
  const error = h("p", { class: "error", role: "alert" });
  const button = h("button", { type: "submit", class: "primary" }, label);
  const submit = async (event) => {
    event.preventDefault();
    button.disabled = true;
    error.textContent = "";
    try {
      await send();
      dialog.close();
    } catch (refusal) {
      error.textContent = refusal.message;
    } finally {
      button.disabled = false;
    }
  };
  const end = h("div", { class: "dialog-end" }, h("button", { type: "button", onclick: () => dialog.close() }, t("cancel")), button);
  const dialog = openDialog(title, h("form", { onsubmit: submit }, fields, error, end));
  return dialog;
}
