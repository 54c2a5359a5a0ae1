import assert from 'node:assert/strict'
import test from 'node:test'
import {bounceCount, halfLife, knownModulus, modulus, otherChain} from '../../../src/tokenrank/explorer/page/mixture.js'
import {checked, fromLink, toLink} from '../../../src/tokenrank/explorer/page/state.js'

test('numbers in words', () => {
  assert.deepEqual([0.5, 0.98765, 1, 1 - 2e-6, 0].map(modulus), ['0.500', '0.988', '1', '1 − 2e-6', '0.000'])
  assert.deepEqual([0.5, 0.25, 1, 0].map(halfLife), [1, 0.5, Infinity, 0])
  assert.deepEqual([0.44, 9.94, 9.96, 1234.4, Infinity].map(bounceCount), ['0.4', '9.9', '10', '1,234', '∞'])
})

const layer = {heads: [{lambda2: 0.9, certificate: 'checked'}], chain: {lambda2: 0.7, certificate: 'proved'}}
/** @param {object} more */
const seen = more => /** @type {any} */ ({layer, state: {head: 'lambda2', without: 'none', direction: 'forward', ...more}})

test('only what Python computed is called |λ2| of what is on screen', () => {
  assert.equal(knownModulus(seen({})), layer.chain)
  assert.equal(knownModulus(seen({head: 0})), layer.heads[0])
  for (const other of [{head: 'uniform'}, {without: 'sinks'}, {direction: 'backward'}, {head: 0, without: 'special'}]) {
    assert.equal(knownModulus(seen(other)), null)
  }
})

test('another chain on screen is told', () => {
  assert.equal(otherChain(seen({})), '')
  assert.match(otherChain(seen({head: 0})), /^On screen: head 0, \|λ2\| 0\.900 \(checked\)\. Here: all heads/)
  assert.match(otherChain(seen({head: 'uniform', without: 'sinks', direction: 'backward'})),
    /^On screen: all heads equally, some tokens left out, attention traced back\./)
})

test('a group of tokens is in the link as runs, and comes back', () => {
  const index = /** @type {any} */ ({alpha: 0.99, bounces: 20, sheets: [{start: 0, words: [], layers: [], steps: [], special: []}]})
  const starts = [3, ...Array.from({length: 500}, (_, i) => 7 + i), 600, 2]
  const state = /** @type {any} */ ({sheet: 0, starts})
  assert.equal(toLink(index, state), 'starts=3,7-506,600,2')
  assert.deepEqual(fromLink('#starts=3,7-506,600,2').starts, starts)
  assert.equal(fromLink('starts=0-999999999999').starts.length, 65536)
  assert.deepEqual(fromLink('starts=9-3').starts, [])
})

test('α = 1 backward only where no token is transient', () => {
  // A = [[½, 0, ½], [0, ½, ½], [0, 0, 1]] ends in one token; its reverse stays in either of the two others
  const of = (/** @type {number[]} */ transient) => {
    const layer = {number: 0, step: 0, heads: [], stored: null, chain: {unique: true, classes: {transient}}}
    const index = /** @type {any} */ ({alpha: 0.99, bounces: 20, sheets: [
      {start: 0, words: [], count: 3, layers: [layer], steps: [{}], special: []}]})
    const state = /** @type {any} */ ({sheet: 0, step: 0, layer: 0, head: 'lambda2', without: 'none', starts: [0],
      bounces: 2, direction: 'forward', alpha: 0.99})
    const one = checked(index, state, {alpha: 1})
    return [one.alpha, checked(index, one, {direction: 'backward'}).alpha]
  }
  assert.deepEqual(of([]), [1, 1])
  assert.deepEqual(of([0, 1]), [1, 0.99])
})
