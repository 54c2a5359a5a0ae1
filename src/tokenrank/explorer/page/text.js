/**
 * A text as the stage: flowing, one span a unit with its heat behind it. Click, drag, shift-click and arrows start the
 * walk; what is out of sight is neither laid out nor painted.
 */
import {element, segments} from './elements.js'
import {evenly, percent, whole} from './say.js'
import {shown} from './heat.js'
import {chunksOf, endsLine} from './passage.js'
import {gradesOf, paperOf} from './ink.js'
import {EVEN, goneOf, heatOf, passageOf, sinksOf} from './words.js'

/** Units of which what is out of sight is left alone, and whose places are told. */
const MANY = 256

/** Marks of a unit, as bits above its grade. @type {[number, string][]} */
const MARKS = [[64, 'start'], [128, 'over'], [256, 'gone'], [512, 'sink'], [1024, 'special']]
const SINK = 512, GONE = 256

/** Classes of a unit. @param {number} code  Grade and marks. */
function className(code) {
  const grade = code & GONE ? 0 : code & 63
  return [grade ? `h${grade}` : '', ...MARKS.map(([bit, name]) => code & bit ? name : '')].join(' ').trim()
}

/**
 * @param {import('./types.js').View} view
 * @returns {import('./types.js').Part}
 */
