// Everything that goes over the network. The session's cookie is the browser's; no key is kept here.

import { t } from "./i18n.js";

const HEADERS = { "content-type": "application/json", "x-lccc-csrf": "1" };

/** What the server refused, in its own words. */
export class ApiError extends Error {
  constructor(status, body) {
    const error = body?.error ?? {};
    super(error.message || `HTTP ${status}`);
    this.status = status;
    this.code = error.code ?? null;
    this.param = error.param ?? null;
  }
}

/** Called when the session has ended (401): the shell shows the sign-in again. */
let onSignedOut = () => {};
export function whenSignedOut(callback) {
  onSignedOut = callback;
}

/** Show the sign-in: the session has ended. */
export const signedOut = () => onSignedOut();

/** `fetch`, whose own words for a server that does not answer are the browser's, and in English. */
async function send(path, init) {
  try {
    return await fetch(path, init);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error(t("connection.none"), { cause: error });
  }
}

async function answered(response) {
  if (response.ok) return response;
  let body = null;
  try {
    body = await response.json();
  } catch {
    // not ours: a proxy's page, say
  }
  if (response.status === 401) onSignedOut();
  throw new ApiError(response.status, body);
}

/** Send a request and read its JSON. */
export async function request(method, path, body, options = {}) {
  const init = { method, headers: HEADERS, credentials: "same-origin", ...options };
  if (body !== undefined) init.body = JSON.stringify(body);
  const response = await answered(await send(path, init));
  return response.status === 204 ? null : response.json();
}

export const get = (path, options) => request("GET", path, undefined, options);
export const post = (path, body, options) => request("POST", path, body, options);
export const del = (path, options) => request("DELETE", path, undefined, options);

export async function text(path) {
  return (await answered(await send(path, { headers: HEADERS, credentials: "same-origin" }))).text();
}

/** The objects of a stream of server-sent events, to its end. An error in it is thrown. */
export async function* stream(path, body, signal) {
  const response = await answered(
    await send(path, { method: "POST", headers: HEADERS, credentials: "same-origin", body: JSON.stringify(body), signal }),
  );
  try {
    for await (const data of events(response.body)) {
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new ApiError(200, chunk);
      yield chunk;
    }
  } catch (error) {
    if (error.name === "AbortError" || error instanceof ApiError) throw error;
    throw new Error(t("connection.lost"), { cause: error });
  }
  throw new Error(t("connection.lost"));
}

/** The `data` of each event; comments (pings) and other fields are passed over. */
export async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      buffer += value;
      const blocks = buffer.split(/\r?\n\r?\n/);
      buffer = blocks.pop();
      for (const block of blocks) {
        const lines = block.split(/\r?\n/).filter((line) => line.startsWith("data:"));
        if (lines.length) yield lines.map((line) => line.slice(5).replace(/^ /, "")).join("\n");
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

const PIECE_BYTES = 8 << 20;

/** Send a file in pieces, each in a request of its own; its id. `onProgress(share)` is told. */
export async function upload(file, onProgress, signal) {
  const { id } = await post("/admin/uploads", { name: file.name, size: file.size }, { signal });
  const headers = { ...HEADERS, "content-type": "application/octet-stream" };
  for (let offset = 0; offset < file.size; ) {
    const body = file.slice(offset, offset + PIECE_BYTES);
    const path = `/admin/uploads/${id}?offset=${offset}`;
    const response = await answered(await send(path, { method: "PATCH", headers, credentials: "same-origin", body, signal }));
    offset = (await response.json()).received;
    onProgress(offset / file.size);
  }
  return id;
}
