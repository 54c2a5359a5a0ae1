/**
 * The stage of pictures: the picture that the model saw, the map over it, the start, and the gestures that move it.
 */
import {aspectOf, drawHeat, drawnTokens, pictureOf, sharpen, shown} from './heat.js'
import {element} from './elements.js'
import {evenly, percent, tokenName, whole} from './say.js'

/** @typedef {import('./types.js').View} View */

/** What changes the map or its colours; all else changes the marks alone. @type {import('./types.js').Change[]} */
const CHANGING = ['sheet', 'walk', 'frame', 'size']
/** @type {readonly string[]} */
export const LOOKS = ['scale', 'opacity', 'smooth', 'hide', 'colours']

const ARROWS = /** @type {Record<string, [number, number]>} */ ({
  ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]})

/**
 * Where an arrow key leads, in columns and rows; null for other keys and with modifiers that browsers use.
 * @param {KeyboardEvent} event
 */
export function arrowOf(event) {
  return event.ctrlKey || event.metaKey || event.altKey ? null : ARROWS[event.key] ?? null
}

/**
 * What has to be said of a map beside its colours, in one line; empty where nothing has to be.
 * @param {View} view
 * @param {import('./heat.js').Shown | null} of  What is drawn; see `shown`.
 * @param {import('./heat.js').Scale | null} scale  Of it.
 */
export function caution({frame}, of, scale) {
  if (!of || !scale) return ''
  if (of.frame < frame) return `n = ${of.frame} for now: more bounces are being computed`
  if (!scale.weak) return ''
  if (!of.frame) return 'the start is not a patch: before the first bounce, no patch holds anything'
  return `nothing stands out here: the largest patch has ${evenly(scale.largest, scale.kept)} the even share`
}

/**
 * @param {View} view
 * @returns {import('./types.js').Part}
 */
