/**
 * The board of heads: TokenRank of every head of every layer as a small picture (a text: a strip of its tokens), with
 * |λ2|. Layers side by side, or below each other where there is little room; then those next to the current one.
 */
import {WEAK, aspectOf, cellImage, palette} from './heat.js'
import {absence} from './chosen.js'
import {arrowOf} from './picture.js'
import {GRADES, gradesOf, paperOf} from './ink.js'
import {button, element, segments, toggle} from './elements.js'
import {atMost} from './say.js'

/** @typedef {import('./types.js').Layer} Layer */

/** Cells of the strip of a text; more tokens share one, which shows the largest. */
const STRIP = 48
/** Narrower than this, the board turns, as in board.css. */
const NARROW = 480

/**
 * |λ2| and what is known of it: "layer 8, head 3: |λ2| 0.9132, proved to within 2e-7; entropy 5.3 bits".
 * @param {Layer} layer
 * @param {number} head
 */
export function headTitle({number, heads}, head) {
  const {lambda2, certificate, bound, entropy} = heads[head]
  const within = bound === null || certificate === 'uncertain' ? '' : ` to within ${atMost(bound)}`
  return `layer ${number}, head ${head}: |λ2| ${lambda2.toFixed(4)}, ${certificate}${within}; entropy ${entropy.toFixed(1)} bits`
}

/**
 * A thumbnail as shares for `cellImage`, and whether it surely is weak: the cells hold at most everything, so the
 * largest holds at most 1 / Σ (p / largest).
 *
 * @param {Uint8Array} values  √(p / largest) · 255.
 * @param {number} count  Tokens.
 * @param {number} cells  Of the image; fewer than values: each shows the largest of its own.
 */
export function thumbnail(values, count, cells) {
  const shares = new Float32Array(cells)
  let sum = 0
  values.forEach((value, i) => {
    const place = Math.floor(i * cells / values.length)
    shares[place] = Math.max(shares[place], value / 255)
    sum += (value / 255) ** 2
  })
  return {shares, weak: count < WEAK * sum}
}

/**
 * The strip of a text, in the colours behind its words: on light paper, too, what stands out there stands out here.
 * @param {Float32Array} shares
 * @param {ReturnType<typeof gradesOf>} grades
 */
function stripImage(shares, grades) {
  const image = new ImageData(shares.length, 1)
  shares.forEach((share, i) => image.data.set([...grades[Math.round((GRADES - 1) * share)].back, 255], 4 * i))
  return image
}

/**
 * @param {import('./types.js').View} view
 * @returns {import('./types.js').Part}
 */
