// Which models answer: one, or up to four side by side.

import { fill, h, iconButton } from "./dom.js";
import { t } from "./i18n.js";

const MOST = 4;

export class ModelPickers {
  /** `choose(names)` is told of other models. */
  constructor(choose) {
    this.choose = choose;
    this.models = [];
    this.names = [];
    this.element = h("div", { class: "pickers", role: "group", "aria-label": t("page.models") });
    this.more = iconButton("compare", t("compare.add"), () => this.add());
  }

  /** Show which of `models` are chosen: those called `names`. */
  show(models, names) {
    this.models = models;
    this.names = names;
    const held = document.activeElement?.closest(".pickers") ? document.activeElement.getAttribute("aria-label") : null;
    fill(this.element, names.map((name, index) => this.picker(name, index)));
    this.more.disabled = !this.another();
    if (held) this.element.querySelector(`[aria-label="${CSS.escape(held)}"]`)?.focus();
  }

  picker(name, index) {
    const isKnown = this.models.some((model) => model.id === name);
    const gone = isKnown ? null : h("option", { value: name, selected: true }, `${name} (${t("model.gone")})`);
    const group = (kind, models) => (models.length ? h("optgroup", { label: t(kind) }, models.map((model) => option(model, name))) : null);
    const [bases, adapters] = [this.models.filter((model) => !model.parent), this.models.filter((model) => model.parent)];
    const choose = (event) => this.choose(this.names.with(index, event.target.value));
    const select = h("select", { "aria-label": `${t("model")} ${index + 1}`, onchange: choose }, gone, group("model.base", bases), group("model.adapter", adapters));
    const remove = () => this.choose(this.names.filter((_, each) => each !== index));
    return h("span", { class: "picker" }, select, this.names.length > 1 ? iconButton("close", `${t("compare.remove")}: ${name}`, remove) : null);
  }

  add() {
    this.choose([...this.names, this.another().id]);
    if (this.more.disabled) this.element.querySelector(".picker:last-child select").focus(); // the button has lost the focus
  }

  /** One more model that could answer too: the base first, which adapters are compared with. */
  another() {
    if (this.names.length >= MOST) return undefined;
    const left = this.models.filter((model) => !this.names.includes(model.id) && model.state !== "broken");
    return left.find((model) => !model.parent) ?? left[0];
  }
}

function option({ id, state }, chosen) {
  const text = state === "ready" ? id : `${id} – ${t(`state.${state}`)}`;
  return h("option", { value: id, selected: id === chosen, disabled: state === "broken" }, text);
}
