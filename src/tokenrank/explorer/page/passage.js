/**
 * A text as it is laid out: units (words, or pieces one by one) in chunks, which way they run, and what is drawn of a
 * hostile or endless token.
 *
 * @typedef {object} Unit  What is one word to the reader: coloured, clicked and named as one.
 * @property {number} first  Its first token.
 * @property {number} count  Of tokens, whose probabilities are added.
 * @property {string} text  As it is drawn.
 * @property {boolean} space  Whether a space stands before it.
 * @property {boolean} special
 * @property {number} length  Letters of the whole, of which `text` may show a part.
 *
 * @typedef {{first: number, units: Unit[], rtl: boolean}} Chunk  `first`: place of its first unit.
 */

/** @typedef {import('./types.js').Sheet} Sheet */

/** Letters that are drawn of a token. */
const LONGEST = 60
/** Units of a chunk: the browser lays out and paints those in sight alone. */
const CHUNK = 256
const UNSEEN = /[\p{Cc}\p{Cs}\p{Co}\p{Zl}\p{Zp}]|(?![\u200c\u200d\u{e0020}-\u{e007f}])\p{Cf}/gu
const RIGHT_TO_LEFT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefe\u{10800}-\u{10fff}\u{1e800}-\u{1efff}]/u
/** @type {Record<string, string>} */
const SIGNS = {'\n': '⏎', '\t': '⇥'}

/**
 * A string without anything that could act on its surroundings: controls, marks of direction and halves of characters
 * become signs such as ⟨U+202E⟩, as in token_text.py; of a long one both ends are kept.
 * @param {string} text
 */
export function drawn(text) {
  const half = LONGEST / 2
  const cut = text.length <= LONGEST ? text : `${whole16(text.slice(0, half))}…${whole16(text.slice(-half))}`
  return cut.replace(UNSEEN, sign => SIGNS[sign]
    ?? `⟨U+${(sign.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0')}⟩`)
}

/** A piece without the halves of characters that the cut left at its ends. @param {string} text */
function whole16(text) {
  return text.replace(/^[\udc00-\udfff]/, '').replace(/[\ud800-\udbff]$/, '')
}

const CLOSING = /^[.,;:!?%)\]}’”»…]+$/, OPENING = /^[([{‘“«]+$/

/**
 * The units of a sheet in the order of the sequence. Where the tokenizer keeps no spaces, so that one would stand before
 * every full stop, brackets and stops stand as they are written.
 * @param {Sheet} sheet
 * @param {boolean} pieces
 * @returns {Unit[]}
 */
export function unitsOf({count, tokens, words, special}, pieces) {
  const specials = new Set(special), begins = new Map(pieces ? [] : words.map(word => [word.first, word]))
  /** @type {Unit[]} */
  const units = [], loose = !tokens?.some(({text, space}) => !space && CLOSING.test(text))
  for (let first = 0, word; first < count; first += word?.count ?? 1) {
    word = begins.get(first)
    const token = tokens?.[first], text = word?.text ?? (token?.text || `·${first}`)
    const tight = loose && (CLOSING.test(text) || OPENING.test(units.at(-1)?.text ?? ''))
    units.push({first, count: word?.count ?? 1, text: drawn(text), length: text.length,
      space: !tight && (token?.space ?? true), special: specials.has(first)})
  }
  return units
}

/** Whether the line of the text ends behind a unit. @param {Unit} unit */
export const endsLine = unit => /⏎(×\d+)?$/.test(unit.text)

/**
 * Units in chunks of 256 at most, which end with a sentence where one does. A chunk runs one way: that of the first
 * letter of its lines (rules P2 and P3 of Unicode's bidirectional algorithm).
 * @param {Unit[]} units
 * @returns {Chunk[]}
 */
export function chunksOf(units) {
  /** @type {Chunk[]} */
  const chunks = []
  let rtl = false
  units.forEach((unit, place) => {
    const last = chunks.at(-1), before = units[place - 1]
    if (!before || endsLine(before)) rtl = runsFromRight(units, place) ?? rtl
    const size = last?.units.length ?? 0
    const full = size >= CHUNK || size >= 0.75 * CHUNK && /[.!?。！？…⏎]["'”’)]?$/.test(before.text)
    if (!last || full || last.rtl !== rtl) chunks.push({first: place, units: [unit], rtl})
    else last.units.push(unit)
  })
  return chunks
}

/** @param {Unit[]} units @param {number} place */
function runsFromRight(units, place) {
  for (; place < units.length; place++) {
    const letter = units[place].special ? null : /\p{L}/u.exec(units[place].text)
    if (letter) return RIGHT_TO_LEFT.test(letter[0])
    if (endsLine(units[place])) return null
  }
  return null
}

/**
 * Probabilities of units: the sums of their tokens.
 * @param {Unit[]} units
 * @param {Float32Array} map
 */
export function masses(units, map) {
  return Float32Array.from(units, ({first, count}) => {
    let sum = 0
    for (let token = first; token < first + count; token++) sum += map[token]
    return sum
  })
}

/** Share of a map above which a unit would leave no colour to the others (ε of Gu et al. 2024). */
const OUTSHINES = 0.3
/** Units that make a scale of their own. */
const FEWEST = 3

/**
 * The probability that gets the last colour: the largest of a word. Special tokens, sinks and what holds more than 30 %
 * and twice an even share are not part of the scale, unless fewer than three others are left.
 * @param {Unit[]} units
 * @param {Float32Array} mass
 * @param {ReadonlySet<number>} sinks  Tokens.
 * @param {number} count  Of tokens that share.
 */
export function topOf(units, mass, sinks, count) {
  let top = 0, most = 0, left = 0
  units.forEach((unit, i) => {
    const p = mass[i], apart = unit.special || sinks.has(unit.first) || p > OUTSHINES && p * count > 2 * unit.count
    most = Math.max(most, p)
    if (apart) return
    top = Math.max(top, p)
    left++
  })
  return left >= FEWEST && top > 1e-5 * most ? top : most
}
