// The list of conversations: found by what was said, opened, called something else, removed.

import * as conversations from "./conversations.js";
import { fill, h, icon, iconButton, isComposing } from "./dom.js";
import { t } from "./i18n.js";

const FEW = 8; // are seen at a glance

export class ConversationList {
  /** `acts` has `begin()`, and of a conversation `open`, `remove` and `rename(conversation, title)`. */
  constructor(acts) {
    this.acts = acts;
    this.currentId = "";
    this.renamedId = null;
    this.items = h("ul", { class: "conversations" });
    this.search = h("input", { type: "search", "aria-label": t("conversations.search"), placeholder: t("conversations.search"), oninput: () => this.show(this.currentId) });
    this.element = h(
      "nav",
      { class: "side", "aria-label": t("conversations") },
      h("button", { type: "button", class: "tonal wide", onclick: () => acts.begin() }, icon("add"), t("conversation.new")),
      this.search,
      this.items,
    );
  }

  /** Show what is kept, with `currentId` as the one that is open. */
  show(currentId) {
    this.currentId = currentId;
    if (this.renamedId) return; // what is typed there is not taken away
    const held = this.items.contains(document.activeElement) ? document.activeElement.getAttribute("aria-label") : null;
    const all = conversations.kept();
    this.search.hidden = all.length <= FEW;
    const wanted = this.search.hidden ? "" : this.search.value.trim();
    const items = all.filter((each) => !wanted || conversations.has(each, wanted)).map((each) => this.item(each));
    fill(this.items, items.length ? items : h("li", { class: "empty" }, t(wanted ? "conversations.not_found" : "conversations.none")));
    if (held) this.items.querySelector(`[aria-label="${CSS.escape(held)}"]`)?.focus();
  }

  item(conversation) {
    const title = conversation.title || t("conversation.untitled");
    const isCurrent = conversation.id === this.currentId;
    const item = h("li", { class: isCurrent ? "current" : "", "data-id": conversation.id });
    const rename = () => this.rename(item, conversation);
    const open = h("button", { type: "button", class: "plain", title, "aria-label": title, "aria-current": isCurrent ? "true" : null, onclick: () => this.acts.open(conversation), ondblclick: rename }, title);
    item.addEventListener("keydown", (event) => {
      if (event.key !== "F2") return;
      event.preventDefault();
      rename();
    });
    const acts = h("span", { class: "row-acts" }, iconButton("edit", `${t("rename")}: ${title}`, rename), iconButton("remove", `${t("remove")}: ${title}`, () => this.acts.remove(conversation)));
    return fill(item, open, acts);
  }

  rename(item, conversation) {
    this.renamedId = conversation.id;
    const input = h("input", { value: conversation.title, "aria-label": t("rename"), maxlength: "200", autocomplete: "off" });
    let isOver = false; // taking the field away takes its focus, too
    const end = (isMeant) => {
      if (isOver) return;
      isOver = true;
      this.renamedId = null;
      if (isMeant && input.value.trim() !== conversation.title) this.acts.rename(conversation, input.value);
      const hadFocus = document.activeElement === input;
      this.show(this.currentId);
      if (hadFocus) this.items.querySelector(`[data-id="${CSS.escape(conversation.id)}"] .plain`)?.focus();
    };
    const keys = (event) => {
      event.stopPropagation(); // Escape ends this and nothing else
      if (isComposing(event)) return;
      if (event.key === "Enter") event.preventDefault();
      if (event.key === "Enter" || event.key === "Escape") end(event.key === "Enter");
    };
    input.addEventListener("keydown", keys);
    input.addEventListener("blur", () => end(true));
    fill(item, input);
    input.focus();
    input.select();
  }
}
