// Conversations, kept in this browser only: one entry of localStorage each, so that two tabs do not
// overwrite each other's, and a `storage` event tells the other tabs.

import { titleOf } from "./title.js";

const PREFIX = "lccc.conversation.";
const MOST_TITLE = 200; // characters
const listeners = new Set();

/** Call `callback(id)` when another tab changed a conversation. */
export function whenChangedElsewhere(callback) {
  listeners.add(callback);
  return () => listeners.delete(callback);
}

window.addEventListener("storage", (event) => {
  if (event.key?.startsWith(PREFIX)) for (const each of listeners) each(event.key.slice(PREFIX.length));
});

/** A conversation that is not yet kept. */
export function begun(settings) {
  const now = Date.now();
  return { id: newId(), title: "", created: now, updated: now, ...settings, turns: [] };
}

/** 128 random bits. Not randomUUID: a page that came over plain HTTP from elsewhere has none. */
function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** All that are kept, the latest first. What cannot be read is passed over, not deleted. */
export function kept() {
  const found = [];
  for (let index = 0; index < localStorage.length; index += 1) {
    const key = localStorage.key(index);
    const conversation = key.startsWith(PREFIX) ? read(key) : null;
    if (conversation) found.push(conversation);
  }
  return found.sort((a, b) => b.updated - a.updated);
}

/** Whether its title, or anything said in it, has `text`, in capitals or not. */
export function has(conversation, text) {
  const said = conversation.turns.flatMap((turn) => turn.content ?? turn.replies?.map((reply) => reply.content) ?? []);
  return [conversation.title, ...said].some((each) => each?.toLowerCase().includes(text.toLowerCase()));
}

export const find = (id) => read(PREFIX + id);

function read(key) {
  try {
    const value = JSON.parse(localStorage.getItem(key));
    return value && Array.isArray(value.turns) ? value : null;
  } catch {
    return null;
  }
}

/** Keep a conversation that somebody said something in; false where the browser has no room for it. */
export function keep(conversation) {
  conversation.updated = Date.now();
  return write(conversation);
}

/** Call it `name`, or as it was called at first where that is empty. It keeps its place in the list. */
export function rename(conversation, name) {
  conversation.title = name.trim().replace(/\s+/g, " ").slice(0, MOST_TITLE);
  return write(conversation);
}

/** Keep what is set of a conversation, which does not make it the latest. */
export function write(conversation) {
  conversation.title ||= titleOf(conversation.turns.find((turn) => turn.role === "user")?.content ?? "");
  try {
    localStorage.setItem(PREFIX + conversation.id, JSON.stringify(conversation));
    return true;
  } catch {
    return false;
  }
}

/** Whether it is kept: what was removed, here or in another tab, is not. */
export const isKept = (id) => localStorage.getItem(PREFIX + id) !== null;

export const remove = (id) => localStorage.removeItem(PREFIX + id);

/** The messages that `model` is sent: of each turn its own reply, or the first that there is. */
export function messages(conversation, model) {
  const sent = conversation.system ? [{ role: "system", content: conversation.system }] : [];
  for (const turn of conversation.turns) {
    if (turn.role === "user") {
      sent.push({ role: "user", content: turn.content });
      continue;
    }
    const complete = turn.replies.filter((reply) => reply.content);
    const reply = complete.find((each) => each.model === model) ?? complete[0];
    if (reply) sent.push({ role: "assistant", content: reply.content });
  }
  return sent;
}

/** As a file's text: OpenAI's messages, and what each reply was made by. */
export function exported(conversation) {
  const { id, title, created, updated, system, models, sampling, turns } = conversation;
  return JSON.stringify({ format: "lccc-conversation-1", id, title, created, updated, models, sampling, system, turns, messages: messages(conversation, models[0]) }, null, 2);
}

/** What its file is called: its title, without what file systems or shells take for something else. */
export function fileName(conversation) {
  const title = conversation.title.replace(/[\p{C}\s/\\:*?"'`<>|$&;.]+/gu, "-").replace(/^-+|-+$/g, "");
  return `${[...title].slice(0, 60).join("") || `lccc-${conversation.id.slice(0, 8)}`}.json`;
}
