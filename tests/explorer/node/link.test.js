/** State and link: what is possible passes, whatever was asked; a link brings the state back. */
import assert from 'node:assert/strict'
import {test} from 'node:test'
import {droppedTokens} from '../../../src/tokenrank/explorer/page/chosen.js'
import {atMost, percent, evenly, sentence, tiny, whole} from '../../../src/tokenrank/explorer/page/say.js'
import {ALPHAS, checked, defaults, differences, fromLink, layerAt, toLink} from '../../../src/tokenrank/explorer/page/state.js'

const index = JSON.parse(process.env.TOKENRANK_INDEX)
const odd = [undefined, null, NaN, Infinity, -Infinity, -1, 0, 1, 1.5, 2, 7, 25, 1e9, '', '1', 'lambda2', 'backward', 'sinks',
  'special', 'heads', 'dark', true, false, [], [0], [3, 3, 99], [-1, 'a', null], {}, {length: 3}, '__proto__', () => 1]
let seed = 1
const random = n => (seed = seed * 48271 % 2147483647) % n

/** Fails unless everything in a state is possible. */
function possible(state) {
  const sheet = index.sheets[state.sheet], layer = layerAt(sheet, state.step, state.layer)
  assert.equal(layer.number, state.layer)
  assert.equal(layer.step, state.step)
  assert.ok(state.head === 'lambda2' || state.head === 'uniform' || layer.heads[state.head])
  assert.ok(state.starts.length && state.starts.every(token => Number.isInteger(token) && token >= 0 && token < sheet.count))
  assert.equal(new Set(state.starts).size, state.starts.length)
  assert.ok(!state.starts.some(token => droppedTokens(sheet, layer, state).includes(token)))
  assert.ok(Number.isInteger(state.bounces) && state.bounces >= 0 && state.bounces <= index.bounces + 1)
  assert.ok(state.alpha === 1 ? layer.chain.unique : state.alpha >= ALPHAS.least && state.alpha <= ALPHAS.most)
  assert.ok(state.opacity >= 0 && state.opacity <= 1)
  for (const name of ['smooth', 'hide', 'pieces']) assert.equal(typeof state[name], 'boolean')
  assert.deepEqual(Object.keys(state).sort(), Object.keys(defaults(index)).sort())
}

test('whatever is asked, the state is possible', () => {
  const names = [...Object.keys(defaults(index)), 'unknown', 'constructor']
  let state = defaults(index)
  for (let i = 0; i < 5000; i++) {
    const changes = {}
    for (let k = random(3); k >= 0; k--) changes[names[random(names.length)]] = odd[random(odd.length)]
    state = checked(index, state, changes)
    possible(state)
  }
})

test('a link brings the state back', () => {
  let state = defaults(index)
  const asked = [{layer: 1}, {head: 2}, {head: 'uniform'}, {starts: [3, 7, 20]}, {bounces: 21}, {bounces: 0}, {alpha: 0.75},
    {direction: 'backward'}, {smooth: true}, {opacity: 0.35}, {tab: 'groups'}, {theme: 'light'}, {theme: null}, {without: 'special'}]
  assert.equal(toLink(index, state), '')
  for (const changes of asked) {
    state = checked(index, state, changes)
    const back = checked(index, defaults(index), fromLink(`#${toLink(index, state)}`))
    assert.deepEqual(back, state, JSON.stringify(changes))
  }
  assert.equal(toLink(index, {...defaults(index), starts: [3, 7], bounces: 21}), 'starts=3,7&bounces=inf')
})

test('a start that is left out moves to one that is not', () => {
  const state = checked(index, defaults(index), {starts: [0, 5], without: 'special'})
  assert.deepEqual(state.starts, [5])
  assert.deepEqual(checked(index, state, {starts: [0]}).starts, [index.sheets[0].start])
})

test('α = 1 only where there is one limit', () => {
  const state = defaults(index)
  assert.equal(checked(index, state, {alpha: 1}).alpha, 1)
  for (const other of [{head: 1}, {without: 'special'}]) assert.equal(checked(index, state, {alpha: 1, ...other}).alpha, index.alpha)
  assert.equal(checked(index, checked(index, state, {alpha: 1}), {head: 'uniform'}).alpha, index.alpha)
})

test('what differs is named', () => {
  const state = defaults(index)
  assert.deepEqual([...differences(state, {...state, starts: [1, 2], bounces: 3})], ['starts', 'bounces'])
  assert.equal(differences(state, {...state, starts: [...state.starts]}).size, 0)
})

test('numbers in words', () => {
  assert.deepEqual([0, 1, 0.5, 0.0995, 0.0994, 0.0123, 0.00995, 0.0004, 0.00002].map(percent),
    ['0 %', '100 %', '50 %', '10 %', '9.9 %', '1.2 %', '1.0 %', '0.04 %', '2e-3 %'])
  assert.deepEqual([0.5, 0.001, 1].map(p => evenly(p, 4096)), ['2,048 ×', '4.1 ×', '4,096 ×'])
  assert.deepEqual([0, 12, 999, 1000, 1234567].map(whole), ['0', '12', '999', '1,000', '1,234,567'])
  assert.deepEqual([0, 8.3e-5, 0.019].map(tiny), ['0', '8e-5', '0.019'])
  // a bound is not rounded below what it is
  assert.deepEqual([0, 2e-7, 1.07e-5, 9.1e-5, 9.6e-3, 0.0121, 0.03].map(atMost), ['0', '2e-7', '2e-5', '1e-4', '0.010', '0.013', '0.030'])
})

test('the sentence of every state', () => {
  const state = defaults(index), sheet = index.sheets[0]
  const of = changes => sentence({state: {...state, ...changes}, frame: changes.bounces ?? 2, sheet, index}).join(' | ')
  assert.equal(of({}), '2 bounces | following attention from row 2, column 3; at each bounce 1 % goes anywhere instead')
  assert.equal(of({bounces: 0, starts: [0]}), 'The start | CLS')
  assert.equal(of({bounces: 1, direction: 'backward', alpha: 1}), '1 bounce | what attends to row 2, column 3')
  assert.equal(of({bounces: 21, alpha: 0.999}),
    '∞ bounces | TokenRank: where attention ends up, whatever the start; at each bounce 0.1 % goes anywhere instead')
})
