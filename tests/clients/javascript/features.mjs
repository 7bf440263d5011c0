// What applications do with the official client, feature by feature. Each feature is done twice, through Outrigger and directly, and what the
// client makes of it must be the same. `ask(client, index)` returns what is compared; it checks the rest itself.

import assert from 'node:assert/strict'

export const DIMS = 16
const COUNT = 200

/** A vector that depends on its number alone, with values that float32 keeps. */
export function vector (number) {
  return Array.from({ length: DIMS }, (_, at) => (((number * 31 + at * 17 + number * at * 3 + number * number * (at + 1)) % 499) - 249) / 256)
}

const mappings = (type) => ({
  properties: {
    v: { type: 'dense_vector', dims: DIMS, similarity: 'l2_norm', ...(type && { index_options: { type } }) },
    tag: { type: 'keyword' },
    n: { type: 'integer' }
  }
})
export const document = (n) => ({ v: vector(n), tag: n % 3 ? 'other' : 'third', n })
export const knn = (more) => ({ field: 'v', query_vector: vector(1000), k: 5, num_candidates: 200, ...more })
/** Ids and scores: what a search found. */
export const found = (answer) => answer.hits.hits.map((hit) => [hit._id, hit._score?.toFixed(5)])

/** How a call fails: what applications look at in the client's own error. */
export async function failure (call) {
  try {
    await call
  } catch (error) {
    return [error.name, error.statusCode, error.body?.error?.type, error.meta?.headers['x-elastic-product']]
  }
  assert.fail('no error')
}

