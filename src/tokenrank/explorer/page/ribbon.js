/**
 * A text from end to end in a strip: a column a unit, or the largest of those that share one; a row for each of some
 * numbers of bounces. A frame shows what of it is on screen, and a click goes there.
 */
import {button, element} from './elements.js'
import {chunksOf} from './passage.js'
import {gradesOf, paperOf} from './ink.js'
import {bouncesName} from './say.js'
import {heatOf, passageOf} from './words.js'

const RIBBONS = [0, 1, 2, 4, 8]

/**
 * The largest grade of each column.
 * @param {Uint8Array} grades  Of the units.
 * @param {number} columns  At most as many as units.
 * @param {boolean} rtl  Whether the first unit stands at the right.
 */
export function binned(grades, columns, rtl) {
  const bins = new Uint8Array(columns)
  grades.forEach((grade, i) => {
    const column = Math.floor(i * columns / grades.length), at = rtl ? columns - 1 - column : column
    bins[at] = Math.max(bins[at], grade)
  })
  return bins
}

/**
 * @param {import('./types.js').View} view
 * @returns {import('./types.js').Part}
 */
export function ribbon(view) {
  const sight = element('div', {class: 'sight'}), last = view.index.bounces + 1
  const rows = [...RIBBONS.filter(n => n < last), last].map(n => ({
    n, canvas: element('canvas', {height: 1, 'aria-hidden': true}),
    choose: button(n === last ? '∞' : `n = ${n}`, () => view.set({bounces: n}),
      {'aria-pressed': false, title: n === last ? 'TokenRank' : bouncesName(n, n)}),
  }))
  const whole = element('div', {class: 'ribbon', role: 'group', 'aria-label': 'The text after some bounces',
    pointerdown: point, pointermove: point, pointerleave: () => view.look(null)},
  ...rows.flatMap(({choose, canvas}) => [choose, canvas]), sight)
  const themes = new MutationObserver(draw)
  themes.observe(view.host, {attributeFilter: ['data-theme']})
  let passage = passageOf(view), rtl = false

  function frame() {
    const {sight: [from, to], units: {length}} = passage
    sight.hidden = to - from >= length
    sight.style.setProperty('--from', String((rtl ? length - to : from) / length))
    sight.style.setProperty('--size', String((to - from) / length))
  }

  /** The unit below the pointer: looked at, and with a button pressed gone to. @param {PointerEvent} event */
  function point(event) {
    const target = /** @type {HTMLElement} */ (event.target)
    if (target.localName !== 'canvas') return
    const {left, width} = target.getBoundingClientRect(), {units} = passage
    const share = Math.max(0, Math.min(0.9999, (event.clientX - left) / width))
    const unit = Math.floor((rtl ? 1 - share : share) * units.length)
    if (event.buttons) passage.reveal(unit)
    view.look(units[unit].first)
  }

  function draw() {
    const columns = Math.min(passage.units.length, Math.max(64, Math.round(rows[0].canvas.clientWidth)))
    for (const {n, canvas} of rows) {
      const map = view.at(n), heat = map && heatOf(view, map, n)
      canvas.width = columns
      if (!heat) continue
      const grades = gradesOf(heat.weak ? 'greys' : view.state.colours, paperOf(view))
      const image = new ImageData(columns, 1)
      binned(heat.grades, columns, rtl).forEach((grade, i) => image.data.set([...grades[grade].back, 255], 4 * i))
      canvas.getContext('2d')?.putImageData(image, 0, 0)
    }
  }

  return {
    element: whole,
    update(changed, keys) {
      if (changed.has('sheet') || keys.has('pieces')) {
        passage.watching.delete(frame)
        passage = passageOf(view)
        passage.watching.add(frame)
        rtl = chunksOf(passage.units)[0].rtl
        frame()
      }
      const drawn = ['pieces', 'colours', 'scale', 'head', 'layer', 'without', 'theme'].some(key => keys.has(key))
      if (drawn || changed.has('sheet') || changed.has('walk') || changed.has('size')) draw()
      for (const {n, choose} of rows) choose.setAttribute('aria-pressed', String(n === Math.round(view.frame)))
    },
    remove() {
      themes.disconnect()
      passage.watching.delete(frame)
    },
  }
}
