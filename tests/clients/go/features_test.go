// What applications do with the official Go client, through Outrigger and directly: each feature twice, the same outcome. The major version is the one in
// the import paths; `scripts/test-clients` runs this file as it is (9) and with `/v8` in its place. One line per feature, `ok NAME` or `not ok NAME`.
package clients

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	elasticsearch "github.com/elastic/go-elasticsearch/v9"
	"github.com/elastic/go-elasticsearch/v9/esapi"
	"github.com/elastic/go-elasticsearch/v9/esutil"
	"github.com/elastic/go-elasticsearch/v9/typedapi/core/search"
	"github.com/elastic/go-elasticsearch/v9/typedapi/indices/create"
	"github.com/elastic/go-elasticsearch/v9/typedapi/types"
)

const dims, count = 16, 200

// side is one of the two ways to the same Elasticsearch.
type side struct {
	url, faulty, other, kind, index string
	client                          *elasticsearch.Client
	typed                           *elasticsearch.TypedClient
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func check(holds bool, what string, about ...any) {
	if !holds {
		panic(fmt.Sprint(what, ": ", about))
	}
}

func newSide(ours bool) *side {
	s := &side{url: os.Getenv("OUTRIGGER_URL"), faulty: os.Getenv("OUTRIGGER_FAULTY_URL"), other: os.Getenv("ELASTICSEARCH_URL"), kind: "ivf", index: "go-ours"}
	if !ours {
		s = &side{url: os.Getenv("ELASTICSEARCH_URL"), faulty: os.Getenv("ELASTICSEARCH_FAULTY_URL"), other: os.Getenv("OUTRIGGER_URL"), kind: "hnsw", index: "go-them"}
	}
	config := elasticsearch.Config{Addresses: []string{s.url}}
	s.client, s.typed = must(elasticsearch.NewClient(config)), must(elasticsearch.NewTypedClient(config))
	return s
}

// vector depends on its number alone, with values that float32 keeps.
func vector(number int) []float32 {
	made := make([]float32, dims)
	for at := range made {
		made[at] = float32((number*31+at*17+number*at*3+number*number*(at+1))%499-249) / 256
	}
	return made
}

func document(n int) map[string]any {
	tag := "other"
	if n%3 == 0 {
		tag = "third"
	}
	return map[string]any{"v": vector(n), "tag": tag, "n": n}
}

func mapping(kind string) string {
	options := ""
	if kind != "" {
		options = fmt.Sprintf(`,"index_options":{"type":%q}`, kind)
	}
	return fmt.Sprintf(`{"settings":{"number_of_shards":2,"number_of_replicas":0},"mappings":{"properties":{"v":{"type":"dense_vector","dims":%d,"similarity":"l2_norm"%s},"tag":{"type":"keyword"},"n":{"type":"integer"}}}}`, dims, options)
}

func text(value any) string { return string(must(json.Marshal(value))) }

func knn(more map[string]any) map[string]any {
	made := map[string]any{"field": "v", "query_vector": vector(1000), "k": 5, "num_candidates": 200}
	for key, value := range more {
		made[key] = value
	}
	return made
}

// answer reads a response of the low-level client; `wanted` is its status.
func answer(response *esapi.Response, err error, wanted int) map[string]any {
	must(response, err)
	defer response.Body.Close()
	var body map[string]any
	if wanted != 204 {
		check(json.NewDecoder(response.Body).Decode(&body) == nil, "no JSON", response.Status())
	}
	check(response.StatusCode == wanted, "status", response.Status(), body)
	check(response.Header.Get("X-Elastic-Product") == "Elasticsearch", "no product")
	return body
}

func (s *side) search(body any, options ...func(*esapi.SearchRequest)) map[string]any {
	options = append([]func(*esapi.SearchRequest){s.client.Search.WithIndex(s.index), s.client.Search.WithBody(strings.NewReader(text(body)))}, options...)
	response, err := s.client.Search(options...)
	return answer(response, err, 200)
}

// found is ids and scores.
func found(body map[string]any) (all []string) {
	for _, hit := range body["hits"].(map[string]any)["hits"].([]any) {
		hit := hit.(map[string]any)
		if score, scored := hit["_score"].(float64); scored {
			all = append(all, fmt.Sprintf("%v %.5f", hit["_id"], score))
		} else {
			all = append(all, fmt.Sprint(hit["_id"]))
		}
	}
	return all
}

func failure(err error) string {
	var of *types.ElasticsearchError
	check(errors.As(err, &of), "not the client's error", err)
	return fmt.Sprint(of.Status, " ", of.ErrorCause.Type)
}

type feature struct {
	name string
	ask  func(*side) any
}

var features = []feature{
	{"connect", func(s *side) any {
		info := must(s.typed.Info().Do(context.Background()))
		check(must(s.typed.Ping().IsSuccess(context.Background())), "ping")
		return []string{info.Version.Int, info.ClusterUuid, info.Tagline}
	}},
	{"create index", func(s *side) any {
		made, err := s.client.Indices.Create(s.index, s.client.Indices.Create.WithBody(strings.NewReader(mapping(s.kind))))
		answer(made, err, 200)
		plain := create.NewRequest()
		check(json.Unmarshal([]byte(mapping("")), plain) == nil, "a request")
		must(s.typed.Indices.Create(s.index + "-plain").Request(plain).Do(context.Background()))
		health, err := s.client.Cluster.Health(s.client.Cluster.Health.WithIndex(s.index+"*"), s.client.Cluster.Health.WithWaitForStatus("yellow"), s.client.Cluster.Health.WithTimeout(time.Minute))
		answer(health, err, 200)
		shown, err := s.client.Indices.GetMapping(s.client.Indices.GetMapping.WithIndex(s.index))
		body := text(answer(shown, err, 200))
		check(strings.Contains(body, fmt.Sprintf(`"type":%q`, s.kind)), "the type that was asked for", body)
		return must(s.typed.Indices.Exists(s.index + "-plain").IsSuccess(context.Background()))
	}},
	{"documents", func(s *side) any {
		background := context.Background()
		indexed := must(s.typed.Index(s.index).Id("a").Document(document(500)).Do(background))
		updated, err := s.client.Update(s.index, "a", strings.NewReader(`{"doc":{"n":7}}`), s.client.Update.WithRefresh("wait_for"))
		got := must(s.typed.Get(s.index, "a").Do(background))
		var source struct{ N int }
		check(json.Unmarshal(got.Source_, &source) == nil, "a source")
		deleted := must(s.typed.Delete(s.index, "a").Do(background))
		return []any{indexed.Result.Name, indexed.Version_, answer(updated, err, 200)["result"], source.N, deleted.Result.Name, deleted.Version_}
	}},
	{"bulk helper", func(s *side) any {
		indexer := must(esutil.NewBulkIndexer(esutil.BulkIndexerConfig{Client: s.client, Index: s.index, FlushBytes: 4000, NumWorkers: 2, Refresh: "true"}))
		for n := range count {
			item := esutil.BulkIndexerItem{Action: "index", DocumentID: fmt.Sprint(n), Body: strings.NewReader(text(document(n)))}
			check(indexer.Add(context.Background(), item) == nil, "add")
		}
		check(indexer.Close(context.Background()) == nil, "close")
		stats := indexer.Stats()
		return []any{stats.NumIndexed, stats.NumFailed, must(s.typed.Count().Index(s.index).Do(context.Background())).Count}
	}},
	{"knn search", func(s *side) any {
		k, candidates := 5, 200
		request := &search.Request{Knn: []types.KnnSearch{{Field: "v", QueryVector: vector(1000), K: &k, NumCandidates: &candidates}}}
		hits := must(s.typed.Search().Index(s.index).Request(request).Do(context.Background())).Hits
		typed := []string{}
		for _, hit := range hits.Hits {
			typed = append(typed, fmt.Sprintf("%s %.5f", *hit.Id_, *hit.Score_))
		}
		plain := found(s.search(map[string]any{"knn": knn(nil), "_source": false}))
		check(text(typed) == text(plain), "typed and untyped differ", typed, plain)
		return []any{typed, hits.Total.Value}
	}},
	{"knn with filter", func(s *side) any {
		ask := func() []string {
			return found(s.search(map[string]any{"knn": knn(map[string]any{"filter": map[string]any{"term": map[string]any{"tag": "third"}}})}))
		}
		first := ask()
		// The second time it is answered from what was remembered of the filter.
		check(text(ask()) == text(first) && text(ask()) == text(first), "asked again", first)
		return first
	}},
	{"knn query", func(s *side) any {
		clause := map[string]any{"knn": map[string]any{"field": "v", "query_vector": vector(1000), "num_candidates": 200}}
		filter := map[string]any{"range": map[string]any{"n": map[string]any{"lt": 150}}}
		return found(s.search(map[string]any{"query": map[string]any{"bool": map[string]any{"should": clause, "filter": filter}}, "size": 5}))
	}},
	{"retrievers", func(s *side) any {
		near := &types.RetrieverContainer{Knn: &types.KnnRetriever{Field: "v", QueryVector: vector(1000), K: 5, NumCandidates: 200}}
		found := []string{}
		for _, hit := range must(s.typed.Search().Index(s.index).Request(&search.Request{Retriever: near}).Do(context.Background())).Hits.Hits {
			found = append(found, fmt.Sprintf("%s %.5f", *hit.Id_, *hit.Score_))
		}
		return found
	}},
	{"msearch", func(s *side) any {
		header := text(map[string]any{"index": s.index})
		lines := []string{header, text(map[string]any{"knn": knn(nil), "size": 2}), header, `{"query":{"term":{"tag":"third"}},"size":1,"sort":["n"]}`, `{"index":"absent"}`, "{}", ""}
		response, err := s.client.Msearch(strings.NewReader(strings.Join(lines, "\n")))
		all := answer(response, err, 200)["responses"].([]any)
		outcome := []any{found(all[0].(map[string]any)), found(all[1].(map[string]any))}
		return append(outcome, all[2].(map[string]any)["error"].(map[string]any)["type"])
	}},
	{"scroll", func(s *side) any {
		pages := [][]string{}
		page := s.search(map[string]any{"size": 60, "sort": []string{"n"}, "_source": false}, s.client.Search.WithScroll(time.Minute))
		for len(found(page)) > 0 {
			pages = append(pages, found(page))
			next, err := s.client.Scroll(s.client.Scroll.WithScrollID(page["_scroll_id"].(string)), s.client.Scroll.WithScroll(time.Minute))
			page = answer(next, err, 200)
		}
		cleared, err := s.client.ClearScroll(s.client.ClearScroll.WithScrollID(page["_scroll_id"].(string)))
		return []any{pages, answer(cleared, err, 200)["succeeded"]}
	}},
	{"point in time", func(s *side) any {
		id := must(s.typed.OpenPointInTime(s.index).KeepAlive("1m").Do(context.Background())).Id
		pages := [][]string{}
		var after any
		for {
			body := map[string]any{"pit": map[string]any{"id": id, "keep_alive": "1m"}, "size": 70, "sort": []any{map[string]any{"n": "asc"}}, "_source": false}
			if after != nil {
				body["search_after"] = after
			}
			response, err := s.client.Search(s.client.Search.WithBody(strings.NewReader(text(body))))
			page := answer(response, err, 200)
			hits := page["hits"].(map[string]any)["hits"].([]any)
			if len(hits) == 0 {
				break
			}
			pages = append(pages, found(page))
			after = hits[len(hits)-1].(map[string]any)["sort"]
		}
		closed := must(s.typed.ClosePointInTime().Id(id).Do(context.Background()))
		return []any{pages, closed.Succeeded}
	}},
	{"errors", func(s *side) any {
		background := context.Background()
		k, candidates := 5, 10
		short := &search.Request{Knn: []types.KnnSearch{{Field: "v", QueryVector: []float32{1}, K: &k, NumCandidates: &candidates}}}
		_, absent := s.typed.Search().Index("absent").Do(background)
		_, wrong := s.typed.Search().Index(s.index).Request(short).Do(background)
		_, twice := s.typed.Create(s.index, "1").Document(document(1)).Do(background)
		again, err := s.client.Indices.Create(s.index, s.client.Indices.Create.WithBody(strings.NewReader(mapping(""))))
		missing := must(s.typed.Get(s.index, "absent").Do(background))
		return []any{failure(absent), failure(wrong), failure(twice), answer(again, err, 400)["error"].(map[string]any)["type"], missing.Found}
	}},
	{"compression", func(s *side) any {
		sent := &recorder{}
		config := elasticsearch.Config{Addresses: []string{s.url}, CompressRequestBody: true, Transport: sent}
		client := must(elasticsearch.NewClient(config))
		long := strings.Repeat("a", 5000)
		lines := fmt.Sprintf("%s\n%s\n", text(map[string]any{"index": map[string]any{"_index": s.index + "-plain", "_id": "z"}}), text(map[string]any{"text": long, "v": vector(3)}))
		bulked, err := client.Bulk(strings.NewReader(lines), client.Bulk.WithRefresh("true"))
		check(answer(bulked, err, 200)["errors"] == false, "bulk")
		check(sent.encoding.Load() == "gzip", "the request was not compressed")
		response, err := client.Search(client.Search.WithIndex(s.index+"-plain"), client.Search.WithBody(strings.NewReader(text(map[string]any{"knn": knn(map[string]any{"k": 1})}))))
		body := answer(response, err, 200)
		check(strings.Contains(text(body), long), "the text came back")
		// A type of Elasticsearch's own may print an estimate of the score.
		return strings.Fields(found(body)[0])[0]
	}},
	{"sniffing", func(s *side) any {
		sent := &recorder{}
		// The client discovers in the background; a channel tells when it has asked.
		config := elasticsearch.Config{Addresses: []string{s.url}, DiscoverNodesOnStart: false, Transport: sent}
		client := must(elasticsearch.NewClient(config))
		check(client.DiscoverNodes() == nil, "discovery")
		for range 5 {
			response, err := client.Search(client.Search.WithIndex(s.index), client.Search.WithBody(strings.NewReader(text(map[string]any{"knn": knn(nil)}))))
			answer(response, err, 200)
		}
		own, other := must(url.Parse(s.url)).Host, must(url.Parse(s.other)).Host
		check(sent.hosts(own) >= 6 && sent.hosts(other) == 0, "hosts", sent.seen)
		return sent.hosts(own)
	}},
	{"lost nodes", func(s *side) any {
		listener := must(net.Listen("tcp", "127.0.0.1:0"))
		gone := "http://" + listener.Addr().String()
		check(listener.Close() == nil, "close")
		ask := func(addresses ...string) (*search.Response, error) {
			client := must(elasticsearch.NewTypedClient(elasticsearch.Config{Addresses: addresses, MaxRetries: 3}))
			return client.Search().Index(s.index).Size(1).Do(context.Background())
		}
		for range 4 {
			must(ask(gone, s.url))
		}
		_, err := ask(gone)
		return err != nil
	}},
	{"cancelled requests", func(s *side) any {
		var waiting sync.WaitGroup
		outcomes := make([]error, 40)
		for n := range outcomes {
			waiting.Go(func() {
				patience := []time.Duration{time.Microsecond, time.Minute}[n%2]
				patient, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				_, outcomes[n] = s.typed.Search().Index(s.index).Size(50).Do(patient)
			})
		}
		waiting.Wait()
		for n, err := range outcomes {
			check((err == nil) == (n%2 == 1), "who waits is served", n, err)
		}
		return found(s.search(map[string]any{"knn": knn(nil)}))
	}},
	{"retries", func(s *side) any {
		sent := &recorder{}
		config := elasticsearch.Config{Addresses: []string{s.faulty}, RetryOnStatus: []int{429, 502, 503, 504}, MaxRetries: 3, Transport: sent, RetryBackoff: func(int) time.Duration { return 10 * time.Millisecond }}
		client := must(elasticsearch.NewClient(config))
		// A search that Elasticsearch must see: one that Outrigger answers needs no second try.
		ask := func(fault string, wanted int) map[string]any {
			header := map[string]string{"x-fault": fault}
			response, err := client.Search(client.Search.WithIndex(s.index), client.Search.WithHeader(header), client.Search.WithBody(strings.NewReader(`{"query":{"term":{"tag":"third"}},"sort":["n"],"size":3}`)))
			return answer(response, err, wanted)
		}
		key := fmt.Sprint(s.kind, time.Now().UnixNano())
		recovered := found(ask("503 2 a"+key, 200))
		busy := found(ask("429 2 b"+key, 200))
		gone := ask("429 9 c"+key, 429)["error"].(map[string]any)["type"]
		return []any{recovered, busy, gone, sent.hosts(must(url.Parse(s.faulty)).Host)}
	}},
}

// recorder notes where requests go and how they are compressed.
type recorder struct {
	encoding atomic.Value
	seen     []string
}

func (r *recorder) RoundTrip(request *http.Request) (*http.Response, error) {
	r.encoding.Store(request.Header.Get("Content-Encoding"))
	r.seen = append(r.seen, request.URL.Host)
	return http.DefaultTransport.RoundTrip(request)
}

func (r *recorder) hosts(host string) (count int) {
	for _, seen := range r.seen {
		if seen == host {
			count++
		}
	}
	return count
}

func attempt(ask func(*side) any, s *side) (outcome string, err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("%s: %v", s.url, reason)
		}
	}()
	return strings.ReplaceAll(text(ask(s)), s.index, "INDEX"), nil
}

func clean(sides ...*side) {
	for _, s := range sides {
		for _, index := range []string{s.index, s.index + "-plain"} {
			response := must(s.client.Indices.Delete([]string{index}, s.client.Indices.Delete.WithIgnoreUnavailable(true)))
			response.Body.Close()
		}
	}
}

func TestFeatures(t *testing.T) {
	ours, theirs := newSide(true), newSide(false)
	clean(ours, theirs)
	defer clean(ours, theirs)
	var lines bytes.Buffer
	for _, feature := range append(features, limits...) {
		left, err := attempt(feature.ask, ours)
		right, second := attempt(feature.ask, theirs)
		switch err = errors.Join(err, second); {
		case err != nil:
			t.Errorf("%s: %v", feature.name, err)
		case left != right:
			t.Errorf("%s: %s\nthrough Outrigger, directly %s", feature.name, left, right)
		default:
			fmt.Fprintln(&lines, "ok", feature.name)
			continue
		}
		fmt.Fprintln(&lines, "not ok", feature.name)
	}
	fmt.Print(lines.String())
}
