/**
 * What a state chooses among the heads and tokens of a layer: weights, tokens left out, what is not in the page.
 */

/** @typedef {import('./types.js').Layer} Layer */
/** @typedef {import('./types.js').State} State */

/**
 * How much each stored head counts, sum one; empty where nothing of the choice is stored.
 *
 * @param {Layer} layer
 * @param {State['head']} head
 * @returns {[number, number][]}  Number of the head, and its weight, above zero only.
 */
export function headWeights(layer, head) {
  const kept = layer.stored?.heads ?? []
  const raw = kept.map(number => typeof head === 'number' ? Number(number === head) : head === 'uniform' ? 1
    : layer.chain ? layer.chain.mixture.weights[number] : layer.heads[number].lambda2)
  const sum = raw.reduce((a, b) => a + b, 0)
  if (!sum && head === 'lambda2') return headWeights(layer, 'uniform')
  return raw.map((weight, place) => /** @type {[number, number]} */ ([kept[place], weight / sum])).filter(([, weight]) => weight > 0)
}

/**
 * Tokens that are left out, increasing: special ones, or the sinks of the heads chosen. Never all of them.
 *
 * @param {import('./types.js').Sheet} sheet
 * @param {Layer} layer
 * @param {Pick<State, 'head' | 'without'>} state
 * @returns {number[]}
 */
export function droppedTokens(sheet, layer, {head, without}) {
  const heads = typeof head === 'number' ? [layer.heads[head]] : layer.heads
  const found = without === 'special' ? sheet.special : without === 'sinks' ? heads.flatMap(one => one?.sinks ?? []) : []
  const dropped = [...new Set(found)].sort((a, b) => a - b)
  return dropped.length < sheet.count ? dropped : []
}

/**
 * Why a choice cannot be shown, with the command that brings it; null where it can.
 *
 * @param {import('./types.js').Index} index
 * @param {Layer} layer
 * @param {State['head']} head
 * @returns {import('./types.js').Notice | null}
 */
export function absence(index, layer, head) {
  const {stored} = layer
  if (stored && (typeof head !== 'number' || stored.heads.includes(head))) return null
  const what = stored && typeof head === 'number' ? `Head ${head} of ${layer.name}` : layer.name
  const command = index.cure.replaceAll('{layer}', String(layer.number))
    .replaceAll('{head}', typeof head === 'number' ? String(head) : 'all')
  return {command, words: `${what} is a thumbnail here: its queries and keys were left out to keep the page small. `
    + 'This brings them:'}
}
