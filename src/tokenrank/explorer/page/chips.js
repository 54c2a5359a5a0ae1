/**
 * Tokens that have no place in the picture as chips with their share of the map: words, CLS, registers, padding.
 * Above them the direction, below them what is left out, and α.
 */
import {droppedTokens} from './chosen.js'
import {button, element, segments, slider} from './elements.js'
import {percent, spanName, tokenName} from './say.js'
import {hasOneLimit} from './state.js'

/** @typedef {import('./types.js').View} View */
/** @typedef {import('./types.js').Sheet} Sheet */
/** @typedef {import('./types.js').State} State */
/** @typedef {{name: string, tokens: number[], word: boolean}} Chip  Tokens that share the start and add up; of the prompt? */

/** Stops of the slider. Equal steps would crowd what differs: 1 / (1 − α) bounces to the next jump. */
const ALPHA_STOPS = [0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.985, 0.99, 0.993, 0.995, 0.997, 0.998, 0.999]
/** Words that are shown at first, and tokens of one name that can be had one by one. */
const FIRST_WORDS = 24, FEW = 8

/** @param {number} first @param {number} count */
const run = (first, count) => Array.from({length: count}, (_, i) => first + i)

/**
 * The tokens outside the picture: words of a prompt, then what is special. Neighbours of one name share a chip, as
 * registers and padding do. The words of a text are not here, since the text itself is on screen.
 *
 * @param {Sheet} sheet
 * @returns {Chip[]}
 */
export function chipsOf(sheet) {
  const {grid, kind, spans, special, tokens, words} = sheet
  const cells = new Set(grid && (grid.order ?? run(grid.first, grid.rows * grid.columns)))
  /** @type {Chip[]} */
  const others = []
  /** @type {Set<number>} */
  const left = new Set()
  for (const {name, first, count} of spans) {
    for (const token of run(first, count).filter(token => !cells.has(token))) {
      if (/^text(_\d+)?$/.test(name) && !special.includes(token)) {
        if (kind === 'both') left.add(token)
        continue
      }
      const called = tokens?.[token]?.text || spanName(name), last = others.at(-1)
      if (last?.name === called) last.tokens.push(token)
      else others.push({name: called, tokens: [token], word: false})
    }
  }
  const spoken = words.map(({text, first, count}) =>
    ({name: text, tokens: run(first, count).filter(token => left.delete(token)), word: true}))
  const rest = [...left].map(token => ({name: tokenName(sheet, token), tokens: [token], word: true}))
  return [...spoken.filter(chip => chip.tokens.length), ...rest, ...others]
}

/**
 * Why α = 1 has no limit that could be shown, or "" where it has.
 *
 * @param {View} view
 */
export function whyNotOne({index, layer: {chain}, state}) {
  if (!chain) return 'its limit is not known'
  const {recurrent, transient} = chain.classes ?? {recurrent: [], transient: []}
  if (!chain.unique) {
    return recurrent.length > 1 ? `the limit depends on the start, since ${recurrent.length} sets of tokens are never left`
      : 'the walk goes round in turns'
  }
  return hasOneLimit(index, state) && (state.direction === 'forward' || !transient.length) ? ''
    : 'one limit is known of all heads by |λ2|, forward, with all tokens'
}

/**
 * @param {View} view
 * @returns {import('./types.js').Part}
 */
