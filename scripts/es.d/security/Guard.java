// The gate. At the REST layer nobody passes without credentials (401), and every action passes the filter (403): actions of the cluster by their name, those on
// indices by the names used, with patterns narrowed to what the caller may see, bulks item by item. What the node does on its own account carries no credentials.

package org.elasticsearch.xpack.standin;

import java.lang.reflect.InvocationTargetException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import java.util.function.Supplier;
import org.elasticsearch.ElasticsearchException;
import org.elasticsearch.ElasticsearchSecurityException;
import org.elasticsearch.action.ActionListener;
import org.elasticsearch.action.ActionRequest;
import org.elasticsearch.action.ActionResponse;
import org.elasticsearch.action.DocWriteRequest;
import org.elasticsearch.action.IndicesRequest;
import org.elasticsearch.action.RealtimeRequest;
import org.elasticsearch.action.admin.indices.alias.IndicesAliasesRequest;
import org.elasticsearch.action.bulk.BulkItemRequest;
import org.elasticsearch.action.bulk.BulkShardRequest;
import org.elasticsearch.action.search.SearchRequest;
import org.elasticsearch.action.support.ActionFilter;
import org.elasticsearch.action.support.ActionFilterChain;
import org.elasticsearch.cluster.ClusterState;
import org.elasticsearch.common.io.stream.NamedWriteableRegistry;
import org.elasticsearch.common.util.concurrent.ThreadContext;
import org.elasticsearch.index.IndexNotFoundException;
import org.elasticsearch.rest.RestRequest;
import org.elasticsearch.rest.RestStatus;
import org.elasticsearch.tasks.Task;

final class Guard implements ActionFilter {
    static final String AUTHORIZATION = "Authorization";
    static final String RUN_AS = "es-security-runas-user";
    /** Names by which a search reached its indices; travels to the nodes that have the shards. */
    static final String NAMES = "_standin_names";

    /** Requests whose parts are checked one by one, as requests of their own. */
    private static final Set<String> COMPOSITE = Set.of("indices:data/write/bulk", "indices:data/read/mget", "indices:data/read/msearch");
    /** Actions on what an earlier, checked action opened. */
    private static final Set<String> BY_ID = Set.of(
        "indices:data/read/scroll",
        "indices:data/read/scroll/clear",
        "indices:data/read/close_point_in_time"
    );

    private final Realm realm;
    private final Supplier<ThreadContext> context;
    private final Supplier<ClusterState> state;
    private final Supplier<NamedWriteableRegistry> writeables;

    Guard(Realm realm, Supplier<ThreadContext> context, Supplier<ClusterState> state, Supplier<NamedWriteableRegistry> writeables) {
        this.realm = realm;
        this.context = context;
        this.state = state;
        this.writeables = writeables;
    }

    /** The caller of a REST request, or the exception that answers it. */
    Caller authenticate(RestRequest request) {
        return authenticate(request.header(AUTHORIZATION), request.header(RUN_AS), "REST request [" + request.uri() + "]");
    }

    /** Lets a REST request through to its handler, or throws what answers it. The banner is no action of its own, so its privilege is asked for here. */
    void admit(RestRequest request) {
        Caller caller = authenticate(request);
        if (request.path().equals("/") && caller.mayInCluster("cluster:monitor/main") == false) {
            throw caller.denied("cluster:monitor/main", true, List.of());
        }
    }

    private Caller authenticate(String authorization, String runAs, String what) {
        try {
            return realm.authenticate(authorization, runAs, what);
        } catch (Realm.Denied denied) {
            throw new ElasticsearchSecurityException(denied.getMessage(), RestStatus.FORBIDDEN);
        } catch (Realm.Refused refused) {
            ElasticsearchSecurityException exception = new ElasticsearchSecurityException(refused.getMessage(), RestStatus.UNAUTHORIZED);
            challenge(exception, "Basic realm=\"security\" charset=\"UTF-8\"", "ApiKey");
            throw exception;
        }
    }

    /** From 9.1 on headers of the response and of the body are two things. */
    private static void challenge(ElasticsearchException exception, String... values) {
        for (String method : List.of("addHeader", "addBodyHeader")) {
            try {
                ElasticsearchException.class.getMethod(method, String.class, String[].class).invoke(exception, "WWW-Authenticate", values);
            } catch (NoSuchMethodException e) {
                // Another version has it.
            } catch (IllegalAccessException | InvocationTargetException e) {
                throw new IllegalStateException(e);
            }
        }
    }

    /** The caller on whose account this thread works; null for the node itself. */
    Caller current() {
        String authorization = context.get().getHeader(AUTHORIZATION);
        if (authorization == null || context.get().isSystemContext()) {
            return null;
        }
        return authenticate(authorization, context.get().getHeader(RUN_AS), "action");
    }

    @Override
    public int order() {
        return Integer.MIN_VALUE;
    }

