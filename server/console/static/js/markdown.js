// What a model writes, as elements. A small part of Markdown; everything else stays text.
// No raw HTML, no images, and links only to http(s), so that a reply can neither run nor fetch.

import { copy } from "./clipboard.js";
import { h, iconButton } from "./dom.js";
import { t } from "./i18n.js";

/** The elements of a reply. */
export function markdown(text) {
  const blocks = [];
  const lines = text.split("\n");
  for (let at = 0; at < lines.length; ) at = block(lines, at, blocks);
  return blocks;
}

function block(lines, at, blocks) {
  const line = lines[at];
  const fence = /^ {0,3}(`{3,}|~{3,})\s*([\w+#.-]*)\s*$/.exec(line);
  if (fence) return code(lines, at, fence, blocks);
  if (!line.trim()) return at + 1;
  const heading = /^(#{1,6})\s+(.*)$/.exec(line);
  if (heading) {
    blocks.push(h(`h${Math.min(6, heading[1].length + 2)}`, {}, inline(heading[2])));
    return at + 1;
  }
  if (LIST.test(line)) return list(lines, at, blocks);
  return paragraph(lines, at, blocks);
}

function code(lines, at, fence, blocks) {
  const end = lines.findIndex((line, index) => index > at && line.trim().startsWith(fence[1]) && !line.trim().slice(fence[1].length));
  const last = end < 0 ? lines.length : end;
  const source = lines.slice(at + 1, last).join("\n");
  const button = iconButton("copy", t("copy"), () => copy(source));
  blocks.push(h("figure", { class: "code" }, h("figcaption", {}, fence[2] || "text", button), h("pre", { tabindex: "0" }, h("code", {}, source))));
  return last + 1;
}

const LIST = /^ {0,3}(?:[-*+]|\d{1,9}[.)])\s+/;

function list(lines, at, blocks) {
  const ordered = /^ {0,3}\d/.test(lines[at]);
  const items = [];
  while (at < lines.length && LIST.test(lines[at])) {
    items.push(h("li", {}, inline(lines[at].replace(LIST, ""))));
    at += 1;
  }
  blocks.push(h(ordered ? "ol" : "ul", {}, items));
  return at;
}

function paragraph(lines, at, blocks) {
  const children = [];
  const begins = /^ {0,3}(?:`{3,}|~{3,}|#{1,6}\s)/;
  for (let first = true; at < lines.length && lines[at].trim() && (first || !(begins.test(lines[at]) || LIST.test(lines[at]))); at += 1) {
    if (!first) children.push(h("br"));
    children.push(inline(lines[at]));
    first = false;
  }
  blocks.push(h("p", {}, children));
  return at;
}

// One alternative at a time, none nested in another, each bounded: linear in the text.
const INLINE = /`([^`\n]{1,2000})`|\*\*([^*\n]{1,2000})\*\*|\*([^*\s][^*\n]{0,2000})\*|\[([^\]\n]{1,500})\]\((https?:\/\/[^\s)]{1,2000})\)/g;

function inline(text) {
  const parts = [];
  let end = 0;
  for (const match of text.matchAll(INLINE)) {
    parts.push(text.slice(end, match.index));
    const [whole, source, strong, emphasis, label, url] = match;
    if (source !== undefined) parts.push(h("code", {}, source));
    else if (strong !== undefined) parts.push(h("strong", {}, strong));
    else if (emphasis !== undefined) parts.push(h("em", {}, emphasis));
    else parts.push(h("a", { href: url, target: "_blank", rel: "noopener noreferrer nofollow" }, label));
    end = match.index + whole.length;
  }
  parts.push(text.slice(end));
  return parts;
}
