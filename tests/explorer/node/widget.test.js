/** The widget's part of the page against a model without a host. */
import assert from 'node:assert/strict'
import {mock, test} from 'node:test'
import {setTimeout as wait} from 'node:timers/promises'
import {runInNewContext} from 'node:vm'
import {bound, bytesFrom, renderWidget, traitsSource} from '../../../src/tokenrank/explorer/page/widget.js'
import {HOSTS, answer, modelOf} from './model.js'

const blob = Uint8Array.from({length: 1000}, (_, i) => (7 * i + (i >> 8)) % 256)
const layer = {number: 2, step: 0, name: 'a', heads: [], stored: {bytes: [0, 8]}}
const sheet = {words: [], start: 3, count: 9, steps: [{step: 0}], layers: [layer]}
const index = {format: 'TRX1', alpha: 0.99, bounces: 20, sheets: [sheet]}
const first = {sheet: 0, starts: [3], bounces: 2, head: 'lambda2', theme: null}

/** A view that takes what it is given, but for bounces beyond 21. */
function viewOf(told = () => {}) {
  const view = {state: {...first}, sets: [], set(changes) {
    view.sets.push(changes)
    view.state = {...view.state, ...changes}
    if (view.state.bounces > 21) view.state.bounces = 21
    if ('sheet' in changes && !('starts' in changes)) view.state.starts = [0]
    told()
  }}
  return view
}

for (const [host, hand] of Object.entries(HOSTS)) {
  test(`bytes as ${host}`, async () => {
    assert.deepEqual([...bytesFrom(hand(blob))], [...blob])
    const model = modelOf({index: JSON.stringify(index), held: hand(blob.slice(100, 160)), places: [[100, 20], [120, 40]]})
    model.python = ({want}) => setTimeout(() => want && model.receive({part: hand(answer(want.at(-1), blob))}))
    const source = traitsSource(model)
    assert.deepEqual(await source.index(), index)
    assert.deepEqual(await source.bytes([100, 20]), blob.slice(100, 120))
    assert.deepEqual(await source.bytes([125, 30]), blob.slice(125, 155))
    assert.equal(model.sent.length, 0, 'what is held needs no kernel')
    const asked = [[110, 20], [0, 16], [990, 10], [150, 11]] // across two places, before, behind, over the end
    const got = await Promise.all(asked.map(bytes => source.bytes(bytes)))
    got.forEach((bytes, i) => assert.deepEqual(bytes, blob.slice(asked[i][0], asked[i][0] + asked[i][1])))
    assert.equal(model.sent.length, 4)
    source.remove()
    assert.equal(model.count(), 0)
  })
}

test('a buffer of another window', () => {
  const foreign = runInNewContext('Uint8Array.of(1, 2, 3).buffer')
  assert(!(foreign instanceof ArrayBuffer))
  assert.deepEqual([...bytesFrom(foreign)], [1, 2, 3])
  for (const nothing of [null, undefined, new ArrayBuffer(0)]) assert.equal(bytesFrom(nothing).length, 0)
})

test('long parts come in messages of 4 MB', async () => {
  const long = new Uint8Array(9e6 + 5).map((_, i) => i % 251)
  const model = modelOf({})
  model.python = ({want}) => model.receive({part: answer(want.at(-1), long)})
  const got = await traitsSource(model).bytes([2, 9e6])
  assert.deepEqual(model.sent.map(({want}) => want.at(-1).slice(1)), [[2, 4e6], [2 + 4e6, 4e6], [2 + 8e6, 1e6]])
  assert(Buffer.from(got).equals(Buffer.from(long.subarray(2, 2 + 9e6))))
})

test('two views of one model get each their own', async () => {
  const model = modelOf({})
  const one = traitsSource(model), other = traitsSource(model)
  const got = [one.bytes([0, 10]), other.bytes([500, 20]), one.bytes([30, 5])]
  await wait(1)
  const done = new Set()
  for (let turn = 0; turn < 3; turn++) { // the host sends the last state of the trait only
    for (const ask of model.get('want')) if (!done.has(ask[0])) model.receive({part: answer(ask, blob)})
    for (const ask of model.get('want').slice()) done.add(ask[0])
    await wait(1)
  }
  assert.deepEqual(await Promise.all(got), [blob.slice(0, 10), blob.slice(500, 520), blob.slice(30, 35)])
})