export function board(view) {
  const layers = element('select', {'aria-label': 'Layer', change: () => view.set({layer: Number(layers.value)})})
  /** @type {{value: import('./types.js').State['head'], text: string, title: string}[]} */
  const means = [
    {value: 'lambda2', text: 'by |λ2|', title: 'All heads, the slower the more: weighted by |λ2|'},
    {value: 'uniform', text: 'equally', title: 'The mean of all heads'}]
  const combined = segments('All heads', means, head => view.set({head}))
  const every = toggle('all layers', on => {
    every.show(on)
    grid.classList.toggle('every', on)
  })
  every.element.classList.add('turned')
  const grid = element('div', {class: 'heads', role: 'grid', 'aria-label': 'TokenRank and |λ2| of every head, a layer a row', keydown: press})
  const missing = element('p', {class: 'notice', role: 'status'})
  const whole = element('div', {class: 'board'},
    element('div', {class: 'row'}, element('h2', {text: 'Heads: TokenRank, |λ2|'}), layers, combined.element, every.element), grid, missing)
  /** @type {{layer: Layer, head: number, made: HTMLButtonElement, canvas: HTMLCanvasElement}[]} */
  let cells = []
  const themes = new MutationObserver(() => { if (!view.sheet.grid) paint() })
  themes.observe(view.host, {attributeFilter: ['data-theme']})

  /** @param {Layer} layer @param {number} head */
  function choose(layer, head) {
    const absent = absence(view.index, layer, head)
    missing.hidden = !absent
    if (absent) missing.replaceChildren(absent.words, ' ', element('code', {text: absent.command ?? ''}))
    else view.set({layer: layer.number, head})
  }

  function build() {
    const {sheet, index} = view, most = Math.max(...view.layers.map(({heads}) => heads.length))
    grid.style.setProperty('--heads', String(most))
    grid.style.setProperty('--aspect', aspectOf(sheet))
    grid.classList.toggle('strips', !sheet.grid)
    cells = view.layers.flatMap(layer => layer.heads.map(({lambda2, certificate}, head) => {
      const canvas = element('canvas', {'aria-hidden': true}), absent = absence(index, layer, head)
      const title = headTitle(layer, head) + (absent ? '; thumbnail only' : '')
      const made = button(canvas, () => choose(layer, head), {role: 'gridcell', title, 'aria-label': title,
        class: [absent ? 'absent' : '', lambda2 >= 0.95 ? 'slow' : ''].join(' '),
        'data-short': lambda2.toFixed(2).replace(/^0/, '') + (certificate === 'uncertain' ? '?' : '')})
      return {layer, head, made, canvas}
    }))
    grid.replaceChildren(...view.layers.map(layer => element('div', {role: 'row'},
      element('span', {role: 'rowheader', text: layer.number, title: layer.name}),
      ...cells.filter(cell => cell.layer === layer).map(({made}) => made),
      ...Array.from({length: most - layer.heads.length}, () => element('span', {role: 'gridcell'})))))
    layers.replaceChildren(...view.layers.map(({number, stored}) =>
      element('option', {value: number, text: `layer ${number}${stored ? '' : ', thumbnail'}`, disabled: !stored})))
    every.element.hidden = view.layers.length < 4
  }

  function paint() {
    const {sheet, state} = view
    for (const {layer, head, canvas} of cells) {
      if (!layer.thumbs) continue
      view.bytes(layer.thumbs).then(bytes => {
        const length = bytes.length / layer.heads.length, columns = sheet.grid?.columns ?? Math.min(length, STRIP)
        const {shares, weak} = thumbnail(bytes.subarray(head * length, (head + 1) * length), sheet.count, sheet.grid ? length : columns)
        const colours = weak ? 'greys' : state.colours
        const image = sheet.grid ? cellImage(shares, columns, palette(colours)) : stripImage(shares, gradesOf(colours, paperOf(view)))
        Object.assign(canvas, {width: image.width, height: image.height})
        canvas.getContext('2d')?.putImageData(image, 0, 0)
      }).catch(() => {}) // a notice says that it is missing
    }
  }

  function select() {
    const {layer, state} = view, at = view.layers.indexOf(layer), mine = cells.filter(cell => cell.layer === layer)
    const current = mine.find(({head}) => head === state.head), shown = (current ?? mine[0])?.made
    for (const cell of cells) {
      cell.made.setAttribute('aria-selected', String(cell === current))
      cell.made.tabIndex = cell.made === shown ? 0 : -1
    }
    view.layers.forEach((one, i) => { grid.children[i].className = i === at ? 'current' : Math.abs(i - at) > 1 ? 'far' : '' })
    layers.value = String(state.layer)
    combined.show(state.head)
    missing.hidden = true
    // into sight, without moving the page
    if (shown) grid.scrollLeft = Math.min(Math.max(grid.scrollLeft, shown.offsetLeft + shown.offsetWidth - grid.clientWidth), shown.offsetLeft)
  }

  /** @param {KeyboardEvent} event */
  function press(event) {
    const arrow = arrowOf(event), at = cells.find(({made}) => made === event.target)
    if (!arrow || !at) return
    event.preventDefault()
    event.stopPropagation()
    const [byHead, byLayer] = whole.clientWidth > NARROW ? [arrow[1], arrow[0]] : arrow
    const layer = view.layers[view.layers.indexOf(at.layer) + byLayer]
    const next = cells.find(cell => cell.layer === layer && cell.head === at.head + byHead)
    if (!next) return
    at.made.tabIndex = -1
    next.made.tabIndex = 0
    next.made.focus()
  }

  /** @type {import('./types.js').Part['update']} */
  const update = (changed, keys) => {
    const other = changed.has('sheet') || keys.has('step')
    if (other) build()
    if (other || keys.has('colours')) paint()
    if (other || changed.has('state')) select()
  }
  return {element: whole, update, remove: () => themes.disconnect()}
}
