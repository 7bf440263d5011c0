// The endpoints by which a client, and a proxy in its name, learns who it is and what it may do. Field for field as Elasticsearch's security writes them.

package org.elasticsearch.xpack.standin;

import java.io.IOException;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.elasticsearch.client.internal.node.NodeClient;
import org.elasticsearch.common.xcontent.XContentHelper;
import org.elasticsearch.rest.BaseRestHandler;
import org.elasticsearch.rest.RestHandler;
import org.elasticsearch.rest.RestRequest;
import org.elasticsearch.rest.RestResponse;
import org.elasticsearch.rest.RestStatus;
import org.elasticsearch.xcontent.XContentBuilder;

final class SecurityRest extends BaseRestHandler {
    /** What an endpoint writes of a caller. */
    interface Answer {
        void write(XContentBuilder body, Caller caller, RestRequest request) throws IOException;
    }

    private final Guard guard;
    private final String name;
    private final List<Route> routes;
    private final Answer answer;

    private SecurityRest(Guard guard, String name, Answer answer, Route... routes) {
        this.guard = guard;
        this.name = name;
        this.routes = List.of(routes);
        this.answer = answer;
    }

    static List<RestHandler> all(Guard guard) {
        String has = "/_security/user/_has_privileges";
        return List.of(
            new SecurityRest(guard, "standin_authenticate", SecurityRest::authenticate, get("/_security/_authenticate")),
            new SecurityRest(guard, "standin_privileges", SecurityRest::privileges, get("/_security/user/_privileges")),
            new SecurityRest(guard, "standin_has_privileges", SecurityRest::hasPrivileges, get(has), new Route(RestRequest.Method.POST, has)),
            new SecurityRest(guard, "standin_xpack", SecurityRest::xpack, get("/_xpack"))
        );
    }

    private static Route get(String path) {
        return new Route(RestRequest.Method.GET, path);
    }

    @Override
    public String getName() {
        return name;
    }

    @Override
    public List<Route> routes() {
        return routes;
    }

    @Override
    protected RestChannelConsumer prepareRequest(RestRequest request, NodeClient client) throws IOException {
        Caller caller = guard.authenticate(request);
        request.param("categories");
        // Read here: the body is gone once this returns.
        XContentBuilder body = XContentBuilder.builder(org.elasticsearch.xcontent.XContentType.JSON.xContent());
        answer.write(body.startObject(), caller, request);
        body.endObject();
        return channel -> channel.sendResponse(new RestResponse(RestStatus.OK, body));
    }

    private static void authenticate(XContentBuilder body, Caller caller, RestRequest request) throws IOException {
        body.field("username", caller.username()).field("roles", caller.roles()).nullField("full_name").nullField("email");
        body.field("metadata", caller.metadata()).field("enabled", true);
        boolean isKey = caller.keyId() != null;
        for (String realm : List.of("authentication_realm", "lookup_realm")) {
            body.startObject(realm);
            body.field("name", isKey ? "_es_api_key" : "file").field("type", isKey ? "_es_api_key" : "file").endObject();
        }
        body.field("authentication_type", caller.type());
        if (isKey) {
            body.startObject("api_key").field("id", caller.keyId()).field("name", caller.keyName()).endObject();
        }
    }

    private static void privileges(XContentBuilder body, Caller caller, RestRequest request) throws IOException {
        if (caller.hasOwnRoles()) {
            throw new IllegalArgumentException(
                "Cannot retrieve privileges for API keys with assigned role descriptors. Please use the Get API key information API "
                    + "https://ela.st/es-api-get-api-key"
            );
        }
        List<Role> roles = caller.allOf().get(0);
        Set<String> cluster = new LinkedHashSet<>();
        Set<String> runAs = new LinkedHashSet<>();
        roles.forEach(role -> cluster.addAll(role.cluster()));
        roles.forEach(role -> runAs.addAll(role.runAs()));
        body.field("cluster", cluster);
        body.startArray("global").endArray();
        body.startArray("indices");
        for (Role role : roles) {
            for (Role.Group group : role.indices()) {
                body.startObject().field("names", group.names()).field("privileges", group.privileges());
                if (group.limitsFields()) {
                    body.startArray("field_security").startObject().field("grant", group.grant());
                    if (group.except().isEmpty() == false) {
                        body.field("except", group.except());
                    }
                    body.endObject().endArray();
                }
                if (group.query() != null) {
                    body.field("query", List.of(group.query()));
                }
                body.field("allow_restricted_indices", false).endObject();
            }
        }
        body.endArray();
        body.startArray("applications").endArray();
        body.field("run_as", runAs);
    }

    private static void hasPrivileges(XContentBuilder body, Caller caller, RestRequest request) throws IOException {
        Map<String, Object> asked = XContentHelper.convertToMap(request.content(), false, request.getXContentType()).v2();
        Map<String, Boolean> cluster = new LinkedHashMap<>();
        Realm.strings(asked.get("cluster")).forEach(privilege -> cluster.put(privilege, caller.hasInCluster(privilege)));
        Map<String, Map<String, Boolean>> index = new LinkedHashMap<>();
        for (Object entry : asked.get("index") instanceof List<?> list ? list : List.of()) {
            Map<String, Object> wanted = Realm.object(entry);
            for (String name : Realm.strings(wanted.get("names"))) {
                Map<String, Boolean> of = index.computeIfAbsent(name, unused -> new LinkedHashMap<>());
                Realm.strings(wanted.get("privileges")).forEach(privilege -> of.put(privilege, caller.has(privilege, name)));
            }
        }
        boolean all = cluster.containsValue(false) == false && index.values().stream().noneMatch(of -> of.containsValue(false));
        body.field("username", caller.username()).field("has_all_requested", all).field("cluster", cluster).field("index", index);
        body.startObject("application").endObject();
    }

    private static void xpack(XContentBuilder body, Caller caller, RestRequest request) throws IOException {
        if (caller.mayInCluster("cluster:monitor/xpack/info") == false) {
            throw caller.denied("cluster:monitor/xpack/info", true, List.of());
        }
        body.startObject("features").startObject("security").field("available", true).field("enabled", true).endObject().endObject();
    }
}
