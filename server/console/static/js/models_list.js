// What the server serves: asked again when its WebSocket says that it has changed, and now and then
// all the same, should the socket be away.

import { get } from "./api.js";
import { followChanges } from "./feed.js";

const INTERVAL_MS = 15_000;
const listeners = new Set();
let models = [];
let end = null;
let asked = 0;

/** Call `callback(models)` now and whenever they have changed; returns what ends it. */
export function followModels(callback) {
  listeners.add(callback);
  callback(models);
  end ??= begin();
  return () => {
    listeners.delete(callback);
    if (listeners.size) return;
    end?.();
    end = null;
  };
}

function begin() {
  const unfollow = followChanges((what) => {
    if (what.includes("models")) ask();
  });
  const timer = setInterval(() => document.hidden || ask(), INTERVAL_MS);
  ask();
  return () => {
    unfollow();
    clearInterval(timer);
  };
}

async function ask() {
  const number = ++asked;
  try {
    const { data } = await get("/v1/models");
    // An answer that a later question has overtaken says nothing any more.
    if (number !== asked || JSON.stringify(data) === JSON.stringify(models)) return;
    models = data;
    for (const each of listeners) each(models);
  } catch {
    // the shell tells that the server cannot be reached
  }
}
