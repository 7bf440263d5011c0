// What applications do with the official Java client, feature by feature: each through Outrigger and directly, and what the client makes of it must be the
// same. The folders 8 and 9 hold what differs between the majors: how one connects. The servers come from the environment, see `scripts/test-clients`.
// One line per feature, `ok NAME` or `not ok NAME`; exit status 1 when any differs.

import co.elastic.clients.elasticsearch.ElasticsearchClient;
import co.elastic.clients.elasticsearch._types.ElasticsearchException;
import co.elastic.clients.elasticsearch._types.FieldValue;
import co.elastic.clients.elasticsearch._types.KnnSearch;
import co.elastic.clients.elasticsearch._types.mapping.DenseVectorSimilarity;
import co.elastic.clients.elasticsearch._types.Refresh;
import co.elastic.clients.elasticsearch._types.SortOrder;
import co.elastic.clients.elasticsearch._types.Time;
import co.elastic.clients.elasticsearch._helpers.bulk.BulkIngester;
import co.elastic.clients.elasticsearch.core.SearchResponse;
import co.elastic.clients.elasticsearch.core.search.Hit;
import java.io.StringReader;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.URI;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.function.UnaryOperator;

@SuppressWarnings({"rawtypes", "unchecked"})
final class Features {
    static final int DIMS = 16;
    static final int COUNT = 200;

    interface Work {
        void run() throws Exception;
    }

    interface Feature {
        Object ask(Side side) throws Exception;
    }

    /** One of the two ways to the same Elasticsearch. */
    record Side(String url, String faulty, String limited, String other, String kind, String index, Connect connect) {
        /** Directly there are none. */
        boolean hasLimits() {
            return limited.equals(url) == false;
        }

        ElasticsearchClient client() {
            return connect.client;
        }

        SearchResponse<Map> search(UnaryOperator<KnnSearch.Builder> more) throws Exception {
            return client().search(s -> s.index(index).knn(k -> more.apply(knn(k))), Map.class);
        }
    }

    /** A vector that depends on its number alone, with values that float32 keeps. */
    static List<Float> vector(int number) {
        List<Float> made = new ArrayList<>();
        for (int at = 0; at < DIMS; at++) {
            made.add(((number * 31 + at * 17 + number * at * 3 + number * number * (at + 1)) % 499 - 249) / 256f);
        }
        return made;
    }

    static Map<String, Object> document(int n) {
        return Map.of("v", vector(n), "tag", n % 3 == 0 ? "third" : "other", "n", n);
    }

    static KnnSearch.Builder knn(KnnSearch.Builder knn) {
        return knn.field("v").queryVector(vector(1000)).k(5).numCandidates(200);
    }

    static String mapping(String kind) {
        String options = kind == null ? "" : ",\"index_options\":{\"type\":\"" + kind + "\"}";
        return "{\"settings\":{\"number_of_shards\":2,\"number_of_replicas\":0},\"mappings\":{\"properties\":{\"v\":{\"type\":\"dense_vector\",\"dims\":"
            + DIMS + ",\"similarity\":\"l2_norm\"" + options + "},\"tag\":{\"type\":\"keyword\"},\"n\":{\"type\":\"integer\"}}}}";
    }

    /** Ids and scores. */
    static List<String> found(List<? extends Hit<?>> hits) {
        return hits.stream().map(hit -> hit.id() + (hit.score() == null ? "" : String.format(Locale.ROOT, " %.5f", hit.score()))).toList();
    }

    static List<String> found(SearchResponse<?> answer) {
        return found(answer.hits().hits());
    }

    /** How a call fails: what applications look at in the client's own error. */
    static String failure(Work call) throws Exception {
        try {
            call.run();
        } catch (ElasticsearchException error) {
            return error.status() + " " + error.error().type();
        } catch (java.io.IOException error) {
            // The low-level client's own, which client 8 lets through for some calls.
            return error.getClass().getName();
        }
        throw new AssertionError("no error");
    }

    static void check(boolean holds, Object about) {
        if (holds == false) {
            throw new AssertionError(about);
        }
    }

    static final Map<String, Feature> FEATURES = new LinkedHashMap<>();

