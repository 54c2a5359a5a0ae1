/**
 * Sets of tokens told apart by colour: as cells over the picture, or as lines under the words of a text.
 */
import {element} from './elements.js'
import {aspectOf, drawnTokens, pictureOf} from './heat.js'
import {drawn} from './passage.js'
import {tokenName} from './say.js'

/** @typedef {import('./types.js').View} View */

/** Okabe and Ito's, one more, as tasks/palette.py has them; more than eight begin again. */
export const HUES = ['#56b4e9', '#d55e00', '#f0e442', '#0072b2', '#e69f00', '#009e73', '#cc79a7', '#881122']

/** Pixels of the picture's longer side. */
const LONGER = 720

/** @typedef {{element: HTMLElement, only: (set: number | null) => void}} Partition  `only` shows one set, null all. */

/**
 * @param {View} view
 * @param {number[][]} sets
 * @param {string} words  What is seen, for those who do not see it.
 * @returns {Partition}
 */
export function partition(view, sets, words) {
  /** @type {Map<number, number>} */
  const of = new Map(sets.flatMap((tokens, set) => tokens.map(token => /** @type {[number, number]} */ ([token, set]))))
  return view.sheet.grid ? cells(view, of, words) : lines(view, of)
}

/**
 * @param {View} view
 * @param {Map<number, number>} of
 * @param {string} words
 * @returns {Partition}
 */
function cells(view, of, words) {
  const {sheet} = view, {rows, columns} = sheet.grid ?? {rows: 1, columns: 1}, tokens = drawnTokens(sheet)
  const {width, height} = sheet.picture ?? {width: Number(aspectOf(sheet)), height: 1}, scale = LONGER / Math.max(width, height)
  const canvas = element('canvas', {class: 'partition', role: 'img', 'aria-label': words,
    width: Math.round(width * scale), height: Math.round(height * scale)})
  const context = canvas.getContext('2d'), w = canvas.width / columns, h = canvas.height / rows
  /** @type {OffscreenCanvas | null} */
  let grey = null
  /** @type {number | null} */
  let one = null

  function draw() {
    if (!context) return
    context.globalAlpha = 1
    context.clearRect(0, 0, canvas.width, canvas.height)
    if (grey) context.drawImage(grey, 0, 0, canvas.width, canvas.height)
    context.globalAlpha = grey ? 0.55 : 1
    tokens.forEach((token, k) => {
      const set = of.get(token)
      if (set === undefined || (one !== null && set !== one)) return
      context.fillStyle = HUES[set % HUES.length]
      const x = Math.round(k % columns * w), y = Math.round(Math.floor(k / columns) * h)
      context.fillRect(x, y, Math.round((k % columns + 1) * w) - x, Math.round((Math.floor(k / columns) + 1) * h) - y)
    })
  }

  pictureOf(view).then(found => {
    grey = found?.grey ?? null
    draw()
  })
  draw()
  return {element: canvas, only: set => { one = set; draw() }}
}

/**
 * Neighbours of one set are one piece of text, so that a long text stays light.
 * @param {View} view
 * @param {Map<number, number>} of
 * @returns {Partition}
 */
function lines(view, of) {
  const {sheet} = view
  /** @type {{set: number | undefined, text: string}[]} */
  const pieces = []
  for (let token = 0; token < sheet.count; token++) {
    const known = sheet.tokens?.[token], set = of.get(token), last = pieces[pieces.length - 1]
    const text = known ? (known.space ? ' ' : '') + drawn(known.text) : ` ${tokenName(sheet, token)}`
    if (last && last.set === set) last.text += text
    else pieces.push({set, text: last ? text : text.trimStart()})
  }
  const spans = pieces.map(({set, text}) => {
    const span = element('span', {text})
    if (set !== undefined) span.style.borderBottomColor = HUES[set % HUES.length]
    return span
  })
  const flow = element('p', {class: 'partition', dir: 'auto', tabindex: 0, role: 'region', 'aria-label': 'Text by groups'},
    ...spans)
  return {
    element: flow,
    only: one => spans.forEach((span, i) => span.classList.toggle('faint', one !== null && pieces[i].set !== one)),
  }
}
