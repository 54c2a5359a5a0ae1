/**
 * Milliseconds of the engine in Node, 12 heads of 64 channels, random queries and keys:
 * `node times.js [--plain] [--causal] [--processor] 256 1024 2048 4096`; --processor: time on the processor, for a busy
 * machine.
 * first: n = 0 and 1 of a click right after the layer came; chain: all rows; walk: 20 bounces on the chain, with and without
 * its limit, which is found once for a direction and an α.
 */
import {here, random, walked} from './page.js'

const words = process.argv.slice(2), plain = words.includes('--plain'), causal = words.includes('--causal')
const processor = () => (process.cpuUsage().user + process.cpuUsage().system) / 1000
const clock = words.includes('--processor') ? processor : () => performance.now()
for (const count of words.map(Number).filter(Boolean)) {
  const made = here(!plain), layer = random({count, heads: 12, size: 64, causal}), row = {count}
  await made.layer('a', ...layer)
  const heads = layer[0].heads.map(head => [head, 1])
  let start = clock()
  const lap = name => {
    const now = clock()
    row[name] ??= Math.round(10 * (now - start)) / 10
    start = now
  }
  const built = made.chain({key: 'a', heads}).then(() => lap('chain'))
  await made.walk({starts: [5], direction: 'forward', alpha: 0.99, bounces: 20}, () => row.first ?? lap('first'))
  await built
  for (const direction of ['forward', 'backward']) {
    start = clock()
    await walked(made, {starts: [7], direction, alpha: 0.98})
    lap(`${direction} walk and limit`)
    await walked(made, {starts: [9], direction, alpha: 0.98})
    lap(`${direction} walk`)
  }
  console.log(JSON.stringify(row))
}
