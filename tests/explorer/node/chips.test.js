import assert from 'node:assert/strict'
import test from 'node:test'
import {chipsOf, whyNotOne} from '../../../src/tokenrank/explorer/page/chips.js'
import {stepName} from '../../../src/tokenrank/explorer/page/steps.js'

/** @param {object} more */
const sheet = more => /** @type {any} */ ({
  kind: 'picture', count: 0, spans: [], grid: null, tokens: null, words: [], special: [], ...more,
})
/** @param {any} of */
const told = of => chipsOf(of).map(({name, tokens, word}) => `${word ? '"' : ''}${name} ${tokens.join()}`)

test('CLS and registers of a picture, wherever they stand', () => {
  const spans = [{name: 'cls', first: 0, count: 1}, {name: 'registers', first: 1, count: 4}, {name: 'image', first: 5, count: 6}]
  const of = sheet({count: 11, spans, grid: {first: 5, rows: 2, columns: 3, order: null}, special: [0, 1, 2, 3, 4]})
  assert.deepEqual(told(of), ['CLS 0', 'registers 1,2,3,4'])
  const turned = sheet({count: 5, spans: [{name: 'image', first: 1, count: 4}, {name: 'time', first: 0, count: 1}],
    grid: {first: 1, rows: 2, columns: 2, order: [1, 3, 2, 4]}})
  assert.deepEqual(told(turned), ['time 0'])
})

test('words of a prompt once each, padding together', () => {
  const text = ['<s>', 'sky', 'scraper', 'a', '<pad>', '<pad>'].map(text => ({text, space: true, name: text}))
  const of = sheet({
    kind: 'both', count: 10, special: [0, 4, 5], tokens: [...text, ...Array(4).fill({text: '', space: false, name: ''})],
    spans: [{name: 'text', first: 0, count: 6}, {name: 'image', first: 6, count: 4}],
    words: [{text: '<s>', first: 0, count: 1}, {text: 'skyscraper', first: 1, count: 2}, {text: 'a', first: 3, count: 1}],
    grid: {first: 6, rows: 2, columns: 2, order: null},
  })
  assert.deepEqual(told(of), ['"skyscraper 1,2', '"a 3', '<s> 0', '<pad> 4,5'])
  assert.deepEqual(told({...of, words: [], tokens: null, special: [5]}),
    ['"text 1 0', '"text 2 1', '"text 3 2', '"text 4 3', '"text 5 4', 'text 5'])
})

test('of a text only what is special', () => {
  const of = sheet({kind: 'text', count: 4, special: [0, 3], spans: [{name: 'text', first: 0, count: 4}],
    tokens: ['[CLS]', 'a', 'cat', '[SEP]'].map(text => ({text, space: true, name: text})),
    words: [{text: 'a', first: 1, count: 1}, {text: 'cat', first: 2, count: 1}]})
  assert.deepEqual(told(of), ['[CLS] 0', '[SEP] 3'])
})

test('512 tokens of padding take one chip, hostile names stay names', () => {
  const of = sheet({kind: 'both', count: 513, special: [...Array(512).keys()], spans: [
    {name: 'text_padding', first: 0, count: 512}, {name: '</script>', first: 512, count: 1}]})
  assert.deepEqual(chipsOf(of).map(({name, tokens}) => [name, tokens.length]), [['text padding', 512], ['</script>', 1]])
})

test('why α = 1 is not offered', () => {
  /** @param {any} chain @param {object} [state] */
  const why = (chain, state) => {
    const layer = {number: 0, step: 0, heads: [], stored: {}, chain}
    const given = {sheet: 0, step: 0, layer: 0, head: 'lambda2', direction: 'forward', without: 'none', ...state}
    return whyNotOne(/** @type {any} */ ({index: {sheets: [{layers: [layer]}]}, layer, state: given}))
  }
  const one = {unique: true, classes: {recurrent: [[0]], transient: []}}
  assert.equal(why(one), '')
  assert.equal(why(one, {direction: 'backward'}), '')
  assert.match(why(one, {without: 'special'}), /with all tokens/)
  assert.match(why(one, {head: 2}), /all heads/)
  assert.match(why({unique: true, classes: {recurrent: [[0]], transient: [1]}}, {direction: 'backward'}), /forward/)
  assert.match(why({unique: false, classes: {recurrent: [[0], [1], [2]], transient: []}}), /3 sets of tokens are never left/)
  assert.match(why({unique: false, classes: {recurrent: [[0, 1]], transient: []}}), /in turns/)
  assert.match(why(null), /not known/)
})

test('steps in words', () => {
  assert.equal(stepName({step: 14, timestep: 503.25}), 'step 14, timestep 503')
  assert.equal(stepName({step: 2, timestep: 0.16667}), 'step 2, timestep 0.167')
  assert.equal(stepName({step: 0, timestep: null}), 'step 0')
})
