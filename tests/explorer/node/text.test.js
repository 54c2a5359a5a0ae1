/** Texts without a browser: units, chunks and their direction, hostile strings, scales, lines of Python. */
import assert from 'node:assert/strict'
import test from 'node:test'
import {contrast, gradesOf, rgb} from '../../../src/tokenrank/explorer/page/ink.js'
import {chunksOf, drawn, masses, topOf, unitsOf} from '../../../src/tokenrank/explorer/page/passage.js'
import {binned} from '../../../src/tokenrank/explorer/page/ribbon.js'
import {quoted, snippet} from '../../../src/tokenrank/explorer/page/snippet.js'
import {broken} from '../../../src/tokenrank/explorer/page/svg.js'

/** @param {string[]} strings @param {object} more */
const sheet = (strings, more = {}) => /** @type {any} */ ({
  kind: 'text', count: strings.length, tokens: strings.map(text => ({text, space: true, name: text})),
  words: strings.map((text, first) => ({text, first, count: 1})), special: [], ...more,
})
/** @param {string[]} strings */
const chunks = strings => chunksOf(unitsOf(sheet(strings), false))

test('what could act on the page becomes signs', () => {
  assert.equal(drawn('a\u202eb\u2028c\ud800d\u0007'), 'a⟨U+202E⟩b⟨U+2028⟩c⟨U+D800⟩d⟨U+0007⟩')
  assert.equal(drawn('a\nb\tc'), 'a⏎b⇥c')
  for (const kept of ['👩‍👩‍👧', 'e\u0301', '\u0646\u200c\u0645', '❤️', '🏴󠁧󠁢󠁥󠁮󠁧󠁿']) assert.equal(drawn(kept), kept)
})

test('a long token is cut between characters', () => {
  const cut = drawn('😀'.repeat(500_000))
  assert.equal([...cut].length, 31)
  assert(!/[\ud800-\udfff]/.test(cut.replace(/[\ud800-\udbff][\udc00-\udfff]/g, '')))
})

test('words are runs of tokens, pieces are tokens', () => {
  const of = sheet(['[CLS]', 'crack', 's', 'deep'], {special: [0], words: [{text: 'cracks', first: 1, count: 2}, {text: 'deep', first: 3, count: 1}]})
  assert.deepEqual(unitsOf(of, false).map(({text, first, count}) => [text, first, count]), [['[CLS]', 0, 1], ['cracks', 1, 2], ['deep', 3, 1]])
  assert.deepEqual(unitsOf(of, true).map(({text}) => text), ['[CLS]', 'crack', 's', 'deep'])
  assert.deepEqual([...masses(unitsOf(of, false), Float32Array.of(0.5, 0.25, 0.125, 0.125))], [0.5, 0.375, 0.125])
  assert.deepEqual(unitsOf(sheet(['', ''], {tokens: null, words: []}), false).map(({text}) => text), ['·0', '·1'])
})

test('stops and brackets where the tokenizer keeps no spaces', () => {
  /** @param {any[]} tokens */
  const spaces = tokens => unitsOf(sheet(tokens.map(String), {tokens: tokens.map(text => ({text, space: text !== 'ed' && text !== '!', name: text}))}), true)
    .map(({space}) => space)
  assert.deepEqual(spaces(['walk', 'ed', ',', '(', 'no', ')', '.']), [true, false, false, true, false, false, false])
  assert.deepEqual(spaces(['a', ',', '!']), [true, true, false], 'a tokenizer that keeps them is believed')
})

test('chunks end with a sentence, and run one way', () => {
  const long = chunks(Array.from({length: 600}, (_, i) => i % 10 === 9 ? 'end.' : 'word'))
  assert.deepEqual(long.map(({units}) => units.length), [200, 200, 200])
  assert.deepEqual(chunks(Array(600).fill('word')).map(({units}) => units.length), [256, 256, 88])
  assert.deepEqual(chunks(['1987', 'שלום', 'hello', '⏎', 'hello', 'שלום']).map(({rtl, units}) => [rtl, units.length]), [[true, 4], [false, 2]])
  assert.deepEqual(chunks(['مرحبا', '⏎', '!', '⏎', 'شكرا']).map(({rtl}) => rtl), [true], 'a line without letters goes on as before')
})

