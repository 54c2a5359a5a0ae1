/**
 * Play, the slider of bounces, and above it on the same axis how far the walk still is from TokenRank.
 */
import {button, element, shape} from './elements.js'
import {bouncesName} from './say.js'

/** @typedef {import('./types.js').View} View */

/** Ticks that are always written out; the others where there is room. */
const TICKS = [0, 1, 2, 4, 8, 12, 16]
const PLAY = 'M8 5v14l11-7z', PAUSE = 'M7 5h4v14H7zM13 5h4v14h-4z'
/** Height of the curve in pixels. */
const RISE = 44

/**
 * The distance from TokenRank at a frame, total variation: half the sum of absolute differences; null where not known.
 * @param {View} view
 */
export function distanceAt({walk, frame}) {
  if (!walk?.distance) return null
  const known = [...walk.distance, 0], low = Math.min(known.length - 1, Math.floor(frame)) // 0 at ∞: the same α for both
  return known[low] + (frame - low) * ((known[low + 1] ?? 0) - known[low])
}

/**
 * @param {View} view
 * @returns {import('./types.js').Part}
 */
export function bounces(view) {
  const end = view.index.bounces + 1, icon = shape('path')
  const play = button(shape('svg', {viewBox: '0 0 24 24', 'aria-hidden': true}, icon), () => view.play(), {class: 'play'})
  const line = shape('path', {class: 'line'}), area = shape('path', {class: 'area'})
  const point = element('i'), value = element('span')
  /** @type {HTMLInputElement} */
  const input = element('input', {type: 'range', min: 0, max: end, step: 1, 'aria-label': 'Number of bounces',
    input: () => view.set({bounces: input.valueAsNumber})})
  const ticks = Array.from({length: end + 1}, (_, n) => {
    const tick = element('span', {class: n === end || TICKS.includes(n) ? null : 'spare', text: n === end ? '∞' : n})
    tick.style.left = `${100 * n / end}%`
    return tick
  })
  const curve = element('div', {class: 'curve', 'aria-hidden': true},
    shape('svg', {viewBox: `0 0 ${end} ${RISE}`, preserveAspectRatio: 'none'}, area, line), point, value)
  const whole = element('div', {class: 'walk'}, play,
    element('div', {}, curve, input, element('div', {class: 'ticks', 'aria-hidden': true}, ...ticks)))

  /** @param {Set<import('./types.js').Change>} changed */
  const update = changed => {
    const {frame, playing, walk} = view, d = distanceAt(view), height = RISE * (1 - Math.min(1, d ?? 0))
    if (changed.has('walk') || changed.has('sheet')) {
      const points = walk?.distance ? [...walk.distance, 0].map((y, n) => `${n} ${(RISE * (1 - Math.min(1, y))).toFixed(2)}`) : []
      line.setAttribute('d', points.length ? `M${points.join('L')}` : '')
      area.setAttribute('d', points.length ? `M0 ${RISE}L${points.join('L')}L${end} ${RISE}` : '')
    }
    const n = Math.round(frame), from = d === null ? '' : `${d > 0 && d < 0.005 ? '< 0.01' : d.toFixed(2)} from TokenRank`
    input.value = String(n)
    input.setAttribute('aria-valuetext', `${n === end ? 'infinitely many bounces, TokenRank' : bouncesName(n, end)}; ${from}`)
    value.textContent = from
    point.hidden = !from
    Object.assign(point.style, {left: `${100 * frame / end}%`, top: `${height}px`})
    // beside the point, on the side where there is room
    const [side, other, share] = frame < 0.6 * end ? ['left', 'right', frame / end] : ['right', 'left', 1 - frame / end]
    Object.assign(value.style, {[side]: `calc(${100 * share}% + 10px)`, [other]: 'auto', top: `${Math.min(RISE - 20, height - 16)}px`})
    const words = playing ? 'Pause' : 'Play the bounces'
    if (play.title === words) return
    play.title = words
    play.setAttribute('aria-label', words)
    icon.setAttribute('d', playing ? PAUSE : PLAY)
  }
  return {element: whole, update}
}
