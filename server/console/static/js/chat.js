// The chat page: one conversation, with one model or with up to three side by side.

import { copy } from "./clipboard.js";
import { confirmed, openDialog } from "./dialog.js";
import { fill, h, icon, iconButton, field } from "./dom.js";
import { t } from "./i18n.js";
import { markdown } from "./markdown.js";
import { generate } from "./generation.js";
import { followModels } from "./models_list.js";
import { samplingFields } from "./sampling.js";
import * as conversations from "./conversations.js";

const MOST_COMPARED = 3;
const FEW_CONVERSATIONS = 8; // are seen at a glance
const MODELS = "lccc.models";
const DRAFT = "lccc.draft"; // of this tab: another page is looked at in between

/** Show the page in `place`; returns what ends it. */
export function chatPage(place) {
  return new ChatPage(place).end;
}

class ChatPage {
  constructor(place) {
    this.running = null;
    this.growing = new Set(); // replies with text that is not yet shown
    this.models = [];
    this.conversation = conversations.kept()[0] ?? this.begun();
    this.build(place);
    this.unfollow = followModels((models) => this.take(models));
    this.unlisten = conversations.whenChangedElsewhere((id) => this.changedElsewhere(id));
    this.showAll();
    this.end = () => {
      this.unfollow();
      this.unlisten();
      this.running?.abort();
    };
  }

  begun() {
    const models = JSON.parse(localStorage.getItem(MODELS) ?? "[]");
    return conversations.begun({ models, system: "", sampling: {} });
  }

  // Parts of the page

  build(place) {
    this.list = h("ul", { class: "conversations" });
    this.search = h("input", { type: "search", "aria-label": t("conversations.search"), placeholder: t("conversations.search"), oninput: () => this.showList() });
    this.pickers = h("div", { class: "pickers" });
    this.log = h("div", { class: "log", role: "log", "aria-live": "polite", "aria-label": t("conversation"), tabindex: "0" });
    this.input = h("textarea", { rows: "1", "aria-label": t("message"), placeholder: t("message.placeholder"), value: sessionStorage.getItem(DRAFT) ?? "", oninput: () => this.grow() });
    this.input.addEventListener("keydown", (event) => this.key(event));
    this.button = h("button", { type: "submit", class: "primary round" });
    const form = h("form", { class: "composer", onsubmit: (event) => this.submit(event) }, this.input, this.button);
    this.panel = h("aside", { class: "panel", "aria-label": t("settings"), hidden: true });
    this.comparing = iconButton("compare", t("compare.add"), () => this.compare());
    const tools = h(
      "div",
      { class: "tools" },
      iconButton("menu", t("conversations"), () => this.aside.classList.toggle("open"), { class: "icon-button only-narrow" }),
      this.pickers,
      this.comparing,
      iconButton("settings", t("settings"), () => this.toggleSettings()),
      iconButton("download", t("export"), () => this.export()),
    );
    this.aside = h(
      "nav",
      { class: "side", "aria-label": t("conversations") },
      h("button", { type: "button", class: "tonal wide", onclick: () => this.open(this.begun()) }, icon("add"), t("conversation.new")),
      this.search,
      this.list,
    );
    fill(place, h("div", { class: "chat" }, this.aside, h("section", { class: "talk" }, tools, this.log, form), this.panel));
  }

  showAll() {
    this.showList();
    this.showPickers();
    this.showSettings();
    this.showLog();
    this.showButton();
  }

  showList() {
    const all = conversations.kept();
    this.search.hidden = all.length <= FEW_CONVERSATIONS;
    const wanted = this.search.hidden ? "" : this.search.value.trim();
    const items = all.filter((each) => !wanted || conversations.has(each, wanted)).map((each) =>
      h(
        "li",
        { class: each.id === this.conversation.id ? "current" : "" },
        h("button", { type: "button", class: "plain", "aria-current": each.id === this.conversation.id ? "true" : null, onclick: () => this.open(each) }, each.title || t("conversation.untitled")),
        iconButton("remove", `${t("remove")}: ${each.title}`, () => this.remove(each)),
      ),
    );
    fill(this.list, items.length ? items : h("li", { class: "empty" }, t(wanted ? "conversations.not_found" : "conversations.none")));
  }

  showPickers() {
    const names = this.conversation.models;
    fill(
      this.pickers,
      names.map((name, index) => this.picker(name, index)),
    );
    this.comparing.disabled = !this.another();
  }

  picker(name, index) {
    const known = this.models.some((model) => model.id === name);
    const options = this.models.map((model) =>
      h("option", { value: model.id, selected: model.id === name, disabled: model.state === "broken" }, label(model)),
    );
    if (!known) options.unshift(h("option", { value: name, selected: true }, `${name} (${t("model.gone")})`));
    const select = h("select", { "aria-label": `${t("model")} ${index + 1}`, onchange: (event) => this.choose(index, event.target.value) }, options);
    const many = this.conversation.models.length > 1;
    return h("span", { class: "picker" }, select, many ? iconButton("close", `${t("compare.remove")}: ${name}`, () => this.choose(index, null)) : null);
  }