    static {
        FEATURES.put("connect", side -> {
            check(side.client().ping().value(), "ping");
            var info = side.client().info();
            return List.of(info.version().number(), info.clusterUuid(), info.tagline());
        });
        FEATURES.put("create index", side -> {
            var indices = side.client().indices();
            // The typed client refuses names of index types that its own version does not know, before it sends anything.
            side.connect.raw("PUT", "/" + side.index, mapping(side.kind));
            indices.create(c -> c.index(side.index + "-plain").mappings(m -> m
                .properties("v", v -> v.denseVector(d -> d.dims(DIMS).similarity(DenseVectorSimilarity.L2Norm)))
                .properties("tag", t -> t.keyword(k -> k))));
            // Nor does it read the health of clusters that are older than itself.
            side.connect.raw("GET", "/_cluster/health/" + side.index + "*?wait_for_status=yellow&timeout=60s", null);
            return indices.exists(e -> e.index(side.index + "-plain")).value();
        });
        FEATURES.put("documents", side -> {
            var client = side.client();
            var made = client.index(i -> i.index(side.index).id("a").document(document(500)).refresh(Refresh.WaitFor));
            var changed = client.update(u -> u.index(side.index).id("a").doc(Map.of("n", 7)), Map.class);
            var got = client.get(g -> g.index(side.index).id("a").sourceIncludes("n", "tag"), Map.class);
            var gone = client.delete(d -> d.index(side.index).id("a").refresh(Refresh.True));
            return List.of(made.result(), changed.version(), got.source(), gone.result(), gone.version());
        });
        FEATURES.put("bulk helper", side -> {
            try (BulkIngester<Void> ingester = BulkIngester.of(b -> b.client(side.client()).maxOperations(30).maxConcurrentRequests(2))) {
                for (int n = 0; n < COUNT; n++) {
                    int number = n;
                    ingester.add(o -> o.index(i -> i.index(side.index).id(String.valueOf(number)).document(document(number))));
                }
            }
            side.client().indices().refresh(r -> r.index(side.index));
            return side.client().count(c -> c.index(side.index)).count();
        });
        FEATURES.put("knn search", side -> {
            var answer = side.search(knn -> knn);
            return List.of(found(answer), answer.hits().total().value(), found(side.search(knn -> knn.boost(2f))));
        });
        FEATURES.put("knn with filter", side -> {
            UnaryOperator<KnnSearch.Builder> filtered = knn -> knn.filter(f -> f.term(t -> t.field("tag").value("third")));
            List<String> first = found(side.search(filtered));
            // The second time it is answered from what was remembered of the filter.
            check(first.equals(found(side.search(filtered))) && first.equals(found(side.search(filtered))), first);
            return first;
        });
        FEATURES.put("knn query", side -> found(side.client().search(s -> s.index(side.index).size(5).query(q -> q.bool(b -> b
            .should(o -> o.knn(k -> k.field("v").queryVector(vector(1000)).numCandidates(200)))
            .filter(f -> f.withJson(new StringReader("{\"range\":{\"n\":{\"lt\":150}}}"))))), Map.class)));
        FEATURES.put("retrievers", side -> found(side.client().search(s -> s.index(side.index)
            .retriever(r -> r.knn(k -> k.field("v").queryVector(vector(1000)).k(5).numCandidates(200))), Map.class)));
        FEATURES.put("msearch", side -> {
            String third = "{\"query\":{\"term\":{\"tag\":\"third\"}},\"size\":1,\"sort\":[\"n\"]}";
            String one = "{\"size\":2,\"knn\":{\"field\":\"v\",\"k\":5,\"num_candidates\":200,\"query_vector\":" + vector(1000) + "}}";
            var answer = side.client().msearch(m -> m
                .searches(i -> i.header(h -> h.index(side.index)).body(b -> b.withJson(new StringReader(one))))
                .searches(i -> i.header(h -> h.index(side.index)).body(b -> b.withJson(new StringReader(third))))
                .searches(i -> i.header(h -> h.index("absent")).body(b -> b)), Map.class);
            return answer.responses().stream().map(r -> r.isFailure() ? r.failure().error().type() : found(r.result().hits().hits())).toList();
        });
        FEATURES.put("scroll", side -> {
            List<Object> pages = new ArrayList<>();
            Time minute = Time.of(t -> t.time("1m"));
            var first = side.client().search(s -> s.index(side.index).size(60).scroll(minute).sort(o -> o.field(f -> f.field("n"))), Map.class);
            String id = first.scrollId();
            for (List<? extends Hit<?>> hits = first.hits().hits(); hits.isEmpty() == false;) {
                pages.add(found(hits));
                String last = id;
                var next = side.client().scroll(s -> s.scrollId(last).scroll(minute), Map.class);
                id = next.scrollId();
                hits = next.hits().hits();
            }
            String last = id;
            return List.of(pages, side.client().clearScroll(c -> c.scrollId(last)).succeeded());
        });
        FEATURES.put("point in time", side -> {
            Time minute = Time.of(t -> t.time("1m"));
            String id = side.client().openPointInTime(o -> o.index(side.index).keepAlive(minute)).id();
            List<Object> pages = new ArrayList<>();
            List<FieldValue> after = List.of();
            while (true) {
                List<FieldValue> from = after;
                var page = side.client().search(s -> {
                    s.pit(p -> p.id(id).keepAlive(minute)).size(70).sort(o -> o.field(f -> f.field("n").order(SortOrder.Asc)));
                    return from.isEmpty() ? s : s.searchAfter(from);
                }, Map.class).hits().hits();
                if (page.isEmpty()) {
                    break;
                }
                pages.add(found(page));
                after = page.get(page.size() - 1).sort();
            }
            return List.of(pages, side.client().closePointInTime(c -> c.id(id)).succeeded());
        });
        FEATURES.put("errors", side -> {
            var client = side.client();
            return List.of(
                failure(() -> client.search(s -> s.index("absent").knn(k -> knn(k)), Map.class)),
                failure(() -> side.search(knn -> knn.queryVector(List.of(1f)))),
                failure(() -> client.create(c -> c.index(side.index).id("1").document(document(1)))),
                failure(() -> client.indices().create(c -> c.index(side.index))),
                client.get(g -> g.index(side.index).id("absent"), Map.class).found());
        });
        FEATURES.put("compression", side -> {
            String text = "a".repeat(5000);
            try (Connect compressed = new Connect(true, side.url)) {
                compressed.client.index(i -> i.index(side.index + "-plain").id("z").document(Map.of("text", text, "v", vector(3))).refresh(Refresh.True));
                var answer = compressed.client.search(s -> s.index(side.index + "-plain").knn(k -> knn(k).k(1)), Map.class);
                check(text.equals(answer.hits().hits().get(0).source().get("text")), "the text came back");
                // A type of Elasticsearch's own may print an estimate of the score.
                return answer.hits().hits().get(0).id();
            }
        });
        FEATURES.put("sniffing", side -> {
            try (Connect sniffing = new Connect(false, side.url)) {
                List<String> hosts = sniffing.sniffed(() -> sniffing.client.search(s -> s.index(side.index).knn(k -> knn(k)), Map.class));
                check(hosts.equals(List.of(URI.create(side.url).getAuthority())), hosts);
                return hosts.size();
            }
        });
        FEATURES.put("lost nodes", side -> {
            String gone;
            try (ServerSocket socket = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
                gone = "http://127.0.0.1:" + socket.getLocalPort();
            }
            List<Object> answers = new ArrayList<>();
            try (Connect both = new Connect(false, gone, side.url)) {
                for (int n = 0; n < 4; n++) {
                    answers.add(found(both.client.search(s -> s.index(side.index).knn(k -> knn(k)), Map.class)));
                }
            }
            try (Connect lost = new Connect(false, gone)) {
                lost.client.info();
                throw new AssertionError("nobody is there");
            } catch (java.net.ConnectException expected) {
                return answers;
            }
        });
        FEATURES.put("retries", side -> {
            // A busy node is left for the next one; here both names are the same. The search is one that Elasticsearch must see: what Outrigger answers
            // needs no second try.
            try (Connect faulty = new Connect(false, side.faulty, side.faulty.replace("127.0.0.1", "localhost"))) {
                List<Object> outcomes = new ArrayList<>();
                for (String fault : List.of("503 1")) {
                    String header = fault + " java-" + side.kind + System.nanoTime();
                    outcomes.add(found(third(faulty, side, header)));
                }
                outcomes.add(failure(() -> third(faulty, side, "429 9 java-" + side.kind + System.nanoTime())));
                return outcomes;
            }
        });
    }

