/**
 * Elements, and the few controls that several parts need. Strings become text and attributes, never HTML.
 */

/** @typedef {string | number | boolean | null | undefined | ((event: any) => void)} Attribute */

/**
 * @param {Element} made
 * @param {Record<string, Attribute>} attributes
 */
function dress(made, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined) continue
    if (typeof value === 'function') made.addEventListener(name, value)
    else if (name === 'text') made.textContent = String(value)
    else if (typeof value !== 'boolean' || name.startsWith('aria-')) made.setAttribute(name, String(value))
    else made.toggleAttribute(name, value)
  }
}

/**
 * An element of HTML. Of the attributes, `text` is its text, functions listen to the event of that name
 * (`{click: () => …}`), true and false switch the attribute (those of aria are written out), null is left out.
 *
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, Attribute>} [attributes]
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag)
  dress(made, attributes)
  made.append(...children)
  return made
}

/**
 * The same for SVG.
 *
 * @template {keyof SVGElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, Attribute>} [attributes]
 * @param {...(Node | string)} children
 * @returns {SVGElementTagNameMap[T]}
 */
export function shape(tag, attributes = {}, ...children) {
  const made = document.createElementNS('http://www.w3.org/2000/svg', tag)
  dress(made, attributes)
  made.append(...children)
  return made
}

/**
 * A button; `words` may be an icon, which then needs `aria-label` and `title`.
 *
 * @param {string | Node} words
 * @param {(event: MouseEvent) => void} click
 * @param {Record<string, Attribute>} [attributes]
 */
export function button(words, click, attributes = {}) {
  return element('button', {type: 'button', ...attributes, click}, words)
}

/**
 * A row of choices of which one is pressed.
 *
 * @template T
 * @param {string} label  Of the group, for those who do not see it.
 * @param {{value: T, text: string, title?: string}[]} choices
 * @param {(value: T) => void} choose
 * @returns {{element: HTMLElement, show: (value: T) => void}}
 */
export function segments(label, choices, choose) {
  const buttons = choices.map(({value, text, title}) =>
    button(text, () => choose(value), {'aria-pressed': false, title}))
  return {
    element: element('div', {class: 'segments', role: 'group', 'aria-label': label}, ...buttons),
    show: value => buttons.forEach((one, i) => one.setAttribute('aria-pressed', String(choices[i].value === value))),
  }
}

/**
 * A slider with its label in front.
 *
 * @param {string} label
 * @param {{min: number, max: number, step: number, value: number}} range
 * @param {(value: number) => void} input
 * @returns {{element: HTMLElement, input: HTMLInputElement, show: (value: number, words?: string) => void}}
 */
export function slider(label, range, input) {
  /** @type {HTMLInputElement} */
  const made = element('input', {type: 'range', ...range, input: () => input(made.valueAsNumber)})
  return {
    element: element('label', {class: 'setting'}, element('span', {text: label}), made),
    input: made,
    show: (value, words) => {
      made.value = String(value)
      if (words !== undefined) made.setAttribute('aria-valuetext', words)
    },
  }
}

/**
 * A switch that is pressed or not.
 *
 * @param {string} words
 * @param {(on: boolean) => void} change
 * @param {Record<string, Attribute>} [attributes]
 * @returns {{element: HTMLButtonElement, show: (on: boolean) => void}}
 */
export function toggle(words, change, attributes = {}) {
  const made = button(words, () => change(made.getAttribute('aria-pressed') !== 'true'),
    {class: 'chip', 'aria-pressed': false, ...attributes})
  return {element: made, show: on => made.setAttribute('aria-pressed', String(on))}
}