test('special tokens, sinks and what outshines are beside the scale', () => {
  const units = unitsOf(sheet(['[CLS]', 'a', 'b', 'c', 'd', 'e', 'f', 'g'], {special: [0]}), false)
  const map = Float32Array.of(0.2, 0.5, 0.15, 0.05, 0.04, 0.03, 0.02, 0.01)
  assert.equal(topOf(units, map, new Set(), 8), Math.fround(0.15))
  assert.equal(topOf(units, map, new Set([2]), 8), Math.fround(0.05))
  assert.equal(topOf(units.slice(0, 4), Float32Array.of(0.64, 0.28, 0.04, 0.04), new Set([1]), 4), Math.fround(0.64), 'two units are no scale')
  assert.equal(topOf(units, Float32Array.of(1, 0, 0, 0, 0, 0, 0, 0), new Set(), 8), 1, 'a start at CLS is seen')
})

test('letters on every grade have a contrast of 4.5', () => {
  for (const [paper, ink] of [['#ffffff', '#1c1c22'], ['#131318', '#ececf1']]) {
    for (const colours of /** @type {const} */ (['magma', 'viridis', 'greys'])) {
      for (const {back, letters} of gradesOf(colours, paper)) {
        const own = letters === null ? rgb(ink) : rgb(letters === '#fff' ? '#ffffff' : '#000000')
        assert(contrast(back, own) >= 4.5, `${colours} on ${paper}: ${back}`)
      }
    }
  }
})

test('columns of the ribbon hold the largest of their units', () => {
  assert.deepEqual([...binned(Uint8Array.of(1, 9, 2, 3, 0, 7), 3, false)], [9, 3, 7])
  assert.deepEqual([...binned(Uint8Array.of(1, 9, 2, 3, 0, 7), 3, true)], [7, 3, 9])
})

test('lines break at spaces', () => {
  assert.deepEqual(broken(['aa bb cc', 'dddddddd e'], 5, text => text.length), ['aa bb', 'cc', 'dddddddd', 'e'])
})

/** @param {object} state @param {object} [more] */
function lines(state, more) {
  const layer = {name: 'block.1', heads: [{sinks: [0]}, {sinks: []}], stored: {heads: [0, 1]}, chain: {mixture: {weights: [0.75, 0.25]}}}
  const of = sheet(['<s>', 'a', 'b', 'c'], {special: [0]})
  const index = {bounces: 20, python: ['import tokenrank as tr', 'obs = 1'], sheets: [of], ...more}
  const view = {index, sheet: of, layer: {...layer, ...more}, state: {sheet: 0, head: 'lambda2', starts: [2], bounces: 2, alpha: 0.99, direction: 'forward',
    without: 'none', ...state}}
  return snippet(/** @type {any} */ (view)).split('\n').slice(0, -1)
}

test('lines of Python', () => {
  const chain = 'chain = obs.chain(layer="block.1", heads="lambda2", tokens="all")'
  assert.deepEqual(lines({}).slice(2), [chain, 'shown = chain.teleport(0.99).bounce(2, n=2)'])
  assert.deepEqual(lines({starts: [1, 3], alpha: 1, direction: 'backward', bounces: 0}).slice(3), ['chain = chain.reverse()', 'shown = chain.bounce([1, 3], n=0)'])
  assert.deepEqual(lines({starts: [0, 1, 2, 3]}).slice(3), ['shown = chain.teleport(0.99).bounce([1.0] * 4, n=2)'])
  assert.deepEqual(lines({bounces: 21, direction: 'backward', alpha: 0.9}).slice(3), ['shown = chain.tokenrank(alpha=0.9, direction="backward")'])
  assert.deepEqual(lines({without: 'sinks'}).slice(3), ['kept = [i for i in range(4) if i not in {0}]', 'chain = chain.restrict(kept)',
    'shown = chain.teleport(0.99).bounce(kept.index(2), n=2)'])
  assert.deepEqual(lines({}, {stored: {heads: [1]}}).slice(2, 4), ['weights = [0, 1]  # by |λ2|; 0: not in the page',
    'chain = obs.head_chains(layer="block.1", tokens="all").aggregate(weights)'])
  assert.equal(lines({head: 'uniform'}, {stored: {heads: [1]}})[2], 'chain = obs.chain(layer="block.1", heads=[1], tokens="all")')
})

test('of several sources the lines of the one on screen', () => {
  const python = ['import tokenrank as tr', 'obs = 1', 'import tokenrank as tr', 'obs = 2']
  assert.deepEqual(lines({sheet: 1}, {python, sheets: [0, 1]}).slice(0, 2), ['import tokenrank as tr\nobs = 2'.split('\n')[0], 'obs = 2'])
})

test('strings of Python are ASCII', () => {
  assert.equal(quoted('a"\n\u2028é😀'), '"a\\"\\n\\u2028\\u00e9\\U0001f600"')
})
