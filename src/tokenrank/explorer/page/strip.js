/**
 * The walk at a glance: small pictures of a few numbers of bounces. Texts have a strip of their own.
 */
import {aspectOf, drawHeat, pictureOf, sharpen, shown} from './heat.js'
import {button, element} from './elements.js'
import {LOOKS} from './picture.js'
import {bouncesName} from './say.js'

/**
 * @param {import('./types.js').View} view
 * @returns {import('./types.js').Part}
 */
export function strip(view) {
  const last = view.index.bounces, whole = element('div', {class: 'strip', role: 'group', 'aria-label': 'The walk at a glance'})
  const frames = [0, 1, 2, 4, 8].filter(n => n <= last).concat(last + 1).map(n => {
    const canvas = element('canvas', {'aria-hidden': true}), name = bouncesName(n, last)
    const made = button(canvas, () => view.set({bounces: n}), {title: name, 'aria-label': name})
    made.append(n > last ? '∞' : n ? String(n) : 'start')
    whole.append(made)
    return {n, canvas, made}
  })
  /** @type {import('./heat.js').Pictured | null} */
  let pictured = null

  let waiting = false

  /** After the picture is painted: that is what a click waits for. */
  const later = () => {
    if (!waiting) requestAnimationFrame(() => setTimeout(draw))
    waiting = true
  }
  const draw = () => frames.forEach(({n, canvas}) => {
    const of = shown(view, n)
    waiting = false
    sharpen(canvas)
    drawHeat(view, canvas, pictured, of?.frame === n ? of : null)
  })

  /** @type {import('./types.js').Part['update']} */
  const update = (changed, keys) => {
    const {sheet} = view
    whole.hidden = !sheet.grid
    if (whole.hidden) return
    if (changed.has('sheet')) {
      whole.style.setProperty('--aspect', aspectOf(sheet))
      pictured = null
      pictureOf(view).then(found => {
        if (view.sheet !== sheet) return
        pictured = found
        draw()
      })
    }
    if (changed.has('walk') || changed.has('size') || LOOKS.some(key => keys.has(key))) later()
    for (const {n, made} of frames) made.setAttribute('aria-pressed', String(n === Math.round(view.frame)))
  }
  return {element: whole, update}
}
