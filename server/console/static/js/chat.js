// The chat page: one conversation, with one model or with several side by side.

import * as answers from "./answers.js";
import { Composer, isTouch } from "./composer.js";
import { ConversationList } from "./conversation_list.js";
import * as conversations from "./conversations.js";
import { confirmed, openDialog } from "./dialog.js";
import { fill, h, iconButton, isComposing } from "./dom.js";
import { t } from "./i18n.js";
import { ModelPickers } from "./model_pickers.js";
import { followModels } from "./models_list.js";
import { settingsPanel } from "./settings_panel.js";
import { TalkLog } from "./talk_log.js";
import { anew, neighbour } from "./versions.js";

const MODELS = "lccc.models";
const OPEN = "lccc.open"; // the conversation that this tab shows

/** Show the page in `place`, in a new conversation with the models in `asked` if it names some; returns what ends it. */
export function chatPage(place, asked = "") {
  return new ChatPage(place, asked.split(",").filter(Boolean)).end;
}

class ChatPage {
  constructor(place, asked) {
    this.models = [];
    this.conversation = this.first(asked);
    this.build(place);
    const ends = [
      followModels((models) => this.take(models)),
      conversations.whenChangedElsewhere((id) => this.changedElsewhere(id)),
      answers.follow({ grown: (reply) => this.log.grown(reply), ended: (id) => this.ended(id) }),
    ];
    const keys = (event) => this.key(event);
    addEventListener("keydown", keys);
    this.showAll();
    this.end = () => {
      for (const end of ends) end();
      removeEventListener("keydown", keys);
    };
  }

  first(asked) {
    if (asked.length) {
      history.replaceState(null, "", "#/chat"); // a reload goes on with it
      return this.begun(asked);
    }
    const open = conversations.find(sessionStorage.getItem(OPEN) ?? "") ?? conversations.kept()[0];
    return open ? answers.latest(open) : this.begun();
  }

  begun(models = JSON.parse(localStorage.getItem(MODELS) ?? "[]")) {
    return conversations.begun({ models, system: "", sampling: {} });
  }

  get isRunning() {
    return answers.isRunning(this.conversation.id);
  }

  // Parts of the page

  build(place) {
    this.list = new ConversationList({ begin: () => this.open(this.begun()), open: (each) => this.open(each), remove: (each) => this.remove(each), rename: (each, title) => this.rename(each, title) });
    this.pickers = new ModelPickers((models) => this.choose(models));
    this.log = new TalkLog({
      say: (text) => this.say(text),
      askAll: (index) => this.resend(index, this.conversation.turns[index].content),
      again: (index, number) => this.again(index, number),
      turnTo: (index, number, direction) => this.turnTo(index, number, direction),
      keepSeed: (seed) => this.set(() => (this.conversation.sampling.seed = seed), true),
      resend: (index, text) => this.resend(index, text),
      leave: () => this.composer.focus(),
    });
    this.composer = new Composer({ isRunning: () => this.isRunning, send: (text) => this.say(text), stop: () => answers.stop(this.conversation.id), editLast: () => this.editLast() });
    this.panel = h("aside", { class: "panel", "aria-label": t("settings"), hidden: true });
    this.drawer = iconButton("menu", t("conversations"), () => this.toggleList(), { class: "icon-button only-narrow", "aria-expanded": "false" });
    this.settings = iconButton("settings", t("settings"), () => this.toggleSettings(), { "aria-expanded": "false" });
    const ends = h("span", { class: "tool-end" }, this.pickers.more, this.settings, iconButton("download", t("export"), () => this.export()));
    const tools = h("div", { class: "tools" }, this.drawer, this.pickers.element, ends);
    this.talk = h("section", { class: "talk" }, tools, this.log.element, this.composer.element);
    const shade = h("div", { class: "shade", onclick: () => this.toggleList(false) });
    fill(place, h("div", { class: "chat" }, this.list.element, shade, this.talk, this.panel));
  }

  showAll() {
    this.list.show(this.conversation.id);
    this.pickers.show(this.models, this.conversation.models);
    this.showSettings();
    this.log.show(this.conversation.turns);
    this.composer.show();
  }

  showSettings() {
    const { conversation } = this;
    const defaults = this.models.find((model) => model.id === conversation.models[0]);
    const set = (change, isShown) => this.set(change, isShown);
    fill(this.panel, settingsPanel(conversation, defaults, set, () => this.toggleSettings()));
  }

  // What changes it

  take(models) {
    this.models = models;
    if (!models.length) return;
    if (!this.conversation.models.length) this.conversation.models = [(models[1] ?? models[0]).id];
    this.pickers.show(models, this.conversation.models);
    if (this.panel.hidden) this.showSettings();
    if (this.isMeant) this.composer.send(); // it was before the models were known
  }

  changedElsewhere(id) {
    this.list.show(this.conversation.id);
    if (id !== this.conversation.id || this.isRunning) return;
    this.open(conversations.find(id) ?? this.begun());
  }

  open(conversation) {
    this.isMeant = false;
    this.toggleList(false);
    this.conversation = answers.latest(conversations.find(conversation.id) ?? conversation);
    sessionStorage.setItem(OPEN, conversation.id);
    if (!this.conversation.models.length && this.models.length) this.take(this.models);
    this.showAll();
    if (!isTouch()) this.composer.focus(); // there it would bring the keyboard over what was opened
  }

  async remove(conversation) {
    if (!(await confirmed(t("remove"), t("conversation.remove", conversation.title), t("remove")))) return;
    conversations.remove(conversation.id);
    answers.stop(conversation.id);
    if (conversation.id === this.conversation.id) this.open(conversations.kept()[0] ?? this.begun());
    else this.list.show(this.conversation.id);
  }

