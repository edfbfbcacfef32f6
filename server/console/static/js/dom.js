// Elements made of text and of each other. Nothing here parses HTML, so no text can become markup.

/** An element: h("button", {class: "x", onclick: f, "aria-label": "…"}, child, …). */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && PROPERTIES.has(name)) element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// What has to be set as a property because the attribute is only its first value.
const PROPERTIES = new Set(["value", "checked", "disabled", "selected", "textContent", "hidden", "open"]);

/** Replace everything in `element`. */
export function fill(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter(Boolean));
  return element;
}

const PATHS = {
  chat: "M4 5h16v11H9l-5 4z",
  training: "M4 19V5M4 19h16M7 15l4-5 3 3 5-7",
  data: "M4 6c0-3 16-3 16 0v12c0 3-16 3-16 0zM4 6c0 3 16 3 16 0M4 12c0 3 16 3 16 0",
  models: "M12 3l8 4.5v9L12 21l-8-4.5v-9zM12 12l8-4.5M12 12v9M12 12L4 7.5",
  logs: "M5 5h14M5 10h14M5 15h9M5 20h6",
  overview: "M4 13a8 8 0 0 1 16 0M12 13l4-4M4 13h2M18 13h2M6 19h12",
  send: "M5 12h13M12 5l7 7-7 7",
  stop: "M7 7h10v10H7z",
  add: "M12 5v14M5 12h14",
  remove: "M5 7h14M9 7V5h6v2M7 7l1 13h8l1-13",
  again: "M19 8a8 8 0 1 0 1 6M19 3v5h-5",
  edit: "M4 20l1-5L16 4l4 4L9 19z",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  download: "M12 4v11M7 11l5 5 5-5M5 20h14",
  settings: "M4 7h10M18 7h2M4 17h2M10 17h10M16 4v6M8 14v6",
  menu: "M4 7h16M4 12h16M4 17h16",
  close: "M6 6l12 12M18 6L6 18",
  language: "M4 6h9M8 4v2M11 6c-1 4-4 7-7 8M6 9c1 3 4 5 6 5M12 20l4-9 4 9M13.500 17h5",
  theme: "M12 4a8 8 0 1 0 8 8 6 6 0 0 1-8-8z",
  end: "M12 5v13M6 12l6 6 6-6",
  more: "M4 12a1 1 0 1 0 2 0a1 1 0 1 0-2 0M11 12a1 1 0 1 0 2 0a1 1 0 1 0-2 0M18 12a1 1 0 1 0 2 0a1 1 0 1 0-2 0",
  compare: "M4 5h7v14H4zM13 5h7v14h-7z",
  out: "M14 5h5v14h-5M4 12h10M10 8l4 4-4 4",
  pause: "M8 5v14M16 5v14",
  play: "M7 5l12 7-12 7z",
  merge: "M6 4v4c0 4 6 4 6 8v4M18 4v4c0 4-6 4-6 8M9 17l3 3 3-3",
  check: "M5 12l5 5L20 7",
  upload: "M12 20V9M7 13l5-5 5 5M5 4h14",
  minus: "M5 12h14",
  left: "M14 6l-6 6 6 6",
  right: "M10 6l6 6-6 6",
  whole: "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5",
};

/** A line drawing that assistive technology skips: the button around it has the name. */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", "icon");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}

/** A button that shows only an icon; `label` is its name and its tooltip. */
export function iconButton(name, label, onclick, attributes = {}) {
  return h("button", { type: "button", class: "icon-button", "aria-label": label, title: label, onclick, ...attributes }, icon(name));
}

/** A labelled form field. */
export function field(label, control, hint) {
  return h("label", { class: "field" }, h("span", { class: "field-label" }, label), control, hint ? h("small", {}, hint) : null);
}

/** Whether a key belongs to a composition, as of pinyin: Enter takes what it offers, and ends nothing else. */
export const isComposing = (event) => event.isComposing || event.keyCode === 229; // Safari says only the latter
