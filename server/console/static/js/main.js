// The shell: sign-in, navigation, language and appearance. A page is a function that fills a place
// and returns what ends it.

import { del, get, post, whenSignedOut } from "./api.js";
import { closeDialogs } from "./dialog.js";
import { fill, h, icon, iconButton, field } from "./dom.js";
import { disconnect, whenConnected } from "./feed.js";
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
    iconButton("language", t("language"), () => (nextLanguage(), show())),
    iconButton("theme", t("theme", t(`theme.${theme()}`)), nextTheme),
    iconButton("out", t("sign.out"), signOut),
  );
  fill(app, h("a", { class: "skip", href: "#content", onclick: (event) => (event.preventDefault(), content.focus()) }, t("skip")), h("nav", { class: "rail", "aria-label": t("app") }, links, buttons), content);
  const shown = ++shows;
  const enter = await PAGES[page()]();
  if (shown === shows) leave = enter(content, where()[1]) ?? (() => {});
}

function signIn(message = "") {
  shows += 1;
  leave();
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
  whenSignedOut(() => signIn());
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
