/**
 * Words: numbers, tokens, the sentence under the picture.
 */

/**
 * A probability as a percentage: "12 %", "1.3 %", "0.04 %", "2e-5 %".
 * @param {number} p
 */
export function percent(p) {
  const value = 100 * p
  if (value === 0) return '0 %'
  if (value < 0.01) return `${value.toExponential(0)} %`
  return `${value >= 9.95 ? value.toFixed(0) : value >= 0.995 ? value.toFixed(1) : value.toFixed(2)} %`
}

/**
 * How many times the even share: "3.2 ×", "41 ×".
 * @param {number} p
 * @param {number} count  Of tokens that share.
 */
export function evenly(p, count) {
  const times = p * count
  return `${times >= 9.95 ? whole(times) : times.toFixed(1)} ×`
}

/**
 * A whole number with its thousands: "4,096".
 * @param {number} n
 */
export function whole(n) {
  return Math.round(n).toString().replace(/\B(?=(\d{3})+$)/g, ',')
}

/**
 * A measured error or a residual: "8e-5".
 * @param {number} x
 */
export function tiny(x) {
  return x === 0 ? '0' : x >= 0.01 ? x.toPrecision(2) : x.toExponential(0)
}

/**
 * A bound on an error, never less than it is: of 1.07e-5 "2e-5".
 * @param {number} x
 */
export function atMost(x) {
  if (!(x > 0)) return tiny(x)
  const unit = 10 ** (Math.floor(Math.log10(x)) - Number(x >= 0.01))
  return tiny(Math.ceil(x / unit - 1e-9) * unit)
}

/**
 * Milliseconds as a reader wants them: "12 ms", "1.3 s".
 * @param {number} milliseconds
 */
export function duration(milliseconds) {
  if (milliseconds >= 10000) return `${(milliseconds / 1000).toFixed(0)} s`
  if (milliseconds >= 1000) return `${(milliseconds / 1000).toFixed(1)} s`
  return `${Math.max(1, milliseconds).toFixed(0)} ms`
}

/**
 * A span as a reader calls it: "CLS", "registers", "image padding".
 * @param {string} name
 */
export function spanName(name) {
  return name === 'cls' ? 'CLS' : name.replaceAll('_', ' ')
}

/**
 * A token as it is called in lists: its text, "row 5, column 7", or its span and place.
 * @param {import('./types.js').Sheet} sheet
 * @param {number} token
 */
export function tokenName(sheet, token) {
  const known = sheet.tokens?.[token]?.name
  if (known) return known
  const grid = sheet.grid
  if (grid) {
    const cell = grid.order ? grid.order.indexOf(token) : token - grid.first
    if (cell >= 0 && cell < grid.rows * grid.columns) {
      return `row ${Math.floor(cell / grid.columns) + 1}, column ${cell % grid.columns + 1}`
    }
  }
  const span = sheet.spans.find(({first, count}) => token >= first && token < first + count)
  if (!span) return `token ${token}`
  return spanName(span.name) + (span.count === 1 ? '' : ` ${token - span.first + 1}`)
}

/**
 * A number of bounces: "the start", "1 bounce", "2 bounces", "∞ bounces".
 * @param {number} n
 * @param {number} last  Largest finite number of the slider.
 */
export function bouncesName(n, last) {
  if (n > last) return '∞ bounces'
  return n === 0 ? 'The start' : n === 1 ? '1 bounce' : `${n} bounces`
}

/**
 * Which heads, in words: "head 3", "all heads by |λ2|", "all heads equally".
 * @param {import('./types.js').State['head']} head
 */
export function headsName(head) {
  if (typeof head === 'number') return `head ${head}`
  return head === 'lambda2' ? 'all heads by |λ2|' : 'all heads equally'
}

/**
 * Where the walk starts: a token, a word, or how many tokens; those of a text stand in quotes.
 * @param {import('./types.js').Sheet} sheet
 * @param {readonly number[]} starts
 */
export function startsName(sheet, starts) {
  const word = sheet.words.find(({first, count}) =>
    count === starts.length && starts.every(token => token >= first && token < first + count))
  const name = word?.text ?? (starts.length === 1 ? tokenName(sheet, starts[0]) : '')
  return !name ? `${starts.length} tokens` : sheet.kind === 'text' && !sheet.special.includes(starts[0]) ? `“${name}”` : name
}

/**
 * The sentence under the stage, in two parts: how many bounces, and of what. "2 bounces" and "following attention from
 * row 5, column 7; at each bounce 1 % goes anywhere instead".
 *
 * @param {import('./types.js').View} view
 * @returns {[string, string]}
 */
export function sentence(view) {
  const {state, sheet, index} = view
  const n = Math.round(view.frame), from = startsName(sheet, state.starts), ahead = state.direction === 'forward'
  const share = Number((100 - 100 * state.alpha).toPrecision(2))
  const stray = share ? `; at each bounce ${share} % goes anywhere instead` : ''
  if (n === 0) return ['The start', from]
  if (n > index.bounces) {
    return ['∞ bounces', (ahead ? 'TokenRank: where attention ends up, whatever the start'
      : 'reverse TokenRank: where attention comes from, whatever the start') + stray]
  }
  const words = n === 1 ? (ahead ? 'what is attended to from' : 'what attends to')
    : ahead ? 'following attention from' : 'tracing attention back from'
  return [bouncesName(n, index.bounces), `${words} ${from}${stray}`]
}
