// Runs all features with one major version of the client: `node run.mjs 8`. The servers come from the environment, see `scripts/test-clients`. One line per
// feature, `ok NAME` or `not ok NAME`; exit status 1 when any differs.

import assert from 'node:assert/strict'
import { features } from './features.mjs'
import { limits } from './limits.mjs'
import { ways } from './ways.mjs'

const major = process.argv[2]
const { Client } = await import(`elasticsearch${major}`)
const { OUTRIGGER_URL, ELASTICSEARCH_URL, OUTRIGGER_FAULTY_URL, ELASTICSEARCH_FAULTY_URL, OUTRIGGER_LIMITED_URL } = process.env

function side (url, faultyUrl, limitedUrl, otherUrl, type) {
  const connect = (options = {}) => new Client({ node: url, requestTimeout: 60_000, ...options })
  const faulty = (options) => new Client({ node: faultyUrl, requestTimeout: 60_000, ...options })
  // As a tenant that has limits; directly there are none.
  const tenant = (name, options) => new Client({ node: limitedUrl ?? url, requestTimeout: 60_000, headers: { 'x-tenant-id': name }, ...options })
  return { client: connect(), connect, faulty, tenant, hasLimits: limitedUrl !== undefined, url, type, others: [new URL(otherUrl).host] }
}

const sides = [
  { ...side(OUTRIGGER_URL, OUTRIGGER_FAULTY_URL, OUTRIGGER_LIMITED_URL, ELASTICSEARCH_URL, 'ivf'), index: `js${major}-ours` },
  { ...side(ELASTICSEARCH_URL, ELASTICSEARCH_FAULTY_URL, undefined, OUTRIGGER_URL, 'hnsw'), index: `js${major}-them` }
]
const clean = () => Promise.all(sides.map(({ client, index }) => client.indices.delete({ index: [index, `${index}-plain`], ignore_unavailable: true })))

let failed = 0
await clean()
for (const [name, ask] of Object.entries({ ...features, ...ways, ...limits })) {
  try {
    const [ours, theirs] = [await ask(sides[0].client, sides[0].index, sides[0]), await ask(sides[1].client, sides[1].index, sides[1])]
    const comparable = (value, index) => JSON.parse(JSON.stringify(value ?? null).replaceAll(index, 'INDEX'))
    assert.deepEqual(comparable(ours, sides[0].index), comparable(theirs, sides[1].index))
    console.log(`ok ${name}`)
  } catch (error) {
    failed++
    console.log(`not ok ${name}`)
    console.error(error)
  }
}
await clean()
await Promise.all(sides.map(({ client }) => client.close()))
process.exitCode = failed ? 1 : 0