export function text(view) {
  const flow = element('div', {class: 'flow', role: 'group'}), tip = element('div', {class: 'tip', hidden: true})
  const split = segments('Units of the text', [
    {value: false, text: 'words', title: 'Probabilities of a word’s pieces are added'},
    {value: true, text: 'pieces', title: 'As the tokenizer cut them'}], pieces => view.set({pieces}))
  const line = element('p', {class: 'note'})
  const stage = element('div', {class: 'passage'}, flow, tip, element('div', {class: 'below'}, line, split.element))
  const sheet = new CSSStyleSheet(), themes = new MutationObserver(colours)
  view.root.adoptedStyleSheets.push(sheet)
  themes.observe(view.host, {attributeFilter: ['data-theme']})
  let passage = passageOf(view), codes = new Uint16Array()
  /** @type {HTMLElement[]} */
  let spans = []
  /** @type {import('./words.js').Heat | null} */
  let heat = null
  let stop = 0, dragging = false, asked = 0

  function build() {
    passage = passageOf(view)
    const {units} = passage, many = units.length > MANY
    passage.spans = spans = []
    codes = new Uint16Array(units.length)
    flow.replaceChildren(...chunksOf(units).map(({first, units, rtl}) => {
      const made = element('p', {dir: rtl ? 'rtl' : 'ltr', 'data-at': many ? String(first) : null})
      units.forEach((unit, i) => {
        const span = element('span', {text: unit.text, dir: unit.special ? 'ltr' : null})
        made.append(i && unit.space && !endsLine(units[i - 1]) ? ' ' : '', span, endsLine(unit) ? '\n' : '')
        spans.push(span)
      })
      made.normalize()
      return made
    }))
    const name = view.state.pieces ? 'pieces' : 'words'
    flow.setAttribute('aria-label', `Text of ${whole(units.length)} ${name}; the arrow keys move the start`)
    split.element.hidden = !view.sheet.words.some(word => word.count > 1)
    split.show(view.state.pieces)
    stop = 0
    passage.reveal = unit => {
      const top = spans[unit].getBoundingClientRect().top - flow.getBoundingClientRect().top
      flow.scrollTop += top - flow.clientHeight / 3
    }
    if (many) requestAnimationFrame(() => passage.reveal(started()))
  }

  const started = () => passage.at[view.state.starts.at(-1) ?? 0]

  function colours() {
    const grades = gradesOf(heat?.weak ? 'greys' : view.state.colours, paperOf(view))
    sheet.replaceSync(grades.map(({back, letters}, i) =>
      i ? `.flow .h${i}{background-color:rgb(${back});color:${letters ?? 'inherit'}}` : '').join(''))
  }

  function paint() {
    const of = shown(view), before = heat?.weak, now = heat = of && heatOf(view, of.map, of.frame)
    if (now?.weak !== before) colours()
    const [starts, gone, sinks] = [view.state.starts, goneOf(view), sinksOf(view)].map(all =>
      new Set(all.map(token => passage.at[token])))
    passage.units.forEach((unit, i) => {
      const marks = [starts.has(i), now?.over(i), gone.has(i), sinks.has(i), unit.special]
      let code = now?.grades[i] ?? 0
      for (let k = 0; k < 5; k++) if (marks[k]) code |= 64 << k
      if (code === codes[i]) return
      codes[i] = code
      spans[i].className = className(code)
    })
    tell(sinks, gone)
    describe()
  }

  /** The line below: what stands out, what is left out, what causal means. @param {Set<number>} sinks @param {Set<number>} gone */
  function tell(sinks, gone) {
    const {units} = passage, {layer, state} = view, said = []
    /** @param {number[]} places @param {(i: number) => string} words */
    const list = (places, words) => places.slice(0, 4).map(words).join(', ')
      + (places.length > 4 ? ` and ${places.length - 4} more` : '')
    const over = heat ? [...units.keys()].filter(heat.over) : []
    const [but, of] = over.length ? [' but for what is hatched', ' of the others'] : ['', '']
    if (heat?.weak) said.push(`Nearly even${but}: the largest${of} is less than ${EVEN} × the median, so it is drawn grey.`)
    if (over.length) {
      said.push(`Beyond the scale, hatched: ${list(over, i => `${units[i].text} ${percent(heat?.mass[i] ?? 0)}`)}.`)
    }
    const whose = typeof state.head === 'number' ? 'Sinks' : 'Sinks of a head', left = [...sinks].filter(i => !gone.has(i))
    if (left.length) said.push(`${whose}, underlined: ${list(left, i => units[i].text)}.`)
    if (gone.size) said.push(`Left out, struck through: ${list([...gone], i => units[i].text)}.`)
    if (layer.stored?.causal) {
      said.push(state.direction === 'forward'
        ? 'Causal: a token attends to itself and to those before it, so that the walk runs back to the beginning.'
        : 'Causal: backward, the walk runs from a token to those behind it, which attend to it.')
    }
    line.textContent = said.join(' ')
  }

  /** The one span that the Tab key reaches has a role and a name; thousands of names would slow every change. */
  function describe() {
    const span = spans[started()], old = spans[stop]
    if (old !== span || !span.role) {
      const focused = view.root.activeElement === old
      for (const name of ['tabindex', 'role', 'aria-label', 'aria-pressed']) old.removeAttribute(name)
      Object.assign(span, {tabIndex: 0, role: 'button', ariaPressed: 'true'})
      stop = started()
      if (focused) span.focus({preventScroll: true})
    }
    if (!view.playing) span.ariaLabel = `${span.textContent}, ${heat ? percent(heat.mass[stop]) : 'not yet known'}`
  }

  function hover() {
    const i = view.hover === null ? -1 : passage.at[view.hover], unit = passage.units[i]
    tip.hidden = !unit || !heat
    if (!unit || !heat) return
    const {mass, kept} = heat, p = mass[i], others = codes.reduce((sum, code) => sum + Number(!(code & GONE)), 0), rank = mass.reduce((sum, other) => sum + Number(other > p), 1)
    tip.replaceChildren(element('bdi', {text: unit.text}), [
      `${percent(p)}, ${evenly(p / unit.count, kept)} even`, codes[i] & GONE ? '' : `rank ${whole(rank)} of ${whole(others)}`,
      unit.count > 1 ? `${unit.count} pieces` : '', codes[i] & SINK ? 'sink' : '', codes[i] & GONE ? 'left out' : '',
      unit.length > unit.text.length ? `${whole(unit.length)} letters, cut` : ''].filter(Boolean).join(' · '))
    const box = stage.getBoundingClientRect(), spot = spans[i].getClientRects()[0] ?? box
    const above = spot.top - box.top - tip.offsetHeight - 4
    tip.style.left = `${Math.max(0, Math.min(spot.left - box.left, box.width - tip.offsetWidth))}px`
    tip.style.top = `${above < 0 ? spot.bottom - box.top + 4 : above}px`
    tip.hidden = spot.bottom < box.top || spot.top > flow.getBoundingClientRect().bottom
  }

  /** Unit below the pointer; −1: none. @param {PointerEvent} event */
  const under = event =>
    spans.indexOf(/** @type {HTMLElement} */ (view.root.elementFromPoint(event.clientX, event.clientY)))

  /** Starts at a unit; `add` puts it to the others, or takes it away. @param {number} i @param {boolean} [add] */
  function start(i, add) {
    const {first, count} = passage.units[i], now = view.state.starts
    const own = Array.from({length: count}, (_, k) => first + k), has = own.every(token => now.includes(token))
    const next = !add ? own : has ? now.filter(token => !own.includes(token)) : [...now, ...own]
    if (view.playing) view.play(false)
    if (next.length && String(next) !== String(now)) view.set({starts: next})
  }

  flow.addEventListener('pointerdown', event => {
    const i = under(event)
    if (i < 0 || event.button || event.pointerType === 'touch') return
    dragging = !event.shiftKey
    spans[stop].focus({preventScroll: true})
    start(i, event.shiftKey)
  })
  // the focus stays on the start: a click on another word would take it away
  flow.addEventListener('mousedown', event => event.preventDefault())
  // a touch that scrolls ends in pointercancel
  flow.addEventListener('pointerup', event => {
    const i = event.pointerType === 'touch' ? under(event) : -1
    if (i >= 0) start(i)
  })
  flow.addEventListener('pointermove', event => {
    const i = under(event)
    dragging &&= event.buttons === 1
    if (dragging && i >= 0) start(i)
    view.look(i < 0 ? null : passage.units[i].first)
  })
  flow.addEventListener('pointerleave', () => view.look(null))
  flow.addEventListener('keydown', event => {
    const to = event.altKey || event.ctrlKey || event.metaKey ? -1 : neighbour(event.key)
    if (to < 0) return
    event.preventDefault()
    event.stopPropagation()
    start(to, event.shiftKey && !view.state.starts.includes(passage.units[to].first))
    spans[to].scrollIntoView({block: 'nearest'})
  })

  /** Where an arrow leads: along the line as it is seen, or to what is nearest in the next. @param {string} key */
  function neighbour(key) {
    const rtl = spans[stop].parentElement?.dir === 'rtl', along = {ArrowLeft: -1, ArrowRight: 1}[key]
    if (along) {
      const to = stop + (rtl ? -along : along)
      return to in spans ? to : -1
    }
    const step = {ArrowUp: -1, ArrowDown: 1}[key], own = spans[stop].getBoundingClientRect()
    const middle = (own.left + own.right) / 2
    let best = -1, nearest = Infinity, height = NaN
    for (let i = stop; step && i in spans; i += step) {
      const box = spans[i].getBoundingClientRect(), far = Math.max(box.left - middle, middle - box.right, 0)
      if (step * (box.top - own.top) < own.height / 2) continue // the same line
      if (Math.abs(box.top - height) > own.height / 2) break
      height = box.top
      if (far < nearest) [best, nearest] = [i, far]
    }
    return best
  }

  /** What is on screen, found by halves. */
  function look() {
    asked = 0
    const {top, bottom} = flow.getBoundingClientRect()
    const [from, to] = [top + 1, bottom + 12].map(height => {
      let low = 0, high = spans.length
      while (low < high) {
        const middle = (low + high) >> 1
        if (spans[middle].getBoundingClientRect().bottom > height) high = middle
        else low = middle + 1
      }
      return low
    })
    passage.sight = [from, to]
    for (const watch of passage.watching) watch()
  }
  flow.addEventListener('scroll', () => {
    asked ||= requestAnimationFrame(look)
    tip.hidden = true
  }, {passive: true})

  return {
    element: stage,
    update(changed, keys) {
      const built = changed.has('sheet') || keys.has('pieces')
      if (built) build()
      if (keys.has('colours')) colours()
      if (built || changed.has('state') || changed.has('walk') || changed.has('frame')) paint()
      if (changed.has('hover') || changed.has('frame') || changed.has('walk')) hover()
      if (built || changed.has('size')) asked ||= requestAnimationFrame(look)
    },
    remove() {
      cancelAnimationFrame(asked)
      themes.disconnect()
      view.root.adoptedStyleSheets = view.root.adoptedStyleSheets.filter(other => other !== sheet)
    },
  }
}
