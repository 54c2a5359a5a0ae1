/**
 * Walks of a list of chains, as a page would show them: `node walks.js FOLDER` reads `asked.json` and `slices.bin` and
 * writes `answers.bin`, float32 maps and limit, (bounces + 2, N), of every question in turn.
 */
import {readFileSync, writeFileSync} from 'node:fs'
import {join} from 'node:path'
import {here, walked} from './page.js'

const folder = process.argv[2]
const {slices, chains} = JSON.parse(readFileSync(join(folder, 'asked.json'), 'utf8'))
const blob = readFileSync(join(folder, 'slices.bin'))
const made = here(), answers = []
for (const {slice, heads, keep, questions} of chains) {
  const {stored, count, at, length} = slices[slice]
  if (!made.has(String(slice))) await made.layer(String(slice), stored, count, blob.subarray(at, at + length))
  const built = made.chain({key: String(slice), heads, keep})
  for (const question of questions) {
    const {whole, walk} = await walked(made, question)
    if (!whole || !walk.converged) throw new Error(`${slice}, ${JSON.stringify(question)}: residual ${walk?.residual}`)
    answers.push(walk.maps, walk.limit)
  }
  await built
}
writeFileSync(join(folder, 'answers.bin'), Buffer.concat(answers.map(x => new Uint8Array(x.buffer, x.byteOffset, x.byteLength))))
