// Addresses in running text, as links. Only http and https, opened elsewhere, and told nothing of
// where they were found.

import { h } from "./dom.js";

/**
 * A pattern that finds addresses, with punctuation that may end them (see `split`). An address is
 * ASCII: what is Chinese behind it, punctuation or words, is not part of it. Bounded, so that no text
 * takes long.
 */
export const ADDRESS = "(?<![A-Za-z0-9])https?:\\/\\/[\\w\\-.~:/?#[\\]@!$&'()*+,;=%]{1,2000}";

const ADDRESSES = new RegExp(ADDRESS, "gi");

/** A link to `url`; null where it is none of http or https. */
export function link(url, label = url) {
  return isSafe(url) ? h("a", { href: url, target: "_blank", rel: "noopener noreferrer nofollow", title: label === url ? null : url }, label) : null;
}

/** Whether an address can be gone to, and says who is behind it: nothing stands before an @. */
function isSafe(url) {
  const parsed = parse(url);
  return parsed !== null && ["http:", "https:"].includes(parsed.protocol) && !parsed.username && !parsed.password;
}

/** A `URL`, or null for what is none. */
export function parse(url) {
  try {
    return new URL(url);
  } catch {
    return null;
  }
}

/** An address and the punctuation that ends its sentence: of "(see … )." a ")." is left behind. */
export function split(found) {
  let opened = 0;
  for (const each of found) opened += each === "(" ? 1 : each === ")" ? -1 : 0;
  let end = found.length;
  for (; end; end -= 1) {
    const last = found[end - 1];
    if (last === ")" && opened < 0) opened += 1;
    else if (!".,;:!?'*_~&[]".includes(last)) break;
  }
  return [found.slice(0, end), found.slice(end)];
}

/** `text` with its addresses as links: what `h` takes as children. */
export function linked(text) {
  const parts = [];
  let end = 0;
  for (const match of text.matchAll(ADDRESSES)) {
    const [url, behind] = split(match[0]);
    parts.push(text.slice(end, match.index), link(url) ?? url, behind);
    end = match.index + match[0].length;
  }
  parts.push(text.slice(end));
  return parts.filter(Boolean);
}