export function picture(view) {
  const canvas = element('canvas', {tabindex: 0, role: 'img', 'aria-describedby': 'sentence', keydown: press,
    pointerdown: down, pointermove: move, pointerup: up, pointercancel: end, pointerleave: () => view.look(null)})
  const note = element('p', {class: 'caution'}), hint = element('p')
  const stage = element('div', {class: 'picture'}, canvas, hint, note)
  /** The map over the picture without marks: a hover does not draw it again. */
  const under = new OffscreenCanvas(1, 1)
  const watcher = new ResizeObserver(() => { if (!stage.hidden) draw() })
  watcher.observe(canvas)
  /** @type {import('./heat.js').Pictured | null} */
  let pictured = null
  /** @type {import('./heat.js').Scale | null} */
  let scale = null
  /** @type {number | null} */
  let last = null // the token that a gesture under way answered last
  /** @type {PointerEvent | null} */
  let touch = null // one that may still become a scroll of the page: it is a drag when it goes sideways, a tap when it ends

  let started = false // then the first hint is known

  const grid = () => view.sheet.grid ?? {rows: 1, columns: view.sheet.count}

  /** @param {MouseEvent} event */
  function tokenAt({clientX, clientY}) {
    const {rows, columns} = grid(), {left, top, width, height} = canvas.getBoundingClientRect()
    const x = Math.max(0, Math.min(columns - 1, Math.floor((clientX - left) / width * columns)))
    const y = Math.max(0, Math.min(rows - 1, Math.floor((clientY - top) / height * rows)))
    return drawnTokens(view.sheet)[y * columns + x]
  }

  /** @param {number} token @param {boolean} [toggle] */
  function go(token, toggle) {
    const {starts} = view.state, others = starts.filter(start => start !== token)
    started = true
    last = token
    if (!toggle) view.set({starts: [token]})
    else if (others.length) view.set({starts: others.length < starts.length ? others : [...starts, token]})
    else view.set({starts: [token]})
  }

  /** @param {PointerEvent} event */
  function down(event) {
    if (event.button) return
    touch = event.pointerType === 'touch' ? event : null
    if (touch) return
    canvas.focus({preventScroll: true})
    canvas.setPointerCapture(event.pointerId)
    go(tokenAt(event), event.shiftKey)
  }

  /** @param {PointerEvent} event */
  function move(event) {
    const token = tokenAt(event), dragged = touch !== null || (last !== null && event.buttons && token !== last)
    if (touch && Math.abs(event.clientX - touch.clientX) <= Math.abs(event.clientY - touch.clientY)) return
    touch = null
    if (dragged && !(event.shiftKey && view.state.starts.includes(token))) go(token, event.shiftKey)
    if (event.pointerType !== 'touch') view.look(token)
  }

  /** @param {PointerEvent} event */
  function up(event) {
    if (touch) go(tokenAt(event))
    end()
  }

  function end() {
    touch = null
    last = null
  }

  /** @param {KeyboardEvent} event */
  function press(event) {
    const {rows, columns} = grid(), tokens = drawnTokens(view.sheet), arrow = arrowOf(event), {starts} = view.state
    if (!arrow && event.key !== 'Home') return
    event.preventDefault()
    event.stopPropagation()
    const k = tokens.indexOf(starts[starts.length - 1])
    if (!arrow || k < 0) return go(view.sheet.start)
    const x = k % columns + arrow[0], y = Math.floor(k / columns) + arrow[1]
    if (x >= 0 && x < columns && y >= 0 && y < rows) go(tokens[y * columns + x], event.shiftKey)
  }

  function draw() {
    sharpen(canvas)
    if (under.width !== canvas.width || under.height !== canvas.height) {
      Object.assign(under, {width: canvas.width, height: canvas.height})
    }
    const of = shown(view)
    scale = drawHeat(view, under, pictured, of)
    note.textContent = caution(view, of, scale)
    note.hidden = !note.textContent
    mark()
  }

  /** The map, and over it the starts, the token under the pointer, and then the grid. */
  function mark() {
    const context = canvas.getContext('2d'), {rows, columns} = grid(), tokens = drawnTokens(view.sheet)
    const {width, height} = canvas, fine = width / canvas.clientWidth, w = width / columns, h = height / rows
    if (!context || !width) return
    context.clearRect(0, 0, width, height)
    context.drawImage(under, 0, 0)
    if (view.hover !== null && w >= 8 * fine) {
      context.fillStyle = '#ffffff16'
      for (let x = 1; x < columns; x++) context.fillRect(Math.round(x * w), 0, fine, height)
      for (let y = 1; y < rows; y++) context.fillRect(0, Math.round(y * h), width, fine)
    }
    /** @param {number} token @param {number} line @param {string} colour */
    const frame = (token, line, colour) => {
      const k = tokens.indexOf(token), edge = line / 2 * fine, x = k % columns * w, y = Math.floor(k / columns) * h
      const left = Math.max(edge, x), top = Math.max(edge, y) // whole at the border, too
      if (k < 0) return
      for (const [wide, style] of [[line + 2.5, '#000c'], [line, colour]]) {
        Object.assign(context, {lineWidth: Number(wide) * fine, strokeStyle: style})
        context.strokeRect(left, top, Math.min(width - edge, x + w) - left, Math.min(height - edge, y + h) - top)
      }
    }
    frame(view.hover ?? -1, 1.5, '#fff')
    for (const start of view.state.starts) frame(start, 2.5, '#6fe3ff')
    tell()
  }

  /** What the token under the pointer holds, on the side of the picture where it is not; at first what one can do. */
  function tell() {
    const {hover, sheet} = view, map = shown(view)?.map
    if (!map || hover === null) hint.textContent = 'Click or drag: where does attention go?'
    else {
      const rank = map.reduce((above, share) => above + Number(share > map[hover]), 1), kept = scale?.kept ?? sheet.count
      hint.textContent = `${tokenName(sheet, hover)}: ${percent(map[hover])}, ${evenly(map[hover], kept)} even, ` +
        `rank ${whole(rank)} of ${whole(kept)}`
    }
    hint.hidden = started && (!map || hover === null)
    hint.classList.toggle('up', hover !== null && drawnTokens(sheet).indexOf(hover) >= 0.75 * grid().rows * grid().columns)
  }

  /** @type {import('./types.js').Part['update']} */
  function update(changed, keys) {
    const {sheet} = view, {rows, columns} = grid()
    stage.hidden = !sheet.grid
    if (changed.has('sheet')) {
      stage.style.setProperty('--aspect', aspectOf(sheet))
      canvas.setAttribute('aria-label',
        `${sheet.name}: ${rows} rows of ${columns} patches. Arrow keys move the start, with shift they add one, Home goes back`)
      pictured = null
      pictureOf(view).then(found => {
        if (view.sheet !== sheet) return
        pictured = found
        draw()
      })
    }
    if (stage.hidden) return
    if (CHANGING.some(change => changed.has(change)) || LOOKS.some(key => keys.has(key))) draw()
    else mark()
  }
  return {element: stage, update, remove: () => watcher.disconnect()}
}
