// The data page: datasets, an upload that becomes one, and one of them in full.

import { get, post, upload } from "./api.js";
import { datasetView } from "./dataset_view.js";
import { fill, h, icon, field } from "./dom.js";
import { followChanges } from "./feed.js";
import { fileChoice } from "./file_choice.js";
import { number, t } from "./i18n.js";
import { followJobs } from "./jobs_view.js";

const POLL_MS = 500;

export function dataPage(place, name) {
  return name ? datasetView(place, name) : new DataPage(place).end;
}

class DataPage {
  constructor(place) {
    this.list = h("div", { class: "cards" });
    this.error = h("p", { class: "error", role: "alert" });
    this.jobs = h("section", { class: "jobs", "aria-label": t("jobs") });
    fill(place, h("div", { class: "page" }, h("h1", {}, t("page.data")), this.uploading(), this.error, this.jobs, this.list));
    // What becomes a dataset is in the list, and what this page has begun is told in its form.
    this.jobList = followJobs(this.jobs, ["prepare"], { isTold: (job) => job.state !== "completed" && job.id !== this.begun });
    this.unfollow = followChanges((what) => {
      if (what.includes("datasets")) this.ask();
    });
    this.ask();
    this.end = () => {
      this.isEnded = true;
      this.aborting?.abort();
      this.unfollow();
      this.jobList.end();
    };
  }

  async ask() {
    try {
      const { data, broken } = await get("/admin/datasets");
      this.error.textContent = "";
      if (!data.length && !Object.keys(broken).length) fill(this.list, h("p", { class: "hint" }, t("data.none")));
      else fill(this.list, data.map(card), Object.entries(broken).map(([name, reason]) => h("article", { class: "card" }, h("h2", {}, name), h("p", { class: "error" }, reason))));
    } catch (failure) {
      this.error.textContent = failure.message;
    }
  }

  uploading() {
    this.file = h("input", { type: "file", accept: ".json,.jsonl,.gz,.csv,.tsv,.txt", required: true });
    this.name = h("input", { required: true, autocomplete: "off", pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]{0,127}" });
    this.rules = h("select", {}, h("option", { value: "default" }, t("data.rules.default")), h("option", { value: "lccc" }, t("data.rules.lccc")));
    const share = (value) => h("input", { type: "number", min: "0", max: "0.9", step: "any", value, required: true });
    this.valid = share("0.01");
    this.test = share("0.01");
    this.overwrite = h("input", { type: "checkbox" });
    this.state = h("div", { class: "upload-state", "aria-live": "polite" });
    this.refusal = h("p", { class: "error", role: "alert" });
    this.button = h("button", { type: "submit", class: "primary with-icon" }, icon("upload"), t("data.prepare"));
    this.file.addEventListener("change", () => {
      const stem = this.file.files[0]?.name.replace(/\.(gz|json|jsonl|csv|tsv|txt)\b/g, "").replace(/[^A-Za-z0-9._-]+/g, "-").replace(/^[^A-Za-z0-9]+/, "") ?? "";
      if (!this.name.value) this.name.value = stem;
    });
    const form = h(
      "form",
      { class: "card drop", onsubmit: (event) => this.submit(event) },
      h("h2", {}, t("data.upload")),
      h("p", { class: "hint" }, t("data.upload.hint")),
      h("div", { class: "grid" }, field(t("data.file"), fileChoice(this.file)), field(t("data.name"), this.name), field(t("data.rules"), this.rules), h("div", { class: "grid" }, field(t("data.valid"), this.valid), field(t("data.test"), this.test))),
      h("label", { class: "inline" }, this.overwrite, t("data.overwrite")),
      this.state,
      this.refusal,
      h("div", { class: "buttons" }, this.button),
    );
    form.addEventListener("dragover", (event) => {
      event.preventDefault();
      form.classList.add("over");
    });
    form.addEventListener("dragleave", () => form.classList.remove("over"));
    form.addEventListener("drop", (event) => {
      event.preventDefault();
      form.classList.remove("over");
      this.file.files = event.dataTransfer.files;
      this.file.dispatchEvent(new Event("change"));
    });
    return form;
  }

  async submit(event) {
    event.preventDefault();
    this.button.disabled = true;
    this.refusal.textContent = "";
    this.aborting = new AbortController();
    const bar = h("progress", { max: "1", value: "0", "aria-label": t("data.uploading") });
    const share = h("span", {}, "0 %");
    const stop = h("button", { type: "button", class: "chip", onclick: () => this.aborting.abort() }, t("cancel"));
    fill(this.state, h("div", { class: "uploading" }, h("label", { class: "progress" }, bar, share), stop));
    try {
      const id = await upload(this.file.files[0], (done) => {
        bar.value = done;
        share.textContent = `${Math.round(100 * done)} %`;
      }, this.aborting.signal);
      const job = await post("/admin/datasets", { name: this.name.value.trim(), upload: id, rules: this.rules.value, valid_share: Number(this.valid.value), test_share: Number(this.test.value), overwrite: this.overwrite.checked });
      this.begun = job.id;
      fill(this.state, h("p", { class: "waiting", role: "status" }, t("data.preparing")));
      await this.prepared(job.id);
    } catch (failure) {
      if (this.isEnded) return;
      fill(this.state);
      if (failure.name !== "AbortError") this.refusal.textContent = failure.message;
    }
    this.button.disabled = false;
  }

  async prepared(id) {
    for (;;) {
      const job = await get(`/admin/jobs/${id}`);
      if (this.isEnded) return;
      if (job.state === "failed") throw new Error(job.error);
      if (job.state === "cancelled") return void fill(this.state, h("p", { role: "status" }, t("data.cancelled")));
      if (job.state === "completed") break;
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
    fill(this.state, h("p", { role: "status" }, t("data.prepared", this.name.value.trim())));
    this.ask();
  }
}

function card(dataset) {
  const facts = [
    [t("data.dialogues"), number(dataset.dialogues)],
    ...Object.entries(dataset.splits).map(([name, split]) => [t(`split.${name}`), number(split.dialogues)]),
    [t("data.characters"), number(dataset.characters)],
    [t("data.kept"), `${number(dataset.cleaning.kept)} / ${number(dataset.cleaning.read)}`],
    [t("models.digest"), h("code", { title: dataset.sha256 }, dataset.sha256.slice(0, 12))],
  ];
  return h(
    "article",
    { class: "card" },
    h("header", {}, h("h2", {}, h("a", { href: `#/data/${encodeURIComponent(dataset.name)}` }, dataset.name)), h("small", {}, new Date(dataset.created).toLocaleString())),
    h("dl", {}, facts.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
  );
}
