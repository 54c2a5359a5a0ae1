/**
 * The keyboard, caught on the explorer's own element: nothing is global, and nothing is taken from who types.
 */
import {element} from './elements.js'
import {fullScreen, otherTheme} from './theme.js'

/** @typedef {import('./types.js').View} View */

/** @type {[string[], string][]} */
const KEYS = [
  [['←', '↑', '↓', '→'], 'move the start, on the picture or text; shift-click adds one'],
  [['space'], 'play and pause'],
  [[',', '.'], 'one bounce less, one more'],
  [['i'], '∞ bounces: TokenRank'],
  [['b'], 'follow attention, or trace it back'],
  [['0', '…', '9'], 'a head'],
  [['m'], 'all heads, weighted by |λ2|'],
  [['t'], 'dark or light'],
  [['f'], 'full screen'],
  [['?'], 'this list'],
]

/** @type {[string, string][]} */
const WORDS = [
  ['bounce', 'one step along the attention of the layer: where a walker goes that follows it'],
  ['TokenRank', 'where the walker is in the long run, whatever the start'],
  ['α', 'the probability of following attention; otherwise the walker goes to any token, evenly. Walk and limit '
    + 'use the same α'],
  ['curve', 'distance of the walk from TokenRank: half the sum of absolute differences. Where it stays high, the '
    + 'walk forgets its start slowly'],
  ['|λ2|', 'the size of the second eigenvalue: near 1, the walk forgets its start slowly. Computed and checked in '
    + 'Python'],
  ['colours', 'the square root of the probability, from 0 to the largest value, at least six times even; behind words '
    + 'the probability itself. A map that is nearly even is grey'],
  ['× even', 'how many times the share that every token has where all have the same'],
]

/** @param {[string | Node, string][]} rows */
function pairs(rows) {
  return element('dl', {}, ...rows.flatMap(([name, meaning]) =>
    [element('dt', {}, name), element('dd', {text: meaning})]))
}

/**
 * What the keys do and how to read the page, closed at first.
 * @param {View} view
 */
export function helpWords(view) {
  return element('details', {class: 'help'}, element('summary', {text: 'Keys and reading'}),
    pairs(KEYS.map(([keys, meaning]) =>
      [element('span', {}, ...keys.map(key => key === '…' ? key : element('kbd', {text: key}))), meaning])),
    pairs(WORDS))
}

/** Controls that use these keys themselves. @param {Element} target @param {string} key */
function taken(target, key) {
  const name = target.localName
  if (target.closest('[contenteditable]') || name === 'textarea' || name === 'select') return true
  if (name === 'input') return /** @type {HTMLInputElement} */ (target).type !== 'range' || key.length > 1
  return key === ' ' && (name === 'button' || name === 'summary' || name === 'a')
}

/**
 * Catches the keys that mean something on the whole explorer. The arrows belong to the stage.
 *
 * @param {View} view
 * @returns {() => void}  Lets go of them.
 */
export function catchKeys(view) {
  /** @param {KeyboardEvent} event */
  const pressed = event => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || event.isComposing) return
    const target = /** @type {Element} */ (event.composedPath()[0])
    if (taken(target, event.key) || !act(view, event.key)) return
    event.preventDefault()
    event.stopPropagation()
  }
  view.host.addEventListener('keydown', pressed)
  return () => view.host.removeEventListener('keydown', pressed)
}

/**
 * What a key does; false where it means nothing.
 * @param {View} view
 * @param {string} key
 */
function act(view, key) {
  const {state, index} = view
  if (key === ' ') view.play()
  else if (key === ',') view.set({bounces: state.bounces - 1})
  else if (key === '.') view.set({bounces: state.bounces + 1})
  else if (key === 'i') view.set({bounces: index.bounces + 1})
  else if (key === 'b') view.set({direction: state.direction === 'forward' ? 'backward' : 'forward'})
  else if (key === 'm') view.set({head: 'lambda2'})
  else if (key === 't') view.set({theme: otherTheme(view.host)})
  else if (key === 'f') fullScreen(view.host)
  else if (key === '?') {
    const help = /** @type {HTMLDetailsElement} */ (view.root.querySelector('.help'))
    help.open = !help.open
    if (help.open) help.querySelector('summary')?.focus()
  } else if (/^\d$/.test(key) && Number(key) < view.layer.heads.length) view.set({head: Number(key)})
  else return false
  return true
}
