/**
 * The state of a reader: its defaults, the checks that every change passes, and the link that holds it.
 */
import {droppedTokens} from './chosen.js'

/** @typedef {import('./types.js').Index} Index */
/** @typedef {import('./types.js').State} State */

/** Where α of the page lies; 1 is added where Python says that the limit is unique. */
export const ALPHAS = {least: 0.5, most: 0.999}

/** Most tokens that one link may name as starts: as many as an explorer may have. */
const MOST_STARTS = 65536
/** So many stand one by one. */
const SHORT = 12

/** @type {{[name in keyof State]?: readonly unknown[]}} */
const CHOICES = {
  direction: ['forward', 'backward'],
  without: ['none', 'special', 'sinks'],
  scale: ['each', 'shared'],
  smooth: [false, true],
  hide: [false, true],
  pieces: [false, true],
  colours: ['magma', 'viridis', 'greys'],
  tab: ['walk', 'heads', 'chain', 'groups'],
  theme: [null, 'dark', 'light'],
}

/** @param {unknown} value @returns {value is number} */
const isWhole = value => Number.isInteger(value)
/** @param {number} value @param {number} least @param {number} most */
const clamp = (value, least, most) => Math.min(most, Math.max(least, value))

/**
 * The layers of a sheet at a step, in the order of the model.
 * @param {import('./types.js').Sheet} sheet
 * @param {number} step
 */
export function layersAt(sheet, step) {
  return sheet.layers.filter(layer => layer.step === step)
}

/**
 * The layer of a sheet at a step with this number, else the deepest that is stored, else the deepest.
 * @param {import('./types.js').Sheet} sheet
 * @param {number} step
 * @param {number} [number]
 */
export function layerAt(sheet, step, number) {
  const layers = layersAt(sheet, step)
  return layers.find(layer => layer.number === number) ?? layers.filter(layer => layer.stored).at(-1)
    ?? layers[layers.length - 1]
}

/**
 * Where a walk starts at first: the sheet's start, with the other pieces of its word, as a click on the word does.
 * @param {import('./types.js').Sheet} sheet
 */
function startsOf({start, words}) {
  const {first, count} = words.find(word => start >= word.first && start < word.first + word.count) ?? {first: start, count: 1}
  return Array.from({length: count}, (_, i) => first + i)
}

/**
 * What a page shows at first: the deepest stored layer, its heads by |λ2|, two bounces from the sheet's start.
 *
 * @param {Index} index
 * @param {number} [number]  Of the sheet.
 * @returns {State}
 */
export function defaults(index, number = 0) {
  const sheet = index.sheets[number]
  const stored = sheet.layers.filter(layer => layer.stored)
  const step = (stored.at(-1) ?? sheet.layers[0])?.step ?? 0
  return {
    sheet: number, step, layer: layerAt(sheet, step)?.number ?? 0, head: 'lambda2', starts: startsOf(sheet),
    bounces: Math.min(2, index.bounces), direction: 'forward', alpha: index.alpha, without: 'none', scale: 'each',
    opacity: 0.85, smooth: false, hide: false, pieces: false, colours: 'magma', tab: 'walk', theme: null,
  }
}

/**
 * A state with changes from a link, a widget or a key, as far as they are possible: numbers are clamped, tokens that
 * do not exist and unknown names and values are left out. A sheet of another place begins with its own defaults of
 * step, layer and start, unless the changes say otherwise.
 *
 * @param {Index} index
 * @param {State} state
 * @param {Record<string, unknown>} changes
 * @returns {State}
 */
export function checked(index, state, changes) {
  const next = {...state}
  if (isWhole(changes.sheet) && changes.sheet >= 0 && changes.sheet < index.sheets.length) {
    if (changes.sheet !== state.sheet) {
      const {step, layer, starts} = defaults(index, changes.sheet)
      Object.assign(next, {sheet: changes.sheet, step, layer, starts})
    }
  }
  const sheet = index.sheets[next.sheet]
  if (isWhole(changes.step)) next.step = clamp(changes.step, 0, Math.max(0, sheet.steps.length - 1))
  const wanted = isWhole(changes.layer) ? changes.layer : next.layer
  next.layer = layerAt(sheet, next.step, wanted)?.number ?? next.layer
  for (const [name, values] of Object.entries(CHOICES)) {
    if (name in changes && values.includes(changes[name])) Object.assign(next, {[name]: changes[name]})
  }
  const {head, starts, bounces, alpha, opacity} = changes
  if (head === 'lambda2' || head === 'uniform' || isWhole(head)) next.head = head
  const heads = layerAt(sheet, next.step, next.layer)?.heads.length ?? 0
  if (typeof next.head === 'number' && (next.head < 0 || next.head >= heads)) next.head = 'lambda2'
  if (Array.isArray(starts)) {
    const known = [...new Set(starts.filter(token => isWhole(token) && token >= 0 && token < sheet.count))]
    if (known.length) next.starts = known
  }
  const dropped = droppedTokens(sheet, layerAt(sheet, next.step, next.layer), next)
  next.starts = next.starts.filter(token => !dropped.includes(token))
  if (!next.starts.length) next.starts = [nearestKept(dropped, sheet)]
  if (typeof bounces === 'number' && !Number.isNaN(bounces)) {
    next.bounces = Math.round(clamp(bounces, 0, index.bounces + 1))
  }
  if (typeof alpha === 'number' && !Number.isNaN(alpha)) {
    next.alpha = alpha === 1 ? 1 : clamp(alpha, ALPHAS.least, ALPHAS.most)
  }
  if (next.alpha === 1 && !hasOneLimit(index, next)) next.alpha = index.alpha
  if (typeof opacity === 'number' && !Number.isNaN(opacity)) next.opacity = clamp(opacity, 0, 1)
  return next
}

