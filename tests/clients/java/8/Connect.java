// Client 8 on its low-level client (Apache HttpClient 4), which can sniff.

import co.elastic.clients.elasticsearch.ElasticsearchClient;
import co.elastic.clients.json.jackson.JacksonJsonpMapper;
import co.elastic.clients.transport.rest_client.RestClientTransport;
import java.io.IOException;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import org.apache.http.HttpHost;
import org.elasticsearch.client.Node;
import org.elasticsearch.client.Request;
import org.elasticsearch.client.RestClient;
import org.elasticsearch.client.sniff.ElasticsearchNodesSniffer;
import org.elasticsearch.client.sniff.NodesSniffer;
import org.elasticsearch.client.sniff.Sniffer;

final class Connect implements AutoCloseable {
    private final RestClient low;
    private final RestClientTransport transport;
    final ElasticsearchClient client;

    Connect(boolean compressed, String... urls) {
        HttpHost[] hosts = new HttpHost[urls.length];
        for (int n = 0; n < urls.length; n++) {
            hosts[n] = HttpHost.create(urls[n]);
        }
        low = RestClient.builder(hosts).setCompressionEnabled(compressed).build();
        transport = new RestClientTransport(low, new JacksonJsonpMapper());
        client = new ElasticsearchClient(transport);
    }

    /** What the typed client has no words for: a request with a body, by its low-level client. */
    void raw(String method, String path, String body) throws IOException {
        Request request = new Request(method, path);
        request.setJsonEntity(body);
        low.performRequest(request);
    }

    /** Runs `work` once the client talks to nodes that it found itself; their addresses. */
    List<String> sniffed(Features.Work work) throws Exception {
        // When it asks for the second time, it has taken over what it got the first time.
        CountDownLatch asked = new CountDownLatch(2);
        NodesSniffer nodes = new ElasticsearchNodesSniffer(low);
        NodesSniffer counting = () -> {
            asked.countDown();
            return nodes.sniff();
        };
        try (Sniffer sniffer = Sniffer.builder(low).setSniffIntervalMillis(50).setNodesSniffer(counting).build()) {
            asked.await();
            work.run();
            return low.getNodes().stream().map(Node::getHost).map(HttpHost::toHostString).toList();
        }
    }

    @Override
    public void close() throws IOException {
        transport.close();
    }
}