    @Override
    public <Request extends ActionRequest, Response extends ActionResponse> void apply(
        Task task,
        String action,
        Request request,
        ActionListener<Response> listener,
        ActionFilterChain<Request, Response> chain
    ) {
        Set<String> names;
        try {
            Caller caller = current();
            names = caller == null ? Set.of() : check(caller, action, request);
            if (caller != null) {
                limit(caller, names, request);
            }
        } catch (Exception e) {
            listener.onFailure(e);
            return;
        }
        if (names.isEmpty() || action.startsWith("indices:data/read/") == false) {
            chain.proceed(task, action, request, listener);
            return;
        }
        ActionListener<Response> outside = restoring(listener);
        try (ThreadContext.StoredContext ignored = context.get().newStoredContext(List.of(), List.of(NAMES))) {
            context.get().putHeader(NAMES, String.join(",", names));
            chain.proceed(task, action, request, outside);
        }
    }

    /** The caller's context comes back before his listener runs; response headers of the action stay. */
    private <Response> ActionListener<Response> restoring(ActionListener<Response> listener) {
        Supplier<ThreadContext.StoredContext> restore = context.get().newRestorableContext(true);
        return new ActionListener<>() {
            @Override
            public void onResponse(Response response) {
                try (ThreadContext.StoredContext ignored = restore.get()) {
                    listener.onResponse(response);
                }
            }

            @Override
            public void onFailure(Exception e) {
                try (ThreadContext.StoredContext ignored = restore.get()) {
                    listener.onFailure(e);
                }
            }
        };
    }

    /** The names by which the request reaches indices; throws what answers a request that is not allowed. */
    private Set<String> check(Caller caller, String action, ActionRequest request) {
        if (isOfCluster(action)) {
            if (caller.mayInCluster(action) == false) {
                throw caller.denied(action, true, List.of());
            }
            return Set.of();
        }
        if (action.startsWith("indices:") == false || COMPOSITE.contains(action) || BY_ID.contains(action)) {
            return Set.of();
        }
        if (request instanceof BulkShardRequest bulk) {
            checkItems(caller, bulk);
            return Set.of();
        }
        if (request instanceof IndicesAliasesRequest aliases) {
            List<String> named = new ArrayList<>();
            aliases.getAliasActions().forEach(one -> {
                named.addAll(Arrays.asList(one.indices()));
                named.addAll(Arrays.asList(one.aliases()));
            });
            return allowed(caller, action, new LinkedHashSet<>(named));
        }
        if (request instanceof SearchRequest search && search.pointInTimeBuilder() != null) {
            String[] indices = search.pointInTimeBuilder().getSearchContextId(writeables.get()).getActualIndices();
            return allowed(caller, action, new LinkedHashSet<>(Arrays.asList(indices)));
        }
        if (request instanceof IndicesRequest.Replaceable replaceable) {
            return narrow(caller, action, replaceable);
        }
        if (request instanceof IndicesRequest named && named.indices() != null) {
            Set<String> names = new LinkedHashSet<>(Arrays.asList(named.indices()));
            names.remove(null);
            return allowed(caller, action, names);
        }
        return Set.of();
    }

    static boolean isOfCluster(String action) {
        return action.startsWith("cluster:") || action.startsWith("indices:admin/template/") || action.startsWith("indices:admin/index_template/");
    }

    private static Set<String> allowed(Caller caller, String action, Set<String> names) {
        List<String> denied = names.stream().filter(name -> caller.may(action, name) == false).toList();
        if (denied.isEmpty() == false) {
            throw caller.denied(action, false, denied);
        }
        return names;
    }

    /** Patterns become the names that the caller may see; names are checked as they are. */
    private Set<String> narrow(Caller caller, String action, IndicesRequest.Replaceable request) {
        Names expanded = Names.of(request.indices(), request.indicesOptions(), state.get(), name -> caller.may(action, name));
        if (request.indicesOptions().ignoreUnavailable()) {
            expanded.named().removeIf(name -> caller.may(action, name) == false);
        } else {
            allowed(caller, action, expanded.named());
        }
        Set<String> names = expanded.all();
        if (expanded.hadPatterns() == false && names.size() == expanded.asked()) {
            return names;
        }
        if (names.isEmpty()) {
            if (request.indicesOptions().allowNoIndices() == false) {
                throw new IndexNotFoundException(String.join(",", request.indices()));
            }
            // Nothing, as Elasticsearch itself writes it.
            request.indices("*", "-*");
        } else {
            request.indices(names.toArray(String[]::new));
        }
        return names;
    }

    private static void checkItems(Caller caller, BulkShardRequest bulk) {
        for (BulkItemRequest item : bulk.items()) {
            String action = actionOf(item.request());
            String index = item.request().index();
            if (caller.may(action, index) == false) {
                item.abort(index, caller.denied(action, false, List.of(index)));
            }
        }
    }

    private static String actionOf(DocWriteRequest<?> request) {
        return switch (request.opType()) {
            case INDEX -> "indices:data/write/index";
            case CREATE -> "indices:data/write/index:op_type/create";
            case UPDATE -> "indices:data/write/update";
            case DELETE -> "indices:data/write/delete";
        };
    }

    /** Somebody who may see only some documents or fields: no cache and no translog may show him more. */
    private static void limit(Caller caller, Set<String> names, ActionRequest request) {
        if (names.isEmpty() || (caller.fields(names) == null && caller.documents(names).isEmpty())) {
            return;
        }
        if (request instanceof RealtimeRequest live) {
            live.realtime(false);
        }
        if (request instanceof SearchRequest search) {
            search.requestCache(false);
        }
    }
}