/**
 * The token to start from where all that were asked for are left out: the sheet's own, or the first that is left.
 * @param {number[]} dropped
 * @param {import('./types.js').Sheet} sheet
 */
function nearestKept(dropped, sheet) {
  if (!dropped.includes(sheet.start)) return sheet.start
  return Array.from({length: sheet.count}, (_, token) => token).find(token => !dropped.includes(token)) ?? sheet.start
}

/**
 * Whether Python says that α = 1 has one limit: known of all heads by |λ2| with all tokens, followed forward; traced
 * back where no token is transient, since the reverse of several such tokens may end in several places.
 * @param {Index} index
 * @param {State} state
 */
export function hasOneLimit(index, state) {
  const layer = layerAt(index.sheets[state.sheet], state.step, state.layer)
  const back = state.direction === 'backward' && layer?.chain?.classes?.transient.length
  return state.head === 'lambda2' && state.without === 'none' && !back && Boolean(layer?.chain?.unique)
}

/**
 * Names of what differs between two states.
 * @param {State} a
 * @param {State} b
 * @returns {Set<string>}
 */
export function differences(a, b) {
  const names = /** @type {(keyof State)[]} */ (Object.keys(a))
  return new Set(names.filter(name => String(a[name]) !== String(b[name])))
}

/**
 * The part of a link behind #: what differs from the defaults, and the start.
 * @param {Index} index
 * @param {State} state
 */
export function toLink(index, state) {
  const usual = defaults(index, state.sheet)
  const parts = []
  for (const name of /** @type {(keyof State)[]} */ (Object.keys(state))) {
    if (name === 'sheet' ? state.sheet : String(state[name]) !== String(usual[name])) {
      const value = name === 'bounces' && state.bounces > index.bounces ? 'inf' : name === 'starts' && state.starts.length > SHORT
        ? runs(state.starts) : String(state[name])
      parts.push(`${name}=${encodeURIComponent(value).replaceAll('%2C', ',')}`)
    }
  }
  return parts.join('&')
}

/**
 * Tokens in a link, neighbours as runs: "3,7-120"; a group of tokens that starts a walk is mostly runs.
 * @param {readonly number[]} tokens
 */
function runs(tokens) {
  /** @type {[number, number][]} */
  const found = []
  for (const token of tokens) {
    const last = found[found.length - 1]
    if (last && token === last[1] + 1) last[1] = token
    else found.push([token, token])
  }
  return found.map(([first, last]) => first === last ? first : `${first}-${last}`).join(',')
}

/** @param {string} value */
function tokensOf(value) {
  const tokens = []
  for (const part of value.split(',')) {
    const run = /^(\d+)-(\d+)$/.exec(part)
    const [first, last] = run ? [Number(run[1]), Number(run[2])] : [Number(part), Number(part)]
    for (let token = first; tokens.length < MOST_STARTS && token <= last; token++) tokens.push(token)
  }
  return tokens
}

/**
 * The changes that a link asks for; `checked` decides what of them is possible.
 * @param {string} link  With or without its #.
 * @returns {Record<string, unknown>}
 */
export function fromLink(link) {
  /** @type {Record<string, unknown>} */
  const changes = {}
  for (const [name, value] of new URLSearchParams(link.replace(/^#/, ''))) {
    if (name === 'starts') changes[name] = tokensOf(value)
    else if (value === 'true' || value === 'false') changes[name] = value === 'true'
    else if (value === 'null') changes[name] = null
    else if (name === 'bounces' && value === 'inf') changes[name] = Infinity
    else changes[name] = /^-?[\d.]+$/.test(value) ? Number(value) : value
  }
  return changes
}
