// `GET /` and `HEAD /`, the banner that official clients ask for before anything else. A distribution has it in its module `rest-root`, which is not on
// Maven Central; without it those paths answer 405 and clients refuse to work. Field for field what Elasticsearch's own RestMainAction writes, pretty-printed
// unless the request says otherwise. This is a stand-in: everything else that the node answers is Elasticsearch itself.

import java.util.List;
import java.util.function.Supplier;
import org.elasticsearch.Build;
import org.elasticsearch.client.internal.node.NodeClient;
import org.elasticsearch.cluster.ClusterState;
import org.elasticsearch.index.IndexVersion;
import org.elasticsearch.node.Node;
import org.elasticsearch.rest.BaseRestHandler;
import org.elasticsearch.rest.RestRequest;
import org.elasticsearch.rest.RestResponse;
import org.elasticsearch.rest.RestStatus;
import org.elasticsearch.xcontent.XContentBuilder;

final class RestRoot extends BaseRestHandler {
    private final Supplier<ClusterState> state;

    RestRoot(Supplier<ClusterState> state) {
        this.state = state;
    }

    @Override
    public String getName() {
        return "main_action";
    }

    @Override
    public List<Route> routes() {
        return List.of(new Route(RestRequest.Method.GET, "/"), new Route(RestRequest.Method.HEAD, "/"));
    }

    @Override
    protected RestChannelConsumer prepareRequest(RestRequest request, NodeClient client) {
        boolean pretty = request.hasParam("pretty") == false;
        String nodeName = Node.NODE_NAME_SETTING.get(client.settings());
        return channel -> {
            ClusterState current = state.get();
            Build build = Build.current();
            XContentBuilder body = channel.newBuilder();
            if (pretty) {
                body.prettyPrint().lfAtEnd();
            }
            body.startObject();
            body.field("name", nodeName);
            body.field("cluster_name", current.getClusterName().value());
            body.field("cluster_uuid", current.metadata().clusterUUID());
            body.startObject("version");
            body.field("number", build.qualifiedVersion());
            body.field("build_flavor", build.flavor());
            body.field("build_type", build.type().displayName());
            body.field("build_hash", build.hash());
            body.field("build_date", build.date());
            body.field("build_snapshot", build.isSnapshot());
            body.field("lucene_version", IndexVersion.current().luceneVersion().toString());
            body.field("minimum_wire_compatibility_version", build.minWireCompatVersion());
            body.field("minimum_index_compatibility_version", build.minIndexCompatVersion());
            body.endObject();
            body.field("tagline", "You Know, for Search");
            body.endObject();
            channel.sendResponse(new RestResponse(RestStatus.OK, body));
        };
    }
}
