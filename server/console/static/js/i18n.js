// The console's words in Chinese and English. {0}, {1} … are filled in.

import { words } from "./words.js";

const KEY = "lccc.language";
export const LANGUAGES = { zh: "中文", en: "English" };

let current = localStorage.getItem(KEY) ?? (navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en");
if (!(current in LANGUAGES)) current = "en";
document.documentElement.lang = current === "zh" ? "zh-CN" : "en";

export const language = () => current;

/** Use another language from now on; the shell shows everything again. */
export function setLanguage(name) {
  current = name;
  localStorage.setItem(KEY, name);
  document.documentElement.lang = name === "zh" ? "zh-CN" : "en";
}

/** The words for `key`. An unknown key is shown as it is, so that it is noticed. */
export function t(key, ...values) {
  const found = words[key]?.[current === "zh" ? 0 : 1] ?? key;
  return found.replace(/\{(\d)\}/g, (_, index) => String(values[index] ?? ""));
}

/** Whether there are words for `key`. */
export const known = (key) => Object.hasOwn(words, key);

export const number = (value) => new Intl.NumberFormat(current === "zh" ? "zh-CN" : "en").format(value);

export function time(seconds) {
  return new Date(1000 * seconds).toLocaleString(current === "zh" ? "zh-CN" : "en", { dateStyle: "short", timeStyle: "short" });
}

/** Bytes as a person reads them: 1.2 GB. */
export function bytes(count) {
  const units = ["B", "KB", "MB", "GB", "TB"];
  const step = count ? Math.min(units.length - 1, Math.floor(Math.log2(count) / 10)) : 0;
  return `${number(Number((count / 1024 ** step).toPrecision(3)))} ${units[step]}`;
}

/** Seconds as 1:02:03, or 2:03. */
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  if (!parts[0]) parts.shift();
  return parts.map((part, index) => (index ? String(part).padStart(2, "0") : String(part))).join(":");
}
