// What a conversation is called until somebody calls it something: its first line, in short.

import { ADDRESS, parse } from "./links.js";

const MOST_COLUMNS = 40; // a Chinese character is as wide as two letters
const BREAKS = /[\s，。！？；：、,.!?;:]/u;

/** A title for what begins with `text`: one line without marks, cut where a phrase ends. */
export function titleOf(text) {
  const lines = text.split("\n").map((line) => line.replace(/^(?:[\s>#*`~-]|\d+[.)]\s)+/, "").trim());
  const line = (lines.find(Boolean) ?? text).replace(new RegExp(ADDRESS, "gi"), (url) => parse(url)?.host ?? url);
  const plain = line.replace(/[*`]+/g, "").replace(/\s+/g, " ").trim();
  const cut = within([...plain], MOST_COLUMNS);
  if (cut.length === [...plain].length) return plain.replace(/[。.]$/u, "");
  const at = cut.findLastIndex((each) => BREAKS.test(each));
  const phrase = at > cut.length / 2 ? cut.slice(0, at) : cut;
  return `${phrase.join("").trim()}…`;
}

function within(characters, most) {
  let columns = 0;
  const end = characters.findIndex((each) => (columns += each.codePointAt(0) > 0x2e7f ? 2 : 1) > most);
  return end < 0 ? characters : characters.slice(0, end);
}
