// The turns of the conversation that is open, and the way to their end.

import * as answers from "./answers.js";
import { isSending } from "./composer.js";
import { fill, h, iconButton, isComposing } from "./dom.js";
import { t } from "./i18n.js";
import { answersView, editedView, replyView, saidView } from "./turn_view.js";

const NEAR_END_PX = 60;
const EXAMPLES = ["今天下雨了", "我想去看电影", "今天加班到10点，好累啊"];

export class TalkLog {
  /**
   * `acts` is what can be done with turns: `say(text)`, `askAll(index)`, `again(index, number)`,
   * `turnTo(index, number, direction)`, `keepSeed(seed)`, `resend(index, text)`, which says whether
   * it was done, and `leave()`, for when the focus has nowhere to be.
   */
  constructor(acts) {
    this.acts = acts;
    this.turns = [];
    this.shows = new WeakMap(); // reply -> what shows it
    this.growing = new Set(); // replies with text that is not yet shown
    this.log = h("div", { class: "log", role: "log", "aria-live": "polite", "aria-label": t("conversation"), tabindex: "0", onscroll: () => this.showWay() });
    this.way = iconButton("end", t("log.end"), () => this.toEnd(), { class: "icon-button to-end", hidden: true });
    this.element = h("div", { class: "log-place" }, this.log, this.way);
  }

  show(turns) {
    this.turns = turns;
    fill(this.log, turns.length ? turns.map((turn, index) => this.turn(turn, index)) : this.welcome());
    this.arrange();
  }

  /** Show the turns from `index` on anew; those before it stay as they are. */
  showFrom(index) {
    if (index <= 0) return this.show(this.turns);
    while (this.log.children.length > index) this.log.lastChild.remove();
    this.log.append(...this.turns.slice(index).map((turn, each) => this.turn(turn, index + each)));
    this.arrange();
  }

  /** Columns have the whole width, and the end is seen. */
  arrange() {
    this.log.classList.toggle("compared", this.turns.some((turn) => turn.replies?.length > 1));
    this.toEnd();
  }

  welcome() {
    return h(
      "div",
      { class: "welcome" },
      h("h1", {}, t("welcome")),
      h("p", {}, t("welcome.hint")),
      h("div", { class: "chips" }, EXAMPLES.map((text) => h("button", { type: "button", class: "chip", onclick: () => this.acts.say(text) }, text))),
    );
  }

  turn(turn, index) {
    const isLast = index >= this.turns.length - 2;
    if (turn.role === "user") return saidView(turn, { edit: () => this.edit(index), again: isLast ? () => this.acts.askAll(index) : null });
    const views = turn.replies.map((reply, number) => {
      const turnTo = isLast ? (direction) => this.acts.turnTo(index, number, direction) : null;
      const { element, show } = replyView(reply, { again: () => this.acts.again(index, number), turnTo });
      show(answers.isWriting(reply));
      this.shows.set(reply, show);
      return element;
    });
    return answersView(turn.replies, views, (seed) => this.acts.keepSeed(seed));
  }

  /** Change the turn at `index`. */
  edit(index) {
    const leave = () => {
      this.showFrom(index);
      this.acts.leave();
    };
    const send = async (text) => {
      if (await this.acts.resend(index, text)) this.acts.leave();
    };
    const key = (event, submit) => {
      if (isSending(event)) submit(event);
      if (event.key !== "Escape" || isComposing(event)) return;
      event.preventDefault(); // it ends nothing else
      leave();
    };
    const form = editedView(this.turns[index].content, { send, leave, key });
    this.log.children[index].replaceWith(form);
    const area = form.querySelector("textarea");
    area.focus();
    area.setSelectionRange(area.value.length, area.value.length);
  }

  /** Show what has come at the next frame: tokens may come quicker than frames. */
  grown(reply) {
    this.growing.add(reply);
    this.frame ||= requestAnimationFrame(() => {
      const isAtEnd = this.leftPx() < NEAR_END_PX;
      this.frame = 0;
      for (const each of this.growing) this.shows.get(each)?.(answers.isWriting(each));
      this.growing.clear();
      if (isAtEnd) this.toEnd();
      else this.showWay();
    });
  }

  toEnd() {
    this.log.scrollTop = this.log.scrollHeight;
    this.showWay();
  }

  /** The way to the end, where that is out of sight. */
  showWay() {
    this.way.hidden = this.leftPx() < 2 * NEAR_END_PX;
  }

  leftPx() {
    return this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight;
  }
}
