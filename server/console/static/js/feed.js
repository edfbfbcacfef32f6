// The page's one WebSocket. What is followed is asked for again after a break, from where it was.

import { get, signedOut } from "./api.js";

const AGAIN_MS = [500, 1000, 2000, 4000];
const SIGNED_OUT = 4401;
const watched = new Map(); // name -> {command(), take(news)}
const listeners = new Set(); // of the lists that change
let socket = null;
let failures = 0;
let timer = 0;
let onState = () => {};

/** Call `callback(isOpen)` when the connection comes and goes. */
export function whenConnected(callback) {
  onState = callback;
}

/**
 * Follow something: `command()` says what, and from where on, each time it has to be asked for;
 * `take(news)` is told. Returns what ends it.
 */
export function follow(name, command, take) {
  watched.set(name, { command, take });
  if (socket?.readyState === WebSocket.OPEN) send(command());
  else connect();
  return () => {
    watched.delete(name);
    if (socket?.readyState === WebSocket.OPEN) askForAll();
    leaveIfIdle();
  };
}

/** Call `callback(what)` when the lists named in it have changed, and with all on every connection. */
export function followChanges(callback) {
  listeners.add(callback);
  if (socket?.readyState === WebSocket.OPEN) send({ watch: "changes" });
  else connect();
  return () => {
    listeners.delete(callback);
    leaveIfIdle();
  };
}

/** End the connection, as on leaving the console. */
export function disconnect() {
  watched.clear();
  listeners.clear();
  leaveIfIdle();
}

function leaveIfIdle() {
  if (watched.size || listeners.size) return;
  clearTimeout(timer);
  timer = 0;
  const old = socket;
  socket = null;
  old?.close();
}

function send(command) {
  socket.send(JSON.stringify(command));
}

/** All anew: what is no longer wanted is forgotten, the rest goes on where it is. */
function askForAll() {
  send({ watch: "nothing" });
  if (listeners.size) send({ watch: "changes" });
  for (const { command } of watched.values()) send(command());
}

function connect() {
  if (socket || timer) return;
  const opened = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/admin/events`);
  socket = opened;
  opened.onopen = () => {
    if (socket !== opened) return;
    failures = 0;
    onState(true);
    askForAll();
  };
  opened.onmessage = ({ data }) => {
    if (socket === opened) told(JSON.parse(data));
  };
  opened.onclose = ({ code }) => {
    if (socket !== opened) return;
    socket = null;
    if (code === SIGNED_OUT) {
      signedOut();
      return;
    }
    onState(false);
    // A browser is not told why a socket was refused: whether one is still signed in, a request is.
    get("/admin/session").catch(() => {});
    timer = setTimeout(() => {
      timer = 0;
      if (watched.size || listeners.size) connect();
    }, AGAIN_MS[Math.min(failures, AGAIN_MS.length - 1)]);
    failures += 1;
  };
}

function told(news) {
  if (news.type === "changed") for (const each of [...listeners]) each(news.what);
  else watched.get(nameOf(news))?.take(news);
}

function nameOf(news) {
  if (news.type === "run") return `run ${news.run}`;
  if (news.type === "job") return `job ${news.job.id}`;
  if (news.type === "text") return `text ${news.source} ${news.id}`;
  return news.type;
}
