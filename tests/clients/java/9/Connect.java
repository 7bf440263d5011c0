// Client 9 on its low-level client (Apache HttpClient 5), which can sniff.

import co.elastic.clients.elasticsearch.ElasticsearchClient;
import co.elastic.clients.json.jackson.JacksonJsonpMapper;
import co.elastic.clients.transport.rest5_client.Rest5ClientTransport;
import co.elastic.clients.transport.rest5_client.low_level.Node;
import co.elastic.clients.transport.rest5_client.low_level.Request;
import co.elastic.clients.transport.rest5_client.low_level.Rest5Client;
import co.elastic.clients.transport.rest5_client.low_level.sniffer.ElasticsearchNodesSniffer;
import co.elastic.clients.transport.rest5_client.low_level.sniffer.NodesSniffer;
import co.elastic.clients.transport.rest5_client.low_level.sniffer.Sniffer;
import java.io.IOException;
import java.net.URI;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import org.apache.hc.core5.http.HttpHost;

final class Connect implements AutoCloseable {
    private final Rest5Client low;
    private final Rest5ClientTransport transport;
    final ElasticsearchClient client;

    Connect(boolean compressed, String... urls) {
        low = Rest5Client.builder(Arrays.stream(urls).map(URI::create).toArray(URI[]::new)).setCompressionEnabled(compressed).build();
        transport = new Rest5ClientTransport(low, new JacksonJsonpMapper());
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