test('answers to others are passed over, a kernel that does not answer is told, and the next ask works', async () => {
  mock.timers.enable({apis: ['setTimeout']})
  try {
    const model = modelOf({})
    const source = traitsSource(model)
    const refused = assert.rejects(source.bytes([0, 10]), /kernel does not answer: run the cell/)
    await Promise.resolve()
    await Promise.resolve()
    const [number] = model.get('want').at(-1)
    model.receive({part: answer([number + 1, 0, 10], blob)})
    model.receive({part: new Uint8Array(3)})
    model.receive({part: null})
    mock.timers.tick(12e4)
    await refused
    model.python = ({want}) => model.receive({part: answer(want.at(-1), blob)})
    assert.deepEqual(await source.bytes([4, 6]), blob.slice(4, 10))
  } finally {
    mock.timers.reset()
  }
})

test('a part that is shorter than it was asked for is refused', async () => {
  const model = modelOf({})
  model.python = ({want}) => model.receive({part: answer([want.at(-1)[0], 0, 9], blob)})
  await assert.rejects(traitsSource(model).bytes([0, 10]), /does not answer/)
})

test('what the page changes is told once, and what it did not is not', () => {
  const model = modelOf(first), view = viewOf(() => link.tell()), link = bound(model, view)
  view.set({bounces: 5, starts: [1, 2]})
  view.set({bounces: 5})
  assert.deepEqual(model.sent, [{bounces: 5, starts: [1, 2]}])
})

test('what Python changes moves the page, in one step and without an answer', async () => {
  const model = modelOf(first), view = viewOf(() => link.tell()), link = bound(model, view)
  model.receive({sheet: 1, starts: [4], bounces: 7})
  await wait(2)
  assert.deepEqual(view.sets, [{sheet: 1, starts: [4], bounces: 7}])
  assert.deepEqual(model.sent, [])
})

test('what the page cannot show is corrected in Python', async () => {
  const model = modelOf(first), view = viewOf(() => link.tell()), link = bound(model, view)
  model.receive({bounces: 99})
  await wait(2)
  assert.deepEqual(model.sent, [{bounces: 21}])
  model.receive({sheet: 1})
  await wait(2)
  assert.deepEqual(model.sent.slice(1), [{starts: [0]}])
})

test('a change of the page does not undo one of Python that is on its way', async () => {
  const model = modelOf(first), view = viewOf(() => link.tell()), link = bound(model, view)
  model.receive({head: 3})
  view.set({bounces: 4})
  assert.deepEqual(model.sent, [{bounces: 4}])
  await wait(2)
  assert.deepEqual([view.state.head, view.state.bounces, model.sent.length], [3, 4, 1])
})

test('nothing is heard after the end', async () => {
  const model = modelOf(first), view = viewOf(), link = bound(model, view)
  model.receive({bounces: 4})
  link.remove()
  model.receive({bounces: 5})
  await wait(2)
  assert.deepEqual([view.sets, model.count()], [[], 0])
})

test('a view begins with the traits and leaves nothing behind, even if it ends before it has begun', async () => {
  for (const pause of [0, 5]) {
    const model = modelOf({index: JSON.stringify(index), ...first, layer: 2, starts: [5], bounces: 9})
    const calls = []
    const mount = async (host, source, options) => {
      calls.push(options.state)
      return {view: viewOf(), remove: () => calls.push('removed')}
    }
    const stop = renderWidget({model, el: {dataset: {}}}, mount)
    if (pause) await wait(pause)
    stop()
    await wait(5)
    assert.deepEqual([calls[0].starts, calls[0].bounces, calls[0].layer, calls.at(-1)], [[5], 9, 2, 'removed'])
    assert.equal(calls.length, 2)
    assert.equal(model.count(), 0)
  }
})
