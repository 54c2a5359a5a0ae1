/**
 * The lines of Python that make the map on screen again.
 */
import {headWeights} from './chosen.js'
import {goneOf} from './words.js'

/** A string as Python reads it, in ASCII. @param {string} text */
export const quoted = text => JSON.stringify(text).replace(/[^ -~]/gu, c => {
  const code = c.codePointAt(0) ?? 0
  return code > 0xffff ? `\\U${code.toString(16).padStart(8, '0')}` : `\\u${code.toString(16).padStart(4, '0')}`
})

/**
 * A view as Python: the page's lines that make `obs`, the chain, and the walk or its limit. The page may have lines for
 * several sources, each from its import on.
 * @param {import('./types.js').View} view
 * @returns {string}
 */
export function snippet(view) {
  const {index, sheet, layer, state} = view, {starts, alpha, head} = state, back = state.direction === 'backward'
  const name = quoted(layer.name), heads = layer.heads.length, kept = layer.stored?.heads ?? []
  const sources = index.python.join('\n').split(/\n(?=import tokenrank)/)
  const lines = sources.length === index.sheets.length ? [sources[state.sheet]] : sources
  if (typeof head === 'number' || kept.length === heads || head === 'uniform') {
    const which = typeof head === 'number' ? head : kept.length === heads ? quoted(head) : `[${kept.join(', ')}]`
    lines.push(`chain = obs.chain(layer=${name}, heads=${which}, tokens="all")`)
  } else {
    const all = layer.heads.map(() => 0)
    for (const [number, weight] of headWeights(layer, head)) all[number] = +weight.toPrecision(9)
    lines.push(`weights = [${all.join(', ')}]  # by |λ2|; 0: not in the page`)
    lines.push(`chain = obs.head_chains(layer=${name}, tokens="all").aggregate(weights)`)
  }
  const gone = goneOf(view)
  if (gone.length) {
    lines.push(`kept = [i for i in range(${sheet.count}) if i not in {${gone.join(', ')}}]`)
    lines.push('chain = chain.restrict(kept)')
  }
  const places = starts.map(token => gone.length ? `kept.index(${token})` : token), many = places.length
  if (state.bounces > index.bounces) {
    lines.push(`shown = chain.tokenrank(alpha=${alpha}${back ? ', direction="backward"' : ''})`)
  } else {
    if (back) lines.push('chain = chain.reverse()')
    // as many starts as tokens could be indices or weights: one weight a token cannot
    const all = many === sheet.count - gone.length
    const from = many === 1 ? places[0] : all ? `[1.0] * ${many}` : `[${places.join(', ')}]`
    lines.push(`shown = chain${alpha === 1 ? '' : `.teleport(${alpha})`}.bounce(${from}, n=${state.bounces})`)
  }
  lines.push('shown.show()')
  return lines.join('\n')
}
