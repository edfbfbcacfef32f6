// One dataset: what the cleaning did, how long dialogues are, and what is learnt of them.

import { get } from "./api.js";
import { fill, h, icon } from "./dom.js";
import { number, t } from "./i18n.js";
import { openTrainingForm } from "./training_form.js";

const SHOWN = 5;
const BARS = 24;

export function datasetView(place, name) {
  const view = new DatasetView(place, name);
  return () => (view.isEnded = true);
}

class DatasetView {
  constructor(place, name) {
    this.name = name;
    this.first = 1;
    this.split = "train";
    this.error = h("p", { class: "error", role: "alert" });
    this.body = h("div", { class: "made" });
    const back = h("a", { href: "#/data" }, `‹ ${t("page.data")}`);
    const train = h("button", { type: "button", class: "primary with-icon", onclick: () => openTrainingForm(name) }, icon("training"), t("run.new"));
    fill(place, h("div", { class: "page" }, h("p", {}, back), h("div", { class: "page-head" }, h("h1", {}, name), train), this.error, this.body));
    this.ask();
  }

  async ask() {
    try {
      const dataset = await get(`/admin/datasets/${encodeURIComponent(this.name)}`);
      if (this.isEnded) return;
      this.preview = h("div", { class: "previews", "aria-live": "polite" });
      fill(this.body, about(dataset), lengths(dataset.splits.train.lengths), this.dialogues(dataset), cleaning(dataset.cleaning));
      this.look();
    } catch (failure) {
      this.error.textContent = failure.message;
    }
  }

  dialogues(dataset) {
    const names = Object.keys(dataset.splits).filter((name) => dataset.splits[name].dialogues);
    const choice = h("select", { "aria-label": t("data.split"), onchange: (event) => this.move(1, event.target.value) }, names.map((name) => h("option", { value: name }, t(`split.${name}`))));
    this.place = h("span", { class: "stats" });
    this.back = h("button", { type: "button", class: "chip", onclick: () => this.move(Math.max(1, this.first - SHOWN)) }, t("data.before"));
    this.on = h("button", { type: "button", class: "chip", onclick: () => this.move(this.first + SHOWN) }, t("data.next"));
    return h(
      "section",
      { class: "card" },
      h("h2", {}, t("data.preview")),
      h("p", { class: "hint" }, t("data.preview.hint"), " ", h("mark", { class: "learnt" }, t("data.learnt"))),
      h("div", { class: "pager" }, choice, this.back, this.place, this.on),
      this.preview,
    );
  }

  move(first, split = this.split) {
    this.first = first;
    this.split = split;
    this.look();
  }

  async look() {
    const asked = `${this.split} ${this.first}`;
    this.asked = asked;
    fill(this.preview, h("p", { class: "waiting" }, t("data.loading")));
    try {
      const found = await get(`/admin/datasets/${encodeURIComponent(this.name)}/preview?split=${this.split}&first=${this.first}&count=${SHOWN}`);
      if (this.asked !== asked || this.isEnded) return;
      fill(this.preview, found.data.map((each, index) => dialogue(each, this.first + index)));
      this.place.textContent = t("data.place", number(this.first), number(Math.min(found.total, this.first + SHOWN - 1)), number(found.total));
      this.back.disabled = this.first === 1;
      this.on.disabled = this.first + SHOWN > found.total;
    } catch (failure) {
      if (this.asked === asked) fill(this.preview, h("p", { class: "error" }, failure.message));
    }
  }
}

function dialogue({ sequences }, index) {
  return h(
    "article",
    { class: "dialogue" },
    sequences.map(({ spans, tokens, target_tokens: learnt }) => [
      h("small", {}, `${number(index)}${tokens ? ` · ${t("data.tokens", number(tokens), number(learnt))}` : ""}`),
      h("pre", {}, spans.map(({ text, is_target: isLearnt }) => (isLearnt ? h("mark", { class: "learnt" }, text) : text))),
    ]),
  );
}

function about(dataset) {
  const inputs = dataset.inputs.map((each) => t("data.input", each.name, number(each.size), each.pre_spaced ? t("data.spaced") : ""));
  const rows = Object.entries(dataset.splits).map(([name, split]) => h("tr", {}, h("th", { scope: "row" }, t(`split.${name}`)), [split.dialogues, split.utterances, split.characters].map((each) => h("td", {}, number(each)))));
  const heads = ["data.split", "data.dialogues", "data.utterances", "data.characters"];
  return h("section", { class: "card scrolled", tabindex: "0" }, h("p", { class: "hint" }, inputs.join("；")), h("table", {}, h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, t(head))))), h("tbody", {}, rows)), h("p", { class: "hint" }, "SHA-256 ", h("code", {}, dataset.sha256)));
}

/** How long dialogues are: bars, each with its numbers for who does not see them. */
function lengths(counts) {
  const pairs = Object.entries(counts).map(([from, count]) => [Number(from), count]).sort((a, b) => a[0] - b[0]);
  if (!pairs.length) return null;
  const most = pairs.at(-1)[0] + 5;
  const width = Math.max(5, Math.ceil(most / BARS / 5) * 5);
  const bars = Array.from({ length: Math.ceil(most / width) }, () => 0);
  for (const [from, count] of pairs) bars[Math.floor(from / width)] += count;
  const highest = Math.max(...bars);
  const every = Math.ceil(bars.length / 6); // as many as fit beneath on a phone
  const bar = (count, index) => {
    const name = `${index * width}–${(index + 1) * width - 1}：${number(count)}`;
    const ink = h("i", {});
    ink.style.height = `${(100 * count) / highest}%`;
    return h("li", { title: name, "aria-label": name }, ink, h("small", { "aria-hidden": "true" }, index % every ? "" : String(index * width)));
  };
  return h("section", { class: "card" }, h("h2", {}, t("data.lengths")), h("ul", { class: "bars" }, bars.map(bar)));
}

function cleaning(report) {
  const count = (value) => h("td", {}, value ? number(value) : "–");
  const rows = report.rules.map((rule) => {
    const name = rule.examples.length ? h("details", {}, h("summary", {}, h("code", {}, rule.name)), rule.examples.map(example)) : h("code", {}, rule.name);
    return h("tr", { class: rule.is_on ? null : "off" }, h("th", { scope: "row" }, name, h("small", {}, rule.description)), h("td", {}, t(rule.is_on ? "yes" : "no")), count(rule.utterances_changed), count(rule.utterances_dropped), count(rule.dialogues_dropped));
  });
  const heads = ["data.rule", "data.rule.on", "data.rule.changed", "data.rule.utterances", "data.rule.dialogues"];
  return h(
    "section",
    { class: "card scrolled", tabindex: "0" },
    h("h2", {}, t("data.cleaning")),
    h("p", {}, t("data.cleaning.sum", number(report.read), number(report.kept), number(report.changed), number(report.dropped))),
    h("table", { class: "rules" }, h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, t(head))))), h("tbody", {}, rows)),
  );
}

function example({ before, after }) {
  return h("p", { class: "example" }, h("del", {}, before), after === null ? null : [" → ", h("ins", {}, after)]);
}
