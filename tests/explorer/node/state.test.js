/** Defaults of the page, as Python has them (state.py). */
import assert from 'node:assert/strict'
import {test} from 'node:test'
import {checked, defaults} from '../../../src/tokenrank/explorer/page/state.js'

const {index, expected, taken} = JSON.parse(process.env.TOKENRANK_STATE)

test('a page begins with what Python says', () => {
  index.sheets.forEach((_, i) => assert.deepEqual(defaults(index, i), expected[i]))
})

test('what Python takes the page takes as it is', () => {
  for (const [name, value] of taken) assert.deepEqual(checked(index, expected[0], {[name]: value})[name], value, name)
})