    static {
        Limits.addTo(FEATURES);
    }

    static SearchResponse<Map> third(Connect connect, Side side, String fault) throws Exception {
        return connect.client.withTransportOptions(t -> t.addHeader("x-fault", fault)).search(
            s -> s.index(side.index).size(3).sort(o -> o.field(f -> f.field("n"))).query(q -> q.term(t -> t.field("tag").value("third"))), Map.class);
    }

    static String attempt(Feature feature, Side side) throws Exception {
        return Objects.toString(feature.ask(side)).replace(side.index, "INDEX");
    }

    static void clean(Side side) throws Exception {
        side.client().indices().delete(d -> d.index(side.index, side.index + "-plain").ignoreUnavailable(true));
    }

    static String environment(String name) {
        return Objects.requireNonNull(System.getenv(name), name);
    }

    public static void main(String[] arguments) throws Exception {
        String ours = environment("OUTRIGGER_URL");
        String theirs = environment("ELASTICSEARCH_URL");
        int failed = 0;
        try (Connect first = new Connect(false, ours); Connect second = new Connect(false, theirs)) {
            Side[] sides = {
                new Side(ours, environment("OUTRIGGER_FAULTY_URL"), environment("OUTRIGGER_LIMITED_URL"), theirs, "ivf", "java-ours", first),
                new Side(theirs, environment("ELASTICSEARCH_FAULTY_URL"), theirs, ours, "hnsw", "java-them", second) };
            for (Side side : sides) {
                clean(side);
            }
            for (var entry : FEATURES.entrySet()) {
                try {
                    String left = attempt(entry.getValue(), sides[0]);
                    String right = attempt(entry.getValue(), sides[1]);
                    check(left.equals(right), "through Outrigger: " + left + "\ndirectly: " + right);
                    System.out.println("ok " + entry.getKey());
                } catch (Exception | AssertionError reason) {
                    failed++;
                    System.out.println("not ok " + entry.getKey());
                    reason.printStackTrace();
                }
            }
            for (Side side : sides) {
                clean(side);
            }
        }
        System.exit(failed == 0 ? 0 : 1);
    }
}
