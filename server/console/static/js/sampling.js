// The fields for a conversation's sampling. What is left empty is the model's own default.

import { field, h } from "./dom.js";
import { t } from "./i18n.js";

const PARAMETERS = [
  // name, least, most, what an arrow key adds; other values than its multiples are as good
  ["temperature", 0, 2, 0.1],
  ["top_p", 0.01, 1, 0.01],
  ["top_k", 0, 1000, 1],
  ["min_p", 0, 1, 0.01],
  ["repetition_penalty", 0.1, 10, 0.1],
  ["presence_penalty", -2, 2, 0.1],
  ["frequency_penalty", -2, 2, 0.1],
  ["max_tokens", 1, 1_000_000, 1],
  ["seed", null, null, 1],
];

/** A field for each parameter; `change(name, value)` is told of each new value, of none as undefined. */
export function samplingFields(values, defaults, change) {
  return PARAMETERS.map(([name, least, most, step]) => {
    const input = h("input", {
      type: "number",
      min: least,
      max: most,
      step: Number.isInteger(step) ? step : "any",
      inputmode: "decimal",
      value: values[name] ?? "",
      placeholder: defaults?.[name] ?? t("sampling.neutral"),
      onchange: () => input.reportValidity() && change(name, input.value === "" ? undefined : Number(input.value)),
    });
    if (input.step === "any") input.addEventListener("keydown", (event) => move(event, step));
    return field(t(`sampling.${name}`), input);
  });
}

/** With `step="any"` a browser's arrow keys add 1, which is too much for a number around 1. */
function move(event, step) {
  const direction = { ArrowUp: 1, ArrowDown: -1 }[event.key];
  if (!direction) return;
  event.preventDefault();
  const input = event.target;
  const from = Number(input.value || input.placeholder) || 0; // a word where no default is known
  const moved = Math.min(input.max, Math.max(input.min, from + direction * step));
  input.value = Number(moved.toFixed(6)); // 0.1 + 0.2 is 0.3 to a person
  input.dispatchEvent(new Event("change"));
}
