// A run's curves as the page knows them: all steps in few points, kept up by events, and the part
// that is looked at more closely.

import { get } from "./api.js";
import { follow } from "./feed.js";

const POINTS = 1200;
const MOST_POINTS = 4000; // before the whole is asked for again
const RECENT = 30;
export const QUANTITIES = ["loss", "validation_nll", "learning_rate", "gradient_norm", "tokens_per_s", "memory_bytes"];

export class RunCurves {
  /** `onchange()` is called after everything that changes what there is to see. */
  constructor(id, onchange) {
    this.id = id;
    this.onchange = onchange;
    this.seq = 0;
    this.status = null;
    this.whole = empty();
    this.part = null; // {from, to, curves}
    this.shown = new Map(); // what points() has put together, until something is new
    this.last = {};
    this.times = []; // [step, time] of measurements since the last start, for the time left
    this.isEnded = false;
    this.load().then(() => this.watch());
  }

  async load() {
    const path = `/admin/runs/${encodeURIComponent(this.id)}/metrics?points=${POINTS}`;
    try {
      const found = await get(path);
      if (this.isEnded) return;
      this.whole = { ...empty(), ...found.curves };
      this.shown.clear();
      this.seq = found.seq;
      for (const name of QUANTITIES) this.last[name] = this.whole[name].at(-1)?.[4] ?? null;
      this.onchange();
    } catch {
      // the socket says what there is to say
    }
  }

  watch() {
    if (this.isEnded) return;
    this.unfollow = follow(
      `run ${this.id}`,
      () => ({ watch: "run", run: this.id, after: this.seq }),
      (news) => this.take(news),
    );
  }

  take({ events, status }) {
    for (const event of events) {
      if (event.seq <= this.seq) continue;
      this.seq = event.seq;
      this.add(event);
    }
    if (events.length) this.shown.clear();
    if (status) this.status = status;
    if (this.whole.loss.length > MOST_POINTS) this.load();
    this.onchange(events);
  }

  add(event) {
    if (event.kind === "status" && event.state === "running") {
      for (const name of QUANTITIES) this.whole[name] = this.whole[name].filter((point) => point[1] <= event.step);
      this.times = [];
      this.part = null; // it may have steps that are made again
    }
    if (event.kind === "train") {
      this.times.push([event.step, event.time]);
      this.times.splice(0, this.times.length - RECENT);
    }
    for (const name of QUANTITIES) {
      const value = event[name];
      if (value === null || value === undefined) continue;
      this.last[name] = value;
      this.whole[name].push([event.step, event.step, value, value, value]);
    }
  }

  /** Seconds to the end at the present pace, or null. */
  get left() {
    const [first] = this.times;
    const last = this.times.at(-1);
    if (this.status?.state !== "running" || !first || last[0] === first[0]) return null;
    return ((this.status.total_steps - last[0]) * (last[1] - first[1])) / (last[0] - first[0]);
  }

  get step() {
    return Math.max(this.status?.step ?? 0, this.whole.loss.at(-1)?.[1] ?? 0);
  }

  /** Look at the steps between `from` and `to`, or at all with nulls; more points come soon. */
  look(from, to) {
    clearTimeout(this.asking);
    if (from === null) return; // a part that is known closely stays so
    if (!this.isCoarse(from, to)) return;
    this.asking = setTimeout(async () => {
      const path = `/admin/runs/${encodeURIComponent(this.id)}/metrics?points=${POINTS}&first_step=${Math.max(0, from)}&last_step=${Math.max(0, to)}`;
      try {
        const { curves } = await get(path);
        if (this.isEnded) return;
        this.part = { from, to, curves: { ...empty(), ...curves } };
        this.shown.clear();
        this.onchange();
      } catch {
        // what is there stays, coarse as it is
      }
    }, 80);
  }

  /** Whether points stand for several steps where the run is looked at. */
  isCoarse(from, to) {
    return this.points("loss").some(([first, last]) => last >= from && first <= to && last > first);
  }

  /** The points of a quantity: all steps, and those that were looked at as fine as they are known. */
  points(name) {
    if (!this.shown.has(name)) this.shown.set(name, this.merged(name));
    return this.shown.get(name);
  }

  merged(name) {
    const whole = this.whole[name];
    const fine = this.part?.curves[name] ?? [];
    if (!fine.length) return whole;
    const [first, last] = [fine[0][0], fine.at(-1)[1]];
    return [...whole.filter((point) => point[1] < first), ...fine, ...whole.filter((point) => point[0] > last)];
  }

  end() {
    this.isEnded = true;
    clearTimeout(this.asking);
    this.unfollow?.();
  }
}

const empty = () => Object.fromEntries(QUANTITIES.map((name) => [name, []]));

/** The least and the greatest of each point, as a line that touches both. */
export function envelope(points) {
  const x = [];
  const y = [];
  for (const [first, last, low, high, value] of points) {
    if (last > first) {
      x.push(first, last);
      y.push(low, high);
    } else {
      x.push(last);
      y.push(value);
    }
  }
  return { x, y };
}

/** A moving average with `weight` of the past, without the pull of its beginning (as `runs plot`). */
export function smoothed(points, weight) {
  let sum = 0;
  let share = 0;
  const x = [];
  const y = [];
  for (const [, last, low, high, value] of points) {
    sum = weight * sum + (1 - weight) * (last > points[0][0] ? (low + high) / 2 : value);
    share = weight * share + (1 - weight);
    x.push(last);
    y.push(sum / share);
  }
  return { x, y };
}
