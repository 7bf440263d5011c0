// What becomes of the official Go client over the limits of its tenant: its bulk indexer and its retries go on until all is there, and a quota is an error
// that can be read. Directly there are no limits, and the outcome is the same. The tenants stand in `scripts/test-clients`.
package clients

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	elasticsearch "github.com/elastic/go-elasticsearch/v9"
	"github.com/elastic/go-elasticsearch/v9/esutil"
)

var limits = []feature{
	// The client retries 429 where it is told to; its indexer counts on that, and does not send refused items again by itself.
	{"tenant limits", func(s *side) any {
		statuses := &statusRecorder{}
		client := s.tenant("hasty", statuses)
		indexer := must(esutil.NewBulkIndexer(esutil.BulkIndexerConfig{Client: client, Index: s.index, FlushBytes: 1000, NumWorkers: 3, OnError: func(_ context.Context, err error) { panic(err) }}))
		const total = 60
		for n := range total {
			limited := document(5000 + n)
			limited["tag"] = "limited"
			item := esutil.BulkIndexerItem{Action: "index", DocumentID: fmt.Sprint("limited-", n), Body: strings.NewReader(text(limited))}
			check(indexer.Add(context.Background(), item) == nil, "add")
		}
		check(indexer.Close(context.Background()) == nil, "close")
		stats := indexer.Stats()
		check(stats.NumIndexed == total && stats.NumFailed == 0, "all were indexed", stats)
		check(statuses.has(429) == s.hasLimits(), "no bulk was refused")
		refreshed, err := s.client.Indices.Refresh(s.client.Indices.Refresh.WithIndex(s.index))
		answer(refreshed, err, 200)

		searches := &statusRecorder{}
		searching := s.tenant("hasty", searches)
		var waiting sync.WaitGroup
		counts := make([]any, 6)
		for n := range counts {
			waiting.Go(func() {
				response, err := searching.Search(searching.Search.WithIndex(s.index), searching.Search.WithBody(strings.NewReader(`{"query":{"term":{"tag":"limited"}},"size":0}`)))
				counts[n] = answer(response, err, 200)["hits"].(map[string]any)["total"]
			})
		}
		waiting.Wait()
		check(searches.has(429) == s.hasLimits(), "no search was refused")
		return counts
	}},
	{"errors of limits", func(s *side) any {
		if !s.hasLimits() {
			return "readable"
		}
		// As it is by default: 429 is the application's.
		client := must(elasticsearch.NewTypedClient(elasticsearch.Config{Addresses: []string{os.Getenv("OUTRIGGER_LIMITED_URL")}, Header: http.Header{"X-Tenant-Id": {"hasty"}}}))
		// At once, since one after the other may be slow enough.
		var waiting sync.WaitGroup
		refusals := make([]error, 16)
		for n := range refusals {
			waiting.Go(func() { _, refusals[n] = client.Search().Index(s.index).Size(1).Do(context.Background()) })
		}
		waiting.Wait()
		refusals = slices.DeleteFunc(refusals, func(err error) bool { return err == nil })
		check(len(refusals) > 0, "no search was refused")
		for _, err := range refusals {
			check(failure(err) == "429 es_rejected_execution_exception" && strings.Contains(err.Error(), "tenant [hasty]"), "an error that can be read", err)
		}
		return "readable"
	}},
	{"quotas", func(s *side) any {
		if !s.hasLimits() {
			return "readable"
		}
		config := elasticsearch.Config{Addresses: []string{os.Getenv("OUTRIGGER_LIMITED_URL")}}
		client, typed := must(elasticsearch.NewClient(config)), must(elasticsearch.NewTypedClient(config))
		full := "full-" + s.index
		_, err := typed.Indices.Create(full).Do(context.Background())
		check(failure(err) == "403 quota_exceeded_exception", "a quota's error", err)
		_, err = typed.Index(full).Document(map[string]int{"a": 1}).Do(context.Background())
		check(failure(err) == "403 quota_exceeded_exception", "a quota's error", err)
		indexer := must(esutil.NewBulkIndexer(esutil.BulkIndexerConfig{Client: client, NumWorkers: 1}))
		refused := []string{}
		for n := range 10 {
			index := []string{s.index, full}[n%2]
			onFailure := func(_ context.Context, item esutil.BulkIndexerItem, of esutil.BulkIndexerResponseItem, err error) {
				refused = append(refused, fmt.Sprint(item.DocumentID, of.Status, of.Error.Type))
			}
			item := esutil.BulkIndexerItem{Action: "index", Index: index, DocumentID: fmt.Sprint("limited-", n), Body: strings.NewReader(text(document(5000 + n))), OnFailure: onFailure}
			check(indexer.Add(context.Background(), item) == nil, "add")
		}
		check(indexer.Close(context.Background()) == nil, "close")
		stats := indexer.Stats()
		check(stats.NumIndexed == 5 && stats.NumFailed == 5, "half of them", stats)
		check(slices.Equal(refused, []string{"limited-1403quota_exceeded_exception", "limited-3403quota_exceeded_exception", "limited-5403quota_exceeded_exception", "limited-7403quota_exceeded_exception", "limited-9403quota_exceeded_exception"}), "items", refused)
		check(!must(typed.Indices.Exists(full).IsSuccess(context.Background())), "it was made")
		return "readable"
	}},
}

func (s *side) hasLimits() bool { return s.kind == "ivf" }

// tenant is a client that retries 429, as a tenant that has limits; directly there are none.
func (s *side) tenant(name string, statuses *statusRecorder) *elasticsearch.Client {
	address := s.url
	if s.hasLimits() {
		address = os.Getenv("OUTRIGGER_LIMITED_URL")
	}
	return must(elasticsearch.NewClient(elasticsearch.Config{
		Addresses: []string{address}, Header: http.Header{"X-Tenant-Id": {name}}, Transport: statuses,
		RetryOnStatus: []int{429}, MaxRetries: 100, RetryBackoff: func(int) time.Duration { return 200 * time.Millisecond },
	}))
}

// statusRecorder notes how requests were answered; searches run at once.
type statusRecorder struct {
	sync.Mutex
	seen []int
}

func (r *statusRecorder) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := http.DefaultTransport.RoundTrip(request)
	if err == nil {
		r.Lock()
		defer r.Unlock()
		r.seen = append(r.seen, response.StatusCode)
	}
	return response, err
}

func (r *statusRecorder) has(status int) bool { return slices.Contains(r.seen, status) }

