/**
 * The stage as a drawing of its own: picture, cells and starts, or the words of a text where the page has them, with
 * lines below that say what it is.
 */
import {shape} from './elements.js'
import {aspectOf, drawHeat, drawnTokens, shown} from './heat.js'
import {atMost, bouncesName, headsName, startsName, whole} from './say.js'
import {gradesOf, paperOf} from './ink.js'
import {goneOf, heatOf, passageOf} from './words.js'

/** @typedef {import('./types.js').View} View */
/** @typedef {{marks: SVGElement[], width: number, height: number, note?: string}} Stage */

const WIDTH = 640
/** Units of a text that is drawn whole; of a longer one what is on screen. */
const UNITS = 1024
const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif'
/** Letters of Arabic script that join their neighbours. */
const JOINING = /[\u0620-\u074a]/

/**
 * What a view shows, in lines: source and model, layer and heads, the walk, the error of what is stored.
 * @param {View} view
 * @returns {string[]}
 */
function captionOf(view) {
  const {index, sheet, layer, state} = view, {stored} = layer, gone = goneOf(view).length
  const out = gone ? `, without ${whole(gone)} ${state.without === 'sinks' ? 'sinks' : 'special tokens'}` : ''
  const from = state.bounces > index.bounces ? '' : `, from ${startsName(sheet, state.starts)}`
  const error = stored ? `; stored as ${stored.type}, probabilities off by at most ${atMost(stored.errors.entry)}` : ''
  return [
    [...new Set([index.title, sheet.name, index.model])].filter(Boolean).join(' · '),
    `${layer.name}, ${headsName(state.head)}${out}`,
    `${bouncesName(state.bounces, index.bounces)}, ${state.direction}, α ${state.alpha}${from}`,
    `${index.generator}${error}`,
  ]
}

/**
 * A rectangle.
 * @param {number} x @param {number} y @param {number} width @param {number} height
 * @param {Record<string, string | number | undefined>} look
 */
function rect(x, y, width, height, look) {
  const [left, top, wide, tall] = [x, y, width, height].map(value => +value.toFixed(2))
  return shape('rect', {x: left, y: top, width: wide, height: tall, ...look})
}

/**
 * The picture in colour and by reference in grey, the map a pixel a cell, the starts.
 * @param {View} view
 * @returns {Promise<Stage>}
 */
async function pictureStage(view) {
  const {sheet, state} = view, grid = /** @type {import('./types.js').Grid} */ (sheet.grid), about = sheet.picture
  const height = Math.round(WIDTH / Number(aspectOf(sheet)))
  const box = {width: WIDTH, height, preserveAspectRatio: 'none'}
  /** @type {SVGElement[]} */
  const marks = []
  if (about) {
    const letters = Array.from(await view.bytes(about.bytes), byte => String.fromCharCode(byte))
    marks.push(
      shape('filter', {id: 'grey', 'color-interpolation-filters': 'sRGB'},
        shape('feColorMatrix', {type: 'saturate', values: 0})),
      shape('image', {id: 'seen', href: `data:${about.mime};base64,${btoa(letters.join(''))}`, ...box}),
      shape('use', {href: '#seen', filter: 'url(#grey)', opacity: Math.min(1, 2 * state.opacity)}))
  }
  const canvas = document.createElement('canvas'), fine = state.smooth ? 8 : 1
  canvas.width = grid.columns * fine
  canvas.height = grid.rows * fine
  drawHeat(view, canvas, null, shown(view))
  marks.push(shape('image', {href: canvas.toDataURL(), ...box, 'image-rendering': fine > 1 ? 'auto' : 'pixelated'}))
  const w = WIDTH / grid.columns, h = height / grid.rows
  for (const start of state.starts) {
    const k = drawnTokens(sheet).indexOf(start), x = k % grid.columns * w, y = Math.floor(k / grid.columns) * h
    for (const [stroke, width] of k < 0 ? [] : [['#000', 5], ['#6fe3ff', 2.5]]) {
      marks.push(rect(x, y, w, h, {fill: 'none', stroke, 'stroke-width': width}))
    }
  }
  return {marks, width: WIDTH, height}
}

/** The letters of a span that goes over several lines, line by line. @param {HTMLElement} span */
function perLine(span) {
  const node = /** @type {Text} */ (span.firstChild), range = document.createRange(), lines = ['']
  let above = NaN
  for (let i = 0; i < node.length; i++) {
    range.setStart(node, i)
    range.setEnd(node, i + 1)
    const {top, width} = range.getBoundingClientRect()
    if (width && top > above + 4) lines.push('')
    if (width) above = top
    lines[lines.length - 1] += node.data[i]
  }
  return lines
}

/**
 * Words where the page has them, each a text with its heat behind it.
 * @param {View} view
 * @param {Record<'paper' | 'ink' | 'quiet' | 'start', string>} tints
 * @returns {Stage}
 */
