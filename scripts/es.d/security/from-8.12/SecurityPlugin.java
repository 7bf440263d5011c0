// Puts the stand-in into Elasticsearch 8.12 and later; `until-8.11` holds the same for the older plugin interface. Inert without the setting. The package is one
// of those whose plugins may look at requests before their handlers do.

package org.elasticsearch.xpack.standin;

import java.nio.file.Path;
import java.util.Collection;
import java.util.List;
import java.util.function.Predicate;
import java.util.function.Supplier;
import org.elasticsearch.action.support.ActionFilter;
import org.elasticsearch.cluster.metadata.IndexNameExpressionResolver;
import org.elasticsearch.cluster.node.DiscoveryNodes;
import org.elasticsearch.cluster.service.ClusterService;
import org.elasticsearch.common.io.stream.NamedWriteableRegistry;
import org.elasticsearch.common.settings.ClusterSettings;
import org.elasticsearch.common.settings.IndexScopedSettings;
import org.elasticsearch.common.settings.Setting;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.common.settings.SettingsFilter;
import org.elasticsearch.common.util.concurrent.ThreadContext;
import org.elasticsearch.features.NodeFeature;
import org.elasticsearch.index.IndexModule;
import org.elasticsearch.plugins.Plugin;
import org.elasticsearch.plugins.interceptor.RestServerActionPlugin;
import org.elasticsearch.rest.RestController;
import org.elasticsearch.rest.RestHandler;
import org.elasticsearch.rest.RestHeaderDefinition;
import org.elasticsearch.rest.RestInterceptor;
import org.elasticsearch.threadpool.ThreadPool;

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
    public Collection<?> createComponents(PluginServices services) {
        cluster = services.clusterService();
        threads = services.threadPool();
        writeables = services.namedWriteableRegistry();
        return List.of();
    }

    @Override
    public Collection<ActionFilter> getActionFilters() {
        return guard == null ? List.of() : List.of(guard);
    }

    @Override
    public Collection<RestHeaderDefinition> getRestHeaders() {
        return guard == null
            ? List.of()
            : List.of(new RestHeaderDefinition(Guard.AUTHORIZATION, false), new RestHeaderDefinition(Guard.RUN_AS, false));
    }

    @Override
    public RestInterceptor getRestHandlerInterceptor(ThreadContext context) {
        return guard == null ? null : (request, channel, handler, listener) -> {
            guard.admit(request);
            listener.onResponse(true);
        };
    }

    @Override
    public Collection<RestHandler> getRestHandlers(
        Settings settings,
        NamedWriteableRegistry registry,
        RestController controller,
        ClusterSettings clusterSettings,
        IndexScopedSettings indexSettings,
        SettingsFilter filter,
        IndexNameExpressionResolver names,
        Supplier<DiscoveryNodes> nodes,
        Predicate<NodeFeature> features
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
