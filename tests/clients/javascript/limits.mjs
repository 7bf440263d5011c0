// What becomes of the official client over the limits of its tenant: its helpers go on until all is there, and what they don't take care of is an
// error that can be read. Directly there are no limits, and the outcome is the same. The tenants stand in `scripts/test-clients`.

import assert from 'node:assert/strict'
import { document, failure, found, knn } from './features.mjs'

const COUNT = 60
const range = (count) => Array.from({ length: count }, (_, n) => n)

/** A client as a tenant, and the statuses that it was answered. */
function noted (side, name, options) {
  const client = side.tenant(name, options)
  const statuses = []
  client.diagnostic.on('response', (_error, event) => statuses.push(event.statusCode))
  return { client, statuses }
}

export const limits = {
  // The client itself never retries 429; its helpers for bulks, scrolls and several searches do.
  async 'tenant limits' (direct, index, side) {
    const { client, statuses } = noted(side, 'hasty')
    const patient = { wait: 300, retries: 60 }
    const done = await client.helpers.bulk({
      datasource: range(COUNT),
      flushBytes: 1000,
      ...patient,
      onDocument: (n) => [{ index: { _index: index, _id: `limited-${n}` } }, { ...document(5000 + n), tag: 'limited' }],
      onDrop: (dropped) => assert.fail(JSON.stringify(dropped))
    })
    assert.deepEqual([done.successful, done.failed, done.aborted], [COUNT, 0, false])
    assert.equal(done.retry > 0, side.hasLimits, 'no item was refused')
    await direct.indices.refresh({ index })
    const query = { term: { tag: 'limited' } }
    const { count } = await direct.count({ index, query })

    const pages = []
    for await (const page of client.helpers.scrollSearch({ index, query, size: 15, sort: ['n'], _source: false }, { wait: 300, maxRetries: 60 })) {
      pages.push(page.body.hits.hits.map((hit) => hit._id))
    }
    assert.equal(statuses.includes(429), side.hasLimits, 'no page was refused')

    const eager = side.tenant('eager')
    const helped = eager.helpers.msearch({ ...patient, flushInterval: 20 })
    const answers = await Promise.all(range(4).map(() => helped.search({ index }, { knn: knn(), size: 2 })))
    helped.stop()
    await Promise.all([client.close(), eager.close()])
    return [count, pages, answers.map(({ body }) => found(body))]
  },

  async 'errors of limits' (_direct, index, side) {
    if (!side.hasLimits) return 'readable'
    const { client } = noted(side, 'hasty')
    const asked = await Promise.allSettled(range(6).map(() => client.search({ index, size: 1 })))
    const refused = asked.filter(({ status }) => status === 'rejected').map(({ reason }) => reason)
    assert.ok(refused.length > 0)
    for (const error of refused) {
      assert.deepEqual([error.name, error.statusCode, error.body.error.type, error.body.status], ['ResponseError', 429, 'es_rejected_execution_exception', 429])
      assert.match(error.message, /es_rejected_execution_exception[^]*tenant \[hasty\]: requests_per_second=10/)
    }
    // Who waits as long as he is told is served.
    const seconds = Number(refused[0].headers['retry-after'])
    assert.ok(seconds >= 1)
    await new Promise((resolve) => setTimeout(resolve, seconds * 1000))
    await client.search({ index, size: 1 })
    // A bulk without the helper is refused as a whole.
    const operations = [{ index: { _index: index, _id: 'limited-0' } }, document(5000)]
    const bulks = await Promise.allSettled(range(6).map(() => client.bulk({ operations })))
    const statuses = new Set(bulks.map(({ value, reason }) => reason?.statusCode ?? value.errors))
    assert.deepEqual(statuses, new Set([false, 429]))
    await client.close()
    return 'readable'
  },

  async 'quotas' (_direct, index, side) {
    if (!side.hasLimits) return 'readable'
    const client = side.tenant('nobody')
    const full = `full-${index}`
    assert.deepEqual((await failure(client.indices.create({ index: full }))).slice(0, 3), ['ResponseError', 403, 'quota_exceeded_exception'])
    assert.deepEqual((await failure(client.index({ index: full, document: { a: 1 } }))).slice(0, 3), ['ResponseError', 403, 'quota_exceeded_exception'])
    const dropped = []
    const done = await client.helpers.bulk({
      datasource: range(10),
      onDocument: (n) => [{ index: { _index: n % 2 ? full : index, _id: `limited-${n}` } }, { ...document(5000 + n), tag: 'limited' }],
      onDrop: ({ status, error, operation, retried }) => dropped.push([status, error.type, operation.index._id, retried])
    })
    assert.deepEqual([done.successful, done.failed], [5, 5])
    assert.deepEqual(dropped, [1, 3, 5, 7, 9].map((n) => [403, 'quota_exceeded_exception', `limited-${n}`, false]))
    assert.equal(await client.indices.exists({ index: full }), false)
    await client.close()
    return 'readable'
  }
}