  showSettings() {
    const { conversation } = this;
    const defaults = this.models.find((model) => model.id === conversation.models[0]);
    const system = h("textarea", {
      rows: "4",
      value: conversation.system,
      placeholder: defaults?.system_prompt ?? "",
      onchange: (event) => this.set(() => (conversation.system = event.target.value)),
    });
    const numbers = samplingFields(conversation.sampling, defaults?.sampling, (name, value) =>
      this.set(() => (conversation.sampling[name] = value)),
    );
    fill(
      this.panel,
      h("header", {}, h("h2", {}, t("settings")), iconButton("close", t("close"), () => this.toggleSettings())),
      field(t("system"), system, t("system.hint")),
      h("p", { class: "hint" }, t("sampling.hint")),
      h("div", { class: "grid" }, numbers),
      h("button", { type: "button", class: "tonal", onclick: () => this.set(() => (conversation.sampling = {}), true) }, t("sampling.reset")),
    );
  }

  showLog() {
    const { turns } = this.conversation;
    fill(this.log, turns.length ? turns.map((turn, index) => this.turn(turn, index)) : this.welcome());
    this.log.scrollTop = this.log.scrollHeight;
  }

  welcome() {
    const examples = ["今天下雨了", "我想去看电影", "今天加班到10点，好累啊"];
    return h(
      "div",
      { class: "welcome" },
      h("h1", {}, t("welcome")),
      h("p", {}, t("welcome.hint")),
      h("div", { class: "chips" }, examples.map((text) => h("button", { type: "button", class: "chip", onclick: () => this.say(text) }, text))),
    );
  }

  turn(turn, index) {
    if (turn.role === "user") {
      return h(
        "article",
        { class: "turn user", "aria-label": t("you") },
        h("div", { class: "bubble" }, turn.content),
        h("div", { class: "actions" }, iconButton("edit", t("edit"), () => this.edit(index)), this.copyButton(() => turn.content)),
      );
    }
    return h(
      "article",
      { class: `turn assistant of-${turn.replies.length}`, "aria-label": t("reply") },
      turn.replies.map((reply, number) => this.reply(reply, index, number)),
    );
  }

  reply(reply, index, number) {
    const text = h("div", { class: "text" });
    const foot = h("footer");
    const view = h("section", { class: "reply", "aria-label": reply.model }, h("h2", {}, reply.model), text, foot);
    const show = () => {
      fill(
        text,
        reply.reasoning ? h("details", {}, h("summary", {}, t("reasoning")), h("p", {}, reply.reasoning)) : null,
        markdown(reply.content),
        !reply.content && reply.isRunning ? h("span", { class: "waiting", role: "status" }, t("reply.waiting")) : null,
        reply.error ? h("p", { class: "error", role: "alert" }, reply.error) : null,
      );
      const actions = reply.isRunning ? null : [this.copyButton(() => reply.content), iconButton("again", t("again"), () => this.again(index, number))];
      fill(foot, h("span", { class: "stats" }, statsText(reply)), actions);
    };
    show();
    reply.show = show;
    Object.defineProperty(reply, "show", { enumerable: false });
    return view;
  }

  copyButton(text) {
    return iconButton("copy", t("copy"), () => copy(text()));
  }

  showButton() {
    const name = this.running ? "stop" : "send";
    fill(this.button, icon(name));
    this.button.setAttribute("aria-label", t(name));
    this.button.title = t(name);
  }

  // What changes it

  take(models) {
    this.models = models;
    if (!models.length) return;
    if (!this.conversation.models.length) this.conversation.models = [(models[1] ?? models[0]).id];
    this.showPickers();
    if (this.panel.hidden) this.showSettings();
    if (this.isMeant) this.send();
  }

  changedElsewhere(id) {
    this.showList();
    if (id !== this.conversation.id || this.running) return;
    const changed = conversations.find(id);
    if (changed) this.open(changed);
  }

  open(conversation) {
    this.running?.abort();
    this.isMeant = false;
    this.aside.classList.remove("open");
    this.conversation = conversation;
    if (!conversation.models.length && this.models.length) this.take(this.models);
    this.showAll();
    this.input.focus();
  }

  async remove(conversation) {
    if (!(await confirmed(t("remove"), t("conversation.remove", conversation.title), t("remove")))) return;
    conversations.remove(conversation.id);
    if (conversation.id === this.conversation.id) this.open(conversations.kept()[0] ?? this.begun());
    else this.showList();
  }

  choose(index, name) {
    const { models } = this.conversation;
    if (name === null) models.splice(index, 1);
    else models[index] = name;
    localStorage.setItem(MODELS, JSON.stringify(models));
    this.set(() => {}, true);
    this.showPickers();
  }

  /** One more model that could answer too. */
  another() {
    const { models } = this.conversation;
    if (models.length >= MOST_COMPARED) return undefined;
    return this.models.find((model) => !models.includes(model.id) && model.state !== "broken");
  }

  compare() {
    this.choose(this.conversation.models.length, this.another().id);
  }

  set(change, isShown = false) {
    change();
    if (conversations.isKept(this.conversation.id)) conversations.keep(this.conversation);
    if (isShown) this.showSettings();
  }

