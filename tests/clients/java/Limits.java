// What becomes of the official Java client over the limits of its tenant: its ingester goes on until all is there, and what it does not take care of is an
// error that can be read. Directly there are no limits, and the outcome is the same. The tenants stand in `scripts/test-clients`.

import co.elastic.clients.elasticsearch.ElasticsearchClient;
import co.elastic.clients.elasticsearch._helpers.bulk.BulkIngester;
import co.elastic.clients.elasticsearch._helpers.bulk.BulkListener;
import co.elastic.clients.elasticsearch._types.ElasticsearchException;
import co.elastic.clients.elasticsearch.core.BulkRequest;
import co.elastic.clients.elasticsearch.core.BulkResponse;
import co.elastic.clients.transport.BackoffPolicy;
import java.io.IOException;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import java.util.logging.Level;
import java.util.logging.Logger;
import java.util.stream.IntStream;

final class Limits {
    static final int COUNT = 60;
    static final int AT_ONCE = 5;
    /** Says of each item that it will be sent again. */
    private static final Logger CHATTY = Logger.getLogger(BulkIngester.class.getName());

    static void addTo(Map<String, Features.Feature> features) {
        CHATTY.setLevel(Level.SEVERE);
        features.put("tenant limits", side -> {
            var failed = new AtomicReference<Throwable>();
            BulkListener<Void> listener = new BulkListener<>() {
                @Override
                public void beforeBulk(long id, BulkRequest request, List<Void> contexts) {}

                @Override
                public void afterBulk(long id, BulkRequest request, List<Void> contexts, BulkResponse response) {}

                @Override
                public void afterBulk(long id, BulkRequest request, List<Void> contexts, Throwable failure) {
                    failed.set(failure);
                }
            };
            long requests;
            try (Connect limited = new Connect(false, side.limited())) {
                // More requests at once than it has: where it waits for a free one, and items come back meanwhile, it forgets to wake whoever adds to it.
                BulkIngester<Void> ingester = BulkIngester.of(b -> b.client(tenant(limited, "hasty")).maxOperations(AT_ONCE).maxConcurrentRequests(COUNT)
                    .flushInterval(100, TimeUnit.MILLISECONDS).backoffPolicy(BackoffPolicy.constantBackoff(200L, 100)).listener(listener));
                for (int n = 0; n < COUNT; n++) {
                    Map<String, Object> document = new HashMap<>(Features.document(5000 + n));
                    document.put("tag", "limited");
                    String id = "limited-" + n;
                    ingester.add(o -> o.index(i -> i.index(side.index()).id(id).document(document)));
                }
                ingester.close();
                requests = ingester.requestCount();
            }
            Features.check(failed.get() == null, failed.get());
            Features.check(requests > COUNT / AT_ONCE == side.hasLimits(), "no bulk was refused: " + requests);
            side.client().indices().refresh(r -> r.index(side.index()));
            return side.client().count(c -> c.index(side.index()).query(q -> q.term(t -> t.field("tag").value("limited")))).count();
        });
        // Beside its ingester the client retries nothing but connections: 429 and 403 are its exceptions.
        features.put("errors of limits", side -> {
            if (side.hasLimits() == false) {
                return "readable";
            }
            try (Connect limited = new Connect(false, side.limited())) {
                ElasticsearchClient client = tenant(limited, "hasty");
                // At once, since one after the other may be slow enough.
                List<String> refused = IntStream.range(0, 16).parallel().mapToObj(n -> {
                    try {
                        client.search(s -> s.index(side.index()).size(1), Map.class);
                        return null;
                    } catch (ElasticsearchException error) {
                        return error.status() + " " + error.error().type() + " " + error.error().reason();
                    } catch (IOException error) {
                        // Client 8 reads errors of some statuses alone, and lets its low-level client's exception through for others.
                        return error.getMessage();
                    }
                }).filter(Objects::nonNull).toList();
                Features.check(refused.isEmpty() == false, "no search was refused");
                for (String error : refused) {
                    for (String part : List.of("429 ", "es_rejected_execution_exception", "tenant [hasty]: requests_per_second=10")) {
                        Features.check(error.contains(part), error);
                    }
                }
                return "readable";
            }
        });
        features.put("quotas", side -> {
            if (side.hasLimits() == false) {
                return "readable";
            }
            String full = "full-" + side.index();
            try (Connect limited = new Connect(false, side.limited())) {
                ElasticsearchClient client = limited.client;
                String expected = "403 quota_exceeded_exception";
                String created = Features.failure(() -> client.indices().create(c -> c.index(full)));
                String indexed = Features.failure(() -> client.index(i -> i.index(full).document(Map.of("a", 1))));
                Features.check(created.equals(expected) && indexed.equals(expected), List.of(created, indexed));
                BulkResponse answer = client.bulk(b -> {
                    for (int n = 0; n < 4; n++) {
                        String index = n % 2 == 0 ? side.index() : full;
                        String id = "limited-" + n;
                        Map<String, Object> document = Features.document(5000 + n);
                        b.operations(o -> o.index(i -> i.index(index).id(id).document(document)));
                    }
                    return b;
                });
                List<String> items = new ArrayList<>();
                answer.items().forEach(item -> items.add(item.id() + " " + (item.error() == null ? "" : item.status() + " " + item.error().type())));
                Features.check(answer.errors() && items.equals(List.of("limited-0 ", "limited-1 " + expected, "limited-2 ", "limited-3 " + expected)), items);
                Features.check(client.indices().exists(e -> e.index(full)).value() == false, "it was made");
            }
            return "readable";
        });
    }

    private static ElasticsearchClient tenant(Connect connect, String name) {
        return connect.client.withTransportOptions(t -> t.addHeader("x-tenant-id", name));
    }

    private Limits() {}
}
