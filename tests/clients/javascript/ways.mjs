// Ways of using the official client beside plain calls: its other helpers, streams, what one request may ask for, requests that are given up, and nodes
// that are gone. Each through Outrigger and directly.

import assert from 'node:assert/strict'
import { createServer } from 'node:net'
import { failure, found, knn } from './features.mjs'

async function text (stream) {
  let all = ''
  for await (const part of stream) all += part
  return all
}

/** The URL of a port where nobody listens. */
async function closedPort () {
  const server = createServer()
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address()
  await new Promise((resolve) => server.close(resolve))
  return `http://127.0.0.1:${port}`
}

export const ways = {
  async 'other helpers' (client, index) {
    const documents = await client.helpers.search({ index, knn: knn(), size: 3 })
    const scrolled = []
    for await (const document of client.helpers.scrollDocuments({ index, query: { term: { tag: 'third' } }, size: 25, sort: ['n'] })) scrolled.push(document.n)
    const stopped = []
    for await (const page of client.helpers.scrollSearch({ index, size: 10, sort: ['n'] })) {
      stopped.push(page.documents.length)
      await page.clear()
    }
    // A datasource that is read as it comes, with documents that cannot be stored and one that is gone already.
    const dropped = []
    async function * lines () {
      yield { id: 'way-1', n: 9001 }
      yield { id: 'way-2', n: 'no number' }
      yield { id: 'way-3', v: [1, 2] }
    }
    const done = await client.helpers.bulk({
      datasource: lines(),
      refreshOnCompletion: index,
      onDocument: ({ id, ...document }) => [{ index: { _index: index, _id: id } }, document],
      onDrop: ({ status, error, document, retried }) => dropped.push([status, error.type, error.reason.replace(index, 'INDEX').replace(/'[^']*'/g, ''), document, retried])
    })
    const gone = await client.helpers.bulk({ datasource: ['way-1', 'way-1'], onDocument: (id) => ({ delete: { _index: index, _id: id } }), refreshOnCompletion: index, concurrency: 1, onDrop: ({ status }) => dropped.push(status) })
    return [documents.map(({ n, tag }) => [n, tag]), scrolled, stopped, dropped, done.successful, gone.successful, gone.failed]
  },

  async 'asynchronous bodies and metadata' (client, index) {
    const stream = await client.search({ index, knn: knn(), _source: false }, { asStream: true })
    const streamed = found(JSON.parse(await text(stream)))
    const meta = await client.search({ index, knn: knn(), _source: false }, { meta: true, opaqueId: 'mine', headers: { 'x-own': 'a' } })
    const child = client.child({ headers: { 'x-opaque-id': 'child' }, opaqueIdPrefix: 'of-' })
    const ofChild = await child.search({ index, knn: knn(), _source: false }, { meta: true })
    assert.deepEqual([streamed, found(ofChild.body)], [found(meta.body), found(meta.body)])
    const { date, 'content-length': _length, ...headers } = meta.headers
    return [streamed, meta.statusCode, meta.warnings, Object.keys(headers).sort(), headers['x-opaque-id'], headers['content-type'], ofChild.headers['x-opaque-id']]
  },

  async 'parameters of requests' (client, index) {
    const ask = (more) => client.search({ index, knn: knn(), ...more }).then(({ took, ...answer }) => answer)
    return [
      await ask({ filter_path: 'hits.hits._id,hits.total' }),
      await ask({ filter_path: ['-hits.hits._source', '-hits.hits._score', '-hits.max_score'] }),
      await ask({ filter_path: 'absent' }),
      await client.transport.request({ method: 'POST', path: `/${index}/_search`, querystring: { human: true, pretty: true, error_trace: true }, body: { knn: knn(), _source: false } }).then(found),
      await client.search({ index: [index, 'absent'], knn: knn(), ignore_unavailable: true }).then(found),
      await client.search({ index: 'absent*', knn: knn() }).then(found),
      await failure(client.search({ index: 'absent*', knn: knn(), allow_no_indices: false })),
      await failure(client.search({ index: [index, 'absent'], knn: knn() })),
      await client.exists({ index, id: '1' }), await client.exists({ index, id: 'absent' }), await client.existsSource({ index, id: '1' }),
      await client.indices.exists({ index: 'absent' }), await client.indices.existsAlias({ name: 'absent' }),
      await client.get({ index, id: 'absent' }, { ignore: [404] }).then((answer) => answer.found)
    ]
  },

  // Aborted by its caller or by its own timeout: an error of the client, and the connection pool goes on.
  async 'cancelled requests' (client, index, { connect }) {
    const outcomes = []
    for (let round = 0; round < 5; round++) {
      const controller = new AbortController()
      const asked = Array.from({ length: 10 }, (_, n) => client.search({ index, knn: knn() }, n % 2 ? { signal: controller.signal } : {}).then(() => 'found', (error) => error.name))
      controller.abort()
      outcomes.push(await Promise.all(asked))
    }
    const hasty = connect({ requestTimeout: 1, maxRetries: 0 })
    const timed = await Promise.allSettled(Array.from({ length: 30 }, () => hasty.search({ index, knn: knn(), size: 100 })))
    assert.ok(timed.every(({ status, reason }) => status === 'fulfilled' || ['TimeoutError', 'ConnectionError'].includes(reason.name)))
    await hasty.close()
    return [outcomes, found(await client.search({ index, knn: knn() }))]
  },

  async 'lost nodes' (_client, index, { connect, url }) {
    const client = connect({ node: undefined, nodes: [await closedPort(), url], maxRetries: 3, retryBackoff: () => 0.01 })
    const answers = []
    for (let n = 0; n < 6; n++) answers.push(found(await client.search({ index, knn: knn() })))
    const lost = connect({ node: await closedPort(), maxRetries: 1, retryBackoff: () => 0.01 })
    const error = await lost.search({ index }).catch((error) => error.name)
    await Promise.all([client.close(), lost.close()])
    return [answers, error]
  },

  async 'credentials that nobody asks for' (_client, index, { connect }) {
    const answers = []
    for (const auth of [{ username: 'somebody', password: 'wrong' }, { apiKey: 'bm8ta2V5' }, { bearer: 'no token' }]) {
      const client = connect({ auth, redaction: { type: 'remove' } })
      answers.push(found(await client.search({ index, knn: knn() })))
      const error = await client.search({ index: 'absent' }).catch((error) => error)
      assert.ok(!JSON.stringify(error).includes('wrong'))
      await client.close()
    }
    return answers
  }
}
