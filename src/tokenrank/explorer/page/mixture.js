/**
 * Words for the numbers that come certified from Python, and of which chain they are.
 */
import {tiny, whole} from './say.js'

/** @typedef {import('./types.js').View} View */

/**
 * |λ2| to three digits; of what is just below one, what is missing: "1 − 2e-6".
 * @param {number} x
 */
export function modulus(x) {
  return x === 1 ? '1' : x < 1 && x > 0.9995 ? `1 − ${tiny(1 - x)}` : x.toFixed(3)
}

/**
 * Bounces after which half of the second mode is left, ln 2 / −ln|λ2|; Infinity where |λ2| is one.
 * @param {number} lambda2
 */
export function halfLife(lambda2) {
  return lambda2 >= 1 ? Infinity : lambda2 <= 0 ? 0 : Math.LN2 / -Math.log(lambda2)
}

/**
 * "∞", "0.4", "3.2", "1,234" bounces.
 * @param {number} n
 */
export function bounceCount(n) {
  return n === Infinity ? '∞' : n < 9.95 ? n.toFixed(1) : whole(n)
}

/**
 * |λ2| of what is on screen, as Python has it: of the head, or of all by |λ2|; null where it is of another chain, as
 * with tokens left out, heads counted equally, or attention traced back.
 * @param {View} view
 * @returns {{lambda2: number, certificate: string} | null}
 */
export function knownModulus({state, layer}) {
  if (state.without !== 'none' || state.direction === 'backward') return null
  return typeof state.head === 'number' ? layer.heads[state.head] : state.head === 'lambda2' ? layer.chain : null
}

/**
 * What a reader has to know who looks at another chain than the one that a tab is about; otherwise nothing.
 * @param {View} view
 */
export function otherChain({state, layer}) {
  const head = typeof state.head === 'number' ? layer.heads[state.head] : null
  const shown = head ? [`head ${state.head}, |λ2| ${modulus(head.lambda2)} (${head.certificate})`]
    : state.head === 'uniform' ? ['all heads equally'] : []
  if (state.without !== 'none') shown.push('some tokens left out')
  if (state.direction === 'backward') shown.push('attention traced back')
  return shown.length ? `On screen: ${shown.join(', ')}. Here: all heads by |λ2|, all tokens, attention followed.` : ''
}

/**
 * What to do where a layer has no chain in the page.
 * @param {View} view
 */
export function missingChain({index, layer}) {
  const cure = index.cure.replaceAll('{layer}', String(layer.number)).replaceAll('{head}', 'all')
  return `Layer ${layer.number} is a thumbnail here, without spectrum and groups. This brings them: ${cure}`
}
