/**
 * The view for elsewhere: PNG, SVG, numbers, a link, and the lines of Python that make it again.
 */
import {button, element} from './elements.js'
import {shown} from './heat.js'
import {drawn} from './passage.js'
import {tokenName} from './say.js'
import {snippet} from './snippet.js'
import {drawing} from './svg.js'

/** @typedef {import('./types.js').View} View */

/** Most pixels of a side that browsers draw. */
const SIDE = 16000

/**
 * A name for a file, of letters, digits, - and _ alone.
 * @param {View} view
 */
function fileName({index, layer, state}) {
  const plain = index.title.replace(/\.\w{1,5}$/, '').replace(/[^\p{L}\p{M}\p{N}_]+/gu, '-')
  const n = state.bounces > index.bounces ? 'tokenrank' : `n${state.bounces}`
  return `${plain.slice(0, 60).replace(/^-+|-+$/g, '') || 'tokenrank'}-layer${layer.number}-${n}`
}

/**
 * The map on screen as the lines of a table: token, name, probability.
 * @param {View} view
 */
function numbersAsTable(view) {
  const map = shown(view)?.map ?? []
  /** In quotes, and no formula to those who calculate. @param {string} name */
  const cell = name => `"${drawn(name).replaceAll('"', '""').replace(/^[=+\-@]/, "'$&")}"`
  return Array.from(map, (p, token) => `${token},${cell(tokenName(view.sheet, token))},${p}\n`)
}

/** @param {SVGSVGElement} svg */
const written = svg => new Blob([new XMLSerializer().serializeToString(svg)], {type: 'image/svg+xml'})

/**
 * A drawing as pixels, twice as many as it has units.
 * @param {SVGSVGElement} svg
 * @returns {Promise<Blob>}
 */
export async function pixels(svg) {
  const width = svg.width.baseVal.value, height = svg.height.baseVal.value
  const scale = Math.min(2, SIDE / Math.max(width, height))
  const address = URL.createObjectURL(written(svg)), image = new Image(), canvas = element('canvas')
  try {
    image.src = address
    await image.decode()
    canvas.width = Math.round(width * scale)
    canvas.height = Math.round(height * scale)
    canvas.getContext('2d')?.drawImage(image, 0, 0, canvas.width, canvas.height)
    return await new Promise((resolve, reject) => canvas.toBlob(blob =>
      blob ? resolve(blob) : reject(new Error('the browser made no PNG'))))
  } finally {
    URL.revokeObjectURL(address)
  }
}

/** @param {Blob} blob @param {string} name */
function save(blob, name) {
  const href = URL.createObjectURL(blob)
  element('a', {href, download: name}).click()
  setTimeout(() => URL.revokeObjectURL(href), 60000)
}

/**
 * @param {View} view
 * @returns {import('./types.js').Part}
 */
export function exporting(view) {
  const box = element('textarea', {class: 'snippet', readonly: true, spellcheck: 'false', hidden: true, wrap: 'off',
    'aria-label': 'Lines to copy'})
  const told = element('p', {class: 'note', role: 'status'})

  /** @param {string} words @param {() => Promise<void>} make @param {Record<string, string>} [more] */
  const act = (words, make, more) => button(words, () => make().catch(error => {
    told.textContent = `${words} failed: ${String(error)}`
  }), more)

  /** Copies a text, or shows it selected where copying is forbidden. @param {string} text @param {boolean} keep */
  async function copy(text, keep) {
    box.value = text
    box.rows = Math.min(12, text.split('\n').length + 1)
    box.hidden = false
    box.focus()
    box.select()
    try {
      await navigator.clipboard.writeText(text)
      told.textContent = 'Copied.'
      box.hidden = !keep
    } catch {
      told.textContent = 'This page may not copy by itself: what is selected is copied by Ctrl or ⌘ and C.'
    }
  }

  const python = act('Copy as Python', () => copy(snippet(view), true))
  const link = act('Copy link', () => copy(location.href, false), {title: 'This view as an address'})
  const whole = element('div', {class: 'exporting'}, element('div', {class: 'row'},
    act('PNG', async () => save(await pixels(await drawing(view)), `${fileName(view)}.png`)),
    act('SVG', async () => save(written(await drawing(view)), `${fileName(view)}.svg`)),
    act('Numbers', async () => save(new Blob(['\ufefftoken,name,probability\n', ...numbersAsTable(view)],
      {type: 'text/csv'}), `${fileName(view)}.csv`), {title: 'Token, name, probability as CSV'}),
    python, link), box, told)
  return {
    element: whole,
    update(changed) {
      python.disabled = view.sheet.steps.some(({timestep}) => timestep !== null)
      python.title = python.disabled ? 'Not for denoisers, whose steps and joint attention are more than such lines say'
        : 'Lines that make this map with the library'
      // the link of a view is in the address where the host keeps it there
      link.hidden = location.hash.length < 2
      if (changed.has('state')) box.hidden = true
    },
  }
}
