// The models page: the base and its adapters, what is known of each, and adapter against adapter.

import { get } from "./api.js";
import { askToRemove, downloadPath, openEvaluation, openMerge, openRegister, openRename, talkPath } from "./adapter_dialogs.js";
import { short } from "./chart.js";
import { fill, h, icon, iconButton } from "./dom.js";
import { showEvaluations } from "./evaluations.js";
import { followChanges } from "./feed.js";
import { bytes, number, t, time } from "./i18n.js";
import { followJobs } from "./jobs_view.js";
import { followModels } from "./models_list.js";

const INTERVAL_MS = 5000; // for what no list tells: requests served, what is in memory
const FEW = 8; // models among which nobody needs to search
const MOST = 24; // cards at a time: a server may have thousands of adapters

export function modelsPage(place) {
  return new ModelsPage(place).end;
}

class ModelsPage {
  constructor(place) {
    this.models = [];
    this.known = { base: null, data: [], broken: {} };
    this.hidden = new Set(); // adapters that are left out of the comparison
    this.most = MOST;
    this.build(place);
    this.unfollow = followModels((models) => {
      this.models = models;
      this.show();
    });
    this.unlisten = followChanges((what) => {
      if (what.includes("models")) this.ask();
    });
    this.ask();
    this.jobList = followJobs(this.jobs, ["merge", "evaluate"], { onend: () => this.ask() });
    this.timer = setInterval(() => document.hidden || this.ask(), INTERVAL_MS);
    this.end = () => {
      this.isEnded = true;
      clearInterval(this.timer);
      this.unfollow();
      this.unlisten();
      this.jobList.end();
    };
  }

  build(place) {
    this.search = h("input", { type: "search", "aria-label": t("models.search"), placeholder: t("models.search"), oninput: () => this.showUpTo(MOST) });
    this.list = h("div", { class: "cards" });
    this.more = h("button", { type: "button", class: "chip", onclick: () => this.showUpTo(this.most + MOST) });
    this.jobs = h("section", { class: "jobs", "aria-label": t("jobs") });
    this.table = h("section", { class: "card" });
    this.error = h("p", { class: "error", role: "alert" });
    const register = h("button", { type: "button", class: "primary with-icon", onclick: () => this.said(openRegister()) }, icon("add"), t("run.register"));
    this.evaluate = h("button", { type: "button", class: "tonal with-icon", onclick: () => this.said(openEvaluation(this.known.base.name, this.known.data.map((each) => each.name))) }, icon("compare"), t("evaluate"));
    const head = h("div", { class: "page-head" }, h("h1", {}, t("page.models")), h("div", { class: "buttons" }, this.evaluate, register));
    fill(place, h("div", { class: "page" }, head, h("p", { class: "hint" }, t("models.hint")), this.error, this.jobs, this.search, this.list, this.more, this.table));
  }

  said(doing) {
    this.error.textContent = "";
    doing.catch((failure) => (this.error.textContent = failure.message));
  }

  async ask() {
    try {
      const known = await get("/admin/adapters");
      if (this.isAway) this.error.textContent = "";
      this.isAway = false;
      if (this.isEnded || JSON.stringify(known) === JSON.stringify(this.known)) return;
      this.known = known;
      this.show();
    } catch (failure) {
      this.isAway = true;
      this.error.textContent = failure.message;
    }
  }

  showUpTo(most) {
    this.most = most;
    this.show();
  }

  /** Those whose names have in them what is searched for, which is nothing among few. */
  found() {
    this.search.hidden = this.models.length <= FEW;
    const wanted = this.search.hidden ? "" : this.search.value.trim().toLowerCase();
    return this.models.filter((each) => each.id.toLowerCase().includes(wanted));
  }

