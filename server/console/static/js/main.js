// The shell: sign-in, navigation, language and appearance. A page is a function that fills a place
// and returns what ends it.

import { del, get, post, whenSignedOut } from "./api.js";
import { fill, h, icon, iconButton, field } from "./dom.js";
import { LANGUAGES, language, setLanguage, t } from "./i18n.js";

const PAGES = {
  chat: () => import("./chat.js").then((module) => module.chatPage),
  models: () => import("./models.js").then((module) => module.modelsPage),
  overview: () => import("./overview.js").then((module) => module.overviewPage),
};
const THEMES = ["system", "light", "dark"];
const THEME = "lccc.theme";
const app = document.getElementById("app");
let leave = () => {};

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
  show();
}

const page = () => (location.hash.slice(2) in PAGES ? location.hash.slice(2) : "chat");

/** Show everything anew, the current page in it. */
async function show() {
  leave();
  leave = () => {};
  document.title = `${t(`page.${page()}`)} – ${t("app")}`;
  const place = h("main", { id: "content", tabindex: "-1" });
  const links = Object.keys(PAGES).map((name) =>
    h("a", { href: `#/${name}`, "aria-current": name === page() ? "page" : null }, icon(name), h("span", {}, t(`page.${name}`))),
  );
  const buttons = h(
    "div",
    { class: "rail-end" },
    iconButton("language", t("language"), nextLanguage),
    iconButton("theme", t("theme", t(`theme.${theme()}`)), nextTheme),
    iconButton("out", t("sign.out"), signOut),
  );
  fill(app, h("a", { class: "skip", href: "#content", onclick: (event) => (event.preventDefault(), place.focus()) }, t("skip")), h("nav", { class: "rail", "aria-label": t("app") }, links, buttons), place);
  const enter = await PAGES[page()]();
  leave = enter(place) ?? (() => {});
}

function signIn(message = "") {
  leave();
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
      h("form", { class: "card", onsubmit: enter }, h("h1", {}, t("app")), h("p", {}, t("sign.in.hint")), field(t("sign.in.key"), input), error, h("button", { type: "submit", class: "primary" }, t("sign.in")), iconButton("language", t("language"), () => (nextLanguageOnly(), signIn()))),
    ),
  );
  input.focus();
}

function nextLanguageOnly() {
  const names = Object.keys(LANGUAGES);
  setLanguage(names[(names.indexOf(language()) + 1) % names.length]);
}

async function signOut() {
  await del("/admin/session").catch(() => {});
  signIn();
}

async function start() {
  useTheme(theme());
  const link = new URLSearchParams(location.hash.slice(1)).get("token");
  if (link) {
    history.replaceState(null, "", location.pathname);
    await post("/admin/session", { key: link }).catch(() => {});
  }
  try {
    await get("/admin/session");
  } catch (refusal) {
    signIn(refusal.status === 401 ? "" : refusal.message);
    return;
  }
  whenSignedOut(() => signIn());
  addEventListener("hashchange", show);
  await show();
}

start();
