// Puts the stand-in into Elasticsearch 8.10 and 8.11; `from-8.12` holds the same for the newer plugin interface.

package org.elasticsearch.xpack.standin;

import java.nio.file.Path;
import java.util.Collection;
import java.util.List;
import java.util.function.Supplier;
import java.util.function.UnaryOperator;
import org.elasticsearch.action.support.ActionFilter;
import org.elasticsearch.client.internal.Client;
import org.elasticsearch.client.internal.node.NodeClient;
import org.elasticsearch.cluster.metadata.IndexNameExpressionResolver;
import org.elasticsearch.cluster.node.DiscoveryNodes;
import org.elasticsearch.cluster.routing.allocation.AllocationService;
import org.elasticsearch.cluster.service.ClusterService;
import org.elasticsearch.common.io.stream.NamedWriteableRegistry;
import org.elasticsearch.common.settings.ClusterSettings;
import org.elasticsearch.common.settings.IndexScopedSettings;
import org.elasticsearch.common.settings.Setting;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.common.settings.SettingsFilter;
import org.elasticsearch.common.util.concurrent.ThreadContext;
import org.elasticsearch.env.Environment;
import org.elasticsearch.env.NodeEnvironment;
import org.elasticsearch.index.IndexModule;
import org.elasticsearch.indices.IndicesService;
import org.elasticsearch.plugins.Plugin;
import org.elasticsearch.plugins.interceptor.RestServerActionPlugin;
import org.elasticsearch.repositories.RepositoriesService;
import org.elasticsearch.rest.RestChannel;
import org.elasticsearch.rest.RestController;
import org.elasticsearch.rest.RestHandler;
import org.elasticsearch.rest.RestHeaderDefinition;
import org.elasticsearch.rest.RestRequest;
import org.elasticsearch.script.ScriptService;
import org.elasticsearch.threadpool.ThreadPool;
import org.elasticsearch.tracing.Tracer;
import org.elasticsearch.watcher.ResourceWatcherService;
import org.elasticsearch.xcontent.NamedXContentRegistry;

public final class SecurityPlugin extends Plugin implements RestServerActionPlugin {
    private static final Setting<String> FILE = Setting.simpleString("standin.security.file", Setting.Property.NodeScope);

    private final Guard guard;
    private ClusterService cluster;
    private ThreadPool threads;
    private NamedWriteableRegistry writeables;

    public SecurityPlugin(Settings settings) {
        String file = FILE.get(settings);
        guard = file.isEmpty() ? null : new Guard(new Realm(Path.of(file)), this::context, () -> cluster.state(), () -> writeables);
    }

    private ThreadContext context() {
        return threads.getThreadContext();
    }

    @Override
    public List<Setting<?>> getSettings() {
        return List.of(FILE);
    }

    @Override
    public Collection<Object> createComponents(
        Client client,
        ClusterService clusterService,
        ThreadPool threadPool,
        ResourceWatcherService watcher,
        ScriptService scripts,
        NamedXContentRegistry contents,
        Environment environment,
        NodeEnvironment nodeEnvironment,
        NamedWriteableRegistry registry,
        IndexNameExpressionResolver names,
        Supplier<RepositoriesService> repositories,
        Tracer tracer,
        AllocationService allocation,
        IndicesService indices
    ) {
        cluster = clusterService;
        threads = threadPool;
        writeables = registry;
        return List.of();
    }

    @Override
    public List<ActionFilter> getActionFilters() {
        return guard == null ? List.of() : List.of(guard);
    }

    @Override
    public Collection<RestHeaderDefinition> getRestHeaders() {
        return guard == null
            ? List.of()
            : List.of(new RestHeaderDefinition(Guard.AUTHORIZATION, false), new RestHeaderDefinition(Guard.RUN_AS, false));
    }

    @Override
    public UnaryOperator<RestHandler> getRestHandlerInterceptor(ThreadContext context) {
        return guard == null ? null : Guarded::new;
    }

    /** A handler behind the gate. */
    private final class Guarded implements RestHandler {
        private final RestHandler inner;

        Guarded(RestHandler inner) {
            this.inner = inner;
        }

        @Override
        public void handleRequest(RestRequest request, RestChannel channel, NodeClient client) throws Exception {
            guard.admit(request);
            inner.handleRequest(request, channel, client);
        }

        @Override
        public boolean canTripCircuitBreaker() {
            return inner.canTripCircuitBreaker();
        }

        @Override
        public boolean supportsContentStream() {
            return inner.supportsContentStream();
        }

        @Override
        public RestHandler getConcreteRestHandler() {
            return inner.getConcreteRestHandler();
        }

        @Override
        public boolean allowsUnsafeBuffers() {
            return inner.allowsUnsafeBuffers();
        }

        @Override
        public List<Route> routes() {
            return inner.routes();
        }

        @Override
        public boolean allowSystemIndexAccessByDefault() {
            return inner.allowSystemIndexAccessByDefault();
        }

        @Override
        public boolean mediaTypesValid(RestRequest request) {
            return inner.mediaTypesValid(request);
        }
    }

    @Override
    public List<RestHandler> getRestHandlers(
        Settings settings,
        RestController controller,
        ClusterSettings clusterSettings,
        IndexScopedSettings indexSettings,
        SettingsFilter filter,
        IndexNameExpressionResolver names,
        Supplier<DiscoveryNodes> nodes
    ) {
        return guard == null ? List.of() : SecurityRest.all(guard);
    }

    @Override
    public void onIndexModule(IndexModule module) {
        if (guard != null) {
            module.setReaderWrapper(index -> new DocumentFilter(guard, this::context, index));
            module.addSearchOperationListener(new OpenContexts(guard));
        }
    }
}
