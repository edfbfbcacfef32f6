// The shell: sign-in, navigation, language and appearance. A page is a function that fills a place
// and returns what ends it.

import { stopAll } from "./answers.js";
import { del, get, post, whenSignedOut } from "./api.js";
import { closeDialogs, openDialog } from "./dialog.js";
import { fill, h, icon, iconButton, field } from "./dom.js";
import { disconnect, followChanges, whenConnected } from "./feed.js";
import { LANGUAGES, language, setLanguage, t } from "./i18n.js";

const PAGES = {
  chat: () => import("./chat.js").then((module) => module.chatPage),
  training: () => import("./training.js").then((module) => module.trainingPage),
  data: () => import("./data.js").then((module) => module.dataPage),
  models: () => import("./models.js").then((module) => module.modelsPage),
  logs: () => import("./logs.js").then((module) => module.logsPage),
  overview: () => import("./overview.js").then((module) => module.overviewPage),
};
const THEMES = ["system", "light", "dark"];
const THEME = "lccc.theme";
const AGAIN_MS = 1000;
const afterwards = globalThis.requestIdleCallback ?? ((act) => setTimeout(act, 1000)); // Safari has none
const app = document.getElementById("app");
let leave = () => {};
let shows = 0; // a page that arrives late does not end up over a later one

function theme() {
  return localStorage.getItem(THEME) ?? "system";
}

function useTheme(name) {
  localStorage.setItem(THEME, name);
  document.documentElement.dataset.theme = name;
}

function nextTheme() {
  useTheme(THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length]);
  show();
}

function nextLanguage() {
  const names = Object.keys(LANGUAGES);
  setLanguage(names[(names.indexOf(language()) + 1) % names.length]);
}

/** What is done with the console itself: what shows it, its name, and how. */
function acts() {
  return [
    ["language", t("language"), () => (nextLanguage(), show())],
    ["theme", t("theme", t(`theme.${theme()}`)), nextTheme],
    ["out", t("sign.out"), signOut],
  ];
}

/** On a phone there is no room for them in the row. */
function openMore() {
  const buttons = acts().map(([name, label, act]) => h("button", { type: "button", class: "tonal wide", onclick: () => (dialog.close(), act()) }, icon(name), label));
  const dialog = openDialog(t("more"), h("div", { class: "made" }, buttons));
}

/** `#/page/subject`: which page, and what of it. */
function where() {
  const [name, subject] = location.hash.slice(2).split("/", 2);
  return Object.hasOwn(PAGES, name) ? [name, decodeURIComponent(subject ?? "")] : ["chat", ""];
}

const page = () => where()[0];

/** Show everything anew, the current page in it. */
async function show() {
  leave();
  leave = () => {};
  document.title = `${t(`page.${page()}`)} – ${t("app")}`;
  const content = h("main", { id: "content", tabindex: "-1" });
  const links = Object.keys(PAGES).map((name) =>
    h("a", { href: `#/${name}`, "aria-current": name === page() ? "page" : null }, icon(name), h("span", {}, t(`page.${name}`))),
  );
  const buttons = h(
    "div",
    { class: "rail-end" },
    acts().map(([name, label, act]) => iconButton(name, label, act)),
    h("button", { type: "button", class: "only-narrow more", onclick: openMore }, icon("more"), h("span", {}, t("more"))),
  );
  fill(app, h("a", { class: "skip", href: "#content", onclick: (event) => (event.preventDefault(), content.focus()) }, t("skip")), h("nav", { class: "rail", "aria-label": t("app") }, links, buttons), content);
  const shown = ++shows;
  const enter = await PAGES[page()]().catch(() => missing);
  if (shown === shows) leave = enter(content, where()[1]) ?? (() => {});
  afterwards(fetchPages);
}

/** In place of a page whose files the server did not give: they are asked for again once it is there. */
function missing(place) {
  let timer = 0;
  const again = h("button", { type: "button", class: "tonal", onclick: show }, t("page.again"));
  fill(place, h("div", { class: "page" }, h("h1", {}, t(`page.${page()}`)), h("p", { class: "error", role: "alert" }, t("page.missing")), h("p", {}, again)));
  const unfollow = followChanges(() => (timer ||= setTimeout(show, AGAIN_MS)));
  return () => {
    clearTimeout(timer);
    unfollow();
  };
}

/** Have all pages at hand: then one can look at them while the server is away. */
async function fetchPages() {
  for (const each of Object.values(PAGES)) await each().catch(() => {});
}

function signIn(message = "") {
  shows += 1;
  leave();
  stopAll();
  disconnect();
  closeDialogs();
  banner("");
  leave = () => {};
  document.title = `${t("sign.in")} – ${t("app")}`;
  const input = h("input", { type: "password", autocomplete: "current-password", required: true, name: "key" });
  const error = h("p", { class: "error", role: "alert" }, message);
  const enter = async (event) => {
    event.preventDefault();
    try {
      await post("/admin/session", { key: input.value.trim() });
      await show();
    } catch (refusal) {
      signIn(refusal.message);
    }
  };
  fill(
    app,
    h(
      "main",
      { class: "sign-in" },
      h("form", { class: "card", onsubmit: enter }, h("h1", {}, t("app")), h("p", {}, t("sign.in.hint")), field(t("sign.in.key"), input), error, h("button", { type: "submit", class: "primary" }, t("sign.in")), iconButton("language", t("language"), () => (nextLanguage(), signIn()))),
    ),
  );
  input.focus();
}

/** Tell above everything that the server is away; nothing where it is there. */
function banner(text) {
  document.querySelector(".banner")?.remove();
  if (text) document.body.prepend(h("p", { class: "banner", role: "status" }, text));
}

async function signOut() {
  await del("/admin/session").catch(() => {});
  signIn();
}

async function start() {
  useTheme(theme());
  // Before the first request: whoever signs in by the form comes to the pages without this function.
  whenSignedOut(() => {
    if (document.querySelector(".sign-in")) return; // an answer to what was asked before
    signIn(document.querySelector(".rail") ? t("sign.ended") : "");
  });
  whenConnected((isOpen) => banner(isOpen ? "" : t("unreachable")));
  addEventListener("hashchange", show);
  const link = new URLSearchParams(location.hash.slice(1)).get("token");
  if (link) {
    history.replaceState(null, "", location.pathname);
    await post("/admin/session", { key: link }).catch(() => {});
  }
  try {
    await get("/admin/session");
  } catch (refusal) {
    if (refusal.status !== 401) signIn(refusal.message); // a 401 has shown it already
    return;
  }
  await show();
}

start();