  toggleSettings() {
    this.panel.hidden = !this.panel.hidden;
    this.showSettings();
    if (!this.panel.hidden) this.panel.querySelector("textarea").focus();
  }

  export() {
    const url = URL.createObjectURL(new Blob([conversations.exported(this.conversation)], { type: "application/json" }));
    h("a", { href: url, download: `lccc-${this.conversation.id.slice(0, 8)}.json` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 0);
  }

  /** Make room for what is typed, and keep it. */
  grow() {
    sessionStorage.setItem(DRAFT, this.input.value);
    this.input.style.setProperty("height", "auto");
    this.input.style.setProperty("height", `${Math.min(200, this.input.scrollHeight)}px`);
  }

  key(event) {
    // Enter that ends a composition (pinyin) does not send.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
    event.preventDefault();
    this.submit(event);
  }

  submit(event) {
    event.preventDefault();
    if (this.running) {
      this.running.abort();
      return;
    }
    this.send();
  }

  send() {
    const text = this.input.value.trim();
    this.isMeant = Boolean(text) && !this.conversation.models.length; // sent once the models are known
    if (!text || this.isMeant) return;
    this.input.value = "";
    this.grow();
    this.say(text);
  }

  say(content) {
    if (this.running) return;
    this.conversation.turns.push({ role: "user", content });
    this.answer(this.conversation.models.map((model) => ({ model, content: "" })));
  }

  edit(index) {
    if (this.running) return;
    const turn = this.conversation.turns[index];
    const area = h("textarea", { value: turn.content, "aria-label": t("edit"), rows: "3" });
    const done = () => {
      this.conversation.turns.length = index;
      this.say(area.value.trim() || turn.content);
    };
    const form = h(
      "form",
      { class: "turn user editing", onsubmit: (event) => (event.preventDefault(), done()) },
      area,
      h("div", { class: "actions" }, h("button", { type: "button", class: "plain", onclick: () => this.showLog() }, t("cancel")), h("button", { type: "submit", class: "tonal" }, t("resend"))),
    );
    this.log.children[index].replaceWith(form);
    area.focus();
  }

  /** The same question again, to the same model; what came after it is dropped. */
  again(index, number) {
    if (this.running) return;
    const { turns } = this.conversation;
    const replies = turns[index].replies;
    turns.length = index;
    const others = replies.filter((_, each) => each !== number);
    this.answer([{ model: replies[number].model, content: "" }], others, number);
  }

  async answer(fresh, others = [], at = 0) {
    const { conversation } = this;
    const sent = fresh.map((reply) => conversations.messages(conversation, reply.model));
    const replies = [...others];
    replies.splice(at, 0, ...fresh);
    conversation.turns.push({ role: "assistant", replies });
    const running = new AbortController();
    this.running = running;
    for (const reply of fresh) mark(reply, true);
    const hadRoom = this.keep(conversation); // from the question on: a removal meanwhile is seen at the end
    this.showList();
    this.showLog();
    this.showButton();
    await Promise.all(fresh.map((reply, index) => generate(reply, sent[index], conversation.sampling, running.signal, () => this.grown(reply))));
    for (const reply of fresh) {
      mark(reply, false);
      reply.show?.();
    }
    if (hadRoom && conversations.isKept(conversation.id)) this.keep(conversation);
    if (this.running === running) this.running = null;
    this.showList();
    this.showButton();
  }

  /** Keep a conversation, or say that there is no room for it. */
  keep(conversation) {
    const hadRoom = conversations.keep(conversation);
    if (!hadRoom) openDialog(t("conversation"), h("p", { role: "alert" }, t("conversation.full")));
    return hadRoom;
  }

  /** Show what has come at the next frame: tokens may come quicker than frames. */
  grown(reply) {
    this.growing.add(reply);
    this.frame ||= requestAnimationFrame(() => {
      const { log } = this;
      const isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
      this.frame = 0;
      for (const each of this.growing) each.show?.();
      this.growing.clear();
      if (isAtEnd) log.scrollTop = log.scrollHeight;
    });
  }
}

/** Whether a reply is being written; not kept. */
function mark(reply, isRunning) {
  Object.defineProperty(reply, "isRunning", { value: isRunning, enumerable: false, configurable: true });
}

function label(model) {
  const kind = model.parent ? t("model.adapter") : t("model.base");
  const state = model.state === "ready" ? "" : ` – ${t(`state.${model.state}`)}`;
  return `${model.id} (${kind}${state})`;
}

function statsText(reply) {
  if (!reply.stats) return reply.finish === "stopped" ? t("reply.stopped") : "";
  const { ttft_ms, tokens_per_s, completion_tokens, prompt_tokens, cached_tokens } = reply.stats;
  const parts = [t("stats.ttft", ttft_ms), tokens_per_s ? t("stats.rate", tokens_per_s.toFixed(1)) : null, t("stats.tokens", prompt_tokens, completion_tokens)];
  if (cached_tokens) parts.push(t("stats.cached", cached_tokens));
  if (reply.finish === "length") parts.push(t("reply.length"));
  return parts.filter(Boolean).join(" · ");
}
