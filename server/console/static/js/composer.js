// Where one writes what is said next.

import { fill, h, icon, isComposing } from "./dom.js";
import { t } from "./i18n.js";

const DRAFT = "lccc.draft"; // of this tab: another page is looked at in between
const HIGHEST_PX = 200;

/** Whether fingers are all there is: a keyboard of glass has no Shift+Enter, and hides half of the page. */
export const isTouch = () => matchMedia("(hover: none) and (pointer: coarse)").matches;

/** Whether a key sends what was written; where one only touches, Enter breaks the line. */
export const isSending = (event) => event.key === "Enter" && !event.shiftKey && !isTouch() && !isComposing(event);

export class Composer {
  /** `acts` has `isRunning()`, `send(text)`, which says whether it was taken, `stop()` and `editLast()`. */
  constructor(acts) {
    this.acts = acts;
    const words = t(isTouch() ? "message.placeholder.touch" : "message.placeholder");
    this.input = h("textarea", { rows: "1", "aria-label": t("message"), placeholder: words, value: sessionStorage.getItem(DRAFT) ?? "", oninput: () => this.grow(), onkeydown: (event) => this.key(event) });
    this.button = h("button", { type: "submit", class: "primary round" });
    this.element = h("form", { class: "composer", onsubmit: (event) => this.submit(event) }, this.input, this.button);
  }

  /** What the button does just now. */
  show() {
    const name = this.acts.isRunning() ? "stop" : "send";
    fill(this.button, icon(name));
    this.button.setAttribute("aria-label", t(name));
    this.button.title = t(name);
  }

  focus() {
    this.input.focus();
  }

  /** Make room for what is typed, and keep it. */
  grow() {
    sessionStorage.setItem(DRAFT, this.input.value);
    this.input.style.setProperty("height", "auto");
    this.input.style.setProperty("height", `${Math.min(HIGHEST_PX, this.input.scrollHeight)}px`);
  }

  key(event) {
    if (event.key === "ArrowUp" && !this.input.value && !isComposing(event) && this.acts.editLast()) event.preventDefault();
    if (!isSending(event)) return;
    event.preventDefault();
    if (!this.acts.isRunning()) this.send(); // what is typed meanwhile stays; the button or Escape ends a reply
  }

  submit(event) {
    event.preventDefault();
    if (this.acts.isRunning()) this.acts.stop();
    else this.send();
  }

  send() {
    const text = this.input.value.trim();
    if (!text || !this.acts.send(text)) return;
    this.input.value = "";
    this.grow();
  }
}
