/**
 * All heads of all layers of a sheet as a table that can be sorted; a row chooses its layer and head.
 */
import {button, element} from './elements.js'
import {bounceCount, halfLife, modulus} from './mixture.js'
import {atMost, percent, whole} from './say.js'

/** @typedef {{layer: import('./types.js').Layer, number: number, head: import('./types.js').Head}} Row */
/** @typedef {{title: string, about: string, value: (row: Row, most: number) => number, text: (value: number, row: Row) => string}} Column */

const WORTH = ['uncertain', 'checked', 'proved']

/** `most` is log2 N. @type {Column[]} */
const COLUMNS = [
  {title: 'Layer', about: 'number of the layer', value: row => row.layer.number, text: String},
  {title: 'Head', about: 'number of the head', value: row => row.number, text: String},
  {title: '|λ2|', about: 'what each bounce keeps of the start in the long run', value: ({head}) => head.lambda2,
    text: (value, {head}) => (head.certificate === 'uncertain' ? '≈ ' : '') + modulus(value)},
  {title: 'Worth', about: 'certificate of |λ2|', value: ({head}) => WORTH.indexOf(head.certificate),
    text: (_, {head}) => head.certificate},
  {title: 'Half-life', about: 'bounces after which the second mode has lost half', value: ({head}) => halfLife(head.lambda2),
    text: bounceCount},
  {title: 'Bits', about: 'entropy rate: bits of choice at each bounce', value: ({head}) => head.entropy,
    text: value => value.toFixed(2)},
  {title: 'of max', about: 'entropy rate as a share of log2 N, its most', text: percent,
    value: ({head}, most) => most ? head.entropy / most : 0},
  {title: 'Sinks', about: 'share of TokenRank that sinks hold', value: ({head}) => head.sinks.length ? head.held : 0,
    text: value => value ? percent(value) : '–'},
  {title: 'Page', about: 'whether the walk of this head is in the page', value: ({head}) => Number(head.kept),
    text: value => value ? 'yes' : 'no'},
]

/**
 * @param {import('./types.js').View} view
 * @returns {import('./types.js').Part}
 */
export function table(view) {
  /** @type {Map<HTMLTableRowElement, Row>} */
  let rows = new Map()
  let sorted = 0, down = false
  const body = element('tbody', {click: event => choose(event.target), keydown: move})
  const heads = COLUMNS.map(({title, about}, column) => element('th', {scope: 'col', title: about},
    button(title, () => sort(column, column === sorted ? !down : column > 1), {'aria-label': `${title}: ${about}`})))
  const scroll = element('div', {class: 'list', role: 'region', 'aria-label': 'All heads', tabindex: 0},
    element('table', {}, element('thead', {}, element('tr', {}, ...heads)), body))
  const note = element('p', {class: 'note'})
  const made = element('section', {class: 'column'}, scroll, note)

  /** @param {number} column @param {boolean} falling */
  function sort(column, falling) {
    sorted = column
    down = falling
    const {value} = COLUMNS[column], most = Math.log2(view.sheet.count)
    const ordered = [...rows].sort(([, a], [, b]) => (down ? -1 : 1) * (value(a, most) - value(b, most)))
    body.replaceChildren(...ordered.map(([row]) => row))
    heads.forEach((head, i) => head.setAttribute('aria-sort', i !== column ? 'none' : down ? 'descending' : 'ascending'))
  }

  /** @param {EventTarget | null} target */
  function choose(target) {
    const row = target instanceof Element ? rows.get(/** @type {HTMLTableRowElement} */ (target.closest('tr'))) : null
    if (row) view.set({layer: row.layer.number, head: row.number})
  }

  /** Up and down go through the rows, of which one is in the order of the tab key. @param {KeyboardEvent} event */
  function move(event) {
    const row = /** @type {Element} */ (event.target).closest('tr')
    const next = event.key === 'ArrowDown' ? row?.nextElementSibling : event.key === 'ArrowUp' ? row?.previousElementSibling
      : event.key === 'Home' ? body.firstElementChild : event.key === 'End' ? body.lastElementChild : null
    if (!next) return
    event.preventDefault()
    event.stopPropagation()
    next.querySelector('button')?.focus()
  }

  function fill() {
    const most = Math.log2(view.sheet.count)
    rows = new Map(view.layers.flatMap(layer => layer.heads.map((head, number) => {
      const row = {layer, number, head}
      const cells = COLUMNS.map(({value, text}, column) => {
        const words = text(value(row, most), row)
        return column ? element('td', {text: words}) : element('td', {}, button(words, () => {},
          {'aria-label': `Layer ${layer.number}, head ${number}`, tabindex: -1}))
      })
      if (head.bound !== null) cells[2].title = `error at most ${atMost(head.bound)}, proved`
      return [element('tr', {class: head.kept ? null : 'absent'}, ...cells), row]
    })))
    const doubted = [...rows.values()].filter(({head}) => head.certificate === 'uncertain').length
    note.textContent = `${rows.size} ${rows.size === 1 ? 'head' : 'heads'}, ${whole(view.sheet.count)} tokens, TokenRank at α = ${view.index.alpha}.`
      + (doubted ? ` ≈ marks ${doubted} whose |λ2| is uncertain.` : '')
    sort(sorted, down)
  }

  return {
    element: made,
    update(changed, keys) {
      if (changed.has('sheet') || keys.has('sheet') || keys.has('step')) fill()
      if (!changed.has('state')) return
      for (const [row, {layer, number}] of rows) {
        const current = layer === view.layer && number === view.state.head
        if (current === row.hasAttribute('aria-current')) continue
        if (current) row.setAttribute('aria-current', 'true')
        else row.removeAttribute('aria-current')
      }
      const current = body.querySelector('[aria-current]') ?? body.firstElementChild
      body.querySelectorAll('button').forEach(one => { one.tabIndex = current?.contains(one) ? 0 : -1 })
    },
  }
}