export function chips(view) {
  const direction = segments('Direction', /** @type {{value: State['direction'], text: string, title: string}[]} */ ([
    {value: 'forward', text: 'Follow attention', title: 'Where attention from the start goes (b)'},
    {value: 'backward', text: 'Trace back', title: 'Where attention to the start comes from (b)'},
  ]), value => view.set({direction: value}))
  const without = segments('Leave out', /** @type {{value: State['without'], text: string}[]} */ ([
    {value: 'none', text: 'nothing'}, {value: 'special', text: 'special tokens'}, {value: 'sinks', text: 'sinks'},
  ]), value => view.set({without: value}))
  const alpha = slider('α', {min: 0, max: 0, step: 1, value: 0}, place => view.set({alpha: ALPHA_STOPS[place] ?? 1}))
  const number = element('output'), why = element('p', {class: 'note'})
  alpha.input.setAttribute('aria-label', 'α')
  alpha.element.append(number)
  const list = element('div', {class: 'chips', role: 'toolbar', 'aria-label': 'Tokens outside the picture', keydown: move, focusin: rove})
  const more = button('', () => {
    all = !all
    fill()
    more.focus()
  }, {class: 'chip more'})
  /** @type {{chip: Chip, made: HTMLButtonElement, share: HTMLElement}[]} */
  let shown = []
  let all = false

  /** @param {Chip} chip @param {MouseEvent} event */
  function start({tokens, word}, event) {
    const now = view.state.starts, has = tokens.every(token => now.includes(token))
    const starts = !event.shiftKey ? tokens : has ? now.filter(token => !tokens.includes(token)) : [...now, ...tokens]
    // What attends to a word says best where it is (benchmarks/word_direction.py); from then on the reader decides.
    const first = word && !shown.some(({chip}) => chip.word && chip.tokens.some(token => now.includes(token)))
    if (starts.length) view.set(first ? {starts, direction: 'backward', bounces: 1} : {starts})
  }

  /** Arrows go from chip to chip; the list is one stop of the Tab key. @param {KeyboardEvent} event */
  function move(event) {
    const each = [...list.querySelectorAll('button')].filter(one => !one.disabled && !one.hidden), from = each.findIndex(one => one === event.target)
    const to = {ArrowRight: from + 1, ArrowLeft: from - 1, Home: 0, End: -1}[event.key]
    if (to === undefined) return
    event.preventDefault()
    event.stopPropagation()
    each.at(to % each.length)?.focus()
  }

  /** @param {{target: EventTarget | null}} event */
  function rove({target}) {
    for (const one of list.querySelectorAll('button')) one.tabIndex = one === target ? 0 : -1
  }

  function fill() {
    const found = chipsOf(view.sheet), words = found.filter(chip => chip.word)
    const grouped = found.filter(({tokens, word}) => !word && tokens.length > 1 && tokens.length <= FEW)
    const singles = grouped.filter(({tokens}) => !view.sheet.tokens?.[tokens[0]]?.text).flatMap(({name, tokens, word}) =>
      tokens.map((token, i) => ({name: `${name} ${i + 1}`, tokens: [token], word})))
    const first = all ? [...found, ...singles] : found.filter(chip => !chip.word || words.indexOf(chip) < FIRST_WORDS)
    shown = first.map(chip => {
      const share = element('span'), many = chip.tokens.length > 1 && !chip.word ? ` × ${chip.tokens.length}` : ''
      const made = button(element('bdi', {text: chip.name + many}), event => start(chip, event), {class: 'chip',
        title: `${chip.name}: start here; with shift, from here too`,
        pointerenter: () => view.look(chip.tokens[0]), pointerleave: () => view.look(null)})
      made.append(' ', share)
      return {chip, made, share}
    })
    more.hidden = words.length <= FIRST_WORDS && !singles.length
    more.textContent = all ? 'fewer' : words.length > FIRST_WORDS ? `${words.length - FIRST_WORDS} more` : 'one by one'
    more.setAttribute('aria-expanded', String(all))
    list.replaceChildren(...shown.map(({made}) => made), more)
    list.hidden = !shown.length
    rove({target: list.firstChild})
  }

  function weigh() {
    const map = view.at(view.frame), gone = new Set(droppedTokens(view.sheet, view.layer, view.state))
    for (const {chip: {tokens}, made, share} of shown) {
      const mass = map ? tokens.reduce((sum, token) => sum + map[token], 0) : 0
      made.disabled = tokens.every(token => gone.has(token))
      made.setAttribute('aria-pressed', String(tokens.every(token => view.state.starts.includes(token))))
      share.textContent = made.disabled ? 'left out' : map ? percent(mass) : ''
      made.style.setProperty('--mass', String(Math.sqrt(mass)))
    }
  }

  function settings() {
    const {sheet, layer, state} = view, reason = whyNotOne(view), most = ALPHA_STOPS.length - Number(reason !== '')
    direction.show(state.direction)
    without.show(state.without)
    const [, ...choices] = without.element.querySelectorAll('button')
    choices.forEach((one, i) => {
      one.disabled = !droppedTokens(sheet, layer, {...state, without: i ? 'sinks' : 'special'}).length
    })
    const place = ALPHA_STOPS.filter(stop => stop <= state.alpha).length - Number(state.alpha < 1)
    alpha.input.max = String(most)
    alpha.show(place, state.alpha === 1 ? '1, no jumps' : `${state.alpha}, a jump every ${Math.round(1 / (1 - state.alpha))} bounces`)
    number.textContent = String(state.alpha)
    why.textContent = `No α = 1 here: ${reason}.`
    why.hidden = !reason || place < most
  }

  return {
    element: element('section', {class: 'panel', 'aria-label': 'Where the walk starts, and how it goes'},
      element('div', {class: 'row'}, direction.element, list),
      element('div', {class: 'row'}, element('span', {class: 'setting', text: 'leave out'}), without.element, alpha.element, why)),
    update(changed) {
      if (changed.has('sheet')) {
        all = false
        fill()
      }
      if (changed.has('state')) settings()
      if (changed.size > Number(changed.has('hover'))) weigh()
    },
  }
}