  show() {
    const { base, data } = this.known;
    const found = this.found();
    const shown = found.slice(0, this.most);
    this.evaluate.disabled = !base;
    const held = document.activeElement?.getAttribute("aria-label");
    const of = (model) => data.find((each) => each.name === model.id);
    fill(this.list, shown.map((model) => (model.parent ? this.adapter(model, of(model)) : card(model, baseFacts(model, base)))), found.length || this.search.hidden ? null : h("p", { class: "hint" }, t("models.unfound")));
    this.more.hidden = shown.length === found.length;
    this.more.textContent = t("models.more", number(found.length - shown.length));
    if (held && document.activeElement === document.body) this.list.querySelector(`[aria-label="${CSS.escape(held)}"]`)?.focus();
    showEvaluations(this.table, this.known, this.hidden);
  }

  adapter(model, known) {
    const { id } = model;
    const buttons = h(
      "div",
      { class: "buttons" },
      iconLink("chat", t("models.talk", id), { href: talkPath(id) }),
      iconLink("compare", t("models.compare", id), { href: talkPath(model.parent, id) }),
      iconButton("edit", t("adapter.rename.of", id), () => openRename(id)),
      known ? iconButton("merge", t("adapter.merge.of", id), () => this.said(openMerge(id, known.base))) : null,
      iconLink("download", t("adapter.download.of", id), { href: downloadPath(id), download: `${id}.zip` }),
      iconButton("remove", t("adapter.remove.of", id), () => this.said(askToRemove(id))),
    );
    return card(model, adapterFacts(model, known), buttons);
  }
}

const iconLink = (name, label, attributes) => h("a", { class: "icon-button", "aria-label": label, title: label, ...attributes }, icon(name));

function card(model, facts, buttons = null) {
  const rows = facts.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return h(
    "article",
    { class: "card" },
    h("header", {}, h("h2", {}, model.id), h("span", { class: `badge ${model.state}` }, t(`state.${model.state}`))),
    model.reason ? h("p", { class: "error" }, model.reason) : null,
    h("dl", {}, rows.map(([name, value]) => [h("dt", {}, t(name)), h("dd", {}, value)])),
    buttons,
  );
}

const digest = (value) => h("code", { title: value }, value.slice(0, 12));

function baseFacts(model, base) {
  const more = base
    ? [
        ["base.shape", t("base.shape.of", base.kind, number(base.layers), number(base.hidden_size), number(base.vocab_size))],
        ["base.weights", `${base.weights} · ${base.device}`],
        ["models.size", base.size_bytes ? bytes(base.size_bytes) : null],
        ["base.tokenizer", digest(base.tokenizer_sha256)],
        ["base.template", digest(base.template_sha256)],
        ["base.path", h("code", {}, base.path)],
      ]
    : [];
  return [["models.kind", t("model.base")], ["models.context", number(model.max_model_len)], ["models.digest", digest(model.digest)], ...more, ["models.sampling", sampling(model.sampling)], ["models.created", time(model.created)]];
}

function adapterFacts(model, known) {
  const more = known
    ? [
        ["run", known.run ? [h("a", { href: `#/training/${encodeURIComponent(known.run.id)}` }, known.run.id), ` · ${t("models.run.of", number(known.run.steps), known.run.dataset)}`] : t("models.elsewhere")],
        ["curve.validation_nll", "validation_nll" in known.metrics ? short(known.metrics.validation_nll) : null],
        ["models.size", bytes(known.size_bytes)],
        ["overview.resident", t(known.is_resident ? "yes" : "no")],
        ["models.requests", number(known.requests)],
      ]
    : [];
  return [
    ["models.kind", t("models.adapter.of", model.parent)],
    ["models.rank", known ? t("models.rank.of", known.rank, short(known.alpha), known.targets.map((each) => each.replace("_proj", "")).join(" ")) : model.rank],
    ["models.digest", digest(model.digest)],
    ...more,
    ["models.sampling", sampling(model.sampling)],
    ["system", model.system_prompt],
    ["models.created", time(model.created)],
  ];
}

function sampling(defaults) {
  const given = Object.entries(defaults).filter(([, value]) => value !== null);
  return given.map(([name, value]) => `${name} ${value}`).join(", ");
}
