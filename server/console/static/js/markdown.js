// What a model writes, as elements. A small part of Markdown; everything else stays text.
// No raw HTML, no images, and links only to http(s), so that a reply can neither run nor fetch.

import { copy } from "./clipboard.js";
import { h, iconButton } from "./dom.js";
import { t } from "./i18n.js";
import { ADDRESS, link, linked, split } from "./links.js";

const DEEPEST_QUOTE = 8; // deeper ones are text

/** The elements of a reply; `depth` is how many quotes it stands in. */
export function markdown(text, depth = 0) {
  const blocks = [];
  const lines = text.split("\n");
  for (let at = 0; at < lines.length; ) at = block(lines, at, blocks, depth);
  return blocks;
}

function block(lines, at, blocks, depth) {
  const line = lines[at];
  const fence = /^ {0,3}(`{3,}|~{3,})\s*([\w+#.-]*)\s*$/.exec(line);
  if (fence) return code(lines, at, fence, blocks);
  if (!line.trim()) return at + 1;
  const heading = /^(#{1,6})\s+(.*)$/.exec(line);
  if (heading) {
    blocks.push(h(`h${Math.min(6, heading[1].length + 2)}`, {}, inline(heading[2])));
    return at + 1;
  }
  if (RULE.test(line)) {
    blocks.push(h("hr"));
    return at + 1;
  }
  if (QUOTE.test(line) && depth < DEEPEST_QUOTE) return quote(lines, at, blocks, depth);
  if (isList(line)) return list(lines, at, blocks);
  if (isTable(lines, at)) return table(lines, at, blocks);
  return paragraph(lines, at, blocks);
}

const RULE = /^ {0,3}(?:-{3,}|\*{3,}|_{3,})\s*$/;
const QUOTE = /^ {0,3}> ?/;

function quote(lines, at, blocks, depth) {
  const quoted = [];
  for (; at < lines.length && QUOTE.test(lines[at]); at += 1) quoted.push(lines[at].replace(QUOTE, ""));
  blocks.push(h("blockquote", {}, markdown(quoted.join("\n"), depth + 1)));
  return at;
}

const cells = (line) => line.trim().replace(/^\|/, "").replace(/\|$/, "").split("|").map((cell) => cell.trim());

/** A row of names, and under it one that has a dash for each. */
function isTable(lines, at) {
  if (!lines[at].includes("|") || !lines[at + 1]?.includes("|")) return false;
  const dashes = cells(lines[at + 1]);
  return dashes.length === cells(lines[at]).length && dashes.every((cell) => /^:?-+:?$/.test(cell));
}

function table(lines, at, blocks) {
  const names = cells(lines[at]);
  const sides = cells(lines[at + 1]).map((cell) => (cell.endsWith(":") ? (cell.startsWith(":") ? "center" : "right") : null));
  const row = (tag, texts) => h("tr", {}, names.map((_, index) => h(tag, { class: sides[index] }, inline(texts[index] ?? ""))));
  const rows = [];
  for (at += 2; at < lines.length && lines[at].includes("|"); at += 1) rows.push(row("td", cells(lines[at])));
  blocks.push(h("div", { class: "table", tabindex: "0" }, h("table", {}, h("thead", {}, row("th", names)), h("tbody", {}, rows))));
  return at;
}

function code(lines, at, fence, blocks) {
  const end = lines.findIndex((line, index) => index > at && line.trim().startsWith(fence[1]) && !line.trim().slice(fence[1].length));
  const last = end < 0 ? lines.length : end;
  const source = lines.slice(at + 1, last).join("\n");
  const button = iconButton("copy", t("copy"), () => copy(source));
  blocks.push(h("figure", { class: "code" }, h("figcaption", {}, fence[2] || "text", button), h("pre", { tabindex: "0" }, h("code", {}, source))));
  return last + 1;
}

const ITEM = /^( *)(?:[-*+]|(\d{1,9})[.)])\s+(.*)$/;
const isList = (line) => /^ {0,3}\S/.test(line) && ITEM.test(line);

/** A list with those in it, which stand further in by two spaces or more. */
function list(lines, at, blocks) {
  const [, indent, number] = ITEM.exec(lines[at]);
  const items = [];
  while (at < lines.length) {
    const item = ITEM.exec(lines[at]);
    if (!item || item[1].length < indent.length) break;
    if (items.length && item[1].length >= indent.length + 2) {
      const inner = [];
      at = list(lines, at, inner);
      items.at(-1).append(...inner);
      continue;
    }
    if ((item[2] === undefined) !== (number === undefined)) break; // one of the other kind begins
    items.push(h("li", {}, inline(item[3])));
    at += 1;
  }
  blocks.push(number === undefined ? h("ul", {}, items) : h("ol", { start: number }, items));
  return at;
}

function paragraph(lines, at, blocks) {
  const children = [];
  const begins = /^ {0,3}(?:`{3,}|~{3,}|#{1,6}\s|>)/;
  const ends = () => begins.test(lines[at]) || RULE.test(lines[at]) || isList(lines[at]) || isTable(lines, at);
  for (let first = true; at < lines.length && lines[at].trim() && (first || !ends()); at += 1) {
    if (!first) children.push(h("br"));
    children.push(inline(lines[at]));
    first = false;
  }
  blocks.push(h("p", {}, children));
  return at;
}

// One alternative at a time, none nested in another but links, each bounded: linear in the text.
const INLINE = new RegExp(
  [
    "`([^`\\n]{1,2000})`",
    "\\*\\*([^*\\n]{1,2000})\\*\\*",
    "\\*([^*\\s][^*\\n]{0,2000})\\*",
    "~~([^~\\n]{1,2000})~~",
    "\\[([^\\]\\n]{1,500})\\]\\((https?:\\/\\/[^\\s)]{1,2000})\\)",
    `(${ADDRESS})`,
  ].join("|"),
  "gi",
);

function inline(text) {
  const parts = [];
  let end = 0;
  for (const match of text.matchAll(INLINE)) {
    parts.push(text.slice(end, match.index), shown(match));
    end = match.index + match[0].length;
  }
  parts.push(text.slice(end));
  return parts;
}

function shown([whole, source, strong, emphasis, struck, label, url, address]) {
  if (source !== undefined) return h("code", {}, source);
  if (strong !== undefined) return h("strong", {}, linked(strong));
  if (emphasis !== undefined) return h("em", {}, linked(emphasis));
  if (struck !== undefined) return h("del", {}, linked(struck));
  if (label !== undefined) return link(url, label) ?? whole;
  const [bare, behind] = split(address);
  return [link(bare) ?? bare, behind];
}
