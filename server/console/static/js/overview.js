// The overview page: what the server does just now, in total and for each model.

import { text } from "./api.js";
import { fill, h } from "./dom.js";
import { bytes, number, t } from "./i18n.js";
import { followModels } from "./models_list.js";
import { parse, sum } from "./prometheus.js";

const INTERVAL_MS = 2000;
const KEPT = 90; // points of the curve: three minutes

export function overviewPage(place) {
  const tiles = h("div", { class: "tiles" });
  const curve = h("section", { class: "card" });
  const table = h("section", { class: "card scrolled", tabindex: "0", "aria-label": t("overview.models") });
  const error = h("p", { class: "error", role: "alert" });
  fill(place, h("div", { class: "page" }, h("h1", {}, t("page.overview")), error, tiles, curve, table));
  const history = [];
  let before = null;
  let timer = 0;
  let isLeft = false;
  let base = null;
  const unfollow = followModels((found) => (base = found.find((each) => !each.parent)?.id ?? null));

  async function look() {
    timer = setTimeout(look, INTERVAL_MS);
    if (document.hidden) return;
    try {
      const samples = parse(await text("/metrics"));
      if (isLeft) return;
      const now = { at: performance.now(), replies: sum(samples, "lccc_reply_tokens_total"), prompts: sum(samples, "lccc_prompt_tokens_total") };
      const rate = before ? rates(before, now) : { replies: 0, prompts: 0 };
      if (before) history.push(rate.replies);
      history.splice(0, history.length - KEPT);
      before = now;
      error.textContent = "";
      fill(tiles, tilesOf(samples, rate));
      fill(curve, h("h2", {}, t("overview.rate")), sparkline(history));
      fill(table, h("h2", {}, t("overview.models")), models(samples, base));
    } catch (failure) {
      error.textContent = failure.message;
    }
  }

  look();
  return () => {
    isLeft = true;
    unfollow();
    clearTimeout(timer);
  };
}

function rates(before, now) {
  const seconds = (now.at - before.at) / 1000;
  // A server that was started again counts from nothing.
  return { replies: Math.max(0, now.replies - before.replies) / seconds, prompts: Math.max(0, now.prompts - before.prompts) / seconds };
}

function tilesOf(samples, rate) {
  const blocks = sum(samples, "lccc_kv_cache_blocks");
  const held = sum(samples, "lccc_kv_cache_blocks", { state: "held" });
  const cached = sum(samples, "lccc_kv_cache_blocks", { state: "cached" });
  const share = (count) => (blocks ? `${Math.round((100 * count) / blocks)} %` : "–");
  return [
    tile(t("overview.running"), number(sum(samples, "lccc_requests_running"))),
    tile(t("overview.waiting"), number(sum(samples, "lccc_requests_waiting")), t("overview.waiting.tokens", number(sum(samples, "lccc_waiting_prompt_tokens")))),
    tile(t("overview.replies"), number(Math.round(rate.replies))),
    tile(t("overview.prompts"), number(Math.round(rate.prompts))),
    tile(t("overview.cache"), share(held), t("overview.cache.found", share(cached))),
    ...machine(samples),
  ];
}

/** What computes, and how much memory is in use. */
function machine(samples) {
  const { name, weights } = samples.get("lccc_engine_info")?.[0]?.labels ?? {};
  const memory = (metric, title) => {
    if (!samples.has(metric)) return null;
    return tile(t(title), bytes(sum(samples, metric, { state: "used" })), t("overview.memory.of", bytes(sum(samples, metric))));
  };
  return [
    tile(t("overview.memory.process"), bytes(sum(samples, "process_resident_memory_bytes"))),
    memory("lccc_machine_memory_bytes", "overview.memory.machine"),
    memory("lccc_gpu_memory_bytes", "overview.memory.gpu"),
    name ? h("div", { class: "card tile device" }, h("span", { class: "field-label" }, t("overview.device")), h("span", {}, name), h("small", {}, weights)) : null,
  ].filter(Boolean);
}

function tile(name, value, note) {
  return h("div", { class: "card tile" }, h("span", { class: "field-label" }, name), h("strong", {}, value), note ? h("small", {}, note) : null);
}

/** A line over the last minutes; its numbers are in the tiles, so assistive technology skips it. */
function sparkline(values) {
  const width = 600;
  const height = 90;
  const most = Math.max(1, ...values);
  const points = values.map((value, index) => `${((index + KEPT - values.length) / (KEPT - 1)) * width},${height - 4 - (value / most) * (height - 12)}`);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("class", "sparkline");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  line.setAttribute("points", points.join(" "));
  svg.append(line);
  return svg;
}

/** Those that were asked for or are in memory; others have nothing to tell. */
function models(samples, base) {
  const names = new Set();
  for (const name of ["lccc_requests_total", "lccc_adapter_resident"]) for (const { labels } of samples.get(name) ?? []) names.add(labels.model);
  if (!names.size) return h("p", { class: "hint" }, t("overview.none"));
  const rows = [...names].sort().map((model) => row(samples, model, model === base));
  const heads = ["model", "overview.requests", "overview.failed", "overview.prompt_tokens", "overview.cached", "overview.reply_tokens", "overview.ttft", "overview.gap", "overview.resident"];
  return h("table", {}, h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, t(head))))), h("tbody", {}, rows));
}

function row(samples, model, isBase) {
  const of = (name, more = {}) => sum(samples, name, { model, ...more });
  const ended = ["stop", "length", "abort"].reduce((total, outcome) => total + of("lccc_requests_total", { outcome }), 0);
  const all = of("lccc_requests_total");
  const prompts = of("lccc_prompt_tokens_total");
  const mean = (name) => (of(`${name}_count`) ? `${Math.round((1000 * of(`${name}_sum`)) / of(`${name}_count`))} ms` : "–");
  const isResident = of("lccc_adapter_resident") > 0;
  const cells = [
    number(all),
    number(all - ended),
    number(prompts),
    prompts ? `${Math.round((100 * of("lccc_prompt_cached_tokens_total")) / prompts)} %` : "–",
    number(of("lccc_reply_tokens_total")),
    mean("lccc_time_to_first_token_seconds"),
    mean("lccc_inter_token_latency_seconds"),
    t(isBase ? "model.base" : isResident ? "yes" : "no"),
  ];
  return h("tr", {}, h("th", { scope: "row" }, model), cells.map((cell) => h("td", {}, cell)));
}
