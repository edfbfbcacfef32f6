// What the server serves, asked again every two seconds while anybody wants to know.

import { get } from "./api.js";

const INTERVAL_MS = 2000;
const listeners = new Set();
let models = [];
let timer = 0;

/** Call `callback(models)` now and whenever they have changed; returns what ends it. */
export function followModels(callback) {
  listeners.add(callback);
  callback(models);
  if (!timer) ask();
  return () => {
    listeners.delete(callback);
    if (!listeners.size) {
      clearTimeout(timer);
      timer = 0;
    }
  };
}

async function ask() {
  timer = setTimeout(ask, INTERVAL_MS);
  if (document.hidden) return;
  try {
    const { data } = await get("/v1/models");
    if (JSON.stringify(data) === JSON.stringify(models)) return;
    models = data;
    for (const each of listeners) each(models);
  } catch {
    // the shell tells that the server cannot be reached
  }
}