  rename(conversation, title) {
    const { id } = conversation;
    // What the list has may have been said more in, or been removed, while the name was typed.
    const own = id === this.conversation.id ? this.conversation : answers.latest(conversations.find(id) ?? { id });
    if (own.turns && !conversations.rename(own, title)) this.tellFull();
  }

  choose(models) {
    this.conversation.models = models;
    localStorage.setItem(MODELS, JSON.stringify(models));
    this.set(() => {}, true);
    this.pickers.show(this.models, models);
  }

  set(change, isShown = false) {
    change();
    if (conversations.isKept(this.conversation.id)) conversations.write(this.conversation);
    if (isShown) this.showSettings();
  }

  toggleSettings() {
    this.panel.hidden = !this.panel.hidden;
    this.settings.setAttribute("aria-expanded", String(!this.panel.hidden));
    this.showSettings();
    if (this.panel.hidden) this.settings.focus();
    else this.panel.querySelector("textarea").focus();
  }

  /** On a narrow page the list of conversations lies over the talk. */
  toggleList(isOpen = !this.isListOpen) {
    if (isOpen === Boolean(this.isListOpen)) return;
    this.isListOpen = isOpen;
    this.list.element.classList.toggle("open", isOpen);
    this.drawer.setAttribute("aria-expanded", String(isOpen));
    this.talk.inert = isOpen; // it lies beneath
    (isOpen ? this.list.element.querySelector("button") : this.drawer).focus();
  }

  export() {
    const url = URL.createObjectURL(new Blob([conversations.exported(this.conversation)], { type: "application/json" }));
    h("a", { href: url, download: conversations.fileName(this.conversation) }).click();
    setTimeout(() => URL.revokeObjectURL(url), 0);
  }

  /** A key, anywhere on the page. */
  key(event) {
    if (event.defaultPrevented || isComposing(event) || document.querySelector("dialog[open]")) return;
    if (event.key === "Escape") {
      if (event.shiftKey) this.composer.focus();
      else this.escape();
    } else if (event.shiftKey && (event.ctrlKey || event.metaKey) && event.code === "KeyO") {
      event.preventDefault();
      this.open(this.begun());
    }
  }

  /** Close what is open, one thing at a time; a reply ends last. */
  escape() {
    if (this.isListOpen) this.toggleList(false);
    else if (!this.panel.hidden && (this.panel.contains(document.activeElement) || !this.isRunning)) this.toggleSettings();
    else answers.stop(this.conversation.id);
  }

  /** Whether there is a turn to change. */
  editLast() {
    const index = this.conversation.turns.findLastIndex((turn) => turn.role === "user");
    if (index < 0 || this.isRunning) return false;
    this.log.edit(index);
    return true;
  }

  // What is said

  /** Whether `content` could be said: not while a reply is written, and not before there are models. */
  say(content) {
    const { conversation } = this;
    this.isMeant = !conversation.models.length;
    if (this.isRunning || this.isMeant) return false;
    conversation.turns.push({ role: "user", content });
    const seed = conversation.models.length > 1 && conversation.sampling.seed === undefined ? { seed: drawnSeed() } : {};
    this.answer(conversation.models.map((model) => ({ model, content: "", ...seed })));
    return true;
  }

  /** Say `text` in place of the turn at `index`, to all models that are chosen now. */
  async resend(index, text) {
    return !this.isRunning && (await this.dropped(index, index + 1)) && this.say(text);
  }

  /** The same question again, to the same model. */
  async again(index, number) {
    if (this.isRunning || !(await this.dropped(index + 1, index + 1))) return;
    const { replies } = this.conversation.turns.pop();
    const fresh = anew(replies[number]);
    this.answer([fresh], replies.with(number, fresh));
  }

  /** Drop the turns from `index` on; false where somebody wants to keep what they said from `later` on. */
  async dropped(index, later) {
    const { conversation } = this;
    const isTalk = conversation.turns.slice(later).some((turn) => turn.role === "user");
    if (isTalk && !(await confirmed(t("turns.drop"), t("turns.drop.hint"), t("turns.drop.yes")))) return false;
    if (conversation !== this.conversation || this.isRunning) return false;
    conversation.turns.length = index;
    return true;
  }

  turnTo(index, number, direction) {
    if (this.isRunning) return;
    const { replies } = this.conversation.turns[index];
    replies[number] = neighbour(replies[number], direction);
    this.set(() => {});
    this.log.showFrom(index);
  }

  /** Have `fresh` written, among `replies` to the last question. */
  async answer(fresh, replies = fresh) {
    const { conversation } = this;
    const sent = fresh.map((reply) => conversations.messages(conversation, reply.model));
    conversation.turns.push({ role: "assistant", replies });
    sessionStorage.setItem(OPEN, conversation.id);
    const written = answers.write(conversation, fresh, sent);
    this.list.show(conversation.id);
    this.log.showFrom(conversation.turns.length - 4); // those before the last ones offer less than these
    this.composer.show();
    if (!(await written)) this.tellFull();
  }

  tellFull() {
    openDialog(t("conversation"), h("p", { role: "alert" }, t("conversation.full")));
  }

  ended(id) {
    this.list.show(this.conversation.id);
    if (id === this.conversation.id) this.composer.show();
  }
}

/** One for all models that are compared: what differs is then the models' doing. */
function drawnSeed() {
  return crypto.getRandomValues(new Uint32Array(1))[0];
}
