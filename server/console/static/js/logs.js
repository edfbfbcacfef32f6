// The logs page: the server's lines, a run's log, or a job's output, as they are written.

import { get } from "./api.js";
import { fill, h, iconButton, field } from "./dom.js";
import { follow, followChanges } from "./feed.js";
import { number, t } from "./i18n.js";

const SERVER = "server";
const MOST = 3000; // lines that the page holds
const FROM_THE_END = -(256 << 10); // bytes of a file that are shown at first
const LEVELS = ["error", "warning", "info"];
const LEVEL_OF_RUN = [
  ["error", /(^|\s)(failed|Error|Traceback|error)\b/],
  ["warning", /\bwarning\b/],
];

export function logsPage(place, source) {
  return new LogsPage(place, source || SERVER).end;
}

class LogsPage {
  constructor(place, source) {
    this.source = source;
    this.lines = [];
    this.seq = 0; // of the server's lines, or the byte in a file
    this.at = source === SERVER ? 0 : FROM_THE_END;
    this.isPaused = false;
    this.waiting = [];
    this.levels = new Set(LEVELS);
    this.build(place);
    this.unfollow = this.watch();
    this.unlist = followChanges((what) => {
      if (what.includes("runs") || what.includes("jobs")) this.ask();
    });
    this.append([]);
    this.ask();
    this.end = () => {
      this.unfollow();
      this.unlist();
      cancelAnimationFrame(this.frame);
    };
  }

  build(place) {
    this.choice = h("select", { onchange: () => (location.hash = `#/logs/${encodeURIComponent(this.choice.value)}`) });
    this.words = h("input", { type: "search", placeholder: t("logs.filter"), "aria-label": t("logs.filter"), oninput: () => this.showAll() });
    const level = (name) => h("label", { class: "inline" }, h("input", { type: "checkbox", checked: true, onchange: (event) => this.toggle(name, event.target.checked) }), t(`level.${name}`));
    this.pause = h("button", { type: "button", class: "icon-button" });
    this.showPause();
    this.box = h("div", { class: "log-lines", role: "log", "aria-live": "off", "aria-label": t("page.logs"), tabindex: "0" });
    this.count = h("small", {}, "");
    this.error = h("p", { class: "error", role: "alert" });
    const tools = h("div", { class: "log-tools" }, field(t("logs.source"), this.choice), h("label", { class: "field grow" }, h("span", { class: "field-label" }, t("logs.filter")), this.words), h("fieldset", { class: "levels" }, h("legend", {}, t("logs.levels")), LEVELS.map(level)), h("div", { class: "log-buttons" }, this.pause, iconButton("download", t("logs.download"), () => this.download())));
    fill(place, h("div", { class: "page page-high" }, h("h1", {}, t("page.logs")), tools, this.error, this.box, this.count));
  }

  async ask() {
    try {
      const [runs, jobs] = await Promise.all([get("/admin/runs"), get("/admin/jobs")]);
      const group = (label, options) => (options.length ? h("optgroup", { label }, options.map(([value, text]) => h("option", { value, selected: value === this.source }, text))) : null);
      fill(this.choice, h("option", { value: SERVER, selected: this.source === SERVER }, t("logs.server")), group(t("runs"), runs.data.map((run) => [`run:${run.id}`, run.id])), group(t("jobs"), jobs.data.map((job) => [`job:${job.id}`, `${t(`job.${job.kind}`)} ${job.subject} (${job.id})`])));
    } catch (failure) {
      this.error.textContent = failure.message;
    }
  }

  watch() {
    if (this.source === SERVER) return follow("log", () => ({ watch: "log", after: this.seq }), ({ lines }) => this.take(lines));
    const [source, id] = [this.source.slice(0, 3), this.source.slice(4)];
    return follow(
      `text ${source} ${id}`,
      () => ({ watch: "text", source, id, after: this.at }),
      (news) => {
        this.at = news.next;
        const lines = news.text.split("\n");
        if (lines.at(-1) === "") lines.pop();
        this.take(lines.map((text) => ({ text, level: LEVEL_OF_RUN.find(([, form]) => form.test(text))?.[0] ?? "info" })));
      },
    );
  }

  take(lines) {
    if (this.source === SERVER) {
      lines = lines.filter((line) => line.seq > this.seq);
      if (lines.length) this.seq = lines.at(-1).seq;
    }
    if (this.isPaused) {
      this.waiting.push(...lines);
      this.waiting.splice(0, this.waiting.length - MOST);
      this.showPause();
      return;
    }
    this.add(lines);
  }

  add(lines) {
    this.lines.push(...lines);
    const isFull = this.lines.length > MOST;
    this.lines.splice(0, this.lines.length - MOST);
    if (isFull) this.showAll();
    else this.append(lines);
  }

  isWanted(line) {
    return this.levels.has(line.level) && line.text.toLowerCase().includes(this.words.value.trim().toLowerCase());
  }

  append(lines) {
    const isAtEnd = this.box.scrollHeight - this.box.scrollTop - this.box.clientHeight < 40;
    this.box.append(...lines.filter((line) => this.isWanted(line)).map(shown));
    this.count.textContent = this.lines.length ? t("logs.count", number(this.box.childElementCount), number(this.lines.length)) : t("logs.none");
    if (isAtEnd) this.box.scrollTop = this.box.scrollHeight;
  }

  showAll() {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => {
      fill(this.box);
      this.append(this.lines);
      this.box.scrollTop = this.box.scrollHeight;
    });
  }

  toggle(level, isOn) {
    if (isOn) this.levels.add(level);
    else this.levels.delete(level);
    this.showAll();
  }

  showPause() {
    const name = this.isPaused ? t("logs.go.on", this.waiting.length) : t("logs.pause");
    const button = iconButton(this.isPaused ? "play" : "pause", name, () => {
      this.isPaused = !this.isPaused;
      if (!this.isPaused) this.add(this.waiting.splice(0));
      this.showPause();
    }, { "aria-pressed": String(this.isPaused) });
    const hadFocus = document.activeElement === this.pause;
    this.pause.replaceWith(button);
    this.pause = button;
    if (hadFocus) button.focus();
  }

  /** The whole of a run's log; of others what the server still has. */
  async download() {
    try {
      const text = await this.whole();
      const link = h("a", { href: URL.createObjectURL(new Blob([text], { type: "text/plain" })), download: `${this.source.replace(":", "-")}.txt` });
      link.click();
      URL.revokeObjectURL(link.href);
    } catch (failure) {
      this.error.textContent = failure.message;
    }
  }

  async whole() {
    if (this.source === SERVER) return (await get("/admin/logs")).data.map((line) => `${new Date(1000 * line.time).toISOString()} ${line.level.toUpperCase()} ${line.logger}: ${line.text}\n`).join("");
    const id = encodeURIComponent(this.source.slice(4));
    if (this.source.startsWith("job:")) return (await get(`/admin/jobs/${id}`)).output;
    const pieces = [];
    for (let next = 0, size = 1; next < size; ) {
      const piece = await get(`/admin/runs/${id}/log?after=${next}`);
      if (!piece.text) break;
      pieces.push(piece.text);
      ({ next, size } = piece);
    }
    return pieces.join("");
  }
}

function shown(line) {
  const when = line.time ? h("time", {}, new Date(1000 * line.time).toLocaleTimeString()) : null;
  return h("div", { class: `line ${line.level}` }, when, line.logger ? h("span", { class: "logger" }, line.logger) : null, h("span", { class: "said" }, line.text));
}
