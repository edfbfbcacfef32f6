// Line charts over steps, drawn by uPlot, whose files an installed Python package brings. A chart
// holds no more points than it was given; who has many gives those of the part that is seen.

import { number } from "./i18n.js";

const SCRIPT = new URL("../vendor/uplot.js", import.meta.url).href;
const STYLE = new URL("../vendor/uplot.css", import.meta.url).href;
let loading = null;

/** The library, loaded when the first chart is needed. */
function library() {
  loading ??= new Promise((resolve, reject) => {
    const style = Object.assign(document.createElement("link"), { rel: "stylesheet", href: STYLE });
    const script = Object.assign(document.createElement("script"), { src: SCRIPT });
    script.onload = () => resolve(globalThis.uPlot);
    script.onerror = () => reject(new Error(SCRIPT));
    document.head.append(style, script);
  });
  return loading;
}

const variable = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
export const colour = (index) => variable(`--c${(index % 6) + 1}`);

/** A number in few characters: 12,345 · 0.0123 · 1.2e-5 */
export function short(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 1e7)) return value.toExponential(1);
  return number(Number(value.toPrecision(size >= 1000 ? 6 : 4)));
}

/**
 * A chart in `place`. `onzoom(from, to)` is called when a person chose other steps, with nulls for
 * all of them. Series are {label, x, y, colour, dashed, faint}.
 */
export class Chart {
  constructor(place, { height = 240, format = short, onzoom = () => {}, group = "steps" } = {}) {
    this.place = place;
    this.options = { height, format, onzoom, group };
    this.series = [];
    this.isLog = false;
    this.range = null;
    this.resizing = new ResizeObserver(() => this.fit());
    this.resizing.observe(place);
    this.isSeen = true;
    this.seeing = new IntersectionObserver((entries) => this.sees(entries.at(-1).isIntersecting));
    this.seeing.observe(place);
    library().then(
      (uPlot) => {
        this.uPlot = uPlot;
        this.build();
      },
      (failure) => (place.textContent = failure.message),
    );
  }

  /** Show these series from now on, between the steps `range` ([from, to], or null for all). */
  show(series, range, isLog) {
    const shape = (all) => JSON.stringify(all.map(({ label, colour: ink, dashed, faint }) => [label, ink, dashed, faint]));
    const isSame = this.plot && shape(series) === shape(this.series) && isLog === this.isLog;
    this.series = series;
    this.range = range;
    this.isLog = isLog;
    if (!this.uPlot) return;
    if (this.plot && !this.isSeen) {
      this.isStale = true;
      if (!isSame) this.build();
    } else if (isSame) {
      this.plot.setData(this.data(), false);
      this.plot.setScale("x", this.limits());
    } else {
      this.build();
    }
  }

  /** Show other steps of the same series. */
  look(range) {
    this.range = range;
    if (this.isSeen) this.plot?.setScale("x", this.limits());
    else this.isStale = true;
  }

  /** Nothing is drawn that nobody sees; it is made good as soon as somebody does. */
  sees(isSeen) {
    this.isSeen = isSeen;
    if (!isSeen || !this.isStale || !this.plot) return;
    this.isStale = false;
    this.plot.setData(this.data(), false);
    this.plot.setScale("x", this.limits());
  }

  data() {
    const tables = this.series.map(({ x, y }) => [x, this.isLog ? y.map((each) => (each > 0 ? each : null)) : y]);
    return tables.length ? this.uPlot.join(tables) : [[]];
  }

  limits() {
    if (this.range) return { min: this.range[0], max: this.range[1] };
    let least = Infinity;
    let most = -Infinity;
    for (const { x } of this.series) {
      if (!x.length) continue;
      least = Math.min(least, x[0]);
      most = Math.max(most, x[x.length - 1]);
    }
    return most > least ? { min: least, max: most } : { min: Math.min(least, 0) || 0, max: Number.isFinite(most) ? most + 1 : 1 };
  }

  build() {
    this.plot?.destroy();
    const ink = variable("--soft");
    const axis = { stroke: ink, grid: { stroke: variable("--grid"), width: 1 }, ticks: { stroke: variable("--grid"), width: 1 }, font: "12px system-ui" };
    const limits = this.limits();
    this.plot = new this.uPlot(
      {
        width: Math.max(200, this.place.clientWidth),
        height: this.options.height,
        legend: { show: false },
        cursor: { sync: { key: this.options.group }, drag: { x: true, y: false, setScale: false }, points: { size: 6 }, bind: { dblclick: () => () => this.options.onzoom(null, null) } },
        scales: { x: { time: false, min: limits.min, max: limits.max, auto: false }, y: { distr: this.isLog ? 3 : 1 } },
        axes: [
          { ...axis, values: (_, values) => values.map((value) => (Number.isInteger(value) ? number(value) : "")) },
          { ...axis, size: 64, values: (_, values) => values.map((value) => (value === null ? "" : this.options.format(value))) },
        ],
        series: [{}, ...this.series.map((each) => this.drawn(each))],
        hooks: { setSelect: [(plot) => this.selected(plot)], setCursor: [(plot) => this.pointed(plot)] },
      },
      this.data(),
      this.place,
    );
    this.plot.setScale("x", limits);
    this.gestures(this.plot.over);
  }

