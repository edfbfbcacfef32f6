// Replies that are being written. They go on while another conversation or page is looked at, and
// what has come of them is kept when the browser leaves.

import * as conversations from "./conversations.js";
import { generate } from "./generation.js";

const running = new Map(); // a conversation's id -> {conversation, controller}
const writing = new Set(); // its replies that have not ended
const listeners = new Set();

/** Call `listener.grown(reply)` when a reply has more or has ended, `listener.ended(id)` when all of a turn have. */
export function follow(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export const isRunning = (id) => running.has(id);
export const isWriting = (reply) => writing.has(reply);

/** The conversation as it is being written: one that is read from what is kept would lack that. */
export const latest = (conversation) => running.get(conversation.id)?.conversation ?? conversation;

export const stop = (id) => running.get(id)?.controller.abort();

/** As nobody is signed in any more. */
export function stopAll() {
  for (const { controller } of running.values()) controller.abort();
}

/**
 * Have `replies`, which stand in `conversation`, written: each by its model, which is sent the
 * messages of the same place in `sent`. Resolves when all have ended; false where the browser had no
 * room to keep them.
 */
export async function write(conversation, replies, sent) {
  const { id } = conversation;
  const controller = new AbortController();
  running.set(id, { conversation, controller });
  for (const reply of replies) writing.add(reply);
  const hadRoom = conversations.keep(conversation); // from the question on: a removal meanwhile is seen at the end
  await Promise.all(replies.map((reply, index) => one(reply, sent[index], conversation.sampling, controller.signal)));
  running.delete(id);
  const isKept = hadRoom && (!conversations.isKept(id) || conversations.keep(conversation));
  for (const each of listeners) each.ended(id);
  return isKept;
}

async function one(reply, messages, sampling, signal) {
  const seed = reply.seed === undefined ? {} : { seed: reply.seed };
  await generate(reply, messages, { ...sampling, ...seed }, signal, grown);
  writing.delete(reply);
  grown(reply);
}

function grown(reply) {
  for (const each of listeners) each.grown(reply);
}

/** Keep what has come so far: the browser may not come back. */
function keepAll() {
  for (const { conversation } of running.values()) if (conversations.isKept(conversation.id)) conversations.write(conversation);
}

addEventListener("pagehide", keepAll);
document.addEventListener("visibilitychange", () => document.hidden && keepAll());