function textStage(view, tints) {
  const {units, spans, sight} = passageOf(view), of = shown(view), heat = of && heatOf(view, of.map, of.frame)
  const grades = gradesOf(heat?.weak ? 'greys' : view.state.colours, tints.paper)
  const [from, to] = units.length > UNITS ? sight : [0, units.length]
  const left = spans[0].closest('.flow')?.getBoundingClientRect()
  const started = new Set(view.state.starts), gone = new Set(goneOf(view))
  const above = spans[from].getBoundingClientRect().top - 8, pen = document.createElement('canvas').getContext('2d')
  /** @type {SVGElement[]} */
  const marks = [shape('pattern',
    {id: 'hatch', width: 6, height: 6, patternUnits: 'userSpaceOnUse', patternTransform: 'rotate(45)'},
    shape('rect', {width: 2, height: 6, fill: '#888', 'fill-opacity': 0.55}))]
  let height = 0
  for (let i = from; i < to; i++) {
    const unit = units[i], rx = unit.special ? 9 : 3, pad = unit.special ? 6 : 0, dropped = gone.has(unit.first)
    const grade = dropped ? 0 : heat?.grades[i] ?? 0, style = getComputedStyle(spans[i])
    const boxes = [...spans[i].getClientRects()]
    const rtl = spans[i].parentElement?.dir === 'rtl' && !unit.special
    /** @param {number} at @param {number} side */
    const joins = (at, side) => JOINING.test(units[at]?.text.at(side) ?? '')
    const before = !unit.space && joins(i - 1, -1) && joins(i, 0) ? '\u200d' : ''
    const behind = !units[i + 1]?.space && joins(i, -1) && joins(i + 1, 0) ? '\u200d' : ''
    // brackets turn with the direction of their line, which a text of its own does not know
    const turn = rtl && !/\p{L}|\p{N}/u.test(unit.text) ? '\u200f' : ''
    const lines = boxes.length > 1 ? perLine(spans[i]) : [unit.text]
    if (pen) pen.font = `${style.fontSize} ${style.fontFamily}`
    boxes.forEach((box, k) => {
      const x = box.left - (left?.left ?? 0), y = box.top - above
      height = Math.max(height, y + box.height)
      /** @param {unknown} on @param {Record<string, string | number>} look */
      const behindIt = (on, look) => on && marks.push(rect(x, y, box.width, box.height, {rx, ...look}))
      behindIt(grade, {fill: `rgb(${grades[grade].back})`})
      behindIt(heat?.over(i), {fill: 'url(#hatch)'})
      behindIt(unit.special, {fill: 'none', stroke: tints.quiet})
      behindIt(started.has(unit.first), {fill: 'none', stroke: tints.start, 'stroke-width': 2})
      marks.push(shape('text', {
        x: +(rtl ? x + box.width - pad : x + pad).toFixed(2),
        y: +(y + 2 + (pen?.measureText('x').fontBoundingBoxAscent ?? 14)).toFixed(2),
        direction: rtl ? 'rtl' : 'ltr', 'font-size': style.fontSize, 'text-decoration': dropped ? 'line-through' : null,
        fill: dropped ? tints.quiet : grades[grade].letters ?? tints.ink,
        textLength: +(box.width - 2 * pad).toFixed(2), lengthAdjust: 'spacingAndGlyphs',
        text: (k ? '' : before) + turn + (lines[k] ?? '') + turn + (k === lines.length - 1 ? behind : '')}))
    })
  }
  const note = to - from < units.length ? `${whole(from + 1)} to ${whole(to)} of ${whole(units.length)} words` : ''
  return {marks, width: Math.round(left?.width ?? WIDTH), height: Math.round(height) + 8, note}
}

/**
 * Lines no wider than some pixels, broken at spaces.
 * @param {string[]} lines
 * @param {number} width
 * @param {(text: string) => number} measure
 */
export function broken(lines, width, measure) {
  return lines.flatMap(line => line.split(' ').reduce((/** @type {string[]} */ rows, word) => {
    const longer = `${rows.at(-1)} ${word}`
    if (rows.length && measure(longer) <= width) rows[rows.length - 1] = longer
    else rows.push(word)
    return rows
  }, []))
}

/**
 * The view as a drawing, in the colours of the page.
 * @param {View} view
 * @returns {Promise<SVGSVGElement>}
 */
export async function drawing(view) {
  const style = getComputedStyle(view.host), [ink, quiet, start] = ['--ink', '--quiet', '--start'].map(name =>
    style.getPropertyValue(name).trim())
  const paper = paperOf(view)
  const made = view.sheet.grid ? await pictureStage(view) : textStage(view, {paper, ink, quiet, start})
  const {marks, width, height, note} = made, pen = document.createElement('canvas').getContext('2d')
  if (pen) pen.font = `13px ${FONT}`
  const words = [...note ? [note] : [], ...captionOf(view)]
  const lines = broken(words, width - 24, text => pen?.measureText(text).width ?? 0)
  const tall = height + 20 * lines.length + 20
  return shape('svg', {width, height: tall, viewBox: `0 0 ${width} ${tall}`, 'font-family': FONT},
    shape('title', {text: words.join('. ')}), rect(0, 0, width, tall, {fill: paper}), ...marks,
    ...lines.map((text, i) => shape('text',
      {x: 12, y: height + 26 + 20 * i, 'font-size': 13, fill: i ? quiet : ink, text})))
}
