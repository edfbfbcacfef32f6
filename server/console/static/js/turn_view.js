// The turns of a conversation as elements: what was said, and one or several replies to it.

import { copy } from "./clipboard.js";
import { fill, h, icon, iconButton } from "./dom.js";
import { number, t } from "./i18n.js";
import { linked } from "./links.js";
import { markdown } from "./markdown.js";

const copyButton = (text) => iconButton("copy", t("copy"), () => copy(text()));

/** A person's turn; `again()` asks the models that are chosen now, and is null where others follow. */
export function saidView(turn, { edit, again }) {
  return h(
    "article",
    { class: "turn user", "aria-label": t("you") },
    h("div", { class: "bubble" }, linked(turn.content)),
    h("div", { class: "actions" }, again ? iconButton("again", t("again.all"), again) : null, iconButton("edit", t("edit"), edit), copyButton(() => turn.content)),
  );
}

/** A person's turn while it is changed: `send(text)` or `leave()` ends that. */
export function editedView(content, { send, leave, key }) {
  const area = h("textarea", { value: content, "aria-label": t("edit"), rows: "3" });
  const submit = (event) => {
    event.preventDefault();
    send(area.value.trim() || content);
  };
  area.addEventListener("keydown", (event) => key(event, submit));
  const buttons = h("div", { class: "actions" }, h("button", { type: "button", class: "plain", onclick: leave }, t("cancel")), h("button", { type: "submit", class: "tonal" }, t("resend")));
  return h("form", { class: "turn user editing", onsubmit: submit }, area, buttons);
}

/** Replies to one question, each in its column; `views` are theirs. */
export function answersView(replies, views, keepSeed) {
  const seeds = new Set(replies.map((reply) => reply.seed));
  const [seed] = seeds;
  const isShared = replies.length > 1 && seeds.size === 1 && seed !== undefined;
  const about = h("p", { class: "seed" }, t("compare.seed", isShared ? String(seed) : ""), h("button", { type: "button", class: "link", onclick: () => keepSeed(seed) }, t("compare.seed.keep")));
  return h("article", { class: `turn assistant of-${replies.length}`, "aria-label": t("reply") }, views, isShared ? about : null);
}

/**
 * One reply: {element, show}, of which `show(isWriting)` shows what has come. `again()` has it
 * written anew, `turnTo(direction)` shows the one that was written before it, or after.
 */
export function replyView(reply, { again, turnTo }) {
  const text = h("div", { class: "text" });
  const foot = h("footer");
  const element = h("section", { class: "reply", "aria-label": reply.model }, h("h2", {}, reply.model), text, foot);
  const show = (isWriting) => {
    element.setAttribute("aria-busy", String(isWriting)); // not read out word by word
    const isOpen = text.querySelector(":scope > details")?.open;
    fill(
      text,
      reply.reasoning ? h("details", { open: isOpen }, h("summary", {}, t("reasoning")), h("p", {}, reply.reasoning)) : null,
      markdown(reply.content),
      !reply.content && isWriting ? h("span", { class: "waiting", role: "status" }, t("reply.waiting")) : null,
      reply.error ? h("p", { class: "error", role: "alert" }, reply.error) : null,
    );
    const retry = reply.error ? h("button", { type: "button", class: "tonal with-icon", onclick: again }, icon("again"), t("again")) : iconButton("again", t("again"), again);
    const actions = isWriting ? null : [versions(reply, turnTo), reply.content ? copyButton(() => reply.content) : null, retry];
    fill(foot, h("span", { class: "stats" }, statsText(reply, isWriting)), actions);
  };
  return { element, show };
}

/** ‹ 2 / 3 ›, where a reply was written more than once. */
function versions({ earlier = [], later = [] }, turnTo) {
  const all = earlier.length + later.length + 1;
  if (all === 1 || !turnTo) return null;
  const button = (name, direction, left) => iconButton(name, t(`version.${name}`), () => turnTo(direction), { disabled: !left.length });
  return h("span", { class: "versions", role: "group", "aria-label": t("version.of") }, button("left", -1, earlier), h("span", {}, `${number(earlier.length + 1)} / ${number(all)}`), button("right", 1, later));
}

function statsText(reply, isWriting) {
  if (!reply.stats) {
    if (reply.finish === "stopped") return t("reply.stopped");
    return isWriting || reply.error || reply.finish ? "" : t("reply.broken");
  }
  const { ttft_ms, tokens_per_s, completion_tokens, prompt_tokens, cached_tokens } = reply.stats;
  const parts = [t("stats.ttft", ttft_ms), tokens_per_s ? t("stats.rate", tokens_per_s.toFixed(1)) : null, t("stats.tokens", prompt_tokens, completion_tokens)];
  if (cached_tokens) parts.push(t("stats.cached", cached_tokens));
  if (reply.finish === "length") parts.push(t("reply.length"));
  return parts.filter(Boolean).join(" · ");
}