export const features = {
  async connect (client) {
    const info = await client.info()
    assert.equal(info.tagline, 'You Know, for Search')
    assert.equal(await client.ping(), true)
    return info
  },

  // `ivf` where Outrigger is, a type of Elasticsearch's own where it is not; one that names none on both.
  async 'create index' (client, index, { type }) {
    await client.indices.create({ index, settings: { number_of_shards: 2, number_of_replicas: 0 }, mappings: mappings(type) })
    await client.indices.create({ index: `${index}-plain`, mappings: mappings() })
    await client.cluster.health({ index: `${index}*`, wait_for_status: 'yellow', timeout: '60s' })
    const shown = await client.indices.getMapping({ index })
    const kept = shown[index].mappings.properties
    assert.equal(kept.v.index_options.type, type)
    assert.equal(await client.indices.exists({ index: `${index}-plain` }), true)
    return Object.keys(kept)
  },

  async documents (client, index) {
    const seen = []
    const note = (answer) => seen.push([answer.result, answer._version, answer._id])
    note(await client.index({ index, id: 'a', document: document(500), refresh: 'wait_for' }))
    note(await client.update({ index, id: 'a', doc: { n: 7 } }))
    const got = await client.get({ index, id: 'a', _source_includes: ['n', 'tag'] })
    seen.push(got._source)
    note(await client.delete({ index, id: 'a', refresh: true }))
    const made = await client.index({ index, document: document(501) })
    assert.equal(made.result, 'created')
    note(await client.delete({ index, id: made._id, refresh: true }).then((answer) => ({ ...answer, _id: '' })))
    return seen
  },

  async 'bulk helper' (client, index) {
    const numbers = Array.from({ length: COUNT }, (_, n) => n)
    const done = await client.helpers.bulk({
      datasource: numbers,
      flushBytes: 4000,
      refreshOnCompletion: true,
      onDocument: (n) => [{ index: { _index: index, _id: String(n) } }, document(n)]
    })
    assert.deepEqual([done.successful, done.failed], [COUNT, 0])
    return (await client.count({ index })).count
  },

  'knn search': async (client, index) =>
    [found(await client.search({ index, knn: knn() })), found(await client.search({ index, knn: knn({ boost: 2 }), _source: false, size: 3 }))],

  async 'knn with filter' (client, index) {
    const answers = []
    // The second time it is answered from what was remembered of the filter.
    for (let time = 0; time < 3; time++) {
      answers.push(found(await client.search({ index, knn: knn({ filter: { term: { tag: 'third' } } }), _source: ['n'] })))
    }
    assert.deepEqual(answers[1], answers[0])
    assert.deepEqual(answers[2], answers[0])
    return answers[0]
  },

  'knn query': async (client, index) =>
    found(await client.search({ index, query: { bool: { should: [{ knn: { field: 'v', query_vector: vector(1000), num_candidates: 200 } }], filter: [{ range: { n: { lt: 150 } } }] } }, size: 5 })),

  retrievers: async (client, index) =>
    found(await client.search({ index, retriever: { knn: { field: 'v', query_vector: vector(1000), k: 5, num_candidates: 200, filter: { term: { tag: 'third' } } } }, _source: false })),

  async msearch (client, index) {
    const answer = await client.msearch({ searches: [{ index }, { knn: knn(), size: 2 }, { index }, { query: { term: { tag: 'third' } }, size: 1, sort: ['n'] }, { index: 'absent' }, {}] })
    const helped = client.helpers.msearch()
    const one = await helped.search({ index }, { knn: knn(), size: 2 })
    helped.stop()
    return [answer.responses.map((response) => response.error?.type ?? found(response)), found(one.body)]
  },

  async scroll (client, index) {
    const ids = []
    for await (const page of client.helpers.scrollSearch({ index, size: 60, sort: ['n'], _source: false })) {
      ids.push(page.body.hits.hits.map((hit) => hit._id))
    }
    return ids
  },

  async 'point in time' (client, index) {
    const pit = await client.openPointInTime({ index, keep_alive: '1m' })
    const ids = []
    let after
    for (;;) {
      const page = await client.search({ pit: { id: pit.id, keep_alive: '1m' }, size: 70, sort: [{ n: 'asc' }], ...(after && { search_after: after }), _source: false })
      if (page.hits.hits.length === 0) break
      ids.push(page.hits.hits.map((hit) => hit._id))
      after = page.hits.hits.at(-1).sort
    }
    const closed = await client.closePointInTime({ id: pit.id })
    return [ids, closed.succeeded]
  },

  errors: async (client, index) => [
    await failure(client.search({ index: 'absent', knn: knn() })),
    await failure(client.get({ index, id: 'absent' })),
    await failure(client.search({ index, knn: knn({ query_vector: [1] }) })),
    await failure(client.create({ index, id: '1', document: document(1) })),
    await failure(client.indices.create({ index, mappings: mappings() })),
    await failure(client.transport.request({ method: 'PUT', path: `/${index}/_search` })),
    await client.search({ index: 'absent', knn: knn() }, { ignore: [404] }).then((answer) => answer.status)
  ],

  async compression (_client, index, { connect }) {
    const client = connect({ compression: true })
    const text = 'a'.repeat(5000)
    await client.bulk({ operations: [{ index: { _index: `${index}-plain`, _id: 'z' } }, { text, v: vector(3) }], refresh: true })
    const answer = await client.search({ index: `${index}-plain`, knn: knn({ k: 1 }) }, { meta: true })
    assert.equal(answer.headers['content-encoding'], 'gzip')
    assert.equal(answer.body.hits.hits[0]._source.text, text)
    await client.close()
    // A type of Elasticsearch's own may print an estimate of the score.
    return answer.body.hits.hits.map((hit) => hit._id)
  },

  async sniffing (_client, index, { connect, url, others }) {
    const client = connect({ sniffOnStart: true, sniffOnConnectionFault: true, sniffInterval: 1 })
    const sniffed = new Promise((resolve, reject) => client.diagnostic.on('sniff', (error, event) => (error ? reject(error) : resolve(event))))
    await client.ping()
    await sniffed
    for (let n = 0; n < 5; n++) await client.search({ index, knn: knn() })
    const hosts = client.connectionPool.connections.map((connection) => connection.url.host)
    assert.deepEqual(hosts, [new URL(url).host])
    assert.ok(!hosts.some((host) => others.includes(host)))
    await client.close()
    return hosts.length
  },

  async retries (_client, index, { faulty }) {
    const client = faulty({ maxRetries: 3, retryOnTimeout: true })
    const attempts = []
    client.diagnostic.on('response', (_error, event) => attempts.push(event.statusCode))
    // A search that Elasticsearch must see: one that Outrigger answers needs no second try.
    const ask = (fault, times, options) => client.search({ index, query: { term: { tag: 'third' } }, sort: ['n'], size: 3 }, { headers: { 'x-fault': `${fault} ${times} ${Math.random()}` }, ...options })
    const recovered = found(await ask(503, 2))
    // The client gives 429 back at once, and with retries spent also 503.
    const busy = await failure(ask(429, 1, { maxRetries: 0 }))
    const gone = await failure(ask(503, 9))
    const refused = []
    const bulk = await client.helpers.bulk({
      datasource: [1, 2],
      wait: 50,
      retries: 3,
      onDocument: (n) => [{ index: { _index: index, _id: String(n) } }, document(n)],
      onDrop: (dropped) => refused.push(dropped)
    })
    await client.close()
    return [recovered, busy, gone, bulk.successful, refused]
  }
}