  drawn({ label, colour: stroke, dashed, faint }) {
    return { label, stroke: faint ? `${stroke}44` : stroke, width: faint ? 1 : 2, dash: dashed ? [6, 4] : undefined, spanGaps: true, points: { show: dashed ? hasFew : isLonely, size: 7, fill: stroke } };
  }

  selected(plot) {
    const { left, width } = plot.select;
    if (width < 4) return;
    const from = Math.floor(plot.posToVal(left, "x"));
    const to = Math.ceil(plot.posToVal(left + width, "x"));
    plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    if (to > from) this.options.onzoom(from, to);
  }

  pointed(plot) {
    if (!this.tip) return;
    const { left, idx } = plot.cursor;
    if (left < 0 || idx === null || idx === undefined) {
      this.tip(null, []);
      return;
    }
    const step = plot.data[0][idx];
    const rows = this.series.map((each, index) => [each, this.nearest(plot.data[index + 1], idx)]);
    this.tip(step, rows.filter(([each]) => !each.faint));
  }

  /** The value at an index, or the last one before it: curves are measured at different steps. */
  nearest(values, index) {
    for (let at = index; at >= 0 && at > index - 4000; at -= 1) if (values[at] !== null && values[at] !== undefined) return values[at];
    return null;
  }

  /** The wheel zooms, a finger moves, two fingers zoom. */
  gestures(over) {
    over.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        const at = this.plot.posToVal(event.offsetX, "x");
        this.scaled(event.deltaY < 0 ? 0.7 : 1 / 0.7, at);
      },
      { passive: false },
    );
    const fingers = new Map();
    let began = null;
    const spread = () => {
      const [one, two] = [...fingers.values()];
      return two === undefined ? null : Math.max(10, Math.abs(one - two));
    };
    over.addEventListener("pointerdown", (event) => {
      if (event.pointerType !== "touch") return;
      fingers.set(event.pointerId, event.offsetX);
      began = { x: event.offsetX, spread: spread(), ...this.seen() };
    });
    over.addEventListener("pointermove", (event) => {
      if (!fingers.has(event.pointerId) || !began) return;
      fingers.set(event.pointerId, event.offsetX);
      const width = over.clientWidth;
      const size = began.max - began.min;
      if (began.spread && spread()) {
        const wanted = (size * began.spread) / spread();
        const middle = (began.min + began.max) / 2;
        this.options.onzoom(Math.floor(middle - wanted / 2), Math.ceil(middle + wanted / 2));
      } else if (this.range) {
        const moved = Math.round(((began.x - event.offsetX) / width) * size);
        this.options.onzoom(began.min + moved, began.max + moved);
      }
    });
    const lifted = (event) => {
      fingers.delete(event.pointerId);
      began = null;
    };
    for (const name of ["pointerup", "pointercancel", "pointerleave"]) over.addEventListener(name, lifted);
  }

  seen() {
    const { min, max } = this.plot?.scales.x ?? this.limits();
    return { min, max };
  }

  /** Show `factor` times as many steps, around `at` or the middle. */
  scaled(factor, at) {
    const { min, max } = this.seen();
    const middle = at ?? (min + max) / 2;
    const from = Math.floor(middle - (middle - min) * factor);
    const to = Math.ceil(middle + (max - middle) * factor);
    if (to - from >= 2) this.options.onzoom(from, to);
  }

  /** Move by a share of what is seen. */
  moved(share) {
    const { min, max } = this.seen();
    const by = Math.round((max - min) * share);
    this.options.onzoom(Math.round(min + by), Math.round(max + by));
  }

  fit() {
    if (this.plot && this.place.clientWidth > 0 && this.place.clientWidth !== this.plot.width) this.plot.setSize({ width: this.place.clientWidth, height: this.options.height });
  }

  end() {
    this.resizing.disconnect();
    this.seeing.disconnect();
    this.plot?.destroy();
    this.plot = null;
  }
}

const MOST_DOTS = 100;

/** Of a curve that is measured now and then, each measurement is a dot. */
const hasFew = (plot, index) => hasAtMost(plot.data[index], MOST_DOTS);

/** One measurement is no line, and would not be seen. */
const isLonely = (plot, index) => hasAtMost(plot.data[index], 1);

function hasAtMost(values, most) {
  let count = 0;
  for (const value of values) {
    if (value !== null && value !== undefined && (count += 1) > most) return false;
  }
  return true;
}
